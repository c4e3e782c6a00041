"""Does a promoted champion get, keep and lose its error memory as it should, through ONNX and MLflow?"""

from __future__ import annotations

import json
import logging
import shutil
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from components.memory.refresh_error_memory.pointer import find_memory
from components.platform.artifacts import Artifact, ErrorMemory, Ranker, TrainingSet
from components.platform.errors import BadInputError, MissingError, RetryableError
from components.platform.execute import StageRequest, StageResult, execute
from components.platform.settings import Settings
from components.platform.store.publish import open_store
from components.platform.store.records import ArtifactRef
from features.declaration import Window
from features.encoding.files import copy_encoder
from registry.memory.error_memory import MemoryHeader, read_header
from registry.memory.prequential import slot_bounds
from registry.serving.answers.answer import answer
from registry.serving.model.contract import ModelContract, RegisteredVersion
from registry.serving.model.served_model import ServedModel
from registry.versions.client import CHAMPION, Registry
from registry.versions.memory_pointer import TAG, read_pointer
from tests.homes import ready
from tests.known_graphs import KnownGraphs
from tests.worlds import World, make_world, write_training_set

pytestmark = pytest.mark.engine
MODEL = "ranker"
ROWS = 6000
WINDOW = Window(start=datetime(2024, 1, 1, tzinfo=UTC), end=datetime(2024, 2, 1, tzinfo=UTC))


@dataclass(frozen=True)
class Place:
    """Settings with a champion, and the training set it came from."""

    settings: Settings
    dataset: ArtifactRef
    version: RegisteredVersion

    @property
    def registry(self) -> Registry:
        return Registry(self.settings.tracking_uri, self.settings.mlflow_artifacts)


def shifted_world() -> World:
    """From the test split on, a third of the users love everything, which the ranker has never seen."""
    world = make_world(ROWS, users=60)
    late = np.arange(ROWS) >= int(ROWS * 0.9)
    changed = late & (world.table["user_id"].to_numpy() % 3 == 0)
    table = world.table
    for name in ("like", "love"):
        at = table.column_names.index(name)
        table = table.set_column(at, name, pa.array(np.where(changed, 1, table[name].to_numpy()).astype(np.int8)))
    return World(table=table, like=world.like, love_given_like=world.love_given_like)


def publish(settings: Settings, kind: type[Artifact], directory: Path, key: str) -> ArtifactRef:
    staged = settings.home / "staged" / key
    shutil.copytree(directory, staged / "made")
    record = open_store(settings).publish(
        staged, {"made": kind(uri=str(staged / "made"))}, component="made_by_test", component_version="1", key=key,
        config_digest="", inputs={}, explanation={}, seconds=0, notes=[], annotations={},
    )  # fmt: skip
    return record.outputs["made"]


def crown(
    settings: Settings, dataset: ArtifactRef, scratch: Path, seed: int, graphs: KnownGraphs, name: str = "esmm"
) -> RegisteredVersion:
    """Train a small ranker for a moment, export it through the component, register it, make it champion."""
    from components.data.training_set import read_schema
    from components.rankers.build import build_ranker
    from components.rankers.config import RankerConfig
    from components.train.ranker_files import write_weights
    from components.train.train_ranker.feed import features_at, labels_at, open_split

    source = open_store(settings).fetch(dataset.load())
    schema, config = read_schema(source), RankerConfig.of(name=name, embedding_width=8, hidden=(24,))
    torch.manual_seed(seed)
    ranker = build_ranker(config, schema)
    rows, cpu = open_split(source, "train", schema), torch.device("cpu")
    optimiser = torch.optim.Adam(ranker.parameters(), lr=5e-3)
    for batch in torch.randperm(rows.rows).split(256):
        loss = ranker.loss(ranker(features_at(rows, batch.numpy(), cpu)), labels_at(rows, batch.numpy(), cpu))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    made = scratch / f"ranker{seed}"
    made.mkdir()
    write_weights(made / "weights.safetensors", ranker)
    (made / "ranker.json").write_text(config.model_dump_json())
    shutil.copyfile(source / "schema.json", made / "schema.json")
    copy_encoder(source, made)
    ref = publish(settings, Ranker, made, f"ranker{seed}")
    request = StageRequest(component="export_onnx", inputs={"ranker": ref, "dataset": dataset}, window=WINDOW)
    with graphs.used():
        exported = execute(request, settings).outputs["onnx_model"]
    directory = open_store(settings).fetch(exported.load())
    clean = scratch / f"onnx{seed}"
    shutil.copytree(directory, clean, ignore=shutil.ignore_patterns("manifest.json"))
    registry = Registry(settings.tracking_uri, settings.mlflow_artifacts)
    version = registry.register(clean, MODEL, digest=exported.digest, ranker_digest=ref.digest, report_digest="none")
    registry.set_alias(MODEL, CHAMPION, version.version)
    return version


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, engines: Path, graphs: KnownGraphs) -> Place:
    home = tmp_path_factory.mktemp("memory")
    settings = ready(home / "home", engines)
    source = write_training_set(home / "set", world=shifted_world())
    dataset = publish(settings, TrainingSet, source, "dataset")
    return Place(settings, dataset, crown(settings, dataset, home, 0, graphs))


