"""What may a pipeline say about `gnolr`?"""

from pydantic import Field

from components.platform.contract import ComponentConfig
from components.rankers.config import Deviation, Hidden, RankerConfig, Sizes


class Contrast(ComponentConfig):
    """Two halves of an item's fields should tell the same item (Yao et al., CIKM 2021)."""

    weight: float = Field(0.05, ge=0, le=10)
    """How much its loss counts beside the ranker's."""
    temperature: float = Field(0.1, gt=0, le=10)
    """What cosines are divided by: the smaller, the more the items count that are most like an item."""


class GnolrConfig(RankerConfig, Sizes, name="gnolr", builds="components.rankers.gnolr.ranker:Gnolr"):
    """Ordered feedback in one space of users and items (Zhang et al., KDD 2025)."""

    embedding_std: Deviation = 1.0
    hidden: Hidden = (128, 64, 32)
    gamma: tuple[float, ...] | None = None
    """`gnolr`: scale of each feedback's cosine; left out, 0.9 of the gap between thresholds."""
    contrast: Contrast | None = Field(None, exclude_if=lambda contrast: contrast is None)
    """`gnolr`: compare two halves of an item's fields in training, for rare items; left out, none."""
