"""How does a comparison read? Markdown: data, a table per task, published numbers, what was chosen on validation."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from features.declaration import JudgeBy
from features.ground.markdown import code, prose, table, text
from pipelines.compare.record import Record, Row
from pipelines.compare.spec import ComparisonSpec
from pipelines.compare.spread import best_first, figures, mark, mean_of, spread
from registry.evaluation import Metric, goodness

COLUMNS: tuple[tuple[Metric, str, int], ...] = (
    ("auc", "AUC", 4),
    ("gauc", "GAUC", 4),
    ("log_loss", "log-loss", 4),
    ("pcoc", "PCOC", 2),
    ("mrr", "MRR", 4),
    ("ndcg", "NDCG@10", 4),
    ("request_auc", "request AUC", 4),
)
"""Metric, heading, digits; a table leaves out what none of its rows has."""
_MARKS = {"better": "**", "worse": "*", "": ""}
NAMES = {metric: heading for metric, heading, _ in COLUMNS}
"""Heading of each metric."""


def section(spec: ComparisonSpec, record: Record, picture: str, curves: str = "") -> str:
    """Return the section of one comparison with its picture, and that of its curves where it has some."""
    rows = {name: record.rows[name] for name in spec.entries if name in record.rows}
    judged_by = NAMES[record.data.judge_by]
    absent = [name for name in spec.entries if name not in rows]
    command = f"`rankmill compare {spec.name}{_at(record)}`"
    lines = [f"## {text(spec.title)}", "", command, "", *_facts(spec, record, rows), ""]
    for task in record.data.tasks:
        lines += [*_table(spec, record, rows, task), ""]
    if spec.against in rows:
        lines += [
            f"**Bold**: better than {code(spec.against)}, *italic*: worse, by more than two standard errors of the "
            "differences over seeds.",
            "",
        ]
    if absent:
        lines += [f"Not measured yet: {', '.join(map(code, absent))}.", ""]
    lines += [f"![{judged_by} of each entry, mean and standard deviation over seeds]({picture})", ""]
    if spec.curves is not None:
        lines += [f"![{judged_by} over {text(spec.curves.over)}]({curves})", ""]
    if notes := [f"* {code(name)}: {prose(spec.entries[name].note)}" for name in rows if spec.entries[name].note]:
        lines += [*notes, ""]
    if spec.notes:
        lines += [spec.notes.strip(), ""]
    lines += [*_choices(rows, record.data.judge_by), ""]
    return "\n".join(lines)


def _at(record: Record) -> str:
    at = record.data.at
    return f" --at {at.isoformat().removesuffix('T00:00:00+00:00')}" if at else ""


def _facts(spec: ComparisonSpec, record: Record, rows: dict[str, Row]) -> Iterator[str]:
    data = record.data
    counts = ", ".join(f"{rows_:,} {text(name)}" for name, rows_ in data.rows.items())
    rates = ", ".join(f"{text(name)} {rate:.1%}" for name, rate in data.rates.get("test", {}).items())
    seeds = sorted({run.seed for row in rows.values() for run in row.runs})
    yield f"* Labels: {prose(spec.labels)}"
    yield f"* Split: {prose(data.split)}; rows: {counts}; {data.unseen_users:.0%} of the test rows are of unseen users."
    yield f"* Positives in test: {rates}. Inputs: {data.fields} fields, the same for every row of the tables."
    yield f"* Seeds: {', '.join(map(str, seeds))}; figures are mean ± standard deviation over them."
    yield (
        f"* Judged by {NAMES[data.judge_by]}: on validation, mean over the feedback, it chose epochs and configs; the "
        "tables are ordered by it on test."
    )
    if data.weighted:
        yield "* Test figures count rows by the weights of the training set."
    for machine in dict.fromkeys(row.machine for row in rows.values()):
        yield f"* Machine: {text(machine)}."


def _table(spec: ComparisonSpec, record: Record, rows: dict[str, Row], task: str) -> Iterator[str]:
    by = record.data.judge_by
    had = {metric for row in rows.values() for run in row.runs for metric in run.test.get(task, {})}
    columns = [column for column in COLUMNS if column[0] in had]
    headings = ["entry", "parameters", "s/epoch", *(heading for _, heading, _ in columns), f"validation {NAMES[by]}"]
    yield f"### {code(task)}"
    yield ""
    lines = []
    for name, row in best_first(rows, task, by).items():
        cells = [code(name), _parameters(row), _seconds(row)]
        for metric, _, digits in columns:
            compared = spec.against in rows and spec.against != name
            stars = _MARKS[mark(row, rows[str(spec.against)], task, metric)] if compared else ""
            cells.append(_figure(figures(row, task, metric), digits, stars))
        cells.append(_figure([run.validation.get(task) for run in row.runs], 4))
        lines.append(cells)
    yield table(headings, lines)
    published = [reference for reference in spec.references if reference.task == task]
    if published:
        yield ""
    for reference in published:
        yield f"* Published: {NAMES[reference.metric]} {_number(reference.value, 4)}: {prose(reference.source)}"


def _choices(rows: dict[str, Row], by: JudgeBy) -> Iterator[str]:
    yield "<details><summary>Configs, epochs kept, and what was tried on validation</summary>"
    yield ""
    for name, row in rows.items():
        yield f"* {code(name)}: {_yaml(row.config)}{_epochs(row)}"
        scores = [tried.score for tried in row.tried if tried.score is not None]
        best = max(scores, key=lambda score: goodness(by, score), default=None)
        for tried in row.tried:
            chosen = ", chosen" if tried.score == best else ""
            value = "undefined" if tried.score is None else _number(tried.score, 4)
            yield f"    * {_yaml(tried.change)}: mean validation {NAMES[by]} {value}{chosen}"
    yield ""
    yield "</details>"


def _epochs(row: Row) -> str:
    kept = [f"{run.epoch} of {run.epochs}" for run in row.runs if run.epoch is not None]
    return f"; epochs kept: {', '.join(kept)}" if kept else ""


def _parameters(row: Row) -> str:
    embedding, dense, leaves = (mean_of(row.runs, name) for name in ("embedding", "dense", "leaves"))
    if leaves is not None:
        return f"{leaves:,.0f} leaves"
    return "—" if embedding is None or dense is None else f"{embedding:,.0f} + {dense:,.0f}"


def _seconds(row: Row) -> str:
    epoch, fit = mean_of(row.runs, "epoch_seconds"), mean_of(row.runs, "fit_seconds")
    if epoch is not None:
        return f"{epoch:.2f}"
    return "—" if fit is None else f"{fit:.0f} in all"


def _figure(values: list[float | None], digits: int, stars: str = "") -> str:
    over_seeds = spread(values)
    if over_seeds is None:
        return "—"
    mean = f"{stars}{_number(over_seeds.mean, digits)}{stars}"
    return mean if over_seeds.std is None else f"{mean} ± {_number(over_seeds.std, digits)}"


def _number(value: float, digits: int) -> str:
    """Return a number without the zero before its point."""
    text = f"{value:.{digits}f}"
    return text.replace("0.", ".", 1) if abs(value) < 1 and text[:2] in ("0.", "-0") and digits > 2 else text


def _yaml(value: Any) -> str:
    """Return a config as one line of YAML's flow style, as code."""
    return code(json.dumps(value, ensure_ascii=False, sort_keys=True).replace('"', ""))
