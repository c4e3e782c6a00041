"""Does the error memory stay fast while it grows?"""

from __future__ import annotations

import time
from typing import Any

from tests.benchmarks.contract import Benchmark, Goal, Report, Series, table_of
from tests.benchmarks.lab import Lab

WIDTH, BATCH = 32, 1_024
OURS, FLAT, GRAPH = "rankmill sketch", "faiss flat", "faiss HNSW"
FLAT_LIMIT, GRAPH_LIMIT = 1_000_000, 100_000
"""Stored samples after which a neighbour index is not built: its memory or its time to build is out of proportion."""


def run(lab: Lab) -> Report:
    """Grow each memory to every size; there, read and write batches in turns."""
    import faiss
    import numpy as np

    from registry.memory.sketch import Sketch, SketchShape

    faiss.omp_set_num_threads(2)
    sizes = (1_000, 4_000) if lab.quick else (10_000, 100_000, 1_000_000, 10_000_000)
    cases = [f"{size:,}" for size in sizes]
    generator = np.random.default_rng(11)
    reads: dict[str, dict[str, list[float]]] = {who: {} for who in (OURS, FLAT, GRAPH)}
    writes: dict[str, dict[str, list[float]]] = {who: {} for who in (OURS, FLAT, GRAPH)}
    absent: dict[str, str] = {}
    sketch = Sketch.empty(SketchShape(arrays=20, bits=10, width=WIDTH, seed=0), ("click",))
    flat, graph = faiss.IndexFlatIP(WIDTH), faiss.IndexHNSWFlat(WIDTH, 16, faiss.METRIC_INNER_PRODUCT)
    held = {OURS: 0, FLAT: 0, GRAPH: 0}

    def add(who: str, rows: int) -> float:
        """Write rows that nobody has seen; gives the rate of the last piece."""
        rate = 0.0
        while rows > 0:
            count = min(rows, 65_536)
            keys = generator.standard_normal((count, WIDTH), dtype=np.float32)
            label = {"click": (keys[:, 0] > 0).astype(np.float64)}
            predicted = {"click": np.full(count, 0.5)}
            start = time.perf_counter()
            if who == OURS:
                sketch.write(keys, label, predicted)
            else:
                (flat if who == FLAT else graph).add(keys)
            rate = count / (time.perf_counter() - start)
            held[who] += count
            rows -= count
        return rate

    def read(who: str, keys: Any) -> None:
        if who == OURS:
            sketch.read(keys)
        else:
            (flat if who == FLAT else graph).search(keys, 20)

    for size, case in zip(sizes, cases, strict=True):
        here = [OURS]
        for who, limit in ((FLAT, FLAT_LIMIT), (GRAPH, GRAPH_LIMIT)):
            if size <= limit:
                here.append(who)
            else:
                absent[f"{who} @ {case}"] = f"not built beyond {limit:,}"
        for who in here:
            lab.say(f"{case} samples: filling {who}")
            add(who, size - held[who] - BATCH * lab.rounds(5))
        for number in range(lab.rounds(5)):
            keys = generator.standard_normal((BATCH, WIDTH), dtype=np.float32)
            for who in here[:: 1 if number % 2 == 0 else -1]:
                writes[who].setdefault(case, []).append(add(who, BATCH))
                start = time.perf_counter()
                read(who, keys)
                reads[who].setdefault(case, []).append(BATCH / (time.perf_counter() - start))
    common: dict[str, Any] = {"better": "higher", "axis": "stored samples", "cases": tuple(cases), "absent": absent}
    read_series = Series(title="Reads", unit="keys/s", samples=table_of(reads, cases), **common)
    write_series = Series(title="Writes", unit="keys/s", samples=table_of(writes, cases), **common)
    goals = []
    for series in (read_series, write_series):
        rates = [series.median(OURS, case) or 0.0 for case in cases]
        goals.append(
            Goal(
                text=f"{series.title.lower()} at {cases[-1]} samples at least .8 × those at {cases[0]}",
                measured=f"{rates[-1] / rates[0]:.2f} ×",
                met=rates[-1] >= 0.8 * rates[0],
            )
        )
    return Report(series=(read_series, write_series), goals=tuple(goals), charts=(read_series.title,))


BENCHMARK = Benchmark(
    title="Error memory",
    question="Do reads and writes of the ReLoop2 memory stay as fast when it has seen a thousand times as much?",
    run=run,
    order=60,
    notes=(
        f"Keys are float32 of width {WIDTH}, in batches of {BATCH:,}; the sketch has 20 arrays of 2^10 buckets, as the "
        "pipelines use it; the indices return 20 neighbours by inner product and have two threads. A neighbour index "
        "finds the samples themselves, the sketch only their sums, which is all that the correction of a score needs. "
        "Keys are random, the worst case for a graph index.",
    ),
)
