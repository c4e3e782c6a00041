"""Does a ranker see a number as it stands among the others, and that it is missing, without anybody saying so?"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.preprocessing import QuantileTransformer

from components.rankers.build import build_ranker
from components.rankers.config import RankerConfig
from features.declaration import Declaration, FieldEncoding, RankerSchema
from features.encoding.encoder import Encoder
from features.encoding.files import read_encoder, write_encoder
from features.encoding.numbers import KNOTS

NUMBERS = st.lists(st.floats(-1e12, 1e12, allow_subnormal=False), min_size=1, max_size=60)


def table(values: Any) -> pa.Table:
    return pa.table({"x": pa.array(values, pa.float64(), from_pandas=True)})


def encode(train: Any, rows: Any) -> np.ndarray[Any, Any]:
    return Encoder.fit(table(train), {"x": "float64"}).encode(table(rows))["x"]


def test_a_float_is_its_normal_score_by_default() -> None:
    """Reference: scikit-learn's transformer on the same quantiles."""
    train = np.random.default_rng(0).lognormal(0, 3, 5000)
    encoder = Encoder.fit(table(train), {"x": "float64"})
    (field,) = encoder.fields
    assert (encoder.fitted[0].kind, field.kind, field.length, field.embedded) == ("number", "numeric", 3, False)
    reference = QuantileTransformer(n_quantiles=KNOTS, output_distribution="normal", subsample=None)
    expected = reference.fit_transform(train[:, None])[:, 0]
    scores = encoder.encode(table(train))["x"]
    inside = np.abs(expected) < 2.3  # beyond, scikit-learn goes to ±5.2
    assert inside.mean() > 0.97 and scores.dtype == np.float32
    np.testing.assert_allclose(scores[inside, 0], expected[inside], atol=0.01)
    assert encode(train, [-1e30, 1e30])[:, 0].tolist() == pytest.approx([-3.09, 3.09], abs=0.001)


def test_equal_values_have_the_score_of_their_middle() -> None:
    counts = [0.0] * 90 + [1.0] * 10
    zero, one = encode(counts, [0.0, 1.0])[:, 0].tolist()
    assert zero == pytest.approx(-0.126, abs=0.02) and one == pytest.approx(1.645, abs=0.06)
    assert encode([7.0, 7.0], [7.0, 8.0, 6.0])[:, 0].tolist() == [0.0] * 3, "a constant says nothing"
    assert encode([None, None], [0.0, None])[:, [0, 2]].tolist() == [[0.0, 0.0], [0.0, 1.0]], "nothing to learn of"


@given(NUMBERS, NUMBERS)
def test_a_larger_number_never_has_a_smaller_score(train: list[float], rows: list[float]) -> None:
    scores = encode(train, sorted(rows))[:, 0]
    assert np.isfinite(scores).all() and (np.diff(scores) >= 0).all()


def test_a_missing_number_is_seen_where_training_missed_some() -> None:
    rows = [2.0, None, np.inf]
    assert encode([1.0, 2.0, 3.0, None], rows)[:, 2].tolist() == [0.0, 1.0, 1.0]
    assert encode([1.0, 2.0, 3.0], rows).tolist() == [[0.0, 0.0, 0.0]] * 3, "no weight was learned for it: the middle"


def test_beside_the_score_stands_how_far_away_a_number_is() -> None:
    """The score ends where the training values do; a later price, or a year, lies beyond them."""
    train = np.arange(101.0)
    options = {"x": FieldEncoding(kind="normalise")}
    scaled = Encoder.fit(table(train), {"x": "float64"}, options).encode(table([0.0, 150.0, 1e9, None]))["x"]
    assert encode(train, [0.0, 150.0, 1e9, None])[:, 1].tolist() == scaled.tolist()
    assert len(set(scaled.tolist())) == 4


def test_what_was_learned_is_kept_and_older_files_still_load(tmp_path: Path) -> None:
    encoder = Encoder.fit(table([1.0, None, 3.0]), {"x": "float64"})
    write_encoder(encoder, tmp_path)
    again = read_encoder(tmp_path)
    assert again == encoder and again.fitted[0].misses
    old = Encoder.fit(table([1.0, 3.0]), {"x": "float64"}, {"x": FieldEncoding(kind="normalise")})
    assert not {"scores", "misses"} & old.fitted[0].model_dump().keys(), "their bytes are those of before"
    known = '{"fitted": [{"name": "x", "kind": "normalise", "dtype": "float64", "mean": 2.0}], "vocabularies": {}}'
    (tmp_path / "encoder.json").write_text(known)
    assert read_encoder(tmp_path).encode(table([3.0, None]))["x"].tolist() == [1.0, 0.0]


# A world whose number spans many orders of magnitude, and in which those without one like more.


def excess(kind: Any) -> float:
    """Log-loss above the best possible of a small `dnn` after a short training."""
    rng = np.random.default_rng(0)
    z, none = rng.normal(size=20_000), rng.random(20_000) < 0.2
    x, truth = np.where(none, np.nan, np.exp(4 * z)), np.where(none, 0.8, 1 / (1 + np.exp(1 - 2 * z)))
    encoder = Encoder.fit(table(x), {"x": "float64"}, {"x": FieldEncoding(kind=kind)})
    schema = RankerSchema(declaration=Declaration(feedback=("like",)), fields=encoder.fields, base_rates={"like": 0.5})
    torch.manual_seed(0)
    ranker = build_ranker(RankerConfig.of(name="dnn", hidden=(8,)), schema)
    inputs, p = torch.from_numpy(encoder.encode(table(x))["x"]), torch.from_numpy(truth).float()
    like = (torch.rand(len(p)) < p).float()
    optimiser = torch.optim.Adam(ranker.parameters(), lr=0.01)
    for _ in range(300):
        rows = torch.randint(0, len(p), (512,))
        loss = ranker.loss(ranker({"x": inputs[rows]}), {"like": like[rows]})
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]  # torch does not type it
        optimiser.step()
    with torch.no_grad():
        q = ranker.eval()({"x": inputs})["like"]
    return float((p * (p / q).log() + (1 - p) * ((1 - p) / (1 - q)).log()).mean())


def test_the_default_learns_what_mean_and_deviation_hide() -> None:
    """Negative control: scaled by their deviation nearly all values are one, and missing ones are that one too."""
    assert excess("normalise") > 0.05
    assert excess(None) < 0.005
