"""Do findings become the right division of rows, the right verdict and a readable sentence?"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.data.validate_data.component import whole_requests
from components.data.validate_data.gx_adapter import Finding
from components.data.validate_data.outcome import SHOWN_WITH, broken_rows, conclude, set_aside, violation, warning
from components.data.validate_data.page import render
from components.data.validate_data.profile import profile
from features.suites import Contract, Expectation, Suite


def rule(action: str = "fail", **arguments: Any) -> Expectation:
    named = {"expect": "expect_column_values_to_be_between", "column": "x", "line of the rule": 7} | arguments
    return Expectation.model_validate(named | {"action": action})


def suite(*rules: Expectation, limit: float = 0.05) -> Suite:
    return Suite("mine", Path("/suites/mine.yaml"), Contract(max_quarantined=limit, expectations=rules))


@given(st.data())
def test_rows_are_divided_and_none_is_lost(data: st.DataObject) -> None:
    rows = data.draw(st.integers(0, 12))
    broken = data.draw(st.lists(st.sets(st.integers(0, max(0, rows - 1)), max_size=rows), min_size=1, max_size=3))
    findings = [
        Finding(rule("quarantine", column=f"c{i}"), False, rows, tuple(sorted(hit))) for i, hit in enumerate(broken)
    ]
    table = pa.table({"x": pa.array(range(rows), pa.int64())})
    kept, aside = set_aside(table, broken_rows(table, findings), findings)
    assert sorted(kept["x"].to_pylist() + aside["x"].to_pylist()) == list(range(rows))
    assert kept["x"].to_pylist() == [row for row in range(rows) if not any(row in hit for hit in broken)]
    for row in aside.to_pylist():
        reasons = [f"expect_column_values_to_be_between(c{i})" for i, hit in enumerate(broken) if row["x"] in hit]
        assert row["broken"] == reasons


def test_a_request_goes_as_a_whole_and_is_counted() -> None:
    requests = ["a", "a", "b", "c", "c", "c", None, None]
    table = pa.table({"request_id": pa.array(requests, pa.string()), "x": pa.array(range(8))})
    findings = [Finding(rule("quarantine"), False, 8, (1, 2, 4, 6))]
    kept, aside = set_aside(table, broken_rows(table, findings), findings)
    assert kept["x"].to_pylist() == [7]  # a row without a request was shown alone
    why = {row["x"]: row["broken"] for row in aside.to_pylist()}
    assert {x for x, reasons in why.items() if reasons == [SHOWN_WITH]} == {0, 3, 5} and len(why) == 7
    assert whole_requests(aside) == "2 requests went aside whole, with 3 rows that break no rule"
    first = [Finding(rule("quarantine"), False, 8, (0,))]
    for rows, found in ((table, []), (table.drop(["request_id"]), first)):
        others = set_aside(rows, broken_rows(rows, found), found)
        assert whole_requests(others[1]) is None and len(others[0]) + len(others[1]) == 8


TABLE = pa.table({"x": pa.array([1, None, 30, 40, 50, 60, 70]), "y": pa.array(list("abcdefg"))})


def test_sentence_names_rule_column_five_values_page_and_line() -> None:
    one = suite(rule(max_value=9))
    result = conclude(one, TABLE, 7, [Finding(one.contract.expectations[0], False, 7, (1, 2, 3, 4, 5, 6))])
    assert not result.passed
    assert violation(result, one, Path("/kept/index.html")) == (
        "the contract 'mine' is broken: expect_column_values_to_be_between on 'x' (max_value 9) fails for 6 of 7 rows: "
        "row 1: null; row 2: 30; row 3: 40; row 4: 50; row 5: 60; see /kept/index.html, "
        "then correct the source, or the rule at /suites/mine.yaml:7"
    )


def test_sentence_for_figures_pairs_and_what_cannot_be_checked() -> None:
    one = suite(
        rule("warn"),
        rule(expect="expect_pair", column_A="x", column_B="y", column=None),
        rule(expect="expect_mean"),
        rule(column="gone"),
    )
    warn, pair, mean, gone = one.contract.expectations
    findings = [
        Finding(warn, False, 7, observed="0.9"),
        Finding(pair, False, 7, (0,)),
        Finding(mean, False, 7, observed="0.4"),
        Finding(gone, False, 0, problem="there is no column gone"),
    ]
    result = conclude(one, TABLE, 7, findings)
    said = violation(result, one, Path("/p"))
    assert "row 0: x 1, y a (2 more expectations fail)" in said
    assert warning(result.expectations[0]).startswith(
        "warning: expect_column_values_to_be_between on 'x' fails: observed"
    )
    assert "cannot be checked: there is no column gone" in violation(
        conclude(suite(gone), TABLE, 7, findings[3:]), one, Path("/p")
    )


@pytest.mark.parametrize(("limit", "passed"), [(0.28, False), (2 / 7, True), (1.0, True)])
def test_share_of_quarantined_rows_is_limited(limit: float, passed: bool) -> None:
    one = suite(rule("quarantine"), limit=limit)
    result = conclude(one, TABLE, 5, [Finding(one.contract.expectations[0], False, 7, (1, 2))])
    assert result.passed is passed
    if not passed:
        assert "2 of 7 rows (28.6%) would be quarantined, at most 28.0% may be; mostly" in violation(
            result, one, Path("/p")
        )


def test_only_failing_rules_decide() -> None:
    rules = (rule("warn"), rule("quarantine"), rule("fail"))
    findings = [Finding(rules[0], False, 7, (1,)), Finding(rules[1], False, 7), Finding(rules[2], True, 7, (3,))]
    assert conclude(suite(*rules), TABLE, 7, findings).passed
    unchecked = [findings[0], Finding(rules[1], False, 0, problem="no column"), findings[2]]
    assert not conclude(suite(*rules), TABLE, 7, unchecked).passed


def test_page_needs_nothing_but_itself_and_escapes_values() -> None:
    table = pa.table({"x": pa.array(["<script>alert(1)</script>", None]), "l": pa.array([["a", "b"], []])})
    one = suite(rule(expect="expect_column_values_to_not_be_null", why="a < b"))
    result = conclude(one, table, 2, [Finding(one.contract.expectations[0], False, 2, (0, 1))])
    page = render(result, "x & y", profile(table))
    assert "<script" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "a &lt; b" in page
    assert "x &amp; y" in page
    assert not any(word in page for word in ("http://", "https://", "src=", "@import", "url("))


def test_profile() -> None:
    table = pa.table(
        {
            "n": pa.array([3, 1, None, 1], pa.int16()),
            "t": pa.array(np.array(["2024-01-02", "2024-01-01", "2024-01-01", "NaT"], "datetime64[us]")),
            "l": pa.array([["a", "b"], [], None, ["a"]]),
            "e": pa.array([None] * 4, pa.string()),
        }
    )
    number, time, nested, empty = profile(table)
    assert (number.nulls, number.smallest, number.largest, number.distinct) == (0.25, "1", "3", 2)
    assert (time.smallest, time.largest) == ("2024-01-01 00:00:00", "2024-01-02 00:00:00")
    assert (nested.smallest, nested.largest, nested.distinct) == ("0 elements", "2 elements", 2)
    assert (empty.nulls, empty.smallest, empty.distinct) == (1.0, "", 0)
    assert [one.distinct for one in profile(table.slice(0, 0))] == [0, 0, 0, 0]


def test_the_page_of_a_broken_contract_names_what_broke_it_and_marks_it() -> None:
    one = suite(rule("warn"), rule(max_value=9), rule("quarantine", column="y"), limit=0.5)
    warn, fails, parts = one.contract.expectations
    findings = [Finding(warn, False, 7, (0,)), Finding(fails, False, 7, (1, 2)), Finding(parts, False, 7, (3, 4, 5))]
    page = render(conclude(one, TABLE, 4, findings), "mine", profile(TABLE))
    assert page.count('class="breaker"') == 1 and page.count("breaks the contract") == 1
    marked = page.partition('class="breaker"')[2].partition("</tr>")[0]
    assert "max_value 9" in marked and "row 2: 30" in marked
    assert "(max_value 9) fails for 2 of 7 rows: row 1: null; row 2: 30 (line 7 of the suite)" in page

    many = suite(rule("warn"), rule("quarantine", column="y"), limit=0.1)
    warn, parts = many.contract.expectations
    page = render(conclude(many, TABLE, 4, [Finding(warn, True, 7), Finding(parts, False, 7, (3, 4, 5))]), "", [])
    assert "3 of 7 rows would be quarantined, more than" in page and page.count('class="breaker"') == 1

    held = render(conclude(many, TABLE, 7, [Finding(warn, True, 7), Finding(parts, True, 7)]), "", [])
    assert "breaker" not in held.partition("</style>")[2] and "callout" not in held.partition("</style>")[2]