def refresh(place: Place, dataset: ArtifactRef | None = None, **config: object) -> StageResult:
    request = StageRequest(
        component="refresh_error_memory",
        config={"model": MODEL, "arrays": 32, "bits": 8, "slots": 6, **config},
        inputs={"dataset": dataset or place.dataset},
        window=WINDOW,
    )
    return execute(request, place.settings)


def files_of(place: Place, result: StageResult) -> Path:
    return open_store(place.settings).fetch(result.outputs["error_memory"].load())


def header_of(place: Place, result: StageResult) -> MemoryHeader:
    return read_header(files_of(place, result))


@pytest.fixture(scope="module")
def refreshed(place: Place) -> StageResult:
    return refresh(place)


@pytest.fixture
def stream(place: Place) -> pa.Table:
    """The rows the champion has not seen, in order."""
    directory = open_store(place.settings).fetch(place.dataset.load())
    return pq.read_table(directory / "raw" / "test.parquet")


def variant(place: Place, key: str, tmp_path: Path, change) -> ArtifactRef:  # type: ignore[no-untyped-def]  # Table → Table
    """Publish the training set with every raw split changed."""
    directory = open_store(place.settings).fetch(place.dataset.load())
    copy = tmp_path / key
    shutil.copytree(directory, copy, ignore=shutil.ignore_patterns("manifest.json"))
    for path in (copy / "raw").iterdir():
        pq.write_table(change(pq.read_table(path)), path)
    return publish(place.settings, TrainingSet, copy, key)


