"""Is every task judged over its own rows, and does an impossible cell say so?"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pytest

from components.judge.evaluate_ranker.cells import headline, judge, remarks
from components.judge.evaluate_ranker.config import Config
from components.judge.evaluate_ranker.rows import NO_DOMAIN, judged
from components.platform.errors import BadInputError
from components.rankers.tasks import tasks_of
from features.declaration import Declaration
from registry.evaluation import ALL, Cell, Interval
from registry.metrics import METRICS, REQUEST_METRICS, Requests, auc, gauc, value_of

DECLARATION = Declaration(feedback=("like", "love"), domain="band")
START = datetime(2024, 3, 1, tzinfo=UTC)


def _table(rows: int = 300) -> pa.Table:
    rng = np.random.default_rng(0)
    like = rng.random(rows) < 0.5
    band = np.array(["a", "b", "c"])[np.arange(rows) % 3]
    love = like & (rng.random(rows) < 0.5) & (band != "c")
    return pa.table(
        {
            "user_id": pa.array([f"u{i}" for i in rng.integers(0, 30, rows)]),
            "event_timestamp": pa.array([START + timedelta(hours=i) for i in range(rows)], pa.timestamp("us", "UTC")),
            "band": pa.array(band),
            "like": pa.array(like.astype(np.int8)),
            "love": pa.array(love.astype(np.int8)),
        }
    )


def _scores(rows: int = 300) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(1)
    return {name: rng.random(rows) for name in ("like", "love", "love_given_like")}


def _judge(table: pa.Table, **config: object) -> tuple[Cell, ...]:
    rows = judged(table, DECLARATION)
    domains = rows.domains(("a", "b", "c", "z"))
    return judge(rows, _scores(table.num_rows), tasks_of(DECLARATION), domains, Config(bootstrap=30, **config))[0]


def test_where_rows_tell_their_request_each_is_ordered_as_well() -> None:
    table = _table()
    users = table["user_id"].to_pylist()
    visits = pa.array([f"{user}/{row % 2}" for row, user in enumerate(users)])
    rows = judged(table.append_column("visit", visits), DECLARATION.model_copy(update={"request": "visit"}))
    scores = _scores()
    config = Config(bootstrap=30, top=3)
    cells = {cell.task: cell for cell in judge(rows, scores, tasks_of(DECLARATION), (), config)[0]}
    for metric in REQUEST_METRICS:
        shown = Requests(visits.to_pylist(), 3)
        expected = value_of(metric, table["love"].to_numpy(), scores["love"], shown.of, shown)
        interval = cells["love"].metrics[metric]
        assert interval.value == pytest.approx(expected) and interval.low is not None and interval.low < interval.value
    liked = table["like"].to_numpy() == 1
    among = Requests(np.array(visits.to_pylist())[liked])
    expected = value_of("mrr", table["love"].to_numpy()[liked], scores["love_given_like"][liked], among.of, among)
    assert cells["love_given_like"].metrics["mrr"].value == pytest.approx(expected)
    assert headline(cells["like"]).partition("MRR .")[2].isdigit()
    without = judge(judged(table, DECLARATION), scores, tasks_of(DECLARATION), (), config)[0]
    assert {**without[0].metrics} == {metric: cells["like"].metrics[metric] for metric in METRICS}
    with pytest.raises(BadInputError, match="rows have no column 'visit'"):
        judged(table, DECLARATION.model_copy(update={"request": "visit"}))


def test_order_is_judged_as_served_and_probabilities_as_shown() -> None:
    """A model that answers for the first place says too much of rows that stood below, and orders them all the same."""
    table, shown = _table(), _scores()
    served = {name: 1 - (1 - values) / 4 for name, values in shown.items()}
    served["love"] = 1 - served["love"]
    rows = judged(table, DECLARATION)
    tasks, config = tasks_of(DECLARATION), Config(bootstrap=30)
    both, curves = judge(rows, served, tasks, (), config, shown)
    of_served, _ = judge(rows, served, tasks, (), config)
    of_shown, curves_of_shown = judge(rows, shown, tasks, (), config)
    for cell, as_served, as_shown in zip(both, of_served, of_shown, strict=True):
        assert [*cell.metrics] == [*METRICS]
        for metric in METRICS:
            expected = as_served if metric in ("auc", "gauc") else as_shown
            assert cell.metrics[metric] == expected.metrics[metric]
    assert curves == curves_of_shown


def test_feedback_is_judged_over_every_impression_and_conditionals_over_the_shallower_feedback() -> None:
    table, scores = _table(), _scores()
    cells = {(cell.task, cell.domain): cell for cell in _judge(table)}
    like, love = table["like"].to_numpy(), table["love"].to_numpy()
    assert cells["love", ALL].rows == 300
    assert cells["love", ALL].space == "every impression"
    assert cells["love", ALL].metrics["auc"].value == pytest.approx(auc(love, scores["love"]))
    conditional = cells["love_given_like", ALL]
    assert (conditional.rows, conditional.positives) == (like.sum(), love.sum())
    assert conditional.space == "impressions with like"
    liked = like == 1
    assert conditional.metrics["auc"].value == pytest.approx(auc(love[liked], scores["love_given_like"][liked]))
    in_b = table["band"].to_numpy() == "b"
    assert cells["like", "b"].metrics["gauc"].value == pytest.approx(
        gauc(like[in_b], scores["like"][in_b], table["user_id"].to_numpy()[in_b].astype(str))
    )


def test_every_task_has_every_domain_known_or_not() -> None:
    table = _table()
    unseen = pa.array(["new" if i == 0 else None if i == 1 else b for i, b in enumerate(table["band"].to_pylist())])
    cells = _judge(table.set_column(2, "band", unseen))
    names = [ALL, NO_DOMAIN, "a", "b", "c", "new", "z"]
    assert [(c.task, c.domain) for c in cells] == [(t.name, d) for t in tasks_of(DECLARATION) for d in names]
    by_name = {(c.task, c.domain): c for c in cells}
    assert (by_name["like", NO_DOMAIN].rows, by_name["like", "new"].rows, by_name["like", "z"].rows) == (1, 1, 0)
    assert sum(by_name["like", d].rows for d in names[1:]) == by_name["like", ALL].rows == 300


def test_a_domain_of_one_class_has_no_auc_and_a_remark() -> None:
    cells = _judge(_table())
    cell = next(c for c in cells if (c.task, c.domain) == ("love", "c"))
    assert cell.positives == 0
    assert cell.metrics["auc"] == cell.metrics["normalised_entropy"] == cell.metrics["pcoc"] == Interval(value=None)
    assert cell.metrics["log_loss"].value is not None
    lines = remarks(cells)
    assert "love in c: 0 of 100 rows are positive, so its AUC is undefined" in lines
    assert any(line.startswith("like in z: 0 of 0 rows") for line in lines)
    assert not any(" in a:" in line for line in lines)


def test_headline_reads_like_a_sentence() -> None:
    metrics = {"auc": Interval(value=0.71234, low=0.7, high=0.72), "pcoc": Interval(value=1.021)}
    cell = Cell(task="like", domain=ALL, space="", rows=1, positives=1, metrics=metrics)  # type: ignore[arg-type]  # literals
    assert headline(cell) == "like AUC .7123 [.7000, .7200], PCOC 1.02"
    nothing = cell.model_copy(update={"metrics": {"auc": Interval(value=None), "pcoc": Interval(value=None)}})
    assert headline(nothing) == "like AUC undefined, PCOC undefined"


def test_the_window_is_half_open() -> None:
    rows = judged(_table(3), DECLARATION)
    assert rows.start == START
    assert rows.end == START + timedelta(hours=2, microseconds=1)


def test_without_a_domain_there_is_one_cell_per_task() -> None:
    declaration = Declaration(feedback=("like", "love"))
    rows = judged(_table(), declaration)
    tasks = tasks_of(declaration)
    cells, _ = judge(rows, _scores(), tasks, rows.domains(()), Config(bootstrap=0))
    assert [cell.domain for cell in cells] == [ALL] * 3


@pytest.mark.parametrize(
    ("column", "values", "says"),
    [
        ("like", pa.array([0, 1, None], pa.int8()), "label 'like' has rows that are neither 0 nor 1"),
        ("like", pa.array([0, 1, 4], pa.int8()), "label 'like' has rows that are neither 0 nor 1"),
        ("band", pa.array(["a", "all", "b"]), "a domain is called 'all'"),
    ],
)
def test_wrong_columns_are_named(column: str, values: pa.Array, says: str) -> None:
    table = _table(3)
    with pytest.raises(BadInputError, match=says):
        judged(table.set_column(table.column_names.index(column), column, values), DECLARATION)


@pytest.mark.parametrize("column", ["love", "user_id", "event_timestamp", "band"])
def test_a_missing_column_is_named(column: str) -> None:
    with pytest.raises(BadInputError, match=f"no column '{column}'"):
        judged(_table().drop_columns([column]), DECLARATION)


def _known(copied: int) -> tuple[Cell, ...]:
    """Return the cells of scores that are the label in `copied` of 300 rows and below the others elsewhere."""
    table = _table()
    scores = _scores()
    label = table["like"].to_numpy().astype(float)
    scores["like"] = np.where(np.arange(300) < copied, label, 1 - label)
    return judge(judged(table, DECLARATION), scores, tasks_of(DECLARATION), ("a",), Config(bootstrap=0))[0]


def test_an_auc_that_only_a_copy_of_the_label_gives_is_remarked() -> None:
    (line,) = (line for line in remarks(_known(copied=300)) if "does a column know the label" in line)
    assert line.startswith(f"like in {ALL}: an AUC of 1 ")
    assert not any("know the label" in line for line in remarks(_known(copied=290)))


def test_how_little_the_figures_of_a_task_rest_on_is_said_with_numbers() -> None:
    rows = _table().slice(0, 60)
    visits = pa.array([str(row // 20) for row in range(60)])
    held = judged(
        rows.append_column("visit", visits), DECLARATION.model_copy(update={"request": "visit", "user": "visit"})
    )
    scores = {name: values[:60] for name, values in _scores().items()}
    cells = judge(held, scores, tasks_of(DECLARATION), (), Config(bootstrap=0))[0]
    positives = int(rows["love"].to_numpy().sum())
    lines = remarks(cells)
    moved = f"{1 / positives:.4f}".removeprefix("0")
    assert (
        f"love: its figures rest on {positives} positive rows of 60, one of which alone moves the AUC by up to "
        f"{moved}: judge on more rows before you believe a difference"
    ) in lines
    assert any(
        line.startswith("love: its figures of requests rest on 3 requests with a positive row") for line in lines
    )
    enough = _judge(_table(900).set_column(4, "love", _table(900)["like"]))
    assert not any("rest on" in line for line in remarks(enough))


def test_a_perfect_order_of_few_rows_is_not_remarked() -> None:
    rows = _table().slice(0, 12)
    scores = {name: rows["like"].to_numpy().astype(float) for name in ("like", "love", "love_given_like")}
    cells = judge(judged(rows, DECLARATION), scores, tasks_of(DECLARATION), (), Config(bootstrap=0))[0]
    assert next(cell for cell in cells if cell.task == "like").metrics["auc"].value == 1
    assert not any("know the label" in line for line in remarks(cells))
