"""Which combinations of parts have a name? The papers' rankers, with the papers' sizes where they give them.

Every part of a named ranker can be exchanged in YAML.
"""

from components.rankers.config import ComposedConfig, Hidden, Sequence, Width


class DnnConfig(ComposedConfig, name="dnn"):
    """A deep network per feedback over shared embeddings; every other composed ranker differs from it in a part."""


class DinConfig(ComposedConfig, name="din"):
    """Histories weighted by the candidate (Zhou et al., KDD 2018)."""

    sequence: Sequence = "din"


class DcnV2Config(ComposedConfig, name="dcnv2"):
    """Explicit products of fields (Wang et al., WWW 2021)."""

    interaction: str = "dcnv2"


class AutoIntConfig(ComposedConfig, name="autoint"):
    """Attention among fields (Song et al., CIKM 2019)."""

    interaction: str = "autoint"


class StarConfig(ComposedConfig, name="star"):
    """A network per declared domain around a shared one (Sheng et al., CIKM 2021)."""

    hidden: Hidden = (64, 64)
    domain: str = "star"


class AdaptDhmConfig(ComposedConfig, name="adaptdhm"):
    """A network per cluster of rows, found in training (Li et al., 2022)."""

    hidden: Hidden = (64, 64)
    domain: str = "adaptdhm"


class SharedBottomConfig(ComposedConfig, name="shared_bottom"):
    """One bottom for all feedback types (Caruana, 1997)."""

    head: str = "shared_bottom"


class MmoeConfig(ComposedConfig, name="mmoe"):
    """A gate per feedback over common experts (Ma et al., KDD 2018)."""

    head: str = "mmoe"


class PleConfig(ComposedConfig, name="ple"):
    """Own and common experts in layers (Tang et al., RecSys 2020)."""

    hidden: Hidden = (128, 128, 64)
    head: str = "ple"


class EsmmConfig(ComposedConfig, name="esmm"):
    """The chain of a funnel over all impressions (Ma et al., SIGIR 2018)."""

    embedding_width: Width = 18
    hidden: Hidden = (360, 200, 80)
    head: str = "esmm"
