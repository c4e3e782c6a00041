"""Which backbones are there, and what may a pipeline say about each?"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from components.rankers.config import BackboneConfig, Layers

Hubs = Annotated[int, Field(ge=1, le=64)]


class NoBackboneConfig(BackboneConfig, name="none", builds="components.rankers.parts:Backbone"):
    """None: sequence encoders and an interaction."""


class InfNetConfig(BackboneConfig, name="infnet", builds="components.rankers.backbones.infnet:InfNet"):
    """Fields, events and feedback types read each other through few hubs, block by block."""

    layers: Layers = 2
    """Layers of the interaction, or of a transformer over the history or, in `fintrec`, over the events."""
    hubs: Hubs = 4
    """Vectors of `infnet` through which all fields are read."""
    shared_tasks: Hubs = 2
    """Task tokens of `infnet` that no feedback owns."""
    skip: bool = True
    """Whether the heads of `infnet` read the fields and the mean events beside their task token; the paper's do not,
    and learn little from little data."""
