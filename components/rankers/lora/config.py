"""How large is an adapter, and what does it change? The `lora:` block, without torch."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from components.platform.contract import ComponentConfig
from features.declaration import Frozen, Name


class LoraConfig(ComponentConfig):
    """A low-rank adapter and what trains beside it."""

    rank: int = Field(8, ge=1, le=256)
    """r: the change of a weight matrix is a product of two matrices of r rows or columns."""
    alpha: float = Field(16.0, gt=0)
    """The change counts alpha / rank times."""
    dropout: float = Field(0.05, ge=0, lt=1)
    """Share of a layer's inputs that its change does not see in training."""
    targets: Literal["query_value", "all"] = "query_value"
    """Which layers change: the queries and values of attention, or every linear layer outside the heads."""
    rows: tuple[Name, ...] | None = None
    """Fields whose embedding rows train as well; left out, the domain's and the item's. An empty list trains none."""


class AdapterHeader(Frozen):
    """What an adapter belongs to; `adapter.json` beside `adapter.safetensors`."""

    base: str
    """Digest of the weights that it was trained on; it fits no others."""
    domain: str
    """Whose rows it was trained on."""
    lora: LoraConfig
    """Its shape."""
    layers: tuple[str, ...]
    """Linear layers that it changes, sorted."""
    rows: tuple[Name, ...]
    """Fields whose embedding rows it changes, sorted."""
    parameters: int
    """Numbers that were trained."""
