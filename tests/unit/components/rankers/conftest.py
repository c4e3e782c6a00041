"""Which inputs do the tests of rankers share? One field of every kind, a funnel of any length."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from torch import Tensor

from components.testing.ranker import FIELDS, STREAM, example_batch, example_schema, widened, without_events
from features.declaration import RankerSchema

__all__ = ["FIELDS", "STREAM", "make_batch", "make_schema", "widened", "without_events"]
make_schema, make_batch = example_schema, example_batch


@pytest.fixture
def schema() -> RankerSchema:
    """A funnel of two."""
    return make_schema("like", "love")


@pytest.fixture
def schema_of() -> Callable[..., RankerSchema]:
    """Make a schema with the given feedback."""
    return make_schema


@pytest.fixture
def batch_of() -> Callable[..., dict[str, Tensor]]:
    """Make a batch of rows."""
    return make_batch
