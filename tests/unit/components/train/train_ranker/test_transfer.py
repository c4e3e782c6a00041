"""Is a batch on its device what it was in memory, after one copy per type of number?"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from components.train.train_ranker.feed import Batch, Plan, batches, features_at, labels_at
from components.train.train_ranker.transfer import ALIGNED, packed_to
from features.declaration import offsets_name
from tests.unit.components.train.train_ranker.test_unpadded_feed import split

CPU, ELSEWHERE = torch.device("cpu"), torch.device("meta")
"""A device that keeps shapes and types only stands for one of another memory."""
SHAPES = st.one_of(st.tuples(st.integers(0, 40)), st.tuples(st.integers(0, 9), st.integers(0, 5)))


class Copies(TorchDispatchMode):
    """Notes what is copied to another device."""

    def __init__(self) -> None:
        super().__init__()
        self.dtypes: list[torch.dtype] = []

    def __torch_dispatch__(self, called: Any, types: Any, given: Any = (), options: Any = None) -> Any:
        options = options or {}
        if called.overloadpacket is torch.ops.aten._to_copy and options.get("device") == ELSEWHERE:
            self.dtypes.append(given[0].dtype)
        return called(*given, **options)


@given(
    shapes=st.lists(st.tuples(SHAPES, st.sampled_from([torch.int64, torch.float32])), max_size=8),
    shared=st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_what_is_packed_is_what_was_given(shapes: list[tuple[Any, torch.dtype]], shared: bool) -> None:
    torch.manual_seed(0)
    features = {f"f{i}": (torch.randn(shape) * 9).to(dtype) for i, (shape, dtype) in enumerate(shapes)}
    labels = {"like": torch.ones(3)} | ({"again": features["f0"]} if shared and features else {})
    found = packed_to([features, labels], CPU)
    for given_, made in zip([features, labels], found, strict=True):
        assert made.keys() == given_.keys()
        for name, values in given_.items():
            assert made[name].dtype == values.dtype
            assert torch.equal(made[name], values)
            assert made[name].storage_offset() * values.itemsize % ALIGNED == 0
    buffers = {(each.dtype, each.untyped_storage().data_ptr()) for part in found for each in part.values()}
    assert len(buffers) == len({each.dtype for part in found for each in part.values()})
    if "again" in labels:
        assert found[1]["again"] is found[0]["f0"]


def read(device: torch.device, unknown: float = 0.0) -> list[Batch]:
    plan = Plan(32, 0, 10_000, 0, 1, device, unknown, ("recent", "user_id"), jagged=True)
    with batches(split(True), plan, 1) as ready:
        return list(ready)


@pytest.mark.parametrize("unknown", [0.0, 0.3])
def test_a_feed_prepares_batches_for_another_device(unknown: float) -> None:
    there = read(ELSEWHERE, unknown)
    here = read(CPU, unknown)
    assert [b.step for b in there] == [b.step for b in here]
    for batch, expected in zip(there, here, strict=True):
        for made, known in ((batch.features, expected.features), (batch.labels, expected.labels)):
            assert {n: (v.shape, v.dtype) for n, v in made.items()} == {n: (v.shape, v.dtype) for n, v in known.items()}
            assert all(values.device == ELSEWHERE for values in made.values())
        assert batch.features[offsets_name("recent")] is batch.features[offsets_name("liked")]


def test_rows_are_copied_in_one_piece_per_type_however_many_fields_they_have() -> None:
    rows = np.arange(50)
    with Copies() as copies:
        features_at(split(True), rows, ELSEWHERE, jagged=True)
    assert sorted(map(str, copies.dtypes)) == ["torch.float32", "torch.int64"], "not one per field"
    with Copies() as copies:
        labels_at(split(True), rows, ELSEWHERE)
    assert copies.dtypes == [torch.float32]


def test_on_the_cpu_nothing_is_copied_at_all() -> None:
    features: dict[str, Tensor] = features_at(split(True), np.arange(50), CPU, jagged=True)
    storages = {each.untyped_storage().data_ptr() for each in features.values()}
    assert len(storages) == len({id(each) for each in features.values()})
