"""What does each sequence encoder cost per row as histories grow, in training and in a served graph?"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from tests.benchmarks.contract import Benchmark, Goal, Report, Series, table_of
from tests.benchmarks.lab import Lab

ENCODERS: dict[str, dict[str, Any]] = {
    "sdim": {"sequence": "sdim"},
    "searched": {"sequence": "searched"},
    "mean": {"sequence": "mean"},
    "din": {"sequence": "din"},
    "tin": {"sequence": "tin"},
    "transformer": {"sequence": "transformer"},
}
ITEMS, CANDIDATES = 50_000, 100
QUADRATIC = ("transformer",)
"""Read every pair of events, so that a batch of a thousand each does not fit a laptop."""


def run(lab: Lab) -> Report:
    """Take the same training steps, and answer the same requests, with each encoder in turns."""
    lengths, batch = ((5,), 64) if lab.quick else ((50, 200, 1000), 512)
    cases = tuple(f"{length:,}" for length in lengths)
    steps: dict[str, dict[str, list[float]]] = {name: {} for name in ENCODERS}
    served: dict[str, dict[str, list[float]]] = {name: {} for name in ENCODERS}
    absent: dict[str, str] = {}
    for case, length in zip(cases, lengths, strict=True):
        lab.say(f"histories of {case}")
        names = [name for name in ENCODERS if length < 1000 or name not in QUADRATIC]
        absent |= {f"{name} @ {case}": "reads every pair of events" for name in ENCODERS if name not in names}
        for name, each in lab.alternate({name: _step(name, length, batch) for name in names}, rounds=5).items():
            steps[name][case] = [seconds / batch * 1e6 for seconds in each]
        with tempfile.TemporaryDirectory() as folder:
            asked = {name: _request(name, length, Path(folder) / f"{name}.onnx") for name in names}
            for name, each in lab.alternate(asked, rounds=7).items():
                served[name][case] = [seconds / CANDIDATES * 1e6 for seconds in each]
    shared: dict[str, Any] = {"unit": "µs", "better": "lower", "axis": "events of a history", "cases": cases}
    training = Series(title="a training step, per row", samples=table_of(steps, cases), absent=absent, **shared)
    serving = Series(
        title=f"an answer of the request's graph, per candidate of {CANDIDATES}",
        samples=table_of(served, cases),
        absent=absent,
        **shared,
    )
    longest = cases[-1]
    ratio = training.ratio("sdim", "din", longest) or 0.0
    goal = Goal(
        text=f"a training step with histories of {longest}: sdim at most half of din",
        measured=f"{ratio:.2f} ×",
        met=0 < ratio <= 0.5,
    )
    return Report(series=(training, serving), goals=(goal,), charts=(training.title, serving.title))


def _schema(length: int) -> Any:
    from features.declaration import Declaration, FieldSpec, RankerSchema

    fields = (
        FieldSpec(name="item_id", kind="categorical", size=ITEMS, table="item_id"),
        FieldSpec(name="recent", kind="sequence", size=ITEMS, table="item_id", length=length),
        FieldSpec(name="user_id", kind="categorical", size=ITEMS, table="user_id"),
    )
    sides: Any = {"item_id": "item", "recent": "user", "user_id": "user"}
    return RankerSchema(
        declaration=Declaration(feedback=("click",)), fields=fields, base_rates={"click": 0.1}, sides=sides
    )


def _ids(rows: int, length: int) -> dict[str, Any]:
    """Return rows whose histories are full."""
    import torch

    g = torch.Generator().manual_seed(0)
    return {
        "item_id": torch.randint(2, ITEMS, (rows,), generator=g),
        "recent": torch.randint(2, ITEMS, (rows, length), generator=g),
        "user_id": torch.randint(2, ITEMS, (rows,), generator=g),
    }


def _ranker(name: str, length: int) -> Any:
    import torch

    from components.rankers.build import build_ranker
    from components.rankers.config import RankerConfig

    torch.manual_seed(0)
    return build_ranker(RankerConfig.of("dnn", **ENCODERS[name]), _schema(length))


def _step(name: str, length: int, batch: int) -> Callable[[], object]:
    """Return a training step, histories one after the other as training has them."""
    import torch

    from components.train.train_ranker.config import Knobs
    from components.train.train_ranker.optimiser import RankerOptimiser
    from features.declaration import offsets_name

    ranker = _ranker(name, length).train()
    optimiser = RankerOptimiser(ranker, Knobs())
    rows = _ids(batch, length)
    rows |= {"recent": rows["recent"].flatten(), offsets_name("recent"): torch.arange(batch + 1) * length}
    labels = {"click": (torch.arange(batch) % 10 == 0).float()}

    def step() -> None:
        outputs = ranker(rows)
        optimiser.clear()
        ranker.loss(outputs, labels).backward()
        optimiser.step()

    return step


def _request(name: str, length: int, path: Path) -> Callable[[], object]:
    """Return one question to the exported graph of a request."""
    from components.judge.export_onnx.graph import export_graph
    from components.judge.export_onnx.request import request_fields, request_ranker
    from registry.serving.model.session import open_session

    ranker, schema = _ranker(name, length).eval(), _schema(length)
    once = request_fields(schema, ())
    export_graph(request_ranker(ranker, schema, once), schema, ("click",), path, once)
    session = open_session(path, "cpu", 1)
    rows = {field: values.numpy() for field, values in _ids(CANDIDATES, length).items()}
    feed = {field: values[:1] if field in once else values for field, values in rows.items()}
    return partial(session.run, ["click"], feed)


BENCHMARK = Benchmark(
    title="Sequence encoders",
    question="What does each sequence encoder cost per row as histories grow, in training and in a served graph?",
    run=run,
    notes=(
        "`dnn` with embeddings of 16 numbers, 50,000 items; every history is full. Training: batches of 512 rows, "
        f"histories without padding, both cores, the optimiser's step included. Serving: {CANDIDATES} candidates of "
        "one request, one thread of onnxruntime; what does not look at the candidate is computed once.",
        "`searched` with its default of 20 kept events and `din` behind it. What an encoder finds is another question: "
        "`tests/unit/components/rankers/test_default_worlds.py` has a planted world for each.",
    ),
    order=19,
)
