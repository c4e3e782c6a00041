"""Do reason codes tell the truth where it is known: in a linear model, and for events that are really not there?"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from scipy.stats import spearmanr

from components.data.training_set import read_raw
from features.declaration import Declaration, FieldSpec, RankerSchema
from features.ground.errors import BadInputError
from registry.serving.answer import answer
from registry.serving.reasons import (
    Effects,
    Group,
    effects_of,
    groups_of,
    importance,
    split_stream,
    stability,
    top_reasons,
    without,
)
from registry.serving.served_model import ServedModel
from tests.exports import write_model

STREAM = ("recent_items", "recent_likes", "recent_times")


@pytest.fixture(scope="module")
def linear(model_of: Callable[[str], Path]) -> ServedModel:
    """A logistic regression: what a group adds to the logit is known."""
    return ServedModel.open(model_of("lr"), "cpu")


@pytest.fixture(scope="module")
def rows(training_set_dir: Path) -> pa.Table:
    return read_raw(training_set_dir, "test")


def contributions(model: ServedModel, table: pa.Table) -> dict[str, np.ndarray]:
    """Return what each field adds to the logit of `like`; a logistic regression's `hidden` holds it, field by field."""
    fields = model.contract.fields
    order = [
        f.name for kinds in (("categorical",), ("sequence",), ("numeric", "vector")) for f in fields if f.kind in kinds
    ]
    hidden = answer(model, table).hidden.astype(np.float64).reshape(table.num_rows, len(order), 2)
    return {name: hidden[:, place, 0] for place, name in enumerate(order)}


def test_the_groups_are_the_parts_that_a_reader_knows(linear: ServedModel) -> None:
    found = {group.name: group.fields for group in groups_of(linear.contract.schema_)}
    assert found == {
        "recent events": STREAM,
        "vector taste": ("taste",),
        "user attributes": ("user_id",),
        "item attributes": ("genres", "item_id", "popularity"),
        "request context": ("age_band",),
    }


def test_streams_histories_and_sides_partition_the_fields() -> None:
    def events(name: str, times: str | None = None, **more: object) -> FieldSpec:
        return FieldSpec.model_validate(
            {"name": name, "kind": "sequence", "size": 9, "length": 5, "timed_by": times} | more
        )

    fields = (
        events("ad_seen", "seen_at"),
        events("seen_genre", None, pooled=True),
        events("buy_item", "buy_time"),
        FieldSpec(name="buy_time", kind="elapsed", length=5),
        events("watched"),
        events("rated"),
        events("seen", "seen_at"),
        FieldSpec(name="seen_at", kind="elapsed", length=5),
    )
    schema = RankerSchema(
        declaration=Declaration(feedback=("a",)), fields=fields, base_rates={}, sides={"watched": "user"}
    )
    groups = groups_of(schema)
    assert {g.name: g.fields for g in groups} == {
        "buy events": ("buy_item", "buy_time"),
        "ad_seen events": ("ad_seen", "seen", "seen_at"),
        "history of watched, rated": ("watched", "rated"),
        "request context": ("seen_genre",),
    }
    assert sorted(name for g in groups for name in g.fields) == sorted(f.name for f in fields)


def test_without_sides_every_attribute_is_a_group(linear: ServedModel) -> None:
    schema = linear.contract.schema_.model_copy(update={"sides": {}})
    groups = groups_of(schema)
    assert [g.name for g in groups] == [
        *("recent events", "vector taste", "age_band", "genres", "item_id", "popularity", "user_id")
    ]
    assert sorted(name for g in groups for name in g.fields) == sorted(f.name for f in schema.fields)


def test_in_a_linear_model_the_effect_is_the_contribution(linear: ServedModel, rows: pa.Table) -> None:
    effects = effects_of(linear, rows, "like", groups_of(linear.contract.schema_))
    added = contributions(linear, rows)
    assert max(np.abs(values).max() for values in added.values()) > 0.2
    for place, group in enumerate(groups_of(linear.contract.schema_)):
        expected = sum(added[name] for name in group.fields if name in added)
        np.testing.assert_allclose(effects.delta[:, place], expected, atol=2e-5)


