"""Do take and continue, run as stages one day after the other, publish what they promise and come from the cache?

Training runs in this process instead of in a child, and the registry is a dictionary; `tests/integration` has both.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from components.data.training_set import SPLITS, read_encoded, read_schema
from components.platform.artifacts import TrainingSet
from components.platform.errors import MissingError
from components.platform.execute import StageResult
from components.platform.settings import Settings
from components.platform.store.collect import References, inventory, remove, unused
from components.platform.store.publish import open_store
from components.platform.store.records import ArtifactRef
from components.train.continue_ranker import component
from components.train.continue_ranker.config import Continuation
from components.train.continue_ranker.dataset import regrow
from components.train.take_champion import component as taking
from components.train.take_champion.config import MODEL_VERSION, Taken
from components.train.train_ranker.config import EpochReport
from components.train.train_ranker.job import TrainingJob, read_progress
from components.train.train_ranker.loop import Replica, train
from features.encoding.files import FILES, read_encoder
from registry.serving.model.contract import RegisteredVersion
from registry.versions.client import ListedVersion
from tests.stages import run_stage
from tests.trained import publish
from tests.unit.components.train.continue_ranker.conftest import FORGET, Days

CONFIG = {
    "ranker": {"name": "esmm", "hidden": [16, 8]}, "epochs": 1, "batch_size": 256, "forget_after_days": FORGET,
    "learning_rate": 0.002,
}  # fmt: skip


@dataclass
class Night:
    """A store, and the digest of the champion's ranker."""

    settings: Settings
    datasets: list[ArtifactRef]
    champion: str = ""

    def alias(self, model: str, alias: str) -> RegisteredVersion | None:
        return self.version(model, 7) if self.champion else None

    def version(self, model: str, which: int) -> RegisteredVersion:
        return RegisteredVersion(
            model=model, version=which, digest="d", model_uri="", ranker_digest=self.champion, report_digest="",
            created_at="2026-01-01T00:00:00Z",
        )  # fmt: skip

    def versions(self, model: str) -> tuple[ListedVersion, ...]:
        return (ListedVersion(version=self.version(model, 7), aliases=("champion",), tags={}, run_id=""),)

    def take(self, day: int) -> ArtifactRef:
        result = run_stage(self.settings, "take_champion", {"model": "shop"}, dataset=self.datasets[day])
        assert not result.cached
        return result.outputs["predecessor"]

    def train(self, day: int, before: ArtifactRef, **config: Any) -> StageResult:
        inputs = {"dataset": self.datasets[day], "before": before}
        return run_stage(self.settings, "continue_ranker", {**CONFIG, **config}, **inputs)

    def files(self, result: StageResult, output: str) -> Path:
        return open_store(self.settings).fetch(result.outputs[output].load())


def train_here(job: TrainingJob, context: object, params: object) -> list[EpochReport]:
    train(job, Replica())
    (job.directory / "curves.png").write_bytes(b"")
    return [line.report for line in read_progress(job.directory)]


