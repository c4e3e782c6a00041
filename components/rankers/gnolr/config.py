"""What may a pipeline say about `gnolr`?"""

from components.rankers.config import Deviation, Hidden, RankerConfig, Sizes


class GnolrConfig(RankerConfig, Sizes, name="gnolr", builds="components.rankers.gnolr.ranker:Gnolr"):
    """Ordered feedback in one space of users and items (Zhang et al., KDD 2025)."""

    embedding_std: Deviation = 1.0
    hidden: Hidden = (128, 64, 32)
    gamma: tuple[float, ...] | None = None
    """`gnolr`: scale of each feedback's cosine; left out, 0.9 of the gap between thresholds."""
