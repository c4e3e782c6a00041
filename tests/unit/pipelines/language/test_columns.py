"""Are names judged by the columns that arrive along the wires, and left alone where those are not known?"""

from __future__ import annotations

from pathlib import Path

import pytest

from components.ingest.ingest_household.component import events_schema as household_schema
from components.ingest.ingest_household.config import COMPONENT as HOUSEHOLD
from components.ingest.ingest_table.component import events_schema
from components.ingest.ingest_table.config import COMPONENT as TABLE
from components.ingest.ingest_table.config import Config as Table
from components.platform.columns import family
from pipelines.language.check import examine
from pipelines.language.load import read

GOLDEN = Path(__file__).resolve().parents[3] / "golden" / "errors"
WHOLE = (GOLDEN / "column_floor.yaml").read_text(encoding="utf-8").replace("clik:", "click:").split("\n", 1)[1]


def faults(folder: Path, *changes: tuple[str, str]) -> list[str]:
    """Return the messages about the golden pipeline with some of its text replaced."""
    text = WHOLE
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    (folder / "column_features.py").write_bytes((GOLDEN / "column_features.py").read_bytes())
    file = folder / "column_floor.yaml"
    file.write_text(text, encoding="utf-8")
    return [problem.message for problem in examine(read(file))[1]]


def test_a_pipeline_whose_names_mean_columns_has_no_problem(tmp_path: Path) -> None:
    assert faults(tmp_path) == []
    more = "feedback: [click, order]\n      domain: domain\n      context: [city, event_timestamp]\n"
    more += "      carry: [request_id, status]\n      encode: {taste: {kind: hash}, city: {kind: vocabulary}}"
    both = ("{click: {auc: 0.6}}", "{click: {auc: 0.6}, order_given_click: {auc: 0.5}}")
    assert faults(tmp_path, ("feedback: [click]", more), both) == []


def test_columns_pass_through_a_contract(tmp_path: Path) -> None:
    checked = "  contract:\n    uses: validate_data\n    in: {table: ingest.events}\n"
    checked += "    with: {suite: expectations/shop.yaml}\n  features:"
    (tmp_path / "expectations").mkdir()
    (tmp_path / "expectations" / "shop.yaml").write_text(
        "expectations:\n  - {expect: expect_column_values_to_not_be_null, column: user_id, action: fail, why: Key.}\n",
        encoding="utf-8",
    )
    wires = ("events: ingest.events", "events: contract.table")
    named = ("feedback: [click]", "feedback: [clik]")
    assert faults(tmp_path, ("  features:", checked), wires, named)[-1:] == [
        "the events have no column 'clik' (did you mean 'click'?)"
    ]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("feedback: [click]", "feedback: [click]\n      domain: ${params.place}"),
        ("feedback: [click]", "feedback: [click]\n      context: ['${params.place}']"),
    ],
)
def test_a_value_from_a_param_is_not_judged(old: str, new: str, tmp_path: Path) -> None:
    params = ("stages:\n", "params:\n  place: {type: string, default: nowhere}\nstages:\n")
    assert faults(tmp_path, params, (old, new)) == []


def test_a_service_that_the_text_does_not_tell_is_not_judged(tmp_path: Path) -> None:
    assert faults(tmp_path, ("feedback: [click]", "feedback: [click]\n      encode: {tase: {kind: hash}}"))
    text = (GOLDEN / "column_features.py").read_text(encoding="utf-8")
    own = tmp_path / "other_features.py"
    own.write_text(text.replace('Field(name="taste", dtype=String)', "*more_fields()"), encoding="utf-8")
    changed = ("column_features.py", "other_features.py")
    assert (
        faults(tmp_path, changed, ("feedback: [click]", "feedback: [click]\n      encode: {tase: {kind: hash}}")) == []
    )


def test_a_label_that_several_columns_decide_does_not_taint_them(tmp_path: Path) -> None:
    rule = ("\"status == 'paid'\"", "\"status == 'paid' and city == 'Bonn'\"")
    named = ("feedback: [click]", "feedback: [click]\n      context: [city, status]")
    assert faults(tmp_path, rule, named) == []
    assert len(faults(tmp_path, named)) == 1


def test_the_shipped_ingestion_tells_what_it_publishes() -> None:
    told = HOUSEHOLD.flow.gives(HOUSEHOLD.config(), {})["events"]
    assert list(told.known) == household_schema().names and told.whole
    roles = [column.role for column in told.known.values()]
    assert roles.count("user") == roles.count("item") == 1 and "feedback" in roles


def test_ingest_table_tells_what_it_publishes() -> None:
    config = Table.model_validate(
        {
            "files": "x.csv", "user": "u", "item": {"column": "i", "type": "int64"}, "timestamp": "t",
            "feedback": {"click": "clicked"}, "domain": "site", "request": "r", "propensity": "p",
            "columns": {"copy": {"type": "int64", "column": "clicked"}, "words": "array<string>"},
            "users": {"files": "u.csv", "key": "u", "columns": {"clicked": "bool"}},
        }
    )  # fmt: skip
    told = TABLE.flow.gives(config, {})["events"].known
    schema = events_schema(config)
    assert list(told) == schema.names
    assert told["user_id"].dtype == "string" and told["item_id"].dtype == family("int32") == "int64"
    assert told["copy"].role == told["click"].role == "feedback" and told["clicked"].role == "other"