def test_in_a_linear_model_the_effects_and_the_bias_are_the_logit(linear: ServedModel, rows: pa.Table) -> None:
    groups = groups_of(linear.contract.schema_)
    everything = Group("everything", tuple(f.name for f in linear.contract.fields))
    effects = effects_of(linear, rows, "like", [*groups, everything])
    rest = effects.logit - effects.delta[:, :-1].sum(axis=1)
    np.testing.assert_allclose(rest, rest[0], atol=5e-5)
    np.testing.assert_allclose(effects.logit - effects.delta[:, -1], rest, atol=5e-5)


def test_what_a_model_ignores_has_no_effect_and_is_no_reason(linear: ServedModel, rows: pa.Table) -> None:
    """A logistic regression reads no times; the events themselves it does read, which is the control."""
    groups = [Group("times", ("recent_times",)), Group("items", ("recent_items",))]
    effects = effects_of(linear, rows, "like", groups)
    assert np.abs(effects.delta[:, 0]).max() == 0
    assert np.abs(effects.delta[:, 1]).max() > 0.01
    assert "times" not in top_reasons(effects, 2)["reason_2"].to_pylist()


@pytest.mark.parametrize("name", ["lr", "fintrec"])
def test_taking_events_away_is_deleting_them_from_the_raw_rows(
    name: str, model_of: Callable[[str], Path], rows: pa.Table
) -> None:
    model = ServedModel.open(model_of(name), "cpu")
    schema = model.contract.schema_
    groups = split_stream(groups_of(schema), schema, model.encoder, "recent_likes")
    assert [g.name for g in groups][:3] == [
        "recent events: recent_likes 0",
        "recent events: recent_likes 1",
        "recent events: any other recent_likes",
    ]
    effects = effects_of(model, rows, "love", groups)
    kept = [[like != 1 for like in row] for row in rows["recent_likes"].to_pylist()]
    fewer = rows
    for column in STREAM:
        lists = [
            [value for value, keep in zip(row, keeps, strict=True) if keep]
            for row, keeps in zip(rows[column].to_pylist(), kept, strict=True)
        ]
        fewer = fewer.set_column(fewer.column_names.index(column), column, pa.array(lists, rows[column].type))
    encoded, shorter = (model.encoder.encode(table) for table in (rows, fewer))
    for column, values in without(encoded, groups[1], schema.fields).items():
        np.testing.assert_array_equal(values, shorter[column], err_msg=column)
    p, q = (answer(model, table).tasks["love"] for table in (rows, fewer))
    expected = np.log(p / (1 - p)) - np.log(q / (1 - q))
    np.testing.assert_allclose(effects.delta[:, 1], expected, atol=5e-5)
    has_none = np.array([all(keeps) for keeps in kept])
    assert has_none.any() and (~has_none).any()
    assert (effects.delta[has_none, 1] == 0).all() and np.abs(effects.delta[~has_none, 1]).max() > 1e-3


def test_one_value_and_the_others_are_the_whole_stream(linear: ServedModel, rows: pa.Table) -> None:
    schema = linear.contract.schema_
    groups = split_stream(groups_of(schema), schema, linear.encoder, "recent_items", ["7", "3"])
    assert [g.name.rpartition(": ")[2] for g in groups[:3]] == [
        "recent_items 3",
        "recent_items 7",
        "any other recent_items",
    ]
    batch = linear.encoder.encode(rows.select(linear.encoder.columns))
    left: dict[str, np.ndarray] = dict(batch)
    for group in groups[:3]:
        left = without(left, group, linear.contract.fields)
    assert (left["recent_items"] == 0).all() and (left["recent_times"] == -1).all()
    once = without(batch, groups[0], linear.contract.fields)
    assert (once["recent_times"] >= 0).sum() == (batch["recent_times"] >= 0).sum() - (
        batch["recent_items"] == groups[0].values[0]
    ).sum()


