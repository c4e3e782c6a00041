"""Does Great Expectations, behind its adapter, send aside exactly the broken rows and stop on a broken contract?"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from components.data.validate_data.component import check_table
from components.data.validate_data.config import SuiteResult
from components.ingest.ingest_table.component import events_schema
from components.ingest.ingest_table.config import Config as Table
from components.platform.artifacts import EventsTable
from components.platform.errors import BadInputError, ContractViolationError
from components.platform.execute import StageRequest, StageResult, execute
from components.platform.settings import Settings
from components.platform.store.publish import open_store
from components.platform.store.records import ArtifactRef
from features import suites
from features.declaration import Window
from tests.ingesting import MOVIELENS

pytestmark = pytest.mark.engine

WINDOW = Window(start=datetime(1997, 11, 1, tzinfo=UTC), end=datetime(1997, 12, 1, tzinfo=UTC))
ROWS = 200
Change = Callable[[dict[str, list[Any]]], None]


def good_events() -> dict[str, list[Any]]:
    times = [WINDOW.start + timedelta(minutes=i) for i in range(ROWS)]
    ratings = [1 + i % 5 for i in range(ROWS)]
    return {
        "user_id": [i % 40 for i in range(ROWS)],
        "item_id": [i % 30 for i in range(ROWS)],
        "event_timestamp": times,
        "created_timestamp": list(times),
        "rating": ratings,
        "like": [int(rating >= 3) for rating in ratings],
        "love": [int(rating == 5) for rating in ratings],
        "age": [20 + i % 40 for i in range(ROWS)],
        "age_band": [("under_25", "25_34", "35_plus")[i % 3] for i in range(ROWS)],
        "gender": ["FM"[i % 2] for i in range(ROWS)],
        "occupation": ["writer"] * ROWS,
        "zip_code": ["00501"] * ROWS,
        "title": ["Film"] * ROWS,
        "release_year": [1990] * ROWS,
        "genres": [["Drama"]] * ROWS,
    }


class World:
    """A home with an events artifact in it, made as a stage makes it."""

    def __init__(self, home: Path) -> None:
        self.settings = Settings.at(home)
        self.made = 0

    def events(self, table: pa.Table) -> ArtifactRef:
        self.made += 1
        staged = self.settings.home / f"staged-{self.made}"
        (staged / "events").mkdir(parents=True)
        pq.write_table(table, staged / "events" / "events.parquet")
        (staged / "events" / "window.json").write_text(WINDOW.model_dump_json())
        record = open_store(self.settings).publish(
            staged, {"events": EventsTable(uri=str(staged / "events"))}, component="made_by_hand",
            component_version="1", key=f"{self.made}", config_digest="", inputs={}, explanation={}, seconds=0.0,
            notes=[], annotations={},
        )  # fmt: skip
        return record.outputs["events"]

    def validate(self, table: pa.Table, suite: str = "movielens_events") -> StageResult:
        request = StageRequest(
            component="validate_data", config={"suite": suite}, inputs={"table": self.events(table)}, window=WINDOW,
            stage="contract", pipeline="p", run_id=f"r{self.made}",
        )  # fmt: skip
        return execute(request, self.settings)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path / "home")


def table_with(change: Change | None = None) -> pa.Table:
    columns = good_events()
    if change:
        change(columns)
    return pa.table(columns, schema=events_schema(Table.model_validate(MOVIELENS)))


def folder(ref: ArtifactRef) -> Path:
    return Path(urlparse(ref.uri).path)


def outcomes(result: StageResult) -> SuiteResult:
    return SuiteResult.model_validate_json((folder(result.outputs["docs"]) / "result.json").read_text())


def test_a_good_table_passes_unchanged(world: World) -> None:
    table = table_with()
    result = world.validate(table)
    source = folder(world.events(table))
    assert (folder(result.outputs["table"]) / "events.parquet").read_bytes() == (source / "events.parquet").read_bytes()
    assert (folder(result.outputs["table"]) / "window.json").read_text() == WINDOW.model_dump_json()
    aside = pq.read_table(folder(result.outputs["quarantine"]) / "rows.parquet")
    assert aside.num_rows == 0
    assert aside.schema.names == [*table.schema.names, "broken"]
    assert outcomes(result).passed
    assert all(one.passed for one in outcomes(result).expectations)
    assert "the contract holds" in (folder(result.outputs["docs"]) / "index.html").read_text()


def test_single_bad_rows_go_to_quarantine_with_their_reasons(world: World) -> None:
    def change(columns: dict[str, list[Any]]) -> None:
        columns["rating"][10] = 9
        columns["rating"][20] = None
        columns["age"][20] = 0
        columns["age_band"][30] = None
        for name in ("user_id", "item_id", "event_timestamp", "created_timestamp"):
            columns[name][41] = columns[name][40]

    table = table_with(change)
    result = world.validate(table)
    kept = pq.read_table(folder(result.outputs["table"]) / "events.parquet")
    aside = pq.read_table(folder(result.outputs["quarantine"]) / "rows.parquet")
    assert kept.equals(table.take([i for i in range(ROWS) if i not in (10, 20, 30, 40, 41)]))
    assert aside.drop_columns(["broken"]).equals(table.take([10, 20, 30, 40, 41]))
    unique = ["expect_compound_columns_to_be_unique(user_id, item_id, event_timestamp)"]
    assert aside["broken"].to_pylist() == [
        ["expect_column_values_to_be_between(rating)"],
        ["expect_column_values_to_not_be_null(rating)", "expect_column_values_to_be_between(age)"],
        ["expect_column_values_to_not_be_null(age_band)"],
        unique,
        unique,
    ]
    assert "195 of 200 rows kept, 5 quarantined" in result.notes[0]


def _set(name: str, rows: range, value: Any) -> Change:
    def change(columns: dict[str, list[Any]]) -> None:
        for row in rows:
            columns[name][row] = value

    return change


def _break_funnel(columns: dict[str, list[Any]]) -> None:
    for row in range(0, 35, 5):
        columns["like"][row], columns["love"][row] = 0, 1


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (_break_funnel, "expect_column_pair_values_a_to_be_greater_than_b on 'like, love' (or_equal True) fails for 7 "
            "of 200 rows: row 0: like 0, love 1; row 5: like 0, love 1; row 10: like 0, love 1; row 15: like 0, love 1;"
            " row 20: like 0, love 1; see"),
        (_set("like", range(6, 7), 2), "expect_column_values_to_be_in_set on 'like' (value_set 0, 1) fails for 1 of"),
        (_set("age_band", range(3, 5), "teen"), "on 'age_band' (value_set under_25, 25_34, 35_plus) fails for 2 of 200 "
            "rows: row 3: teen; row 4: teen"),
        (_set("event_timestamp", range(199, 200), WINDOW.end), "on 'event_timestamp' (min_value window.start, "
            "max_value window.end, strict_max True) fails for 1 of 200 rows: row 199: 1997-12-01T00:00:00Z"),
        (_set("created_timestamp", range(8, 9), WINDOW.start), "on 'created_timestamp, event_timestamp'"),
        (_set("rating", range(11), 0), "11 of 200 rows (5.5%) would be quarantined, at most 5.0% may be; mostly "
            "expect_column_values_to_be_between on 'rating' (min_value 1, max_value 5) fails for 11 of 200 rows"),
    ],
)  # fmt: skip
def test_a_broken_contract_stops_with_one_sentence_and_a_page(world: World, change: Change, expected: str) -> None:
    with pytest.raises(ContractViolationError) as caught:
        world.validate(table_with(change))
    said = str(caught.value)
    assert expected in said
    assert "\n" not in said
    assert caught.value.exit_code == 65
    kept = world.settings.runs / "p" / "r1" / "contract"
    assert str(kept / "index.html") in said
    assert "the contract is broken" in (kept / "index.html").read_text()
    assert json.loads((kept / "result.json").read_text())["passed"] is False
    assert not (Path(urlparse(world.settings.artifacts).path) / "validate_data").exists(), "nothing is published"


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        (lambda: table_with().drop_columns(["love"]), "expect_table_columns_to_match_set"),
        (
            lambda: table_with().set_column(4, "like", table_with()["like"].cast("int64")),
            "expect_column_type_to_be on 'like' (type_ int8) fails: observed int64",
        ),
        (
            lambda: table_with().set_column(
                2, "event_timestamp", table_with()["event_timestamp"].cast(pa.timestamp("us"))
            ),
            "fails: observed timestamp[us]",
        ),
        (lambda: table_with().slice(0, 99), "expect_table_row_count_to_be_between"),
        (lambda: table_with().slice(0, 0), "expect_table_row_count_to_be_between"),
    ],
)
def test_wrong_shapes(world: World, table: Callable[[], pa.Table], expected: str) -> None:
    with pytest.raises(ContractViolationError) as caught:
        world.validate(table())
    assert expected in str(caught.value)
    if "match_set" in expected:
        assert "fails: observed missing love" in str(caught.value)


def test_a_warning_is_shown_and_does_not_stop(world: World) -> None:
    result = world.validate(table_with(_set("gender", range(4), "X")))
    assert result.notes[1] == (
        "warning: expect_column_distinct_values_to_be_in_set on 'gender' (value_set F, M) fails: observed unexpected X"
    )


def test_unknown_suite_stops_before_anything_is_read(world: World) -> None:
    with pytest.raises(BadInputError, match="did you mean 'movielens_events'"):
        world.validate(table_with(), suite="movielens_event")


def _suite(tmp_path: Path, *rules: str) -> suites.Suite:
    text = "max_quarantined: 1\nexpectations:\n" + "".join(f"- {rule}\n" for rule in rules)
    (tmp_path / "mine.yaml").write_text(text)
    return suites.load("mine", tmp_path)


NOW = datetime(2024, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        (
            "{expect: expect_column_values_to_be_betwen, column: x}",
            "did you mean 'expect_column_values_to_be_between'?",
        ),
        ("{expect: expect_column_values_to_be_between, colum: x}", "no argument 'colum' (did you mean 'column'?)"),
        (
            "{expect: expect_column_values_to_be_between, column: x, min_value: [1]}",
            "mine.yaml:3: expect_column_values",
        ),
        (
            "{expect: expect_column_values_to_be_between, column: x}",
            "mine.yaml:3: expect_column_values_to_be_between: ",
        ),
        (
            "{expect: expect_column_mean_to_be_between, column: x, min_value: 1, action: quarantine}",
            "does not say which rows",
        ),
        ("{expect: expect_column_values_to_be_increasing, column: x, action: quarantine}", "does not say which rows"),
        ("{expect: expect_column_values_to_be_between, column: x, max_value: {from: never}}", "no reference 'never'"),
        ("{expect: expect_column_type_to_be, column: x}", "mine.yaml:3: expect_column_type_to_be: "),
    ],
)
def test_rules_that_mean_nothing(tmp_path: Path, rule: str, expected: str) -> None:
    with pytest.raises(BadInputError) as caught:
        check_table(pa.table({"x": [1]}), _suite(tmp_path, rule), WINDOW, NOW)
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


def test_conditions_choose_the_rows(tmp_path: Path) -> None:
    suite = _suite(
        tmp_path,
        "{expect: expect_column_values_to_be_between, column: x, min_value: 5, action: warn, "
        "where: {column: k, value: a}}",
        "{expect: expect_column_values_to_be_between, column: x, min_value: 5, action: warn, "
        "where: [{column: k, op: is not null}, {column: k, op: not in, value: [a]}]}",
        "{expect: expect_column_values_to_not_be_null, column: k, action: quarantine}",
    )
    table = pa.table({"x": [9, 1, 2, 3, 8], "k": ["a", "a", None, "b", "b"]})
    result, kept, _ = check_table(table, suite, WINDOW, NOW)
    assert [one.examples for one in result.expectations] == [("row 1: 1",), ("row 3: 3",), ("row 2: null",)]
    assert [one.checked for one in result.expectations] == [2, 2, 5]
    assert kept.num_rows == 4


SMALL = st.none() | st.integers(-2, 4)
TABLES = st.lists(st.tuples(SMALL, SMALL, st.sampled_from(["a", "b", None])), max_size=12)
RULES = (
    "{expect: expect_column_values_to_not_be_null, column: a, action: quarantine}",
    "{expect: expect_column_values_to_be_between, column: b, min_value: 0, max_value: 3, action: quarantine}",
    "{expect: expect_column_values_to_be_in_set, column: c, value_set: [a], action: quarantine, "
    "where: {column: a, op: '>', value: 2}}",
    "{expect: expect_compound_columns_to_be_unique, column_list: [a, c], action: quarantine}",
    "{expect: expect_column_pair_values_a_to_be_greater_than_b, column_A: a, column_B: b, or_equal: true, "
    "action: quarantine}",
)


def _breaks(row: tuple[Any, Any, Any], count: int) -> bool:
    a, b, c = row
    return (
        a is None
        or (b is not None and not 0 <= b <= 3)
        or (a > 2 and c not in ("a", None))
        or count > 1
        or (b is not None and a < b)
    )


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=TABLES)
def test_quarantine_takes_exactly_the_broken_rows(tmp_path: Path, rows: list[tuple[Any, Any, Any]]) -> None:
    suite = _suite(tmp_path, *RULES)
    a, b, c = ([row[i] for row in rows] for i in range(3))
    table = pa.table({"a": pa.array(a, pa.int8()), "b": pa.array(b, pa.int8()), "c": pa.array(c, pa.string())})
    result, kept, aside = check_table(table, suite, WINDOW, NOW)
    assert not [one.problem for one in result.expectations if one.problem]
    same = Counter((row[0], row[2]) for row in rows)
    expected = [row for row in rows if not _breaks(row, same[row[0], row[2]])]
    assert [tuple(row.values()) for row in kept.to_pylist()] == expected
    rest = [tuple(row.values()) for row in aside.drop_columns(["broken"]).to_pylist()]
    assert Counter(expected) + Counter(rest) == Counter(rows)
    assert pc.min(pc.list_value_length(aside["broken"])).as_py() in (None, *range(1, 6))
    again, kept_again, _ = check_table(kept, suite, WINDOW, NOW)
    assert kept_again.equals(kept)
    assert all(one.passed for one in again.expectations)
