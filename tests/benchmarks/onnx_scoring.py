"""How long does a request wait for its scores?"""

from __future__ import annotations

import time
from typing import Any

from tests.benchmarks.contract import Benchmark, Report, Series, table_of
from tests.benchmarks.lab import Lab

FIELDS, WIDTH, VOCABULARY, HISTORY = 20, 16, 10_000, 50
USERS = 10
"""Fields that describe the user; the others describe the item."""
REQUEST, OURS, EAGER = "graph of a request", "graph of rows", "torch eager"
WAYS = (REQUEST, OURS, EAGER)
THREADS = 2


def run(lab: Lab) -> Report:
    """Score batches of 1, 100 and 1,000 candidates with both graphs and with their module, in turns."""
    import numpy as np
    import torch

    from components.judge.export_onnx.graph import export_graph
    from components.judge.export_onnx.request import request_fields, request_ranker
    from components.rankers.build import build_ranker
    from components.rankers.config import RankerConfig
    from components.rankers.tasks import tasks_of
    from registry.serving.model.session import open_session

    torch.set_num_threads(THREADS)
    torch.manual_seed(0)
    schema = _schema(50, 4, 2) if lab.quick else _schema(VOCABULARY, FIELDS, USERS)
    config = RankerConfig.model_validate({"name": "esmm", "embedding_width": WIDTH, "hidden": (360, 200, 80)})
    ranker = build_ranker(config, schema).eval()
    tasks = tuple(task.name for task in tasks_of(schema.declaration))
    lab.say("exporting")
    path = lab.work / "model.onnx"
    export_graph(ranker, schema, tasks, path)
    session = open_session(path, "cpu", threads=THREADS)
    once = request_fields(schema, ())
    export_graph(request_ranker(ranker, schema, once), schema, tasks, lab.work / "request.onnx", once)
    divided = open_session(lab.work / "request.onnx", "cpu", threads=THREADS)
    counts = (1, 100, 1_000)
    cases = [f"{count:,}" for count in counts]
    kinds = ("p50", "p99")
    found: dict[str, dict[str, dict[str, list[float]]]] = {kind: {way: {} for way in WAYS} for kind in kinds}
    generator = np.random.default_rng(1)
    furthest = 0.0
    for count, case in zip(counts, cases, strict=True):
        lab.say(f"{case} candidates")
        batch = _batch(schema, count, generator, once)
        shortened = {name: values[:1] if name in once else values for name, values in batch.items()}
        tensors = {name: torch.from_numpy(values) for name, values in batch.items()}

        def graph(batch: dict[str, Any] = batch) -> Any:
            return session.run(list(tasks), batch)

        def request(batch: dict[str, Any] = shortened) -> Any:
            return divided.run(list(tasks), batch)

        def eager(tensors: dict[str, Any] = tensors) -> Any:
            with torch.inference_mode():
                return ranker(tensors)

        expected = eager()
        for scores in (graph(), request()):
            furthest = max(
                furthest, *(float(np.abs(s - expected[t].numpy()).max()) for t, s in zip(tasks, scores, strict=True))
            )
        calls = 3 if lab.quick else 2_000 if count < 1_000 else 500
        for number in range(lab.rounds(5)):
            for who, way in ((REQUEST, request), (OURS, graph), (EAGER, eager))[:: 1 if number % 2 == 0 else -1]:
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
    fact = f"The graphs' probabilities differ from the module's by {furthest:.0e} at most."
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


def _schema(vocabulary: int, count: int, users: int) -> Any:
    from datetime import UTC, datetime

    from features.declaration import Declaration, FieldSpec, RankerSchema

    fields = [
        FieldSpec(name=f"field_{number:02}", kind="categorical", size=vocabulary, table=f"field_{number:02}")
        for number in range(count)
    ]
    items = fields[-1].table
    fields.append(FieldSpec(name="history", kind="sequence", size=vocabulary, table=items, length=HISTORY))
    return RankerSchema(
        declaration=Declaration(feedback=("click", "conversion")),
        fields=tuple(sorted(fields, key=lambda field: field.name)),
        base_rates={"click": 0.1, "conversion": 0.01},
        domains=(),
        sides={field.name: "item" if users <= place < count else "user" for place, field in enumerate(fields)},
        rows=1,
        trained_from=datetime(2024, 1, 1, tzinfo=UTC),
        trained_until=datetime(2024, 1, 2, tzinfo=UTC),
    )


def _batch(schema: Any, count: int, generator: Any, once: tuple[str, ...]) -> dict[str, Any]:
    """Return the candidates of one request, a row each."""
    import numpy as np

    rows = {
        field.name: generator.integers(2, field.size, (count, field.length) if field.length else count)
        for field in schema.fields
    }
    return rows | {name: np.repeat(rows[name][:1], count, axis=0) for name in once}


BENCHMARK = Benchmark(
    title="Scoring a request",
    question="How long does a request wait for the scores of its candidates?",
    run=run,
    order=50,
    notes=(
        f"ESMM with {FIELDS} categorical fields of width {WIDTH}, {USERS} of them the user's, the user's history of "
        f"{HISTORY} and towers 360-200-80; {THREADS} threads each; random weights, whose values change no time. All "
        "get arrays that are ready.",
        "A request's user is the same for all its candidates. The graph of rows takes that user once per candidate; "
        "the graph of a request (`export_onnx` with `shape: request`) takes it once and computes its share of the "
        "towers' first layers once.",
    ),
)
