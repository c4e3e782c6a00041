"""Do keys tell users and situations apart as documented, the same way everywhere?"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from components.memory.refresh_error_memory.config import Config
from features.declaration import Declaration, FieldSpec
from features.ground.errors import BadInputError
from registry.memory.keys import row_keys, value_codes
from registry.memory.spec import CODE, FIELD_CODE, KeySpec


def unit(keys: np.ndarray) -> np.ndarray:
    return keys / np.linalg.norm(keys, axis=1, keepdims=True)


def test_user_codes_tell_users_apart_whatever_the_type_of_the_id() -> None:
    ids = pa.array(range(500))
    codes = value_codes(ids, seed=1)
    assert codes.shape == (500, CODE)
    np.testing.assert_allclose(np.linalg.norm(codes, axis=1), 1.0)
    cosines = (codes @ codes.T)[np.triu_indices(500, 1)]
    assert cosines.max() < 0.8
    assert abs(cosines.mean()) < 0.01
    assert abs(cosines.std() - 1 / np.sqrt(CODE)) < 0.005
    assert np.array_equal(codes, value_codes(ids.cast(pa.string()), seed=1))
    assert np.array_equal(codes, value_codes(ids.cast(pa.int32()), seed=1))
    assert np.array_equal(codes[[3, 1]], value_codes(pa.array([3, 1]), seed=1))
    assert not np.array_equal(codes, value_codes(ids, seed=2))
    assert not value_codes(pa.array([None, 7]), seed=1)[0].any()


def test_keys_weigh_hidden_and_user_as_documented() -> None:
    rng = np.random.default_rng(0)
    hidden = rng.normal(size=(4, 200)).astype(np.float32) * 50 + 10
    rows, centre = pa.table({"user_id": ["a", "a", "b", "c"]}), np.full(200, 10.0)
    plain = row_keys(KeySpec(kind="hidden", hidden=200), hidden, centre, rows)
    codes = value_codes(rows["user_id"], 0)
    for weight in (1.0, 2.0):
        keys = unit(row_keys(KeySpec(kind="hidden_user", hidden=200, user_weight=weight), hidden, centre, rows))
        expected = (plain @ plain.T + weight**2 * codes @ codes.T) / (1 + weight**2)
        np.testing.assert_allclose(keys @ keys.T, expected, atol=1e-12)
    constant = row_keys(KeySpec(kind="hidden", hidden=200), np.full((1, 200), 10.0), centre, rows.slice(0, 1))
    assert not constant.any()  # a vector equal to the mean has no direction, and no NaN
    with pytest.raises(BadInputError, match="width 100"):
        row_keys(KeySpec(kind="hidden", hidden=100), hidden, np.zeros(100), rows)


def test_an_embedding_key_counts_equal_fields_and_knows_values_that_training_never_held() -> None:
    """Share of equal fields and w² for the user, up to the noise of random codes."""
    rows = pa.table({"user_id": [1, 1, 2], "age": ["x", "x", "y"], "item": [7, 8, 7], "job": ["a", None, "a"]})
    spec = KeySpec(kind="embedding", hidden=3, fields=("age", "item", "job"), user_weight=1.0)
    assert spec.width == 3 * FIELD_CODE + CODE
    drawn = []
    for seed in range(200):  # the noise of one seed is ±1/√16 per field
        keys = row_keys(spec.model_copy(update={"seed": seed}), np.zeros((3, 3)), np.zeros(3), rows)
        assert keys.shape == (3, spec.width)
        drawn.append(keys @ keys.T)
    cosines = np.mean(drawn, axis=0)
    assert abs(cosines[0, 1] - (1 / 3 + 1)) < 0.03  # same age, same user; the missing job equals nothing
    assert abs(cosines[0, 2] - 2 / 3) < 0.03  # same item and job, another user


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (KeySpec(kind="embedding", hidden=2), "no categorical field beside the user"),
        (KeySpec(kind="embedding", hidden=2, fields=("age",)), "no column 'age'"),
        (KeySpec(kind="hidden_user", hidden=2, user="uid"), "no column 'uid'"),
    ],
)
def test_a_key_without_its_columns_is_refused(spec: KeySpec, message: str) -> None:
    with pytest.raises(BadInputError, match=message):
        row_keys(spec, np.zeros((1, 2)), np.zeros(2), pa.table({"user_id": [1]}))


def test_settings_take_the_categorical_fields_that_are_not_the_user() -> None:
    fields = (
        FieldSpec(name="age", kind="categorical", size=9, table="age"),
        FieldSpec(name="item_id", kind="categorical", size=9, table="item_id"),
        FieldSpec(name="popularity", kind="numeric"),
        FieldSpec(name="recent", kind="sequence", size=9, table="item_id", length=3),
        FieldSpec(name="user_id", kind="categorical", size=9, table="user_id"),
    )
    declaration = Declaration(feedback=("like",))
    assert Config(model="m", key="embedding").key_spec(declaration, fields, 4).fields == ("age", "item_id")
    assert Config(model="m").key_spec(declaration, fields, 4) == KeySpec(kind="hidden_user", hidden=4)
