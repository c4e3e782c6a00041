"""Does every value keep its vector and what the optimiser knew of it, and does a continued run survive its end?"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from components.data.training_set import read_encoded, read_raw, read_schema
from components.platform.errors import BadInputError
from components.rankers.build import build_ranker
from components.rankers.config import RankerConfig
from components.rankers.embedding.table import FieldEmbedding
from components.train.continue_ranker.dataset import remembered
from components.train.ranker_files import CONFIG, load_ranker
from components.train.train_ranker import loop
from components.train.train_ranker.config import Tables
from components.train.train_ranker.job import OPTIMISER, read_progress
from components.train.train_ranker.loop import Replica, train
from components.train.train_ranker.losses import Loss
from components.train.train_ranker.optimiser import RankerOptimiser
from components.train.train_ranker.start import FRESH, carried_optimiser, carry_on, row_sources, why_anew
from features.declaration import FIRST, PADDING, UNKNOWN
from features.encoding.encoder import Encoder
from features.encoding.files import read_encoder
from tests.unit.components.train.continue_ranker.conftest import Days, job_of

NAMES = ["esmm", "lr", "gnolr", "fintrec", "adaptdhm"]
OPTIMISERS = ["rowwise_adam", "rowwise_adagrad", "adam"]


def encoder_of(folder: Path) -> Encoder:
    return read_encoder(folder)


def vectors(weight: torch.Tensor, embedding: FieldEmbedding, encoder: Encoder) -> dict[tuple[str, Any], torch.Tensor]:
    """Return the row of every value of every field, found the slow way."""
    found = {}
    for field in embedding.embedded:
        at = embedding.offsets[field.name]
        found[(field.name, "padding")], found[(field.name, "unknown")] = weight[at + PADDING], weight[at + UNKNOWN]
        for number, value in enumerate(encoder.vocabularies[str(field.table)]):
            found[(field.name, value)] = weight[at + FIRST + number]
    return found


def test_the_two_days_differ_in_every_way(days: Days) -> None:
    users = next(table for table in days.tables if table.table == "user_id")
    assert min(users.carried, users.new, users.expired) > 0
    first, second, grown = (encoder_of(folder) for folder in (days.first, days.second, days.grown))
    assert {*first.vocabularies["user_id"]} - {*second.vocabularies["user_id"]}
    assert {*second.vocabularies["user_id"]} < {*grown.vocabularies["user_id"]}


@pytest.mark.parametrize("name", NAMES)
def test_every_value_has_its_row_and_all_else_its_weights(
    name: str, days: Days, yesterday: Callable[..., Path]
) -> None:
    before = yesterday(name)
    config = RankerConfig.model_validate_json((before / CONFIG).read_text())
    torch.manual_seed(3)
    ranker = build_ranker(config, read_schema(days.grown))
    drawn = {name: value.clone() for name, value in ranker.state_dict().items()}
    carry_on(ranker, encoder_of(days.grown), before)
    earlier, state = load_ranker(before), ranker.state_dict()
    old = vectors(earlier.embedding.weight, earlier.embedding, encoder_of(before))
    fresh = vectors(drawn["embedding.weight"], ranker.embedding, encoder_of(days.grown))
    new = vectors(state["embedding.weight"], ranker.embedding, encoder_of(days.grown))
    assert {*new} & {*old} and {*new} - {*old}
    for value, vector in new.items():
        assert torch.equal(vector, old.get(value, fresh[value])), value
    for weight, value in state.items():
        if weight != "embedding.weight":
            assert torch.equal(value, earlier.state_dict()[weight]), weight


@pytest.mark.parametrize("name", NAMES)
def test_before_it_learns_it_answers_as_the_champion_does(
    name: str, days: Days, yesterday: Callable[..., Path]
) -> None:
    """Rows of known values, raw, each ranker through its own encoder; with today's scales they would differ."""
    before = yesterday(name)
    ranker = build_ranker(RankerConfig.model_validate_json((before / CONFIG).read_text()), read_schema(days.grown))
    carry_on(ranker, encoder_of(days.grown), before)
    ranker.eval()
    rows = read_raw(days.first, "train")
    recent = rows.slice(rows.num_rows - 300)  # none of them is forgotten
    with torch.no_grad():
        answers = [
            made({field: torch.from_numpy(values) for field, values in encoder.encode(recent).items()})["like"]
            for made, encoder in ((ranker, encoder_of(days.grown)), (load_ranker(before), encoder_of(before)))
        ]
    torch.testing.assert_close(answers[0], answers[1], rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("optimiser", OPTIMISERS)
def test_the_optimiser_knows_of_every_value_what_it_knew(
    optimiser: Any, days: Days, yesterday: Callable[..., Path]
) -> None:
    before = yesterday(tables=Tables(optimiser=optimiser))
    knobs = job_of(days.grown, days.root / "unused", tables=Tables(optimiser=optimiser)).config
    assert why_anew(before, knobs) == ""
    ranker = build_ranker(knobs.ranker, read_schema(days.grown))
    sources = carry_on(ranker, encoder_of(days.grown), before)
    learner = RankerOptimiser(ranker, knobs)
    learner.load(carried_optimiser(ranker, sources, before, knobs))
    now, then = learner.state(), load_file(str(before / OPTIMISER))
    earlier = load_ranker(before)
    assert {*now} == {*then}
    of_rows = [name for name in now if now[name].shape[:1] == (len(sources["embedding.weight"]),)]
    assert len(of_rows) == {"rowwise_adam": 2, "rowwise_adagrad": 1, "adam": 2}[optimiser]
    for name in now:
        if name not in of_rows:
            assert torch.equal(now[name], then[name]), name
            continue
        old = vectors(then[name], earlier.embedding, encoder_of(before))
        for value, kept in vectors(now[name], ranker.embedding, encoder_of(days.grown)).items():
            assert torch.equal(kept, old[value] if value in old else torch.zeros_like(kept)), (name, value)
    assert any(now[name].any() for name in of_rows)


def test_no_two_values_come_from_one_row(days: Days, yesterday: Callable[..., Path]) -> None:
    before = yesterday()
    ranker = build_ranker(RankerConfig.of(name="esmm"), read_schema(days.grown))
    known = build_ranker(RankerConfig.of(name="esmm"), read_schema(before))
    sources = row_sources(ranker.embedding, encoder_of(days.grown), known.embedding, encoder_of(before)).numpy()
    taken = sources[sources != FRESH]
    assert len(np.unique(taken)) == len(taken)
    rows = sum(table.rows for table in days.tables)
    carried = sum(table.carried for table in days.tables)
    assert len(sources) == rows + FIRST * len(days.tables)
    assert len(taken) == carried + FIRST * len(days.tables)


def log_loss(job: Any, epoch: int) -> float:
    reports = {line.report.epoch: line.report for line in read_progress(job.directory)}
    return reports[epoch].metrics["validation/like/log_loss"]


def test_it_goes_on_from_where_the_champion_is(days: Days, yesterday: Callable[..., Path], tmp_path: Path) -> None:
    """After one epoch it is ahead of a start from nothing; the start from nothing is the control."""
    before = yesterday(epochs=3)
    knobs = {"learning_rate": 0.002}
    fresh = job_of(days.grown, tmp_path / "fresh", **knobs)
    going = job_of(days.grown, tmp_path / "going", **knobs).model_copy(
        update={"continues": before, "carries_optimiser": True}
    )
    train(fresh, Replica())
    train(going, Replica())
    assert log_loss(going, 1) < log_loss(fresh, 1) - 0.005
    epochs = [line.report.epoch for line in read_progress(going.directory)]
    assert (epochs, [line.report.epoch for line in read_progress(fresh.directory)]) == ([0, 1], [1])


class Interrupted(Exception):
    """Stands for whatever ends a process."""


@pytest.mark.parametrize("optimiser", OPTIMISERS)
def test_an_interrupted_run_ends_with_the_same_bits(
    optimiser: Any, days: Days, yesterday: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = yesterday(tables=Tables(optimiser=optimiser))
    whole, parts = (
        job_of(days.grown, tmp_path / folder, tables=Tables(optimiser=optimiser), epochs=2).model_copy(
            update={"continues": before, "carries_optimiser": True}
        )
        for folder in ("whole", "parts")
    )
    train(whole, Replica())
    take_step = loop.take_step
    for limit in (2, 7, 22):  # before any checkpoint, within the first epoch, in the second
        taken = 0

        def counted(*args: Any, limit: int = limit) -> Loss:
            nonlocal taken
            taken += 1
            if taken > limit:
                raise Interrupted
            return take_step(*args)

        with monkeypatch.context() as patch, pytest.raises(Interrupted):
            patch.setattr(loop, "take_step", counted)
            train(parts, Replica())
    train(parts, Replica())
    for file in ("weights.safetensors", OPTIMISER):
        assert (parts.directory / file).read_bytes() == (whole.directory / file).read_bytes()
    assert [line.report for line in read_progress(parts.directory)] == [
        line.report for line in read_progress(whole.directory)
    ]


def test_values_of_another_optimiser_are_of_no_use(days: Days, yesterday: Callable[..., Path], tmp_path: Path) -> None:
    before = yesterday()
    other = job_of(days.grown, tmp_path / "job", tables=Tables(optimiser="rowwise_adagrad")).config
    assert why_anew(before, other) == "the champion's tables learned with rowwise_adam"
    bare = tmp_path / "bare"
    bare.mkdir()
    assert why_anew(bare, other) == "the champion was trained without keeping its values"


def test_a_weight_of_another_shape_is_refused(days: Days, yesterday: Callable[..., Path]) -> None:
    ranker = build_ranker(RankerConfig.of(name="esmm", hidden=(8, 8)), read_schema(days.grown))
    with pytest.raises(BadInputError, match=r"of the ranker to continue has the shape .* train a new one"):
        carry_on(ranker, encoder_of(days.grown), yesterday())


def test_rows_of_the_grown_set_read_the_row_of_a_value_that_only_the_champion_knew(days: Days) -> None:
    """A user of the first day's window alone is unknown to the second's own encoder, and known to the grown one."""
    grown, second = encoder_of(days.grown), encoder_of(days.second)
    (remembered, *_) = sorted({*grown.vocabularies["user_id"]} - {*second.vocabularies["user_id"]})
    row = read_raw(days.second, "test").slice(0, 1)
    row = row.set_column(row.column_names.index("user_id"), "user_id", [[remembered]])
    assert second.encode(row)["user_id"].tolist() == [UNKNOWN]
    assert grown.encode(row)["user_id"].tolist() == [[*grown.vocabularies["user_id"]].index(remembered) + FIRST]
    encoded = read_encoded(days.grown, "test", read_schema(days.grown))
    expected = grown.encode(read_raw(days.second, "test"))
    assert all(np.array_equal(encoded.padded()[name], expected[name]) for name in expected)


def test_values_of_a_champion_that_train_ranker_made_were_last_seen_on_its_last_day(days: Days) -> None:
    until = read_schema(days.second).trained_until
    assert until is not None
    last = remembered(days.second).last_seen["user_id"]
    assert set(last.tolist()) == {int(until.timestamp() // 86_400)}
    assert len(last) == len(encoder_of(days.second).vocabularies["user_id"])
