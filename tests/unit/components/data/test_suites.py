"""Is a suite file read strictly, and does a wrong one say where it is wrong?"""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from pathlib import Path

import pytest
from pydantic import ValidationError

from components.data.validate_data.config import Config
from components.platform.catalog import component
from components.platform.sources import modules_of, source_files
from features import suites
from features.ground.errors import BadInputError, MissingError


def write(tmp_path: Path, text: str) -> Path:
    (tmp_path / "mine.yaml").write_text(text)
    return tmp_path


def test_every_shipped_suite_loads() -> None:
    assert "movielens_events" in suites.names()
    for name in suites.names():
        assert suites.load(name).contract.expectations


def test_columns_spread_and_scalars_are_yaml_1_2(tmp_path: Path) -> None:
    folder = write(
        tmp_path,
        """
expectations:
  - expect: expect_column_values_to_be_in_set
    columns: [a, b]
    value_set: [25_34, no, 1998-04-24, 12:30, 7, -1.5, true, null]
    where: {column: c, op: in, value: [1, 2]}
    action: quarantine
  - {expect: expect_table_row_count_to_be_between, min_value: {from: window.start}}
""",
    )
    first, second, third = suites.load("mine", folder).contract.expectations
    assert [one.arguments["column"] for one in (first, second)] == ["a", "b"]
    assert [one.line for one in (first, second, third)] == [3, 3, 8]
    assert first.arguments["value_set"] == ["25_34", "no", "1998-04-24", "12:30", 7, -1.5, True, None]
    assert str(first.where[0]) == "c in [1, 2]"
    assert third.action == "fail"
    moment = datetime(2024, 1, 1, tzinfo=UTC)
    assert third.resolved({"window.start": moment}) == {"min_value": moment}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("expectations: [", "mine.yaml:1:16: a value or a closing bracket is missing here: add it; correct the suite"),
        ("expectations: &all []\nmore: *all\n", "mine.yaml:2:7: aliases are not part of the language"),
        ("description: !!str 1\n", "mine.yaml:1:14: remove the tag '!!str': a suite file holds plain values only"),
        ("\ufefflow: ${low}\n\tx: 1\n", "mine.yaml:2:1: a tab cannot indent"),
        ("- a\n", "mine.yaml:1: a suite is a mapping"),
        ("", "mine.yaml:1: a suite is a mapping"),
        ("expectations: []\n", "mine.yaml:1: expectations: Tuple should have at least 1 item"),
        ("max_quarantined: 2\nexpectations: [{expect: x}]\n", "mine.yaml:1: max_quarantined: Input should be less"),
        ("\nexpectation: []\nexpectations: [{expect: x}]\n", "mine.yaml:2: expectation: Extra inputs"),
        (
            "expectations:\n- {expect: x}\n- expect: y\n  action: stop\n",
            "mine.yaml:3: y.action: Input should be 'fail'",
        ),
        ("expectations:\n- {expect: x}\n- {action: warn}\n", "mine.yaml:3: rule 2.expect: Field required"),
        ("expectations:\n- {expect: x, expect: y}\n", "mine.yaml:2:15: key 'expect' stands twice"),
        ("expectations:\n- {expect: x, action: quarantine, mostly: 0.9}\n", "mine.yaml:2: x: quarantine takes every"),
        ("expectations:\n- {expect: x, where: {column: a, op: is null, value: 1}}\n", "'is null' takes no value"),
        ("expectations:\n- {expect: x, where: {column: a, op: in, value: 1}}\n", "'in' takes a list"),
        (
            "expectations:\n- {expect: x, column: a, value_set: [open, 'paid ']}\n",
            "2: x: value_set holds 'paid ', but texts are read without white space at their ends: write 'paid'",
        ),
        ("expectations:\n- {expect: x, where: {column: a, op: in, value: [' b']}}\n", "where, a holds ' b'"),
        ("expectations:\n- just a text\n", "mine.yaml:1: rule 1: Input should be"),
        ("expectations: {a: b}\n", "mine.yaml:1: expectations:"),
    ],
)
def test_wrong_suites(tmp_path: Path, text: str, expected: str) -> None:
    with pytest.raises(BadInputError) as caught:
        suites.load("mine", write(tmp_path, text))
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


def test_unknown_suite_names_the_nearest() -> None:
    with pytest.raises(MissingError, match=r"no suite 'movielens_event' .*did you mean 'movielens_events'"):
        suites.load("movielens_event")
    with pytest.raises(ValidationError, match="did you mean 'movielens_events'"):
        Config(suite="movielens_evnts")


def test_unknown_reference_names_the_nearest() -> None:
    rule = suites.Expectation.model_validate({"expect": "x", "min_value": {"from": "window.begin"}})
    with pytest.raises(ValueError, match=r"no reference 'window.begin' \(did you mean 'window\.\w+'"):
        rule.resolved({})


def test_a_changed_suite_changes_the_source_of_the_component() -> None:
    """The cache key of `validate_data` covers the YAML files, not only Python."""
    found = source_files(*modules_of(component("validate_data")))
    suites_found = {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in suites.FOLDER.glob("*.yaml")}
    assert suites_found
    assert suites_found.items() <= {Path(name).name: digest for name, digest in found.items()}.items()


def own(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "expectations" / "shop_events.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_a_suite_is_found_by_name_or_by_an_absolute_path_only(tmp_path: Path) -> None:
    path = own(tmp_path, "expectations: [{expect: x, column_list: [a, b], where: {column: c, op: is null}}]")
    suite = suites.find(str(path))
    assert (suite.name, suite.path) == ("shop_events", path)
    assert suite.contract.expectations[0].columns == ["a", "b", "c"]
    assert suites.find("movielens_events") == suites.load("movielens_events")
    with pytest.raises(
        BadInputError, match=r"'expectations/shop_events.yaml' is no absolute path: a pipeline names it"
    ):
        suites.find("expectations/shop_events.yaml")
    with pytest.raises(MissingError, match="put the suite there"):
        suites.find(str(tmp_path / "gone.yaml"))


def test_a_key_holds_the_content_of_an_own_suite_wherever_it_lies(tmp_path: Path) -> None:
    keys = [
        Config(suite=str(own(tmp_path / place, text))).model_dump(mode="json")["suite"]
        for place, text in (("a", "x: 1"), ("b", "x: 1"), ("c", "x: 2"))
    ]
    assert keys[0] == keys[1] != keys[2]
    assert keys[0].startswith("shop_events.yaml@") and str(tmp_path) not in keys[0]
    assert Config(suite="movielens_events").model_dump(mode="json") == {"suite": "movielens_events"}
