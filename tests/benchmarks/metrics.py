"""How long does it take to judge ten million scores?"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.benchmarks.contract import Benchmark, Report, Series, table_of
from tests.benchmarks.lab import Lab

OURS, SKLEARN, TORCHMETRICS, POLARS = "rankmill", "scikit-learn", "torchmetrics", "polars by hand"
BY_METRIC = {"AUC": (OURS, SKLEARN, TORCHMETRICS), "GAUC": (OURS, POLARS, SKLEARN)}
LOOPED_USERS = 2_000
"""Users that scikit-learn is asked about one by one; its time is scaled up to all."""


def run(lab: Lab) -> Report:
    """Judge the same rows, each way in a process of its own, in turns."""
    sizes = (5_000,) if lab.quick else (1_000_000, 10_000_000)
    cases = [f"{metric}, {size:,} rows" for metric in BY_METRIC for size in sizes]
    everyone = (OURS, SKLEARN, TORCHMETRICS, POLARS)
    seconds: dict[str, dict[str, list[float]]] = {who: {} for who in everyone}
    memory: dict[str, dict[str, list[float]]] = {who: {} for who in everyone}
    absent: dict[str, str] = {}
    furthest = 0.0
    for size in sizes:
        path = write_scores(lab.work, size)
        for metric, competitors in BY_METRIC.items():
            case = f"{metric}, {size:,} rows"
            for number in range(lab.rounds(3 if size < 10_000_000 else 2)):
                answers = {}
                for who in competitors[:: 1 if number % 2 == 0 else -1]:
                    if who == TORCHMETRICS and lab.peers is None:
                        absent[f"{who} @ {case}"] = "not installed"
                        continue
                    lab.say(f"{case}, round {number + 1}: {who}")
                    cost = lab.child(judge, peer=who == TORCHMETRICS, path=str(path), metric=metric, who=who)
                    assert cost is not None, f"{who} did not finish {case}"
                    value, scale = cost.value
                    seconds[who].setdefault(case, []).append(cost.seconds * scale)
                    memory[who].setdefault(case, []).append(cost.mib)
                    if scale == 1.0:
                        answers[who] = value
                furthest = max(furthest, max(answers.values()) - min(answers.values()))
    common: dict[str, Any] = {"better": "lower", "axis": "metric", "cases": tuple(cases), "absent": absent}
    times = Series(title="Time of a metric", unit="s", samples=table_of(seconds, cases), **common)
    space = Series(title="Memory above the arrays and libraries", unit="MiB", samples=table_of(memory, cases), **common)
    facts = (f"Answers to the same question differ by {furthest:.1e} at most.",)
    return Report(series=(times, space), facts=facts, charts=(times.title,))


def judge(path: str, metric: str, who: str) -> Iterator[None]:
    """Compute one metric in one way; gives its value, and by what its time must be multiplied."""
    import numpy as np

    held = np.load(path)
    labels, scores, users = held["labels"], held["scores"], held["users"]
    answer = {
        ("AUC", OURS): _ours_auc,
        ("GAUC", OURS): _ours_gauc,
        ("AUC", SKLEARN): _sklearn_auc,
        ("GAUC", SKLEARN): _sklearn_gauc,
        ("AUC", TORCHMETRICS): _torchmetrics_auc,
        ("GAUC", POLARS): _polars_gauc,
    }[metric, who](labels, scores, users)
    next(answer)
    yield
    found = next(answer)
    yield
    return found


def _ours_auc(labels: Any, scores: Any, users: Any) -> Iterator[Any]:
    from registry.metrics import auc

    yield
    yield auc(labels, scores), 1.0


def _ours_gauc(labels: Any, scores: Any, users: Any) -> Iterator[Any]:
    from registry.metrics import gauc

    yield
    yield gauc(labels, scores, users), 1.0


def _sklearn_auc(labels: Any, scores: Any, users: Any) -> Iterator[Any]:
    from sklearn.metrics import roc_auc_score

    yield
    yield float(roc_auc_score(labels, scores)), 1.0


def _sklearn_gauc(labels: Any, scores: Any, users: Any) -> Iterator[Any]:
    """Ask per user, as a loop over `groupby` does, for the first users."""
    import numpy as np
    from sklearn.metrics import roc_auc_score

    everyone = np.unique(users).size
    asked = min(LOOPED_USERS, everyone)
    yield
    order = np.argsort(users, kind="stable")
    bounds = np.flatnonzero(np.diff(users[order], prepend=-1))[: asked + 1]
    total = weight = 0.0
    for start, end in zip(bounds, [*bounds[1:], order.size][: len(bounds)], strict=True):
        rows = order[start:end]
        if 0 < labels[rows].sum() < len(rows):
            total += len(rows) * float(roc_auc_score(labels[rows], scores[rows]))
            weight += len(rows)
    yield total / weight, everyone / asked


def _torchmetrics_auc(labels: Any, scores: Any, users: Any) -> Iterator[Any]:
    import torch
    from torchmetrics.functional.classification import binary_auroc

    target, given = torch.from_numpy(labels).long(), torch.from_numpy(scores)
    yield
    yield float(binary_auroc(given, target, validate_args=False)), 1.0


def _polars_gauc(labels: Any, scores: Any, users: Any) -> Iterator[Any]:
    """Sum the ranks of each user's positives (Mann-Whitney), as one expression."""
    import polars as pl

    frame = pl.DataFrame({"label": labels, "score": scores, "user": users})
    yield
    positives, rows = pl.col("label").sum().cast(pl.Float64), pl.len().cast(pl.Float64)
    ranks = (pl.col("score").rank("average") * pl.col("label")).sum()
    aucs = (
        frame.lazy()
        .group_by("user")
        .agg(auc=(ranks - positives * (positives + 1) / 2) / (positives * (rows - positives)), rows=rows)
        .filter(pl.col("auc").is_finite())
        .select((pl.col("auc") * pl.col("rows")).sum() / pl.col("rows").sum())
    )
    yield aucs.collect().item(), 1.0


def write_scores(folder: Path, rows: int) -> Path:
    """Write labels, float32 scores with ties, and users of which some have thousands of rows."""
    import numpy as np

    generator = np.random.default_rng(5)
    scores = np.round(generator.random(rows, dtype=np.float32), 5)
    labels = (generator.random(rows) < 0.05 + 0.2 * scores).astype(np.int8)
    users = np.minimum(generator.exponential(rows / 400, rows).astype(np.int64), rows // 20)
    path = folder / f"scores_{rows}.npz"
    np.savez(path, labels=labels, scores=scores, users=users)
    return path


BENCHMARK = Benchmark(
    title="Evaluation metrics",
    question="How long do AUC and GAUC of ten million rows take?",
    run=run,
    order=70,
    needs_peers=True,
    notes=(
        "5 to 25 % positives, scores rounded to five digits, so many tie; arrays are in memory before the start. "
        f"scikit-learn has no GAUC: its figure is a loop over the first {LOOPED_USERS:,} users, scaled up to all.",
    ),
)
