"""How long does a request wait for its scores?"""

from __future__ import annotations

import time
from typing import Any

from tests.benchmarks.contract import Benchmark, Report, Series, table_of
from tests.benchmarks.lab import Lab

FIELDS, WIDTH, VOCABULARY, HISTORY = 20, 16, 10_000, 20
OURS, EAGER = "exported graph", "torch eager"
THREADS = 2


def run(lab: Lab) -> Report:
    """Score batches of 1, 100 and 1,000 candidates with the graph and with its module, in turns."""
    import numpy as np
    import torch

    from components.export_onnx.graph import export_graph
    from components.rankers.build import build_ranker
    from components.rankers.config import RankerConfig
    from components.rankers.tasks import tasks_of
    from registry.session import open_session

    torch.set_num_threads(THREADS)
    torch.manual_seed(0)
    schema = _schema(50 if lab.quick else VOCABULARY)
    config = RankerConfig.model_validate({"name": "esmm", "embedding_width": WIDTH, "hidden": (360, 200, 80)})
    ranker = build_ranker(config, schema).eval()
    tasks = tuple(task.name for task in tasks_of(schema.declaration))
    lab.say("exporting")
    path = lab.work / "model.onnx"
    export_graph(ranker, schema, tasks, path)
    session = open_session(path, "cpu", threads=THREADS)
    counts = (1, 100, 1_000)
    cases = [f"{count:,}" for count in counts]
    kinds = ("p50", "p99")
    found: dict[str, dict[str, dict[str, list[float]]]] = {kind: {OURS: {}, EAGER: {}} for kind in kinds}
    generator = np.random.default_rng(1)
    furthest = 0.0
    for count, case in zip(counts, cases, strict=True):
        lab.say(f"{case} candidates")
        batch = _batch(schema, count, generator)
        tensors = {name: torch.from_numpy(values) for name, values in batch.items()}

        def graph(batch: dict[str, Any] = batch) -> Any:
            return session.run(list(tasks), batch)

        def eager(tensors: dict[str, Any] = tensors) -> Any:
            with torch.inference_mode():
                return ranker(tensors)

        scores, expected = graph(), eager()
        furthest = max(
            furthest, *(float(np.abs(s - expected[t].numpy()).max()) for t, s in zip(tasks, scores, strict=True))
        )
        calls = 3 if lab.quick else 2_000 if count < 1_000 else 500
        for number in range(lab.rounds(5)):
            for who, way in ((OURS, graph), (EAGER, eager))[:: 1 if number % 2 == 0 else -1]:
                times = _timed(way, calls)
                for kind, share in zip(kinds, (0.50, 0.99), strict=True):
                    found[kind][who].setdefault(case, []).append(float(np.quantile(times, share)) * 1000)
    series = tuple(
        Series(
            title=f"Latency, {kind}", unit="ms", better="lower", axis="candidates", cases=tuple(cases),
            samples=table_of(found[kind], cases),
        )
        for kind in kinds
    )  # fmt: skip
    fact = f"The graph's probabilities differ from the module's by {furthest:.0e} at most."
    return Report(series=series, facts=(fact,), charts=(series[0].title,))


def _timed(way: Any, calls: int) -> list[float]:
    for _ in range(10):
        way()
    times = []
    for _ in range(calls):
        start = time.perf_counter()
        way()
        times.append(time.perf_counter() - start)
    return times


def _schema(vocabulary: int) -> Any:
    from datetime import UTC, datetime

    from features.declaration import Declaration, FieldSpec, RankerSchema

    fields = [
        FieldSpec(name=f"field_{number:02}", kind="categorical", size=vocabulary, table=f"field_{number:02}")
        for number in range(FIELDS)
    ]
    fields.append(FieldSpec(name="history", kind="sequence", size=vocabulary, table="field_00", length=HISTORY))
    return RankerSchema(
        declaration=Declaration(feedback=("click", "conversion")),
        fields=tuple(sorted(fields, key=lambda field: field.name)),
        base_rates={"click": 0.1, "conversion": 0.01},
        domains=(),
        sides={"history": "user"},
        rows=1,
        trained_from=datetime(2024, 1, 1, tzinfo=UTC),
        trained_until=datetime(2024, 1, 2, tzinfo=UTC),
    )


def _batch(schema: Any, count: int, generator: Any) -> dict[str, Any]:
    return {
        field.name: generator.integers(2, field.size, (count, field.length) if field.length else count)
        for field in schema.fields
    }


BENCHMARK = Benchmark(
    title="Scoring a request",
    question="How long does a request wait for the scores of its candidates?",
    run=run,
    order=50,
    notes=(
        f"ESMM with {FIELDS} categorical fields of width {WIDTH}, a history of {HISTORY} and towers 360-200-80; "
        f"{THREADS} threads each; random weights, whose values change no time. Both get arrays that are ready.",
        "A request's user is the same for all its candidates. The exported graph takes one row per candidate and does "
        "not use that: user fields and history are looked up once per candidate.",
    ),
)
