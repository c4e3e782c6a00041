"""Does the validation split choose the memory that its rows call for, and does nothing else have a say?"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pytest
from pydantic import ValidationError

from components.memory.study_error_memory import choice, component
from components.memory.study_error_memory.choice import choose_memory, replayed
from components.memory.study_error_memory.config import Config
from components.memory.study_error_memory.memories import Memory
from components.memory.study_error_memory.report import MemoryChoice, StudyReport
from components.memory.study_error_memory.shared_reads import Recorder
from components.platform.artifacts import Ranker, TrainingSet
from components.platform.execute import StageRequest, execute
from components.platform.settings import Settings
from components.platform.store.publish import open_store
from registry.memory.keys import row_keys
from registry.memory.neighbours import Store
from registry.memory.prequential import Stream, slot_bounds
from registry.memory.spec import ExactStore, KeySpec, SketchStore
from registry.metrics import log_loss
from tests.trained import publish, write_ranker
from tests.unit.components.memory.test_study import ROWS as STUDIED
from tests.unit.components.memory.test_study import WINDOW, shifted_world
from tests.worlds import make_world, write_training_set

ROWS, SLOTS, OPENS = 6000, 10, 6
"""Rows, slots, and the slot (counted from 0) in which a shift opens."""
BOUNDS = slot_bounds(np.arange(ROWS), SLOTS)
STORES: dict[str, dict[str, object]] = {
    "sketch": {"kind": "sketch", "arrays": 32, "bits": 8},
    "exact": {"kind": "exact", "neighbours": 70},
}
Errors = Literal["none", "lasting", "after a shift"]


def stream_with(errors: Errors) -> Stream:
    """Return rows of six sub-populations, seen in the keys only; the base model errs in one of them, or in none."""
    rng = np.random.default_rng(5)
    group = rng.integers(0, 6, ROWS)
    hidden = rng.normal(0, 1, (6, 12))[group] + rng.normal(0, 0.2, (ROWS, 12))
    base = np.array([0.2, 0.25, 0.35, 0.45, 0.55, 0.65])[group]
    begins = {"none": ROWS, "lasting": 0, "after a shift": BOUNDS[OPENS][0]}[errors]
    truth = np.where((group == 0) & (np.arange(ROWS) >= begins), 0.85, base)
    keys = row_keys(KeySpec(kind="hidden", hidden=12), hidden, hidden.mean(axis=0), pa.table({}))
    label = (rng.random(ROWS) < truth).astype(float)
    return Stream(np.arange(ROWS), rng.integers(0, 99, ROWS), keys, {"like": label}, {"like": base})


def chosen(stream: Stream, **config: Any) -> MemoryChoice:
    return choose_memory(stream, BOUNDS, Config.model_validate(config), False, lambda told: None)


@pytest.mark.parametrize("kind", STORES)
@pytest.mark.parametrize(
    ("errors", "expected"),
    [("none", "no memory"), ("lasting", "a memory"), ("after a shift", "a memory that fades")],
)
def test_fading_is_chosen_for_a_shift_and_no_memory_for_a_base_that_is_right(
    kind: str, errors: Errors, expected: str
) -> None:
    found = chosen(stream_with(errors), store=STORES[kind], decay=[0.3, 1.0])
    fades = "a memory that fades" if found.memory.decay < 1 else "a memory"
    assert (fades if found.helps else "no memory") == expected
    losses = {tried.memory: tried.log_loss for tried in found.tried}
    assert len(losses) == 3
    assert losses[found.memory] == min(loss for memory, loss in losses.items() if memory)
    assert found.helps == (losses[found.memory] < losses[None])


def test_a_temperature_at_which_strangers_count_is_not_chosen() -> None:
    found = chosen(
        stream_with("lasting"), store={"kind": "exact", "neighbours": [30, 600]}, temperature=[0.1, 100], lambdas=[1.0]
    )
    worst = max(found.tried[1:], key=lambda tried: tried.log_loss)
    assert worst.memory == Memory(store=ExactStore(neighbours=600), temperature=100, decay=1.0) != found.memory


@pytest.mark.parametrize(
    "lists",
    [
        {"store": {"kind": "exact", "neighbours": [5, 20, 120]}, "temperature": [0.05, 0.2], "decay": [1.0, 0.4]},
        {"store": {"kind": "sketch", "arrays": 16, "bits": [4, 6]}, "temperature": [0.5, 1], "decay": [1.0, 0.4]},
    ],
)
def test_one_search_for_many_gives_what_a_search_for_each_gives(
    lists: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    stream, config = stream_with("lasting"), Config.model_validate({**lists, "shrinkage": 5})
    recorders: list[Recorder] = []

    def noted(store: Store) -> Recorder:
        recorders.append(Recorder(store))
        return recorders[-1]

    monkeypatch.setattr(choice, "Recorder", noted)
    tried = choose_memory(stream, BOUNDS, config, False, lambda told: None).tried[1:]
    used = [recorder for recorder in recorders if recorder.reads]
    assert len(used) == len({(m.decay, getattr(m.store, "bits", 0)) for m in config.memories()}) < len(tried)
    monkeypatch.setattr(choice, "MOST_KEPT", 10)
    assert choose_memory(stream, BOUNDS, config, False, lambda told: None).tried[1:] == tried
    assert not any(recorder.reads for recorder in recorders[len(used) :])
    losses = [
        log_loss(stream.labels["like"], replayed(stream, BOUNDS, memory, config, False).compensated["like"])
        for memory in config.memories()
    ]
    assert [found.log_loss for found in tried] == pytest.approx(losses, abs=1e-12)
    assert len({round(loss or 0, 9) for loss in losses}) == len(losses)


def test_equals_go_to_the_plainer_whatever_the_order_of_the_lists() -> None:
    """With λ = 0 nothing differs; and as long as 1,200 rows are stored, 1,500 neighbours are as many as 2,000."""
    stream = stream_with("lasting")
    still = chosen(stream, store=STORES["exact"], lambdas=[0.0], decay=[0.5, 1.0])
    assert (still.memory.decay, still.helps) == (1.0, False)
    ends = []
    for sizes in ([1500, 2000], [2000, 1500]):
        config = Config.model_validate({"lambdas": [0.5], "store": {"kind": "exact", "neighbours": sizes}})
        ends.append(choose_memory(stream, BOUNDS[:3], config, False, lambda told: None))
    assert ends[0] == ends[1]
    assert len({tried.log_loss for tried in ends[0].tried[1:]}) == 1
    assert ends[0].memory == Memory(store=ExactStore(neighbours=2000), temperature=0.1, decay=1.0)


def test_one_setting_is_taken_as_given() -> None:
    assert chosen(stream_with("none"), store=STORES["sketch"]) == MemoryChoice(
        memory=Memory(store=SketchStore(arrays=32, bits=8), temperature=1.0, decay=1.0), helps=None, tried=()
    )


def test_lists_make_every_combination_the_plainer_first() -> None:
    config = Config.model_validate(
        {"store": {"kind": "sketch", "bits": [10, 6]}, "temperature": [0.5, 1], "decay": [0.5, 1]}
    )
    found = [(m.decay, m.store.bits, m.temperature) for m in config.memories() if isinstance(m.store, SketchStore)]
    assert found == [
        (1, 6, 1), (1, 6, 0.5), (1, 10, 1), (1, 10, 0.5),
        (0.5, 6, 1), (0.5, 6, 0.5), (0.5, 10, 1), (0.5, 10, 0.5),
    ]  # fmt: skip
    assert [str(m) for m in Config().memories()] == ["sketch of 64 arrays of 2^10 buckets, τ 1, ρ 1"]
    assert Config.model_validate({"store": {"kind": "exact"}}).memories()[0].temperature == 0.1


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"decay": []}, "at least 1 item"),
        ({"decay": [1.0, 0.0]}, "greater than 0"),
        ({"temperature": [0.1, -1]}, "greater than 0"),
        ({"store": {"kind": "exact", "neighbours": [0, 3]}}, "greater than or equal to 1"),
        ({"store": {"kind": "sketch", "arrays": 1024, "bits": [4, 20]}}, "lower arrays or bits"),
        ({"store": {"kind": "exact", "bits": 4}}, "Extra inputs are not permitted"),
    ],
)
def test_impossible_lists_are_refused(values: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Config.model_validate(values)


@pytest.fixture(scope="module")
def studies(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Return a function that studies one ranker on one of two data sets that differ in labels of test rows only."""
    at = tmp_path_factory.mktemp("choice")
    settings = Settings.at(at / "home")
    sets = {
        "shifted": write_training_set(at / "shifted", world=shifted_world()),
        "calm": write_training_set(at / "calm", world=make_world(STUDIED, users=60)),
    }
    ranker = publish(settings, Ranker, write_ranker(at / "ranker", sets["calm"]))
    given = {name: publish(settings, TrainingSet, folder) for name, folder in sets.items()}

    def run(name: str) -> tuple[StudyReport, Path]:
        config = {
            "slots": 6, "learning_rates": (0.003,), "bootstrap": 0, "batch_size": 32,
            "store": {"kind": "sketch", "arrays": 32, "bits": [6, 8]}, "decay": [1.0, 0.5], "lambdas": [0.2, 0.8],
        }  # fmt: skip
        request = StageRequest(
            component="study_error_memory",
            config=config,
            inputs={"ranker": ranker, "dataset": given[name]},
            window=WINDOW,
            cache="off",
        )
        folder = open_store(settings).fetch(execute(request, settings).outputs["study"].load())
        return StudyReport.model_validate_json((folder / "report.json").read_text(encoding="utf-8")), folder

    return run


@pytest.mark.parametrize("chooses", ["validation", "test"])
def test_test_rows_have_no_say(studies: Any, monkeypatch: pytest.MonkeyPatch, chooses: str) -> None:
    """Control: chosen on test rows, the same comparison tells the two data sets apart."""
    monkeypatch.setattr(component, "CHOOSES", chooses)
    (calm, page), (shifted, _) = studies("calm"), studies("shifted")
    assert calm.tasks != shifted.tasks
    same = (calm.choices, calm.learning_rate, calm.learning_rates) == (
        shifted.choices,
        shifted.learning_rate,
        shifted.learning_rates,
    )
    assert same == (chooses == "validation")
    assert [len(made.tried) for made in calm.choices.values()] == [5, 5]
    told = (page / "report.html").read_text(encoding="utf-8")
    for made in calm.choices.values():
        assert str(made.memory) in told
        assert all(f"{tried.log_loss:.5f}" in told for tried in made.tried)
