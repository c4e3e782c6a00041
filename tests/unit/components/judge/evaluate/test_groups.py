"""Are the figures of a group those of its rows alone, and does each request give its first place once?"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pytest

from components.judge.evaluate_ranker.config import Config
from components.judge.evaluate_ranker.groups import first_places
from components.judge.evaluate_ranker.page import render
from components.judge.evaluate_ranker.publish import Scored, metric_values, write_report
from components.judge.evaluate_ranker.rows import NO_DOMAIN, judged
from components.platform.errors import BadInputError
from components.rankers.tasks import tasks_of
from features.declaration import Declaration
from registry.evaluation import Evaluation
from registry.metrics import auc, log_loss, pcoc

ROLES = Declaration(feedback=("like", "love"), request="visit", group="band")
ROWS = 240
START = datetime(2024, 3, 1, tzinfo=UTC)


def table() -> pa.Table:
    rng = np.random.default_rng(0)
    like = rng.random(ROWS) < 0.5
    band = [None if row % 5 == 4 else f"age {row % 2}" for row in range(ROWS)]
    return pa.table(
        {
            "user_id": pa.array([f"u{row // 6}" for row in range(ROWS)]),
            "event_timestamp": pa.array([START + timedelta(hours=i) for i in range(ROWS)], pa.timestamp("us", "UTC")),
            "visit": pa.array([row // 6 for row in range(ROWS)]),
            "band": pa.array(band),
            "like": pa.array(like.astype(np.int8)),
            "love": pa.array((like & (rng.random(ROWS) < 0.5)).astype(np.int8)),
        }
    )


@pytest.fixture
def scores() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(1)
    return {name: rng.random(ROWS).round(1) for name in ("like", "love", "love_given_like")}


@pytest.fixture
def report(scores: dict[str, np.ndarray], tmp_path_factory: pytest.TempPathFactory) -> Evaluation:
    scored = Scored(
        name="it", model_digest="m", dataset_digest="d", provider="cpu", rows=judged(table(), ROLES), scores=scores,
        tasks=tasks_of(ROLES), shown={name: values / 2 for name, values in scores.items()}, domains=(), group="band",
    )  # fmt: skip
    return write_report(tmp_path_factory.mktemp("report"), scored, Config(bootstrap=0))


def test_a_group_has_the_figures_of_its_rows(report: Evaluation, scores: dict[str, np.ndarray]) -> None:
    values = np.array([band or NO_DOMAIN for band in table()["band"].to_pylist()])
    like = table()["like"].to_numpy().astype(float)
    cells = {(cell.task, cell.group): cell for cell in report.groups}
    assert len(cells) == 3 * 3
    for group in (NO_DOMAIN, "age 0", "age 1"):
        here, cell = values == group, cells["like", group]
        assert (cell.rows, cell.positives) == (here.sum(), like[here].sum())
        assert cell.auc == auc(like[here], scores["like"][here]), "order is judged as served"
        assert cell.log_loss == log_loss(like[here], scores["like"][here] / 2), "probabilities as shown"
        assert cell.pcoc == pcoc(like[here], scores["like"][here] / 2)
    for task in ("like", "love"):
        assert sum(cells[task, group].share for group in dict.fromkeys(values)) == pytest.approx(1)
        assert sum(cells[task, group].top or 0 for group in dict.fromkeys(values)) == pytest.approx(1)
    assert cells["love_given_like", "age 0"].top is None
    assert cells["love_given_like", "age 0"].rows == ((values == "age 0") & (like == 1)).sum()


def test_rows_of_equal_score_share_the_first_place() -> None:
    scores, request = np.array([0.1, 0.9, 0.9, 0.3, 0.2]), np.array([0, 0, 0, 1, 1])
    assert first_places(scores, request).tolist() == [0, 0.5, 0.5, 1, 0]


def test_groups_are_on_the_page_and_in_the_tracker(report: Evaluation) -> None:
    page = render(report, "it", (), ())
    assert "by band" in page and "share of first places" in page and page.count("<td>age 1</td>") == 3
    values = metric_values(report)
    assert {"test/like/group/age 0/auc", "test/like/group/_none_/top", "test/love/group/age 1/pcoc"} <= {*values}
    without = report.model_copy(update={"group": None, "groups": ()})
    assert "by band" not in render(without, "it", (), ()) and "group" not in without.model_dump_json()


def test_a_missing_group_is_named() -> None:
    with pytest.raises(BadInputError, match="rows have no column 'band'"):
        judged(table().drop_columns(["band"]), ROLES)
