"""Which domain parts are there, and what may a pipeline say about each?"""

from typing import Annotated, Literal

from pydantic import Field

from components.rankers.config import DomainConfig


class NoAdaptationConfig(DomainConfig, name="none", builds="components.rankers.domains.none:NoAdaptation"):
    """One network for every row."""


class StarConfig(DomainConfig, name="star", builds="components.rankers.domains.star:Star"):
    """A network per declared domain, multiplied with a shared one."""


class AdaptDhmConfig(DomainConfig, name="adaptdhm", builds="components.rankers.domains.adaptdhm:AdaptDhm"):
    """A network per cluster of rows, found in training."""

    clusters: Annotated[int, Field(ge=1, le=64)] = 3
    """K of `adaptdhm`."""
    routing: Literal["centred", "literal"] = "centred"
    """`adaptdhm`: subtract the running mean before routing, or route raw vectors as published code does."""
