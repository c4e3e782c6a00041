"""How much memory does training take when the training split is larger than it?"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.benchmarks.contract import Benchmark, Goal, Report, Series
from tests.benchmarks.lab import Lab, as_a_stage

FIELDS, VOCABULARY, BATCH = 10, 50_000, 16_384
LIMIT_MIB = 4096


def run(lab: Lab) -> Report:
    """Write splits of growing size, and train one epoch on each in a process of its own."""
    sizes = (20_000,) if lab.quick else (2_000_000, 20_000_000)
    cases = tuple(f"{size:,}" for size in sizes)
    memory: list[tuple[float, ...]] = []
    rates: list[tuple[float, ...]] = []
    facts: list[str] = []
    for size, case in zip(sizes, cases, strict=True):
        folder = lab.work / f"split{size}"
        lab.say(f"{case} rows: writing")
        lab.child(written, folder=str(folder), rows=size)
        lab.say(f"{case} rows: training")
        cost = lab.child(trained, folder=str(folder), window=4_096 if lab.quick else 2_097_152)
        assert cost is not None
        memory.append((cost.mib,))
        rates.append((cost.value["rate"] / 1000,))
        file = folder / "encoded" / "train.arrow"
        facts.append(f"{case} rows are a file of {file.stat().st_size / 2**20:,.0f} MiB.")
        file.unlink()
    most = Series(
        title="memory on top of libraries and tables, at its highest",
        unit="MiB",
        better="lower",
        axis="rows",
        cases=cases,
        samples={"rankmill": tuple(memory)},
    )
    speed = most.model_copy(
        update={"title": "samples per second", "unit": "k/s", "better": "higher", "samples": {"rankmill": tuple(rates)}}
    )
    used = memory[-1][0]
    goal = Goal(
        text=f"{cases[-1]} rows in less than {LIMIT_MIB:,} MiB besides the tables",
        measured=f"{used:,.0f} MiB",
        met=used < LIMIT_MIB,
    )
    return Report(series=(most, speed), goals=(goal,), facts=tuple(facts))


def schema_of(rows: int) -> Any:
    from features.declaration import Declaration, FieldSpec, RankerSchema

    fields = tuple(FieldSpec(name=f"f{i}", kind="categorical", size=VOCABULARY) for i in range(FIELDS))
    return RankerSchema(
        declaration=Declaration(feedback=("click",), funnel=True), fields=fields, base_rates={"click": 0.2}, rows=rows
    )


def written(folder: str, rows: int) -> Iterator[None]:
    """Write a training split as `build_training_set` does."""
    import numpy as np

    from components.data.training_set import EncodedSplit, write_encoded

    yield
    rng = np.random.default_rng(rows)
    features = {f"f{i}": rng.integers(1, VOCABULARY, rows) for i in range(FIELDS)}
    click = (rng.random(rows) < 0.1 + 0.2 * (features["f0"] % 2)).astype(np.float32)
    none = np.zeros(rows, dtype=np.int64)
    write_encoded(Path(folder) / "encoded" / "train.arrow", EncodedSplit(features, {"click": click}, none, none))
    (Path(folder) / "schema.json").write_text(schema_of(rows).model_dump_json())
    yield


def trained(folder: str, window: int) -> Iterator[None]:
    """Train one epoch; the tables exist before memory is measured."""
    as_a_stage()
    import torch

    from components.data.training_set import read_schema
    from components.rankers.build import build_ranker
    from components.rankers.config import RankerConfig
    from components.train.train_ranker.config import Knobs, Tables
    from components.train.train_ranker.feed import Plan, batches, open_split
    from components.train.train_ranker.loop import Replica, take_step
    from components.train.train_ranker.optimiser import RankerOptimiser

    torch.manual_seed(0)
    schema = read_schema(Path(folder))
    ranker = build_ranker(RankerConfig.of(name="dnn", embedding_width=8, hidden=(32,)), schema)
    optimiser = RankerOptimiser(ranker, Knobs(tables=Tables(optimiser="rowwise_adagrad", learning_rate=0.05)))
    replica = Replica()
    ranker.train()
    yield
    split = open_split(Path(folder), "train", schema)
    start = time.perf_counter()
    with batches(split, Plan(BATCH, 0, window, 0, 1, replica.device), epoch=1) as feed:
        for batch in feed:
            take_step(ranker, optimiser, batch, "bfloat16", replica)
    seconds = time.perf_counter() - start
    yield
    return {"rate": split.rows / seconds}  # type: ignore[return-value]  # tests.benchmarks.child reads it


BENCHMARK = Benchmark(
    title="Splits larger than memory",
    question="How much memory does training take when the split is larger?",
    run=run,
    notes=(
        f"A network over {FIELDS} fields of {VOCABULARY:,} ids, one epoch. 2,097,152 rows are in memory while "
        "the next is read; blocks of 65,536 rows are dealt to windows at random, rows are shuffled within a window.",
    ),
    order=15,
)
