"""Do reason codes tell the truth where it is known: in a linear model, and for events that are really not there?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import combinations
from math import comb
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
from scipy.stats import spearmanr

from components.data.training_set import read_raw
from features.declaration import Declaration, FieldSpec, RankerSchema
from features.ground.errors import BadInputError
from registry.serving.answers.answer import answer
from registry.serving.answers.reasons import (
    Effects,
    Group,
    effects_of,
    features_of,
    grouped,
    groups_of,
    importance,
    passes,
    split_stream,
    stability,
    top_reasons,
    without,
)
from registry.serving.answers.shapley import Orders, orders_of, shared
from registry.serving.model.served_model import ServedModel
from tests.exports import write_model
from tests.known_graphs import KnownGraphs

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


def test_every_feature_may_be_a_group_and_groups_of_ones_own_take_theirs_out(linear: ServedModel) -> None:
    schema = linear.contract.schema_
    names = {field.name for field in schema.fields}
    assert {group.name: group.fields for group in features_of(schema)} == {name: (name,) for name in names}
    own = {"what": ["genres", "item_id"], "taste": ["taste", "recent_likes"]}
    groups = grouped(groups_of(schema), schema, own)
    assert {group.name: group.fields for group in groups} == {
        "what": ("genres", "item_id"),
        "taste": ("taste", "recent_likes"),
        "recent events": ("recent_items", "recent_times"),
        "user attributes": ("user_id",),
        "item attributes": ("popularity",),
        "request context": ("age_band",),
    }
    with pytest.raises(BadInputError, match="can still be divided"):  # its events have lost their likes
        split_stream(groups, schema, linear.encoder, "recent_items", ["7"])
    for wrong, says in (
        ({"x": ["genre"]}, "did you mean 'genres'"),
        ({"x": ["genres"], "y": ["genres"]}, "'genres' is grouped 2 times"),
        ({"user attributes": ["genres"]}, "a group 'user attributes' already"),
    ):
        with pytest.raises(BadInputError, match=says):
            grouped(groups_of(schema), schema, wrong)


class Formula:
    """A served model of numbers x0, x1, … whose logit is known."""

    def __init__(self, logit: Callable[[np.ndarray], np.ndarray], width: int) -> None:
        self.names = [f"x{place}" for place in range(width)]
        fields = tuple(FieldSpec(name=name, kind="numeric") for name in self.names)
        self.contract = SimpleNamespace(tasks=("like",), fields=fields)
        self.encoder = SimpleNamespace(
            encode=lambda table: {name: table[name].to_numpy().astype(np.float32) for name in self.names}
        )
        self.logit, self.runs = logit, 0

        self.called = "a formula"

    def needs(self, present: list[str]) -> dict[str, str]:
        return dict.fromkeys(self.names, "")

    def rows(self, table: pa.Table) -> pa.Table:
        return table

    def run(self, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        self.runs += 1
        x = np.stack([batch[name] for name in self.names], axis=1).astype(np.float64)
        return {"like": 1 / (1 + np.exp(-self.logit(x)))}

    def effects(self, orders: Orders = ()) -> Effects:
        rows = np.random.default_rng(3).integers(0, 3, (50, len(self.names)))
        table = pa.table({name: rows[:, place].astype(np.float64) for place, name in enumerate(self.names)})
        groups = [Group(name, (name,)) for name in self.names]
        return effects_of(self, table, "like", groups, orders=orders)  # type: ignore[arg-type]


@pytest.mark.parametrize("count", [4, 32])
def test_what_two_groups_do_together_is_shared_where_leaving_out_misses_it(count: int) -> None:
    """Two that say the same, and two that say something only together, beside one that acts alone."""
    model = Formula(lambda x: np.maximum(x[:, 0], x[:, 1]) + x[:, 2] * x[:, 3] - 0.5 * x[:, 4] - 0.2, 5)
    alone, fair = model.effects(), model.effects(orders_of(5, count, 0))
    both = (fair.logit > -9) & (alone.delta[:, 0] == 0) & (alone.delta[:, 1] == 0)
    said = fair.delta[:, 0] + fair.delta[:, 1]
    assert (said[both] > 0.9).sum() >= 10, "each hides the other when it alone is left out, and both say 1 or 2"
    np.testing.assert_allclose(fair.delta[both, 0], fair.delta[both, 1], atol=1e-9)
    product = alone.delta[:, 2] / 2
    assert (product > 0.4).sum() >= 10
    for place in (2, 3):
        np.testing.assert_allclose(fair.delta[:, place], product, atol=1e-9)
        np.testing.assert_allclose(alone.delta[:, place], 2 * product, atol=1e-9)
    np.testing.assert_allclose(fair.delta[:, 4], alone.delta[:, 4], atol=1e-9)
    assert fair.reference is not None and alone.reference is None
    np.testing.assert_allclose(fair.reference, -0.2, atol=1e-9)
    np.testing.assert_allclose(fair.delta.sum(axis=1), fair.logit - fair.reference, rtol=0, atol=1e-12)
    assert np.abs(alone.delta.sum(axis=1) - (alone.logit + 0.2)).max() >= 1


def test_an_order_and_its_reverse_share_interactions_of_two_exactly() -> None:
    rng = np.random.default_rng(1)
    weight = np.triu(rng.normal(size=(9, 9)) / 20)
    model = Formula(lambda x: np.einsum("bi,ij,bj->b", x, weight, x), 9)
    rows = np.random.default_rng(3).integers(0, 3, (50, 9)).astype(np.float64)
    pairs = rows[:, :, None] * weight * rows[:, None, :]
    wanted = (pairs.sum(axis=1) + pairs.sum(axis=2)) / 2
    orders = orders_of(9, 2, 5)
    assert len(orders) == 2 and orders[1] == orders[0][::-1] and sorted(orders[0]) == [*range(9)]
    np.testing.assert_allclose(model.effects(orders).delta, wanted, atol=1e-9)
    assert np.abs(model.effects(orders[:1]).delta - wanted).max() > 0.01, "one order alone does not"


def test_few_groups_take_all_orders_and_the_cost_is_what_is_said() -> None:
    model = Formula(lambda x: np.sin(x @ np.arange(1, 5)), 4)
    orders = orders_of(4, 32, 0)
    assert len(orders) == 24 and orders == orders_of(4, 99, 7)
    exact = model.effects(orders)
    assert model.runs == passes(4, orders) == 16
    wanted = np.zeros((50, 4))
    for size in range(4):
        for others in combinations(range(4), size):
            for place in {*range(4)} - {*others}:
                one, more = (
                    effects_without(model, [p for p in range(4) if p not in kept])
                    for kept in (others, (*others, place))
                )
                wanted[:, place] += (more - one) / (4 * comb(3, size))
    np.testing.assert_allclose(exact.delta, wanted, atol=1e-9)
    model.runs = 0
    model.effects()
    assert model.runs == passes(4) == 5
    many = orders_of(12, 7, 3)
    assert len(many) == 8 and many == orders_of(12, 8, 3) != orders_of(12, 8, 4)
    wide = Formula(lambda x: x.sum(axis=1), 12)
    wide.effects(many)
    assert wide.runs == passes(12, many) <= 2 + 8 * 11


def effects_without(model: Formula, away: Sequence[int]) -> np.ndarray:
    """Return the formula's logit with some numbers gone."""
    x = np.random.default_rng(3).integers(0, 3, (50, 4)).astype(np.float64)
    x[:, list(away)] = 0
    return model.logit(x)


