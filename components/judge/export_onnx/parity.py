"""Does the graph answer as the trained module does, at every batch size and history length that matter?"""

from __future__ import annotations

import sys
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from components.platform.errors import ParityError
from components.rankers.tasks import HIDDEN
from features.declaration import PADDING, FieldSpec
from registry.serving.model.contract import ParityCase, ParityReport, Precision
from registry.serving.model.session import outputs_of, provider_name

if TYPE_CHECKING:
    import onnxruntime

BATCHES = (1, 7, 1000)
HISTORIES = ("sequence", "elapsed")
Arrays = Mapping[str, np.ndarray[Any, Any]]


def compare(
    ranker: nn.Module,
    session: onnxruntime.InferenceSession,
    fields: Sequence[FieldSpec],
    tasks: Sequence[str],
    rows: Arrays,
    tolerance: float,
    once: Collection[str] = (),
    precision: Precision = "float32",
) -> ParityReport:
    """Compare torch and onnxruntime on real rows at batch 1, 7, 1000 × history 0, 1, full.

    Every sequence is cut to the history length; fewer than 1000 rows are repeated. The difference is ``max |torch −
    onnx| / max(1, |torch|)``: absolute for probabilities, relative for large values of ``hidden``. An answer that is
    not a number, on either side, is the largest difference there is. Of fields in `once` the graph takes one row; the
    batch is one request then, and torch reads the first row's values in every row. `precision` is the graph's; torch
    computes in float32.

    Returns:
        One case per batch, history and output.
    """
    outputs = [*tasks, HIDDEN]
    full = max((field.length for field in fields), default=0)
    rows = _fullest_first(rows, fields)
    cases = []
    for batch in BATCHES:
        for history in sorted({min(length, full) for length in (0, 1, full)}):
            feed = _cut(rows, fields, batch, history)
            asked = feed | {name: np.repeat(feed[name][:1], batch, axis=0) for name in once}
            with torch.inference_mode():
                expected = ranker({name: torch.from_numpy(values) for name, values in asked.items()})
            answers = outputs_of(session, outputs, feed | {name: feed[name][:1] for name in once})
            cases += [
                ParityCase(
                    batch=batch,
                    history=history,
                    output=name,
                    max_abs_difference=difference(expected[name].numpy(), answer),
                )
                for name, answer in zip(outputs, answers, strict=True)
            ]
    return ParityReport(
        passed=all(case.max_abs_difference <= tolerance for case in cases),
        tolerance=tolerance,
        provider=provider_name(session),
        precision=precision,
        cases=tuple(cases),
    )


def require(report: ParityReport, kept: str) -> None:
    """Stop when the graph answers differently.

    Raises:
        ParityError: the worst case, by output, batch, history, difference and tolerance.
    """
    if report.passed:
        return
    worst = max(report.cases, key=lambda case: case.max_abs_difference)
    failed = sum(case.max_abs_difference > report.tolerance for case in report.cases)
    how = (
        "is not a number"
        if worst.max_abs_difference == sys.float_info.max
        else f"differs from torch by {worst.max_abs_difference:.2g}, allowed are {report.tolerance:g}"
    )
    mend = "mend the ranker's forward or raise tolerance"
    if report.precision != "float32":
        how, mend = f"in {report.precision} {how}", "leave precision out or raise tolerance"
    raise ParityError(
        f"the exported graph's {worst.output} at batch {worst.batch} and history {worst.history} {how} on "
        f"{report.provider} ({failed} of {len(report.cases)} cases fail): nothing was published, read {kept} and {mend}"
    )


def difference(expected: np.ndarray[Any, Any], answer: np.ndarray[Any, Any]) -> float:
    """Return ``max |expected − answer| / max(1, |expected|)``, the largest float where a shape or a number is wrong."""
    if expected.shape != answer.shape or not (np.isfinite(expected).all() and np.isfinite(answer).all()):
        return sys.float_info.max
    if expected.size == 0:
        return 0.0
    a, b = expected.astype(np.float64), answer.astype(np.float64)
    return float((np.abs(a - b) / np.maximum(1.0, np.abs(a))).max())


def spread(rows: int, wanted: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Return at most `wanted` row numbers, evenly spread over `rows`."""
    return np.unique(np.linspace(0, rows - 1, min(rows, wanted)).astype(np.int64))


def _fullest_first(rows: Arrays, fields: Sequence[FieldSpec]) -> dict[str, np.ndarray[Any, Any]]:
    """Return 1000 rows spread over all, those with the longest histories first so that small batches test them."""
    some = next(iter(rows.values()))
    chosen = np.resize(spread(len(some), max(BATCHES)), max(BATCHES))
    filled = np.zeros(len(chosen), dtype=np.int64)
    for field in fields:
        if field.kind == "sequence":
            filled += np.count_nonzero(np.asarray(rows[field.name])[chosen] != PADDING, axis=1)
    chosen = chosen[np.argsort(-filled, kind="stable")]
    return {field.name: np.asarray(rows[field.name])[chosen] for field in fields}


def _cut(rows: Arrays, fields: Sequence[FieldSpec], batch: int, history: int) -> dict[str, np.ndarray[Any, Any]]:
    return {
        field.name: np.ascontiguousarray(
            rows[field.name][:batch, :history] if field.kind in HISTORIES else rows[field.name][:batch]
        )
        for field in fields
    }
