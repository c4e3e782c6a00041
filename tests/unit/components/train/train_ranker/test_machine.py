"""Does a training process keep the memory that it frees?"""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

STEPS = 50
_FAULTS = f"""
import os, resource, statistics, sys
import torch
from components.train.train_ranker.ray_launch import keep_freed_memory

torch.set_num_threads(1)
if os.fork() == 0:  # one process each, which load PyTorch once
    keep_freed_memory()
else:
    os.wait()

def step():
    held = [torch.ones(1_000_000) for _ in range(4)]
    return [part + 1 for part in held]

for _ in range(5):  # until the heap has the size that a step needs
    step()

def pages():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    step()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

# The median: a page that the kernel merged or moved meanwhile is no page of a step.
print(int(statistics.median(pages() for _ in range({STEPS}))), flush=True)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's memory")
def test_a_step_does_not_ask_the_system_for_memory_that_the_last_one_freed() -> None:
    # The threshold that glibc begins with, held: left alone it moves with what was freed, by the accidents of the heap.
    fixed = os.environ | {"GLIBC_TUNABLES": "glibc.malloc.mmap_threshold=131072"}

    done = subprocess.run([sys.executable, "-c", _FAULTS], env=fixed, capture_output=True, text=True, check=True)
    kept, let_go = map(int, done.stdout.split())
    # 32 MB a step are 8,000 pages, or 16 where the system has large ones.
    assert kept < 10 < let_go