def test_rounding_gives_no_part_to_a_row_that_has_nothing_of_it() -> None:
    present = np.array([[True, False, True, False], [False, False, False, False], [True, True, True, True]])
    noise = np.random.default_rng(0)

    def answer_without(away: frozenset[int]) -> np.ndarray:
        left = present & ~np.isin(np.arange(4), list(away))
        return left @ np.array([1.0, 2.0, 4.0, 8.0]) + noise.normal(size=3) * 1e-7

    values, bare = shared(answer_without, present, orders_of(4, 2, 0))
    assert (values[~present] == 0).all() and (values[present] > 0.9).all()
    whole = bare + values.sum(axis=1)
    np.testing.assert_allclose(whole, [5, 0, 15], atol=1e-6)
    assert values[1].tolist() == [0, 0, 0, 0]


@pytest.mark.parametrize("by", ["groups", "features", "events"])
def test_shapley_values_of_a_served_model_add_up_and_absent_groups_have_none(
    by: str, model_of: Callable[[str], Path], rows: pa.Table
) -> None:
    model = ServedModel.open(model_of("fintrec"), "cpu")
    schema = model.contract.schema_
    groups = features_of(schema) if by == "features" else groups_of(schema)
    if by == "events":
        groups = split_stream(groups, schema, model.encoder, "recent_likes")
    orders = orders_of(len(groups), 4, 0)
    effects = effects_of(model, rows, "love", groups, orders=orders, chunk=150)
    assert effects.reference is not None
    np.testing.assert_allclose(effects.delta.sum(axis=1), effects.logit - effects.reference, rtol=0, atol=1e-12)
    assert effects.reference.std() < 1e-4 < effects.logit.std(), "without any group all rows are the same row"
    alone = effects_of(model, rows, "love", groups)
    assert np.abs(alone.delta.sum(axis=1) - effects.delta.sum(axis=1)).max() > 1e-3
    if by == "events":
        none = np.array([1 not in row for row in rows["recent_likes"].to_pylist()])
        assert none.any() and (effects.delta[none, 1] == 0).all() and (effects.delta[~none, 1] != 0).any()
    assert effects_of(model, rows.slice(0, 0), "love", groups, orders=orders).delta.shape == (0, len(groups))


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
    linear: ServedModel, rows: pa.Table, training_set_dir: Path, tmp_path: Path, graphs: KnownGraphs
) -> None:
    """The truth has user, item and age band; both seeds must put the vector and the events behind the item."""
    write_model(tmp_path / "lr", training_set_dir, "lr", 60, graphs, seed=9)
    again = ServedModel.open(tmp_path / "lr", "cpu")
    groups = groups_of(linear.contract.schema_)
    first, second = (importance(effects_of(model, rows, "like", groups)) for model in (linear, again))
    assert (stability(first, second) or 0) >= 0.8
    for found in (first, second):
        assert found["item attributes"] == max(found.values())