@pytest.mark.parametrize(
    ("attribute", "values", "says"),
    [
        ("recent_item", (), "did you mean 'recent_items'"),
        ("genres", (), "no attribute of an event stream"),
        ("recent_times", (), "no attribute of an event stream"),
        ("recent_items", (), "has .* values and each costs a pass"),
        ("recent_items", ("9999",), "never had the value '9999'"),
    ],
)
def test_a_division_that_makes_no_sense_is_one_sentence(
    linear: ServedModel, attribute: str, values: tuple[str, ...], says: str
) -> None:
    schema = linear.contract.schema_
    with pytest.raises(BadInputError, match=says):
        split_stream(groups_of(schema), schema, linear.encoder, attribute, values)


def test_a_stream_is_divided_once(linear: ServedModel) -> None:
    schema = linear.contract.schema_
    groups = split_stream(groups_of(schema), schema, linear.encoder, "recent_likes")
    with pytest.raises(BadInputError, match="can still be divided"):
        split_stream(groups, schema, linear.encoder, "recent_items", ["7"])


def test_an_unknown_task_is_named(linear: ServedModel, rows: pa.Table) -> None:
    with pytest.raises(BadInputError, match=r"no 'lovee'.*did you mean 'love'"):
        effects_of(linear, rows, "lovee", groups_of(linear.contract.schema_))
    with pytest.raises(BadInputError, match="no column 'genres'"):
        effects_of(linear, rows.drop_columns(["genres"]), "love", groups_of(linear.contract.schema_))


def test_chunks_and_empty_tables_change_nothing(linear: ServedModel, rows: pa.Table) -> None:
    groups = groups_of(linear.contract.schema_)
    whole, parts = effects_of(linear, rows, "like", groups), effects_of(linear, rows, "like", groups, chunk=33)
    np.testing.assert_allclose(whole.delta, parts.delta, atol=2e-5)
    nothing = effects_of(linear, rows.slice(0, 0), "like", groups)
    assert nothing.delta.shape == (0, len(groups))
    assert top_reasons(nothing, 2).num_rows == 0 and set(importance(nothing).values()) == {0.0}


def test_the_largest_effects_come_first_whatever_their_sign() -> None:
    delta = np.array([[0.1, -0.9, 0.0], [1e-6, 0.0, 0.0], [0.5, 0.5, -0.5]])
    found = top_reasons(Effects("like", ("a", "b", "c"), np.zeros(3), delta), 5).to_pydict()
    assert found["reason_1"] == ["b", None, "a"] and found["effect_1"] == [-0.9, None, 0.5]
    assert found["reason_2"] == ["a", None, "b"] and found["effect_2"] == [0.1, None, 0.5]
    assert found["reason_3"] == [None, None, "c"] and found["effect_3"] == [None, None, -0.5]


def test_stability_is_spearmans_rank_correlation() -> None:
    one = dict(zip("abcdef", [5.0, 1.0, 1.0, 0.2, 7.0, 0.0], strict=True))
    other = dict(zip("abcdef", [0.3, 0.1, 0.4, 0.1, 0.9, 0.1], strict=True))
    assert stability(one, other) == pytest.approx(spearmanr(list(one.values()), list(other.values())).statistic)
    assert stability(one, {name: -value for name, value in one.items()}) == pytest.approx(-1)
    assert stability(one, dict.fromkeys(one, 1.0)) is None
    with pytest.raises(BadInputError, match="'g'"):
        stability(one, other | {"g": 1.0})


def test_two_seeds_agree_on_what_matters(
    linear: ServedModel, rows: pa.Table, training_set_dir: Path, tmp_path: Path
) -> None:
    """The truth has user, item and age band; both seeds must put the vector and the events behind the item."""
    write_model(tmp_path / "lr", training_set_dir, "lr", steps=60, seed=9)
    again = ServedModel.open(tmp_path / "lr", "cpu")
    groups = groups_of(linear.contract.schema_)
    first, second = (importance(effects_of(model, rows, "like", groups)) for model in (linear, again))
    assert (stability(first, second) or 0) >= 0.8
    for found in (first, second):
        assert found["item attributes"] == max(found.values())
