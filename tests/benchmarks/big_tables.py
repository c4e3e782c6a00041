"""What does a model cost whose tables are larger than a graph can be?"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.benchmarks.contract import Benchmark, Goal, Report, Series, at_most, table_of
from tests.benchmarks.lab import Lab

WIDTH, FIELDS, USERS, HISTORY = 16, 8, 4, 50
"""Fields of a row, so many of them the user's, and events of the user's history."""
VOCABULARY = {"3 GiB": 6_300_000, "40 MiB": 80_000}
"""By what the tables take, values of each field; of the small ones a graph holds them itself."""
LARGE, SMALL = VOCABULARY
COUNTS = (1, 100, 1_000)
REQUESTS = 300


def run(lab: Lab) -> Report:
    """Export, open and ask two models that differ in the lengths of their tables, each in processes of its own."""
    vocabulary = {LARGE: 200_000, SMALL: 2_000} if lab.quick else VOCABULARY
    waits: dict[str, dict[str, list[float]]] = {who: {} for who in vocabulary}
    spent: dict[str, dict[str, list[float]]] = {who: {} for who in vocabulary}
    takes: dict[str, dict[str, list[float]]] = {who: {} for who in vocabulary}
    cases = [f"{count:,}" for count in COUNTS]
    size = 0.0
    for who, values in vocabulary.items():
        folder = lab.work / f"{values}"
        folder.mkdir()
        lab.say(f"exporting {who}")
        made = lab.child(export, folder=str(folder), vocabulary=values)
        assert made is not None, f"{who} was not exported"
        size = max(size, *(path.stat().st_size / 2**20 for path in folder.iterdir()))
        spent[who]["export of both graphs"] = [made.seconds]
        takes[who]["export, above the ranker"] = [made.mib]
    for _ in range(lab.rounds(3)):
        for who, values in vocabulary.items():
            lab.say(f"opening {who}")
            opened = lab.child(open_both, folder=str(lab.work / f"{values}"))
            assert opened is not None, f"{who} was not opened"
            spent[who].setdefault("opening both graphs", []).append(opened.seconds)
            takes[who].setdefault("an open process", []).append(opened.mib)
            lab.say(f"asking {who}")
            asked = lab.child(ask, folder=str(lab.work / f"{values}"), vocabulary=values)
            assert asked is not None, f"{who} did not answer"
            for case, milliseconds in zip(cases, asked.value["ms"], strict=True):
                waits[who].setdefault(case, []).append(milliseconds)
            takes[who].setdefault("its own after requests", []).append(asked.value["own"])
            takes[who].setdefault("pages of files after requests", []).append(asked.value["files"])
    latency = Series(
        title="Latency of a request, p50", unit="ms", better="lower", axis="candidates", cases=tuple(cases),
        samples=table_of(waits, cases),
    )  # fmt: skip
    steps, places = list(spent[LARGE]), list(takes[LARGE])
    seconds = Series(
        title="Time", unit="s", better="lower", axis="step", cases=tuple(steps), samples=table_of(spent, steps)
    )
    memory = Series(
        title="Memory", unit="MiB", better="lower", axis="step", cases=tuple(places), samples=table_of(takes, places)
    )
    longest = max(seconds.median(LARGE, "opening both graphs") or 0.0, 0.0)
    goals = (
        Goal(text="tables of 3 GiB open in 2 s", measured=f"{longest:.2f} s", met=longest <= 2),
        at_most(
            latency, LARGE, SMALL, "1,000", 2.0, "1,000 candidates wait at most twice as long as with small tables"
        ),
    )
    fact = f"The largest file of the large model has {size:,.0f} MiB."
    return Report(series=(latency, seconds, memory), goals=goals, facts=(fact,), charts=(latency.title,))


def export(folder: str, vocabulary: int) -> Iterator[None]:
    """Write both graphs of a ranker with random weights."""
    import torch

    from components.judge.export_onnx.graph import export_graph
    from components.judge.export_onnx.request import request_fields, request_ranker
    from components.judge.export_onnx.tables import Tables
    from components.rankers.build import build_ranker
    from components.rankers.config import RankerConfig
    from components.rankers.tasks import tasks_of

    torch.manual_seed(0)
    schema = _schema(vocabulary)
    config = RankerConfig.model_validate({"name": "esmm", "embedding_width": WIDTH, "hidden": (128, 64)})
    ranker = build_ranker(config, schema).eval()
    tasks = tuple(task.name for task in tasks_of(schema.declaration))
    once = request_fields(schema, ())
    yield
    tables = Tables.of(ranker)
    export_graph(ranker, schema, tasks, Path(folder) / "model.onnx", tables=tables)
    whole = request_ranker(ranker, schema, once)
    export_graph(whole, schema, tasks, Path(folder) / "request.onnx", once, tables)
    yield


def open_both(folder: str) -> Iterator[None]:
    """Open both graphs as a process of a service does."""
    import onnx  # noqa: F401  # what reads a graph is there in a service as well
    import onnxruntime  # noqa: F401

    from registry.serving.model.session import open_session

    yield
    sessions = [open_session(Path(folder) / name, "cpu", threads=1) for name in ("model.onnx", "request.onnx")]
    yield
    del sessions


def ask(folder: str, vocabulary: int) -> Iterator[None]:
    """Answer requests of other candidates each; gives the median ms of each count, and the memory then."""
    import time

    import numpy as np

    from components.judge.export_onnx.request import request_fields
    from registry.serving.model.session import open_session
    from tests.benchmarks.onnx_scoring import _batch

    schema = _schema(vocabulary)
    once = request_fields(schema, ())
    session = open_session(Path(folder) / "request.onnx", "cpu", threads=1)
    generator = np.random.default_rng(1)
    medians = []
    yield
    for count in COUNTS:
        taken = []
        for number in range(REQUESTS + 20):
            batch = _batch(schema, count, generator, once)
            feed = {name: values[:1] if name in once else values for name, values in batch.items()}
            start = time.perf_counter()
            session.run(None, feed)
            if number >= 20:
                taken.append((time.perf_counter() - start) * 1e3)
        medians.append(float(np.median(taken)))
    yield
    return {"ms": medians, "own": _held("RssAnon"), "files": _held("RssFile")}


def _held(field: str) -> float:
    """Return MiB that this process holds alone (``RssAnon``), or of files that others may share (``RssFile``)."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) / 1024


def _schema(vocabulary: int) -> Any:
    from tests.benchmarks.onnx_scoring import _schema as schema_of

    return schema_of(vocabulary, FIELDS, USERS)


BENCHMARK = Benchmark(
    title="Tables beyond 2 GiB",
    question="What does a model cost whose tables are larger than a graph can be?",
    run=run,
    order=55,
    notes=(
        f"ESMM with {FIELDS} categorical fields of width {WIDTH}, {USERS} of them the user's, the user's history of "
        f"{HISTORY} and towers 128-64; random weights, and ids that are drawn evenly, so that every request reads rows "
        "that no other one has read: the hardest case for a table on a disk, whose frequent rows stay in memory. The "
        "small model's tables lie in its graphs, the large one's beside them, in one file that both graphs name and "
        "onnxruntime maps. The file was written just before, so that its pages are in the system's memory. One thread.",
        "*Memory* is what a step took on top of what the process held before it; the export's is above the ranker and "
        "its tables. Pages of files belong to the system: processes that serve one version share them, and they are "
        "given up when memory is short.",
    ),
)
