"""What does a device bring? Copies, training beside its roofline, parity, latency: `python -m tests.gpu.measure`.

Every part writes the file again, so that a run that is cut off leaves what it found. `--device cpu --quick` shows on
any machine that the script works; its figures mean nothing.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from components.platform.errors import RankmillError
from components.train.train_ranker.loop import Replica
from pipelines.compare.record import describe_machine
from tests.benchmarks.onnx_scoring import _batch, _schema
from tests.benchmarks.training_ours import new_ranker, read_split, train, wait
from tests.benchmarks.training_world import FIELDS, HIDDEN, WIDTH, read_rows, write_rows

PRECISIONS = ("float32", "bfloat16")


def main(arguments: list[str] | None = None) -> int:
    """Measure and write one JSON file."""
    parser = argparse.ArgumentParser(prog="python -m tests.gpu.measure", description=__doc__)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--out", type=Path, default=Path("gpu.json"))
    parser.add_argument("--quick", action="store_true", help="smallest sizes")
    chosen = parser.parse_args(arguments)
    device = torch.device(chosen.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        sys.stderr.write("this torch sees no CUDA device: install a build with CUDA, or pass --device cpu --quick\n")
        return 2
    found: dict[str, Any] = {
        "machine": describe_machine(),
        "device": torch.cuda.get_device_name() if device.type == "cuda" else "cpu",
        "torch": torch.__version__,
    }
    with tempfile.TemporaryDirectory(prefix="rankmill-gpu-") as work:
        for part in (copying, training, parity_of_training, scoring):
            start = time.perf_counter()
            try:
                found[part.__name__] = part(device, Path(work), chosen.quick)
            except RankmillError as error:  # a provider that did not load: the other parts are still worth having
                found[part.__name__] = {"error": str(error)}
            found[part.__name__]["seconds"] = round(time.perf_counter() - start, 1)
            chosen.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
            sys.stdout.write(f"{part.__name__}: {json.dumps(found[part.__name__])}\n")
            sys.stdout.flush()
    return 1 if any("error" in part for part in found.values() if isinstance(part, dict)) else 0


def copying(device: torch.device, work: Path, quick: bool) -> dict[str, Any]:
    """Return the ms of a batch's way to the device, packed and one by one: of the host alone, and until it is there."""
    from components.train.train_ranker.transfer import packed_to

    found: dict[str, Any] = {}
    generator = torch.Generator().manual_seed(0)
    for rows in (64,) if quick else (1024, 16_384):
        features = {f"f{i:02}": torch.randint(10_000, (rows,), generator=generator) for i in range(FIELDS)}
        features["history"] = torch.randint(10_000, (rows * 50,), generator=generator)
        labels = {f"label{i}": torch.rand(rows, generator=generator) for i in range(4)}

        def each(features: Any = features, labels: Any = labels) -> Any:
            parts = (*features.values(), *labels.values())
            pinned = [part.pin_memory() if device.type == "cuda" else part.clone() for part in parts]
            return [part.to(device, non_blocking=True) for part in pinned]

        def packed(features: Any = features, labels: Any = labels) -> Any:
            return packed_to([features, labels], device)

        told = {}
        for way, call in {"one_by_one": each, "packed": packed}.items():
            told[way] = _quantiles(call, 5 if quick else 300)
            told[f"{way}_and_there"] = _quantiles(lambda call=call: (call(), wait(device)), 5 if quick else 300)  # type: ignore[misc]
        found[f"{rows:,} rows"] = told
    return found


def training(device: torch.device, work: Path, quick: bool) -> dict[str, Any]:
    """Return samples per second of the loop's own feed and step, and of the roofline, by vocabulary and precision."""
    found: dict[str, Any] = {}
    batches = (64,) if quick else (4096, 16_384)
    for vocabulary in (500,) if quick else (10_000, 1_000_000):
        path = work / f"rows{vocabulary}.npz"
        write_rows(path, vocabulary, 6 * 64 if quick else 80 * 16_384)
        split = read_split(str(path))
        for batch in batches:
            for precision in PRECISIONS:
                ranker, _ = new_ranker(split, vocabulary)
                optimiser = _on(ranker, device)
                rate = train(ranker, optimiser, split, precision, 3 if quick else 20, Replica(device=device), batch)
                least = roofline(device, path, vocabulary, batch, precision, 3 if quick else 60)
                case = f"{vocabulary:,} ids, batch {batch:,}, {precision}"
                found[case] = {"samples_per_s": rate, "roofline": least, "share": rate / least}
    return found


def _on(ranker: Any, device: torch.device) -> Any:
    from components.train.train_ranker.config import Knobs, Tables
    from components.train.train_ranker.optimiser import RankerOptimiser
    from tests.benchmarks.training_ours import TABLE_RATE

    knobs = Knobs(tables=Tables(optimiser="rowwise_adagrad", learning_rate=TABLE_RATE))
    return RankerOptimiser(ranker.to(device).train(), knobs, Replica(device=device).reads_late)