def test_a_drift_after_training_is_compensated(place: Place, refreshed: StageResult, stream: pa.Table) -> None:
    header = header_of(place, refreshed)
    assert header.ranker_digest == place.version.ranker_digest
    assert header.rows == stream.num_rows == ROWS // 10
    assert header.covers.start == stream["event_timestamp"][0].as_py()
    assert header.enabled
    for name in ("like", "love"):
        task = header.tasks[name]
        assert task.enabled and task.base_log_loss and task.log_loss
        assert task.log_loss < 0.9 * task.base_log_loss
    assert "love_given_like" not in header.tasks
    directory = files_of(place, refreshed)
    slots = json.loads((directory / "slots.json").read_text())
    assert [slot["rows"] for slot in slots] == [b - a for a, b in slot_bounds(np.arange(ROWS // 10), 6)]
    assert slots[0]["stored"] == 0
    page = (directory / "slots.html").read_text()
    assert "data:image/png;base64," in page
    assert "http" not in page and "<script" not in page
    assert (directory / "slots.png").read_bytes().startswith(b"\x89PNG")
    assert any("log-loss" in note for note in refreshed.notes)


def test_the_champion_finds_its_memory_and_answers_with_it(
    place: Place, refreshed: StageResult, stream: pa.Table, tmp_path: Path
) -> None:
    memory = find_memory(place.settings, MODEL, place.version.version)
    assert memory is not None
    champion = ServedModel.open(place.registry.download(MODEL, CHAMPION, tmp_path / "champion"), "cpu")
    scores = answer(champion, stream)
    after = memory.compensate(scores.tasks, scores.hidden, stream)
    changed = stream["user_id"].to_numpy() % 3 == 0
    assert (after["like"] - scores.tasks["like"])[changed].mean() > 0.1
    assert (after["love"] <= after["like"]).all()
    assert np.array_equal(after["love_given_like"], scores.tasks["love_given_like"])


def test_the_same_champion_and_rows_give_the_same_bytes(place: Place, refreshed: StageResult) -> None:
    again = refresh(place)
    assert again.key != refreshed.key
    assert again.outputs["error_memory"].digest == refreshed.outputs["error_memory"].digest
    pointer = read_pointer(place.registry, MODEL, place.version.version)
    assert pointer is not None and pointer.uri == again.outputs["error_memory"].uri


def test_the_split_of_the_training_set_does_not_matter(
    place: Place, refreshed: StageResult, stream: pa.Table, tmp_path: Path
) -> None:
    """Late rows in any split, in any order, make the same memory; early rows never enter it."""
    pieces = {"train": stream.slice(300).take(np.random.default_rng(0).permutation(300)), "test": stream.slice(0, 300)}

    def moved(table: pa.Table) -> pa.Table:
        first = table["event_timestamp"][0].as_py()
        if first == stream["event_timestamp"][0].as_py():
            return pieces["test"]
        return pa.concat_tables([table, pieces["train"]]) if table.num_rows > ROWS // 2 else table

    result = refresh(place, variant(place, "moved", tmp_path, moved))
    assert result.outputs["error_memory"].digest == refreshed.outputs["error_memory"].digest


def test_a_pointer_is_set_only_after_the_memory_exists(
    place: Place, refreshed: StageResult, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = read_pointer(place.registry, MODEL, place.version.version)

    def broken(*args: object) -> None:
        raise RetryableError("the registry is away: run again")

    monkeypatch.setattr(Registry, "tag", broken)
    with pytest.raises(RetryableError):
        refresh(place)
    monkeypatch.undo()
    assert read_pointer(place.registry, MODEL, place.version.version) == before
    assert find_memory(place.settings, MODEL, place.version.version) is not None
    healed = refresh(place)
    pointer = read_pointer(place.registry, MODEL, place.version.version)
    assert pointer is not None and pointer.uri == healed.outputs["error_memory"].uri


def test_an_older_window_does_not_displace_a_newer_memory(
    place: Place, refreshed: StageResult, stream: pa.Table, tmp_path: Path
) -> None:
    newest = read_pointer(place.registry, MODEL, place.version.version)
    cut = stream["event_timestamp"][400].as_py()

    def earlier(table: pa.Table) -> pa.Table:
        return table.filter(pa.array(np.array(table["event_timestamp"].to_pylist()) < cut))

    older = refresh(place, variant(place, "earlier", tmp_path, earlier))
    assert header_of(place, older).rows == 400
    assert read_pointer(place.registry, MODEL, place.version.version) == newest


def test_a_damaged_or_foreign_memory_is_ignored_with_a_warning(
    place: Place, refreshed: StageResult, caplog: pytest.LogCaptureFixture
) -> None:
    result = refresh(place)
    file = files_of(place, result) / "memory.safetensors"
    whole = file.read_bytes()
    file.write_bytes(whole[:-1] + b"\x00" if whole[-1] else whole[:-1] + b"\x01")
    with caplog.at_level(logging.WARNING, logger="rankmill"):
        assert find_memory(place.settings, MODEL, place.version.version) is None
    assert "is ignored: memory.safetensors of error_memory" in caplog.text
    shutil.rmtree(file.parent.parent)
    assert find_memory(place.settings, MODEL, place.version.version) is None
    place.registry.tag(MODEL, place.version.version, TAG, "{not json")
    assert find_memory(place.settings, MODEL, place.version.version) is None
    refresh(place)
    assert find_memory(place.settings, MODEL, place.version.version) is not None


def test_rows_that_the_champion_has_seen_make_no_stream(place: Place, tmp_path: Path) -> None:
    contract = ModelContract.model_validate_json(
        (place.registry.download(MODEL, CHAMPION, tmp_path / "c") / "contract.json").read_bytes()
    )
    cut = contract.schema_.trained_until
    assert cut is not None

    def seen(table: pa.Table) -> pa.Table:
        return table.filter(pa.array(np.array(table["event_timestamp"].to_pylist()) < cut))

    dataset = variant(place, "seen", tmp_path, seen)
    with pytest.raises(MissingError, match=f"at or after {cut:%Y-%m-%dT%H:%M:%SZ}.*newest of 5400 rows is of 2024-01"):
        refresh(place, dataset)


def test_rows_without_a_feedback_are_refused(place: Place, tmp_path: Path) -> None:
    dataset = variant(place, "loveless", tmp_path, lambda table: table.drop_columns(["love"]))
    with pytest.raises(BadInputError, match="no column 'love'"):
        refresh(place, dataset)


def test_without_a_champion_there_is_nothing_to_remember(place: Place) -> None:
    with pytest.raises(MissingError, match=r"model 'nobody' has no champion .* run the pipeline"):
        refresh(place, model="nobody")


def test_a_new_champion_starts_with_a_memory_of_its_own(
    place: Place, refreshed: StageResult, tmp_path: Path, graphs: KnownGraphs
) -> None:
    """Last: it crowns another version."""
    old = read_pointer(place.registry, MODEL, place.version.version)
    second = crown(place.settings, place.dataset, tmp_path, 1, graphs)
    assert second.version != place.version.version
    assert find_memory(place.settings, MODEL, second.version) is None
    result = refresh(place)
    header = header_of(place, result)
    assert header.version == second.version
    assert header.ranker_digest == second.ranker_digest != place.version.ranker_digest
    assert header.rows == ROWS // 10  # every row counted once: nothing of the old champion's memory is left
    assert result.outputs["error_memory"].digest != refreshed.outputs["error_memory"].digest
    assert find_memory(place.settings, MODEL, second.version) is not None
    assert read_pointer(place.registry, MODEL, place.version.version) == old
    # A pointer to another champion's memory is not followed.
    assert old is not None
    place.registry.tag(MODEL, second.version, TAG, old.model_dump_json())
    assert find_memory(place.settings, MODEL, second.version) is None
    assert ErrorMemory(uri=old.uri, digest=old.digest)
