"""Is the report one safe file, and do its figures and the tracker's names hold what the report holds?"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from components.judge.evaluate_ranker.page import render
from components.judge.evaluate_ranker.plots import draw
from components.judge.evaluate_ranker.publish import metric_values
from components.judge.evaluate_ranker.rows import Judged
from components.rankers.tasks import Task
from registry.evaluation import ALL, CalibrationBin, Cell, Evaluation, Interval

EVIL = "<script>alert('x')</script>"


@pytest.fixture
def report() -> Evaluation:
    some = Interval(value=0.71234, low=0.7, high=0.72)
    none = Interval(value=None)
    metrics = ("auc", "gauc", "log_loss", "normalised_entropy", "ece", "pcoc")
    cells = [
        Cell(task="like", domain=d, space="every impression", rows=1234, positives=p, metrics=dict.fromkeys(metrics, v))
        for d, p, v in ((ALL, 40, some), (EVIL, 0, none))
    ]
    return Evaluation(
        model_digest="m" * 64,
        dataset_digest="d" * 64,
        split="test",
        rows=1234,
        window_start=datetime(2024, 1, 1, tzinfo=UTC),
        window_end=datetime(2024, 1, 2, tzinfo=UTC),
        confidence=0.95,
        resamples=200,
        provider="cpu",
        tasks=("like",),
        domains=(EVIL,),
        cells=tuple(cells),
        calibration=(CalibrationBin(task="like", domain=ALL, predicted=0.5, observed=0.4, rows=10),),
    )


def _draw(directory: Path, report: Evaluation) -> tuple[Path, ...]:
    y = np.array([0.0, 1.0])
    rows = Judged(labels={"like": y}, user=np.arange(2), domain=None, start=None, end=None)
    return draw(directory, report, rows, {"like": np.array([0.2, 0.7])}, [Task(name="like", label="like")])


def test_the_page_is_one_file_and_escapes_what_comes_from_data(report: Evaluation, tmp_path: Path) -> None:
    plots = _draw(tmp_path / "plots", report)
    page = render(report, f"esmm {EVIL}", (f"remark {EVIL}",), plots)
    assert EVIL not in page
    assert page.count("&lt;script&gt;") >= 3
    assert re.findall(r'(?:src|href)="(?!data:image/png;base64,)', page) == []
    assert "http" not in page and "url(" not in page
    assert page.count("<img ") == len(plots) == 3
    assert "0.7123" in page and "0.7000 … 0.7200" in page and "–" in page and "1,234" in page


def test_the_same_report_gives_the_same_bytes(report: Evaluation, tmp_path: Path) -> None:
    first, second = (_draw(tmp_path / name, report) for name in ("a", "b"))
    assert [p.read_bytes() for p in first] == [p.read_bytes() for p in second]
    assert render(report, "x", (), first) == render(report, "x", (), second)


def test_tracker_names_are_allowed_and_undefined_values_left_out(report: Evaluation) -> None:
    values = metric_values(report)
    assert values["test/like/auc"] == 0.71234
    assert len(values) == 6
    for domain, written in (("45+ & más", "45_ _ más"), ("", "_"), ("..", "_"), ("a/b", "a_b")):
        known = report.model_copy(update={"cells": (report.cells[0].model_copy(update={"domain": domain}),)})
        assert f"test/like/{written}/auc" in metric_values(known)


def test_metrics_of_requests_are_shown_with_their_places_where_there_are_any(report: Evaluation) -> None:
    assert "NDCG" not in render(report, "x", (), ()) and not any("_at_" in name for name in metric_values(report))
    cell = report.cells[0]
    more = cell.metrics | {
        "mrr": Interval(value=0.25),
        "ndcg": Interval(value=0.5),
        "request_auc": Interval(value=0.75),
    }
    lists = report.model_copy(
        update={"top": 5, "judge_by": "mrr", "cells": (cell.model_copy(update={"metrics": more}),)}
    )
    page = render(lists, "x", (), ())
    assert "<th>MRR</th>" in page and "<th>NDCG@5</th>" in page and "first 5 places" in page
    assert "recall@" not in page
    assert "<dd>MRR: it chooses" in page and "<dd>AUC: it chooses" in render(report, "x", (), ())
    values = metric_values(lists)
    assert (values["test/like/mrr"], values["test/like/ndcg_at_5"], values["test/like/request_auc"]) == (
        0.25,
        0.5,
        0.75,
    )
