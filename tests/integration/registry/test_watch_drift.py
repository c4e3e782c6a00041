"""Does a watch compare rows and logs with the champion's own baseline, and does its alarm reach who waits?"""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from components.data.training_set import read_raw
from components.judge.watch_drift.report import Alarm, Report
from components.platform.artifacts import LabelledRows, OnnxModel
from components.platform.errors import BadInputError, MissingError
from components.platform.execute import StageResult
from components.platform.store.records import ArtifactRef
from features.declaration import Window
from pipelines.language.check import load_plan
from pipelines.language.load import pipeline_path
from registry.serving.answers.answer import answer
from registry.serving.model.served_model import ServedModel
from tests.homes import ready
from tests.integration.registry.mill import WINDOW, Mill
from tests.worlds import make_world

pytestmark = pytest.mark.engine
MODEL = "tiny_ranker"
CONFIG = {"model": MODEL, "min_rows": 300, "provider": "cpu", "every": "1d"}


@pytest.fixture(scope="module")
def champion(
    tmp_path_factory: pytest.TempPathFactory, engines: Path, training_set_dir: Path, models: dict[str, Path]
) -> Mill:
    """A champion that was evaluated on the test split, which is the last three days of January."""
    mill = Mill(ready(tmp_path_factory.mktemp("watched") / "home", engines), training_set_dir)
    model = mill.publish(OnnxModel, models["good"], "good")
    evaluated = mill.run(
        "evaluate_ranker", {"bootstrap": 50, "provider": "cpu"}, "first", model=model, dataset=mill.dataset
    )
    version = mill.run("register_model", {"model": MODEL}, "first", model=model, report=evaluated.outputs["report"])
    mill.promote(version.outputs["model_version"], "first")
    return mill


@pytest.fixture(scope="module")
def later(training_set_dir: Path) -> pa.Table:
    """Two days after training, of the world that the ranker was trained in: rows that come again at other times."""
    rows = read_raw(training_set_dir, "test")
    rng = np.random.default_rng(0)
    table = rows.take(pa.array(rng.integers(0, rows.num_rows, 2400)))
    start = int(make_world(10).table["event_timestamp"][0].as_py().timestamp())
    first = (start - start % 86_400 + 31 * 86_400) * 1_000_000
    moments = np.sort(rng.integers(first, first + 2 * 86_400 * 1_000_000, 2400))
    at = table.column_names.index("event_timestamp")
    table = table.set_column(at, "event_timestamp", pa.array(moments, pa.timestamp("us", "UTC")))
    return table.set_column(0, "row_id", pa.array(np.arange(2400)))


def changed(rows: pa.Table, name: str, values: Any) -> pa.Table:
    return rows.set_column(rows.column_names.index(name), name, values)


def watch(
    mill: Mill,
    name: str,
    rows: pa.Table,
    answers: pa.Table | None = None,
    joined: pa.Table | None = None,
    **config: Any,
) -> tuple[StageResult, Report]:
    """Watch the two days."""
    given = {"rows": _given(mill, name, rows, answers)}
    given |= {} if joined is None else {"joined": _given(mill, f"{name}_joined", joined)}
    day = pc.min(rows["event_timestamp"]).as_py().replace(hour=0, minute=0, second=0, microsecond=0)
    mill.window = Window(start=day, end=day + timedelta(days=2))
    return watched(mill, name, given, **config)


def _given(mill: Mill, name: str, rows: pa.Table, answers: pa.Table | None = None) -> ArtifactRef:
    folder = mill.settings.home / "given" / name
    (folder / "raw").mkdir(parents=True)
    pq.write_table(rows, folder / "raw" / "rows.parquet")
    if answers is not None:
        pq.write_table(answers, folder / "answers.parquet")
    return mill.publish(LabelledRows, folder, name)


def watched(mill: Mill, name: str, given: dict[str, ArtifactRef], **config: Any) -> tuple[StageResult, Report]:
    done = mill.run("watch_drift", CONFIG | config, name, **given)
    folder = mill.store.fetch(done.outputs["report"].load())
    report = Report.model_validate_json((folder / "drift.json").read_text())
    page = (folder / "drift.html").read_text()
    alarm = Alarm.model_validate_json((mill.store.fetch(done.outputs["alarm"].load()) / "alarm.json").read_text())
    assert alarm.raised == bool(report.today.alarms) == (done.no_news == ())
    assert all(f'<td class="text">{cell.of}</td>' in page for cell in report.today.cells)
    assert page.count("data:image/png;base64,") >= 1 and "<script" not in page
    return done, report


def log_of(mill: Mill, models: dict[str, Path], rows: pa.Table) -> pa.Table:
    """Return what a service answered to the rows: the champion to most users, a version before it to others."""
    said = answer(ServedModel.open(models["good"], "cpu"), rows).base
    other = rows["user_id"].to_numpy() % 5 == 0
    digest = mill.ref("good").digest
    columns: dict[str, Any] = {
        "row_id": rows["row_id"],
        "served.request": pa.array([f"q{n // 3}" for n in range(rows.num_rows)]),
        "served.digest": pa.array(np.where(other, "another", digest)),
    }
    for task, values in said.items():
        given = np.where(other, 0.99, values)
        columns |= {f"base.{task}": pa.array(given), f"answer.{task}": pa.array(given)}
    return pa.table(columns)


