"""Does a table in large pages hold what any other tensor would?"""

from __future__ import annotations

import copy
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from components.platform.settings import ROOT
from components.rankers.embedding.sparse_gradient import LEAST_BYTES, roomy_zeros

ROWS = LEAST_BYTES // 64
ASKED = """
import re, sys
from components.rankers.embedding.sparse_gradient import roomy_zeros

table = roomy_zeros(int(sys.argv[1]), 16)
for area in re.split(r"\\n(?=[0-9a-f]+-[0-9a-f]+ )", open("/proc/self/smaps").read()):
    start, end = (int(edge, 16) for edge in area.split()[0].split("-"))
    if start <= table.data_ptr() < end:
        print("hg" in re.search(r"VmFlags:(.*)", area)[1].split())
"""
"""Prints whether the area of a table of so many rows asks the kernel for large pages."""


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
    """In a process of its own: a small table may lie where an earlier test's large one lay and left its mark."""
    done = subprocess.run(
        [sys.executable, "-c", ASKED, str(rows)], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == [str(large)]
