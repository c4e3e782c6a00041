"""Does the study score every slot before anything learns from it, and does it tell learners apart?"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pydantic import ValidationError

from components.data.training_set import EncodedSplit, read_encoded, read_schema
from components.memory.study_error_memory.config import Config
from components.memory.study_error_memory.figures import overall
from components.memory.study_error_memory.incremental import answers, learn_slot_by_slot
from components.memory.study_error_memory.report import METRICS, VARIANTS, StudyReport
from components.platform.artifacts import Ranker, TrainingSet
from components.platform.errors import BadInputError
from components.platform.execute import StageRequest, execute
from components.platform.settings import Settings
from components.platform.store.publish import open_store
from components.platform.store.records import ArtifactRef
from components.train.ranker_files import load_ranker
from features.declaration import Window
from registry.memory.prequential import Stream, slot_bounds
from registry.metrics import log_loss
from tests.trained import publish, write_ranker
from tests.worlds import World, make_world, write_training_set

ROWS = 6000
TASKS = ("like", "love")
BOUNDS = slot_bounds(np.arange(ROWS // 10), 6)
WINDOW = Window(start=datetime(2024, 1, 1, tzinfo=UTC), end=datetime(2024, 2, 1, tzinfo=UTC))


def shifted_world() -> World:
    """From the test split on, a third of the users love everything, which the ranker has never seen."""
    world = make_world(ROWS, users=60)
    changed = (np.arange(ROWS) >= int(ROWS * 0.9)) & (world.table["user_id"].to_numpy() % 3 == 0)
    table = world.table
    for name in TASKS:
        at = table.column_names.index(name)
        table = table.set_column(at, name, pa.array(np.where(changed, 1, table[name].to_numpy()).astype(np.int8)))
    return World(table=table, like=world.like, love_given_like=world.love_given_like)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_training_set(tmp_path_factory.mktemp("study") / "set", world=shifted_world())


@pytest.fixture(scope="module")
def trained(dataset: Path) -> Path:
    return write_ranker(dataset.parent / "ranker", dataset)


@pytest.fixture(scope="module")
def test_rows(dataset: Path) -> EncodedSplit:
    return read_encoded(dataset, "test", read_schema(dataset))


def learned(trained: Path, rows: EncodedSplit, rate: float = 0.003) -> dict[str, np.ndarray]:
    return learn_slot_by_slot(load_ranker(trained), rows, BOUNDS, TASKS, rate=rate, batch_size=32, seed=0)


def test_labels_of_a_slot_and_later_touch_no_prediction_of_it(trained: Path, test_rows: EncodedSplit) -> None:
    start, end = BOUNDS[3]
    flipped = {
        name: np.where(np.arange(len(values)) >= start, 1 - values, values).astype(np.float32)
        for name, values in test_rows.labels.items()
    }
    other = EncodedSplit(test_rows.features, flipped, test_rows.domain, test_rows.user)
    one, two = learned(trained, test_rows), learned(trained, other)
    for task in TASKS:
        assert np.array_equal(one[task][:end], two[task][:end])
        assert not np.array_equal(one[task][end:], two[task][end:])


def test_learning_follows_a_shift_and_leaves_the_base_alone(trained: Path, test_rows: EncodedSplit) -> None:
    """Negative control: a step size of nothing wins nothing."""
    ranker = load_ranker(trained)
    before = {name: value.clone() for name, value in ranker.state_dict().items()}
    base = answers(ranker, test_rows, np.arange(test_rows.rows), TASKS).predicted
    after = learn_slot_by_slot(ranker, test_rows, BOUNDS, TASKS, rate=0.003, batch_size=32, seed=0)
    assert all(bool((before[name] == value).all()) for name, value in ranker.state_dict().items())
    first, late = slice(*BOUNDS[0]), slice(BOUNDS[3][0], None)
    still = learned(trained, test_rows, rate=1e-12)
    for task in TASKS:
        labels = test_rows.labels[task]
        np.testing.assert_allclose(after[task][first], base[task][first], atol=1e-6)
        gain = {
            name: (log_loss(labels[late], base[task][late]) or 0) - (log_loss(labels[late], found[task][late]) or 0)
            for name, found in (("learning", after), ("still", still))
        }
        assert gain["learning"] > 0.02
        assert abs(gain["still"]) < 1e-4


def test_a_loss_that_is_no_number_is_one_sentence(trained: Path, test_rows: EncodedSplit) -> None:
    with pytest.raises(BadInputError, match=r"diverged in slot .* lower learning_rates"):
        learned(trained, test_rows, rate=1e30)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"learning_rates": (0.0, 0.1)}, "above 0, not 0"),
        ({"learning_rates": ()}, "at least 1 item"),
        ({"slot_hours": 0}, "greater than or equal to 1"),
        ({"lambdas": (2.0,)}, "between 0 and 1"),
    ],
)
def test_impossible_settings_are_refused(values: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Config.model_validate(values)


def test_gauc_in_slot_ignores_that_a_user_s_level_moved_between_slots() -> None:
    """Two rows per user and slot, ranked rightly; users with likes in slot 1 only are raised in slot 2."""
    users = np.tile(np.repeat(np.arange(50), 2), 2)
    label = np.concatenate([np.tile([1.0, 0.0], 50), np.zeros(100)])
    base = np.concatenate([np.tile([0.6, 0.4], 50), np.full(100, 0.3)])
    moved = base + np.concatenate([np.zeros(100), np.full(100, 0.4)])
    stream = Stream(np.repeat([0, 1], 100), users, np.zeros((200, 1)), {"like": label}, {"like": base})
    predicted = {variant: {"like": moved if variant == "memory" else base} for variant in VARIANTS}
    found = overall(stream, predicted, ("like",), ((0, 100), (100, 200)), 0, 0)["like"]
    assert found["base"].metrics["gauc"] == found["base"].metrics["gauc_in_slot"] == 1.0
    assert found["memory"].metrics["gauc_in_slot"] == 1.0
    assert found["memory"].difference["gauc_in_slot"].value == 0.0
    assert found["memory"].metrics["gauc"] == pytest.approx(1 / 3)  # one of three zeros is still below the one


@pytest.fixture(scope="module")
def place(dataset: Path, trained: Path) -> tuple[Settings, dict[str, ArtifactRef]]:
    settings = Settings.at(dataset.parent / "home")
    return settings, {
        "ranker": publish(settings, Ranker, trained),
        "dataset": publish(settings, TrainingSet, dataset),
    }


def study(place: tuple[Settings, dict[str, ArtifactRef]], **config: object) -> tuple[StudyReport, Path]:
    settings, inputs = place
    quick = {"slots": 6, "learning_rates": (0.001, 0.003), "bootstrap": 20, "batch_size": 32}
    request = StageRequest(
        component="study_error_memory", config={**quick, **config}, inputs=inputs, window=WINDOW, cache="off"
    )
    folder = open_store(settings).fetch(execute(request, settings).outputs["study"].load())
    return StudyReport.model_validate_json((folder / "report.json").read_text()), folder


@pytest.mark.parametrize("store", [{"kind": "sketch", "arrays": 32, "bits": 8}, {"kind": "exact", "neighbours": 30}])
def test_the_memory_wins_back_what_a_shift_costs_with_either_learner(
    place: tuple[Settings, dict[str, ArtifactRef]], store: dict[str, object]
) -> None:
    report, folder = study(place, store=store)
    assert report.rows == ROWS // 10 == sum(slot.rows for slot in report.slots)
    assert [slot.rows for slot in report.slots] == [end - begin for begin, end in BOUNDS]
    assert report.learning_rate in (0.001, 0.003)
    assert [tried.rate for tried in report.learning_rates] == [0.0, 0.001, 0.003]
    for task in TASKS:
        first = report.slots[0].tasks[task]
        for variant in VARIANTS:
            for metric in METRICS:
                assert first.metrics[variant][metric] == pytest.approx(first.metrics["base"][metric], abs=1e-6)
        assert set(first.weights.values()) == {0.0}
        losses = {variant: found.metrics["log_loss"] or 0.0 for variant, found in report.tasks[task].items()}
        assert losses["memory"] < 0.95 * losses["base"]
        assert losses["both"] < losses["incremental"]
        change = report.tasks[task]["memory"].difference["log_loss"]
        assert change.value == pytest.approx(losses["memory"] - losses["base"])
        assert change.low is not None and change.high is not None and change.low < change.high < 0
    page = (folder / "report.html").read_text()
    assert "data:image/png;base64," in page and "http" not in page and "<script" not in page
    assert (folder / "slots.png").read_bytes().startswith(b"\x89PNG")


def test_without_weight_the_memory_changes_nothing(place: tuple[Settings, dict[str, ArtifactRef]]) -> None:
    report, folder = study(place, lambdas=(0.0,), slot_hours=12)
    assert [slot.window.start.hour // 12 for slot in report.slots] == [
        slot.window.end.hour // 12 for slot in report.slots
    ]
    for task in TASKS:
        found = report.tasks[task]
        assert found["memory"].metrics == found["base"].metrics
        assert found["both"].metrics == found["incremental"].metrics
    again, other = study(place, lambdas=(0.0,), slot_hours=12)
    assert again == report
    for name in ("report.json", "report.html", "slots.png"):
        assert (folder / name).read_bytes() == (other / name).read_bytes()


def test_a_training_set_that_did_not_train_the_ranker_is_refused(
    place: tuple[Settings, dict[str, ArtifactRef]], tmp_path: Path
) -> None:
    settings, inputs = place
    foreign = publish(settings, TrainingSet, write_training_set(tmp_path / "set", rows=500, seed=4))
    with pytest.raises(BadInputError, match="trained on another training set"):
        study((settings, inputs | {"dataset": foreign}))
