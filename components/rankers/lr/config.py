"""What may a pipeline say about logistic regression? Nothing."""

from components.rankers.config import RankerConfig


class LrConfig(RankerConfig, name="lr", builds="components.rankers.lr.ranker:LogisticRegression"):
    """Logistic regression: one weight per value and feedback."""
