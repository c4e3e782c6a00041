"""Does the schema that editors complete from agree with the checks, and is it fresh?"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from components.platform.catalog import catalog
from components.platform.contract import ComponentSpec
from pipelines.language import shape
from pipelines.language.check import load_plan
from pipelines.language.extend import DEFAULTS
from pipelines.language.load import parse, pipeline_names, pipeline_path, read
from pipelines.show.reference.describe import config_rows, sample_yaml
from pipelines.show.reference.schema import FOLDER_SCHEMA_FILE, SCHEMA_FILE, pipeline_schema, schema_texts
from tests.registered import RANKERS

GOLDEN = Path(__file__).resolve().parents[3] / "golden" / "errors"
SEEN_RANKERS = {
    "ranker_hashed_gnolr", "ranker_ignored_buckets", "ranker_ignored_clusters", "ranker_ignored_experts",
    "ranker_ignored_heads", "ranker_ignored_layers", "ranker_key_of_another",
}  # fmt: skip
"""Keys that nothing in the ranker reads: the schema says by its name and its parts which those are."""
SEMANTIC = {
    "after_unknown_stage", "bad_cron", "bad_preset", "cron_that_never_comes", "cycle", "long_cycle", "duplicate_key",
    "asset_circle_one", "asset_circle_two", "character_nul", "duration_too_long",
    "duplicate_stage", "group_named_like_a_stage", "own_asset", "param_default_not_in_enum", "param_misfits_config",
    "param_default_of_wrong_type", "param_default_out_of_bounds", "unknown_asset_output", "unknown_asset_pipeline",
    "unknown_asset_stage", "unknown_output", "unknown_param", "unknown_stage", "unused_param", "wrong_artifact",
    "wrong_file_name", "window_end_param_is_no_date", "window_end_is_no_date", "broken_rule_of_a_component",
    "misplaced_reference", "empty_schedule", "group_not_convex", "enum_choice_refused",
    "second_cron_field_missing", "data_by_param", "notify_what_cannot_happen",
    "definitions_absent", "definitions_by_param", "definitions_disagree", "definitions_not_python",
    "definitions_not_read", "definitions_outside", "feature_service_unknown", "feature_services_differ",
    "rule_of_a_label", "time_zone_unknown", "judged_without_requests", "definitions_of_other_keys",
    "floor_without_requests", "group_that_is_no_column", "log_loss_with_a_position", "log_of_events",
    "log_without_ids", "within_called_like_an_output", "without_time", "schedule_in_no_zone",
    "schedule_zone_without_cron", "schedule_all_and_any", "schedule_joined_unknown_stage", "extends_itself",
    "tune_grid_of_a_range", "tune_grid_too_large", "tune_metric_of_no_task", "tuned_beside_other_parts",
    "tuned_of_another_ranker", "pairs_of_another_ranker", "column_pairs_of_no_field",
    "extends_outside", "extends_nothing", "without_nothing_taken", "param_open_under_a_schedule",
    "param_null_unless_nullable", "param_items_of_no_list", "param_entry_of_another_type", "param_choices_of_a_list",
    "param_nullable_ends_window", "param_null_misfits_config",
    "watch_window_too_short", "watch_without_a_limit",
    "matrix_axes_of_one_name", "matrix_axis_unknown", "matrix_axis_unused", "matrix_elsewhere", "matrix_makes_too_many",
    "when_of_a_number", "when_of_a_report", "when_of_no_output", "when_of_no_stage",
    "many_named_twice", "matrix_name_taken", "matrix_value_twice", "matrix_value_without_a_name",
} | {path.stem for kind in ("column", "ranker", "suite") for path in GOLDEN.glob(f"{kind}_*.yaml")}  # fmt: skip
SEMANTIC -= SEEN_RANKERS
"""Mistakes that no schema can see: they are about names, sums and graphs, and about the roles that a ranker needs."""
SYNTAX = {
    "tab", "unclosed_bracket", "unclosed_quote", "indentation", "two_documents", "unquoted_reference",
    "tag", "alias", "not_finite", "number_too_large",
}  # fmt: skip
"""Mistakes of the text itself; what is left of the value proves nothing."""
EVERY = [pytest.param(spec, id=spec.name) for spec in catalog().values()]


@pytest.fixture(scope="module")
def validator() -> Any:
    jsonschema.Draft7Validator.check_schema(pipeline_schema())
    return jsonschema.Draft7Validator(pipeline_schema())


def test_the_committed_schema_is_fresh() -> None:
    text = SCHEMA_FILE.read_text(encoding="utf-8")
    assert text == schema_texts()[SCHEMA_FILE], "run `rankmill schema --write`"
    assert json.loads(text) == pipeline_schema()


@pytest.mark.parametrize("name", pipeline_names())
def test_every_shipped_pipeline_passes_and_names_the_schema(name: str, validator: Any) -> None:
    path = pipeline_path(name)
    for value in (read(path).value, read(path, alone=True).value):
        assert [error.message for error in validator.iter_errors(value)] == []
    first = path.read_text(encoding="utf-8").splitlines()[0]
    assert first == f"# yaml-language-server: $schema={SCHEMA_FILE.relative_to(path.parent).as_posix()}"


@pytest.mark.parametrize("path", sorted((GOLDEN.parent / "accepted").glob("*.yaml")), ids=lambda path: path.stem[:30])
def test_a_pipeline_that_is_accepted_passes(path: Path, validator: Any) -> None:
    load_plan(path)
    for value in (read(path).value, read(path, alone=True).value):
        assert [error.message for error in validator.iter_errors(value)] == []


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_wrong_pipeline_fails_unless_no_schema_could_see_it(path: Path, validator: Any) -> None:
    if path.stem not in SYNTAX:
        assert validator.is_valid(read(path).value) == (path.stem in SEMANTIC)


def test_what_a_file_must_say_is_asked_of_one_that_extends_no_other(validator: Any) -> None:
    child = {"name": "x", "extends": "base.yaml", "stages": {"train": {"with": {"epochs": 2}}, "promote": None}}
    assert validator.is_valid(child)
    assert not validator.is_valid({**child, "extend": "base.yaml"})
    assert not validator.is_valid({key: value for key, value in child.items() if key != "extends"})
    whole = {"name": "x", "window": {"days": 1}, "stages": {"a": {"uses": "validate_data", "with": {"suite": "s"}}}}
    assert not validator.is_valid(whole)  # its input is missing
    whole["stages"] = {"a": {**whole["stages"]["a"], "in": {"table": "b.events"}}}  # type: ignore[index]  # built above
    assert validator.is_valid(whole) and not validator.is_valid({**whole, "stages": {"a": None}})
    parent = jsonschema.Draft7Validator({**pipeline_schema(), "$ref": "#/$defs/Parent"})
    shared = read(pipeline_path("movielens_anchor").parent / "shared" / "movielens_random.yaml", alone=True).value
    assert parent.is_valid(shared) and not parent.is_valid({**shared, "stagse": {}})
    folder = jsonschema.Draft7Validator(json.loads(schema_texts()[FOLDER_SCHEMA_FILE]))
    assert folder.is_valid(read(pipeline_path("movielens_anchor").parent / DEFAULTS, alone=True).value)
    assert not folder.is_valid({"stages": {}})


def keys_of(node: Any) -> Iterator[tuple[str, Any]]:
    """Yield every key that a block inside a schema may have; conditions and bare defaults describe none."""
    if isinstance(node, dict):
        for name, inner in node.get("properties", {}).items():
            if isinstance(inner, dict) and {*inner} - {"default"}:
                yield name, inner
        for word in node.keys() - {"if", "not", "$defs"}:
            yield from keys_of(node[word])
    elif isinstance(node, list):
        for inner in node:
            yield from keys_of(inner)


def test_every_key_is_described() -> None:
    for name, node in {"": pipeline_schema(), **pipeline_schema()["$defs"]}.items():
        conditions = {"": "then", "StageSpec": "allOf", "WholeStage": "allOf"}.get(name)
        node = {word: inner for word, inner in node.items() if word != conditions}
        assert [key for key, inner in keys_of(node) if "description" not in inner] == [], name


def test_a_ranker_is_offered_the_keys_that_it_and_its_parts_read(validator: Any) -> None:
    value = read(pipeline_path("movielens_daily")).value
    for block, right in (
        ({"name": "lr"}, True),
        ({"name": "lr", "hidden": [3]}, False),
        ({"name": "gnolr", "gamma": [3.0, 0.4]}, True),
        ({"name": "esmm", "gamma": [3.0, 0.4]}, False),
        ({"name": "esmm", "layers": 2}, False),
        ({"name": "dcnv2", "layers": 2}, True),
        ({"name": "dcnv2", "interaction": "none", "layers": 2}, False),
        ({"name": "esmm", "sequence": "transformer", "layers": 2}, True),
        ({"name": "esmm", "sequence": "transformer", "layers": 20}, False),
        ({"name": "esmm", "sequence": "${params.epochs}", "layers": "${params.epochs}"}, True),
        ({"name": "${params.epochs}", "layers": 2, "gamma": [1]}, True),
        ({"name": "esmm", "sequence": "dim"}, False),
    ):
        value["stages"]["train"]["with"]["ranker"] = block
        assert validator.is_valid(value) == right, block


def test_rankers_are_offered_by_name_and_a_param_may_stand_anywhere(validator: Any) -> None:
    ranker = pipeline_schema()["$defs"]["train_ranker"]["properties"]["ranker"]["anyOf"][0]
    assert ranker["properties"]["name"]["anyOf"][0]["enum"] == sorted(RANKERS)
    value = read(pipeline_path("movielens_daily")).value
    train = value["stages"]["train"]["with"]
    for with_ in (
        {**train, "ranker": "${params.epochs}"},
        {**train, "ranker": {"name": "${params.epochs}", "hidden": ["${params.epochs}"]}},
        {**train, "workers": "${params.epochs}"},
    ):
        value["stages"]["train"]["with"] = with_
        assert validator.is_valid(value)
    value["stages"]["train"]["with"] = {**train, "workers": "$params.epochs"}
    assert not validator.is_valid(value)


@pytest.mark.parametrize("spec", EVERY)
def test_the_sample_of_a_component_is_a_valid_stage(spec: ComponentSpec, validator: Any) -> None:
    document = parse(sample_yaml(spec).encode(), Path("x.yaml"))
    assert document.problems() == []
    (stage,) = document.value.values()
    assert stage["uses"] == spec.name
    assert {*stage.get("in", {})} == {*spec.needed_inputs}
    # A sample cannot know the names of suites or services, nor which keys the value of another one asks for: that such
    # a name does not exist, or such a key is missing, is all that may be wrong.
    wrong = [finding.message for finding in shape.fit(spec.config, stage.get("with", {}))[1]]
    told = [message for message in wrong if not re.match(r"no .*'my_|method '\w+' needs ", message)]
    assert told == []
    for name, source in stage.get("in", {}).items():
        stage["in"][name] = source.lower() if isinstance(source, str) else [one.lower() for one in source]
    assert validator.is_valid({"name": "x", "window": {"days": 1}, "stages": {"s": stage}})


@pytest.mark.parametrize("spec", EVERY)
def test_every_config_key_is_listed_with_type_default_and_meaning(spec: ComponentSpec) -> None:
    rows = {row.key: row for row in config_rows(spec)}
    assert {*spec.config.model_fields} == {key for key in rows if "." not in key}
    for name, field in spec.config.model_fields.items():
        assert (rows[name].default is None) == field.is_required()
        assert rows[name].type and rows[name].description
