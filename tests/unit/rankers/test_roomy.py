"""Does a table in large pages hold what any other tensor would?"""

from __future__ import annotations

import copy
import re
from pathlib import Path

import pytest
import torch
from torch import nn

from components.rankers.roomy import LEAST_BYTES, roomy_zeros

ROWS = LEAST_BYTES // 64


@pytest.mark.parametrize("rows", [3, ROWS])
def test_it_is_like_any_other_tensor(rows: int) -> None:
    torch.manual_seed(1)
    table = nn.Parameter(roomy_zeros(rows, 16).normal_())
    torch.manual_seed(1)
    plain = torch.randn(rows, 16)
    assert torch.equal(table, plain)
    twin = copy.deepcopy(table)
    with torch.no_grad():
        table.index_copy_(0, torch.tensor([1]), torch.ones(1, 16))
    assert torch.equal(twin, plain) and table[1].sum() == 16


def test_it_starts_at_zero() -> None:
    assert not roomy_zeros(ROWS, 16).any() and roomy_zeros(5).shape == (5,)


@pytest.mark.skipif(not Path("/sys/kernel/mm/transparent_hugepage").exists(), reason="the system has no large pages")
@pytest.mark.parametrize(("rows", "large"), [(ROWS, True), (ROWS // 8, False)])
def test_only_a_large_table_asks_for_large_pages(rows: int, large: bool) -> None:
    table = roomy_zeros(rows, 16)
    at = table.data_ptr()
    for area in re.split(r"\n(?=[0-9a-f]+-[0-9a-f]+ )", Path("/proc/self/smaps").read_text()):
        start, end = (int(edge, 16) for edge in area.split()[0].split("-"))
        if start <= at < end:
            flags = re.search(r"VmFlags:(.*)", area)
            assert flags and ("hg" in flags[1].split()) == large
            break
    else:
        pytest.fail("the table lies nowhere")