def keys(report: Report) -> set[tuple[str, str]]:
    return {(cell.check, cell.of) for cell in report.today.alarms}


def events_of(done: StageResult) -> set[str]:
    """Return the outputs of whose assets Airflow publishes an event."""
    from pipelines.run.airflow_dag import _news

    return _news(load_plan(pipeline_path("movielens_watch")), done, None)


def test_quiet_days_are_no_news(champion: Mill, later: pa.Table) -> None:
    done, report = watch(champion, "quiet", later)
    assert events_of(done) == {"report"} and not report.today.alarms and len(report.days) == 2
    judged = {cell.check for cell in report.today.cells if cell.state == "quiet"}
    assert judged == {"moved", "missing", "unknown", "score", "level", "calibration", "ranking"}
    assert {cell.reason for cell in report.today.cells if cell.check == "traffic"} == {
        "the window holds no two earlier weeks"
    }
    assert report.today.rates["like"] == pytest.approx(pc.mean(later["like"]).as_py(), abs=0.05)


def test_what_drifted_starts_who_waits(champion: Mill, later: pa.Table) -> None:
    moved = changed(later, "popularity", pc.add(later["popularity"], 2.0))
    done, report = watch(champion, "moved", moved)
    assert keys(report) == {("moved", "popularity")} and events_of(done) == {"report", "alarm"}
    assert "values of popularity moved" in " ".join(done.notes)
    strange = changed(later, "item_id", pc.add(later["item_id"], 10_000))
    _, report = watch(champion, "strange", strange)
    assert {("moved", "item_id"), ("unknown", "item_id")} <= keys(report)


def test_a_log_is_judged_on_what_the_version_itself_answered(
    champion: Mill, models: dict[str, Path], later: pa.Table
) -> None:
    answers = log_of(champion, models, later)
    _, report = watch(champion, "log", later, answers)
    assert not report.today.alarms, "the other version's .99 is not the champion's"
    cells = {(cell.check, cell.of, cell.domain): cell for cell in report.today.cells}
    whole, own = cells["moved", "popularity", "all"], cells["score", "like", "all"]
    assert own.rows < whole.rows == report.today.rows, "values are those of all callers"
    skew = cells["skew", "like", "all"]
    assert skew.state == "quiet" and skew.now == 0 and skew.rows > 300
    wrong = changed(answers, "base.like", pc.multiply(answers["base.like"], pa.scalar(0.9)))
    _, report = watch(champion, "wrong", later, wrong)
    assert ("skew", "like") in keys(report) and ("skew", "love") not in keys(report)


def test_features_are_compared_with_those_that_a_join_gives(champion: Mill, later: pa.Table) -> None:
    _, report = watch(champion, "like_joined", later, joined=later)
    cells = [cell for cell in report.today.cells if cell.check == "joined"]
    assert {cell.of for cell in cells} >= {"popularity", "recent_items", "age_band"}
    assert {cell.now for cell in cells} == {0.0} and not report.today.alarms
    stale = pc.if_else(pa.array(np.arange(2400) % 10 == 0), 0.0, later["popularity"])
    _, report = watch(champion, "unlike_joined", later, joined=changed(later, "popularity", stale))
    assert keys(report) == {("joined", "popularity")}


def test_columns_that_a_log_hides_are_left_out_and_told(
    champion: Mill, models: dict[str, Path], later: pa.Table
) -> None:
    answers = log_of(champion, models, later)
    hidden = later.drop_columns(["popularity"]).replace_schema_metadata({"rankmill.hashed": '["item_id"]'})
    _, report = watch(champion, "hidden", hidden, answers)
    assert "not compared, because the rows do not hold them: item_id, popularity" in report.remarks
    assert not {"skew", "unknown"} & {cell.check for cell in report.today.cells}


def test_a_training_set_is_watched_after_its_training_cut_and_a_day_without_rows_alarms(champion: Mill) -> None:
    champion.window = WINDOW  # January; the rows end with the 30th
    _, report = watched(champion, "set", {"rows": champion.dataset}, min_rows=50, min_users=10)
    assert [day.judged for day in report.days[:26]] == [0] * 26 and sum(day.rows for day in report.days) == 4000
    assert sum(day.judged for day in report.days) == 400
    assert {cell.check for cell in report.days[-3].cells if cell.state == "quiet"} >= {"moved", "score", "traffic"}
    assert report.today.rows == 0 and keys(report) == {("traffic", "rows"), ("traffic", "users")}


def test_what_cannot_be_watched_is_a_sentence(champion: Mill, later: pa.Table, models: dict[str, Path]) -> None:
    with pytest.raises(BadInputError, match=r"no column 'love'"):
        watch(champion, "unlabelled", later.drop_columns(["love"]))
    with pytest.raises(BadInputError, match=r"'popularity' is string, not float64"):
        watch(champion, "retyped", changed(later, "popularity", pa.array(["dear"] * later.num_rows)))
    with pytest.raises(BadInputError, match="holds no 7d"):
        watch(champion, "short", later, every="7d")
    champion.register("similar", models["similar"])
    with pytest.raises(MissingError, match=rf"{MODEL} v2 has no baseline"):
        watch(champion, "older", later, version=2)