def roofline(device: torch.device, path: Path, vocabulary: int, batch: int, precision: str, steps: int) -> float:
    """Return samples per second of bare towers and a bare gather, sum and update by row, from device memory."""
    from components.rankers.embedding.sparse_gradient import summed_by_row
    from components.train.train_ranker.rowwise import RowwiseAdagrad

    torch.manual_seed(0)
    ids, click, _ = (torch.from_numpy(values[: batch * steps]).to(device) for values in read_rows(str(path)))
    sizes = (FIELDS * WIDTH, *HIDDEN)

    def tower() -> nn.Sequential:
        layers = [part for a, b in zip(sizes, HIDDEN, strict=False) for part in (nn.Linear(a, b), nn.ReLU())]
        return nn.Sequential(*layers, nn.Linear(HIDDEN[-1], 1))

    towers = nn.ModuleList([tower(), tower()]).to(device)
    adam = torch.optim.Adam(towers.parameters(), fused=True)
    weight = torch.randn((vocabulary + 1) * FIELDS, WIDTH, device=device) * 0.01
    rows = RowwiseAdagrad(weight, 0.01, 0.0)
    offsets = torch.arange(FIELDS, device=device) * (vocabulary + 1)
    have = len(ids) // batch

    def step(number: int) -> None:
        at = slice(number % have * batch, (number % have + 1) * batch)
        places = ids[at] + offsets
        x = functional.embedding(places, weight)
        rows.step(*summed_by_row(places.flatten(), x.flatten(0, 1)))
        x = x.flatten(1).requires_grad_()
        with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16"):
            answers = [part(x).squeeze(1) for part in towers]
        loss = sum(functional.binary_cross_entropy_with_logits(a.float(), click[at]) for a in answers)
        adam.zero_grad()
        torch.as_tensor(loss).backward()
        adam.step()

    for number in range(3):
        step(number)
    wait(device)
    start = time.perf_counter()
    for number in range(steps):
        step(number)
    wait(device)
    return steps * batch / (time.perf_counter() - start)


def parity_of_training(device: torch.device, work: Path, quick: bool) -> dict[str, Any]:
    """Return how far answers lie apart after the same steps in float32 on the device and on the CPU."""
    vocabulary, batch = (500, 64) if quick else (10_000, 4096)
    path = work / "parity.npz"
    write_rows(path, vocabulary, 20 * batch)
    split, answers = read_split(str(path)), []
    for where in (torch.device("cpu"), device):
        ranker, _ = new_ranker(split, vocabulary)
        train(ranker, _on(ranker, where), split, "float32", 1, Replica(device=where), batch)
        with torch.inference_mode():
            rows = {name: torch.from_numpy(values[:batch]).to(where) for name, values in split.features.items()}
            answers.append({name: value.cpu() for name, value in ranker.eval()(rows).items()})
    far = {name: float((answers[0][name] - answers[1][name]).abs().max()) for name in ("click", "conversion")}
    return {"largest_difference_after_20_steps": far}


def scoring(device: torch.device, work: Path, quick: bool) -> dict[str, Any]:
    """Return p50 and p99 of graphs in both precisions in ms, and how far their answers are from the CPU's in float32.

    Arrays are handed over by call, as a model is served, and bound once, which leaves the copies of inputs out.

    Raises:
        MissingError: the provider did not load.
    """
    from components.judge.export_onnx.graph import export_graph
    from components.judge.export_onnx.half import write_halved
    from components.rankers.build import build_ranker
    from components.rankers.config import RankerConfig
    from components.rankers.tasks import tasks_of
    from registry.serving.model.session import open_session, outputs_of

    torch.manual_seed(0)
    schema = _schema(50, 4, 2) if quick else _schema(10_000, 20, 10)
    block = {"name": "esmm", "embedding_width": 16, "hidden": (360, 200, 80)}
    ranker = build_ranker(RankerConfig.model_validate(block), schema).eval()
    tasks = [task.name for task in tasks_of(schema.declaration)]
    export_graph(ranker, schema, tasks, work / "model.onnx")
    (work / "half.onnx").write_bytes((work / "model.onnx").read_bytes())
    write_halved(work / "half.onnx", "esmm")
    provider: Any = device.type
    plain = open_session(work / "model.onnx", "cpu")
    found: dict[str, Any] = {}
    for precision, file in (("float32", "model.onnx"), ("float16", "half.onnx")):
        session = open_session(work / file, provider)
        for rows in (1, 100) if quick else (1, 100, 1000, 10_000):
            given = _batch(schema, rows, np.random.default_rng(1), ())
            bound = session.io_binding()
            for name, values in given.items():
                bound.bind_cpu_input(name, values)  # copied to the device here
            for name in tasks:
                bound.bind_output(name, device.type)
            ways: dict[str, Callable[[], Any]] = {
                "run": lambda session=session, given=given: session.run(tasks, given),  # type: ignore[misc]
                "served": lambda session=session, given=given: outputs_of(session, tasks, given),  # type: ignore[misc]
                "bound": lambda session=session, bound=bound: session.run_with_iobinding(bound),  # type: ignore[misc]
            }
            told: dict[str, Any] = {way: _quantiles(call, 5 if quick else 600) for way, call in ways.items()}
            pairs = zip(bound.copy_outputs_to_cpu(), plain.run(tasks, given), strict=True)
            told["largest_difference"] = max(float(np.abs(a - b).max()) for a, b in pairs)
            found[f"{rows:,} rows, {precision}"] = told
    return found


def _quantiles(call: Callable[[], Any], calls: int) -> dict[str, float]:
    for _ in range(5):
        call()
    times = []
    for _ in range(calls):
        start = time.perf_counter()
        call()
        times.append((time.perf_counter() - start) * 1000)
    return {"p50": statistics.median(times), "p99": float(np.quantile(times, 0.99))}


if __name__ == "__main__":
    sys.exit(main())