@pytest.fixture
def night(days: Days, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Night:
    settings = Settings.at(tmp_path / "home")
    made = Night(settings, [publish(settings, TrainingSet, folder) for folder in (days.first, days.second)])
    monkeypatch.setattr(component, "run_job", train_here)
    monkeypatch.setattr(taking, "initialise", lambda *_: None)
    monkeypatch.setattr(taking, "Registry", lambda *_: made)
    return made


def test_two_days(night: Night) -> None:
    nothing = night.take(0)
    first = night.train(0, nothing)
    night.champion = first.outputs["ranker"].digest
    taken = night.take(1)
    second = night.train(1, taken)

    folder = open_store(night.settings).fetch(taken.load())
    assert Taken.model_validate_json((folder / "predecessor.json").read_text()) == Taken(ranker_digest=night.champion)
    assert open_store(night.settings).manifest(taken.load()).annotations == {MODEL_VERSION: "shop/7"}
    old = night.files(first, "ranker")
    names = {path.name for path in old.iterdir()}
    assert names >= {"continued.json", "last_seen.safetensors", "optimiser.safetensors", "weights.safetensors"}
    assert {path.name: path.read_bytes() for path in (folder / "ranker").iterdir()} == {
        path.name: path.read_bytes() for path in old.iterdir() if path.name != "manifest.json"
    }
    made = Continuation.model_validate_json((night.files(second, "ranker") / "continued.json").read_text())
    assert (made.ranker_digest, made.reason, made.optimiser) == (night.champion, "", "")
    users = next(table for table in made.tables if table.table == "user_id")
    assert min(users.carried, users.new, users.expired) > 0
    history = json.loads((night.files(second, "ranker") / "history.json").read_text())
    assert [report["epoch"] for report in history] == [0, 1]
    assert any(note.startswith(f"esmm continues {night.champion[:12]}: epoch 1 of 1 kept") for note in second.notes)
    # What the ranker encodes with is what its training set was encoded with.
    ranker, dataset = night.files(second, "ranker"), night.files(second, "training_set")
    for name in (*FILES, "schema.json"):
        assert (ranker / name).read_bytes() == (dataset / name).read_bytes()
    schema = read_schema(dataset)
    sizes = {table.table: table.rows + 2 for table in made.tables}
    assert all(field.size == sizes[str(field.table)] for field in schema.fields if field.embedded)
    assert read_encoded(dataset, "train", schema).rows == schema.rows
    encoder = read_encoder(ranker)
    assert len(encoder.vocabularies["user_id"]) == users.rows
    # The key depends on what was taken, never on when.
    assert night.train(1, night.take(1)).cached
    assert not night.train(1, nothing).cached


def test_its_rows_are_those_that_lie_there_and_read_as_they_were_trained_on(
    night: Night, days: Days, tmp_path: Path
) -> None:
    nothing = night.take(0)
    first = night.train(0, nothing)
    night.champion = first.outputs["ranker"].digest
    second = night.train(1, night.take(1))
    folder, given = night.files(second, "training_set"), night.settings.home / "artifacts"
    assert not (folder / "encoded").exists()
    for file in (folder / "raw").rglob("*.parquet"):
        assert file.stat().st_nlink == 3, "its own name, that of the day's training set, and that of the content"
    assert given in folder.parents

    trained_on = tmp_path / "trained_on"
    regrow(days.second, night.files(first, "ranker"), trained_on, FORGET)
    schema, codes = read_schema(folder), []
    for name in SPLITS:
        now, then = read_encoded(folder, name, schema), read_encoded(trained_on, name, schema)
        assert {*now.features} == {*then.features}
        for field, values in now.padded().items():
            assert np.array_equal(values, then.padded()[field]) and values.dtype == then.padded()[field].dtype
            assert type(now.features[field]) is type(then.features[field])
        assert all(np.array_equal(now.labels[label], then.labels[label]) for label in schema.declaration.feedback)
        assert np.array_equal(now.domain, then.domain)
        codes += [*zip(now.user.tolist(), then.user.tolist(), strict=True)]
    users = {*codes}
    assert len({ours for ours, _ in users}) == len({theirs for _, theirs in users}) == len(users), "the same people"


def test_a_champion_of_which_only_the_ranker_is_left_is_continued(night: Night) -> None:
    """As after a rollback to a version that nothing but its number keeps."""
    first = night.train(0, night.take(0))
    night.champion = first.outputs["ranker"].digest
    store, later = open_store(night.settings), datetime.now(UTC) + timedelta(days=1)
    uris = frozenset(ref.uri for ref in night.datasets)
    for stage in unused(store, inventory(store), References(uris, frozenset({night.champion}), frozenset()), later):
        assert remove(store, stage, later)
    store.remove_unused_contents()
    with pytest.raises(MissingError):
        night.files(first, "training_set")
    assert store.keys("take_champion") == ()
    second = night.train(1, night.take(1))
    made = Continuation.model_validate_json((night.files(second, "ranker") / "continued.json").read_text())
    assert (made.ranker_digest, made.reason, made.optimiser) == (night.champion, "", "")


def test_without_its_values_the_optimiser_starts_anew_and_that_is_said(night: Night) -> None:
    first = night.train(0, night.take(0), carry_optimiser=False)
    assert "optimiser.safetensors" not in {path.name for path in night.files(first, "ranker").iterdir()}
    night.champion = first.outputs["ranker"].digest
    second = night.train(1, night.take(1))
    assert "the optimiser starts anew: the champion was trained without keeping its values" in second.notes
    assert (night.files(second, "ranker") / "optimiser.safetensors").exists()


def test_a_stage_that_dies_while_it_hands_over_goes_on(night: Night, monkeypatch: pytest.MonkeyPatch) -> None:
    class Interrupted(Exception):
        """Stands for whatever ends a stage."""

    def interrupted(*folders: Path) -> Path:
        handed_over(*folders)
        raise Interrupted

    handed_over = component._handed_over
    nothing = night.take(0)
    with monkeypatch.context() as patch, pytest.raises(Interrupted):
        patch.setattr(component, "_handed_over", interrupted)
        night.train(0, nothing)
    disturbed = night.train(0, nothing)
    quiet = run_stage(night.settings, "continue_ranker", CONFIG, cache=False, dataset=night.datasets[0], before=nothing)
    assert {name: ref.digest for name, ref in disturbed.outputs.items()} == {
        name: ref.digest for name, ref in quiet.outputs.items()
    }
