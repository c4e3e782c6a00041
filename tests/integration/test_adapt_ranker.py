"""Does the adapt stage adapt in its own process, and refuse what it cannot adapt before that starts?"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import torch

from components.data.training_set import read_encoded, read_schema
from components.platform.artifacts import Ranker, TrainingSet
from components.platform.errors import BadInputError
from components.platform.execute import StageRequest, execute
from components.platform.settings import Settings
from components.platform.store.publish import open_store
from components.platform.store.records import ArtifactRef
from components.rankers.lora.adapter import load_adapter
from components.train.adapt_ranker.config import ADAPTED
from components.train.ranker_files import load_ranker
from features.declaration import Window
from features.encoding.files import FILES
from tests.homes import ready
from tests.trained import publish, write_ranker
from tests.worlds import BANDS, write_training_set

pytestmark = pytest.mark.engine

WINDOW = Window(start=datetime(2024, 1, 1, tzinfo=UTC), end=datetime(2024, 1, 31, tzinfo=UTC))


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory, engines: Path) -> Settings:
    return ready(tmp_path_factory.mktemp("world") / "home", engines)


@pytest.fixture(scope="module")
def base(training_set_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_ranker(tmp_path_factory.mktemp("base") / "ranker", training_set_dir, "fintrec", steps=5)


@pytest.fixture(scope="module")
def inputs(settings: Settings, training_set_dir: Path, base: Path) -> dict[str, ArtifactRef]:
    return {
        "dataset": publish(settings, TrainingSet, training_set_dir),
        "ranker": publish(settings, Ranker, base),
    }


def request(inputs: dict[str, ArtifactRef], **config: Any) -> StageRequest:
    return StageRequest(
        component="adapt_ranker", config=config, inputs=inputs, window=WINDOW, pipeline="nightly", stage="adapt",
        run_id="first",
    )  # fmt: skip


def test_it_publishes_a_ranker_with_its_adapter_beside(
    settings: Settings, inputs: dict[str, ArtifactRef], training_set_dir: Path, base: Path
) -> None:
    result = execute(request(inputs, domain=BANDS[1], epochs=2, learning_rate=0.01), settings=settings)
    store = open_store(settings)
    adapted = store.fetch(result.outputs["ranker"].load())
    assert {path.name for path in adapted.iterdir()} >= {
        "adapter.json", "adapter.safetensors", "curves.png", *FILES, "history.json", "ranker.json",
        "schema.json", "weights.safetensors",
    }  # fmt: skip
    schema = read_schema(training_set_dir)
    assert read_schema(adapted) == schema
    ranker, again = load_ranker(adapted), load_ranker(base)
    header = load_adapter(again, adapted, schema)
    again.eval()
    assert header.domain == BANDS[1]
    rows = read_encoded(training_set_dir, "test", schema)
    batch = {name: torch.from_numpy(values) for name, values in rows.padded(slice(50)).items()}
    with torch.no_grad():
        torch.testing.assert_close(ranker(batch)["like"], again(batch)["like"], atol=1e-5, rtol=1e-5)
    annotations = store.manifest(result.outputs["ranker"].load()).annotations
    assert annotations[ADAPTED] == str(header.parameters)
    assert any("zero-shot → adapted: AUC" in note for note in result.notes)


@pytest.mark.parametrize(
    ("domain", "message"),
    [
        ("35_pluss", r"domain '35_pluss' is none of the training set's.*did you mean '35_plus'.*: correct it"),
        ("nobody", r"domain 'nobody' is none of the training set's \(known: 25_34, 35_plus, under_25\): correct it"),
    ],
)
def test_an_unknown_domain_is_refused_before_anything_starts(
    domain: str, message: str, settings: Settings, inputs: dict[str, ArtifactRef]
) -> None:
    with pytest.raises(BadInputError, match=message):
        execute(request(inputs, domain=domain), settings=settings)


def test_rows_of_another_encoder_are_refused(
    settings: Settings, inputs: dict[str, ArtifactRef], tmp_path: Path
) -> None:
    other = publish(settings, TrainingSet, write_training_set(tmp_path / "other", rows=600, seed=5))
    with pytest.raises(BadInputError, match=r"trained on a training set with another encoder.*: adapt it on that"):
        execute(request(inputs | {"dataset": other}, domain=BANDS[1]), settings=settings)
