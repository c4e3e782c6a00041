"""Which interactions are there, and what may a pipeline say about each?"""

from components.rankers.config import AttentionHeads, InteractionConfig, Layers


class NoInteractionConfig(InteractionConfig, name="none", builds="components.rankers.interactions.none:NoInteraction"):
    """Fields side by side."""


class Layered(InteractionConfig):
    """An interaction of some depth."""

    layers: Layers = 2
    """Layers of the interaction, or of a transformer over the history or, in `fintrec`, over the events."""


class MlpConfig(Layered, name="mlp", builds="components.rankers.interactions.mlp:Mlp"):
    """A network that all feedback types share."""


class DcnV2Config(Layered, name="dcnv2", builds="components.rankers.interactions.dcnv2:DcnV2"):
    """Cross layers: products of up to `layers` + 1 features."""


class AutoIntConfig(Layered, name="autoint", builds="components.rankers.interactions.autoint:AutoInt"):
    """Attention among fields, next to the raw ones."""

    heads: AttentionHeads = 2
    """Attention heads of `autoint`, `transformer` and `fintrec`."""
