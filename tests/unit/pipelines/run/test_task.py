"""Does a task ask for the right work, tell who watches, and know which failures may pass?"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pandas as pd
import polars as pl
import pytest

from components.platform import catalog
from components.platform.approval import Answer, Question
from components.platform.errors import BadInputError, GateRefusedError, RetryableError, StorageError
from components.platform.execute import StageResult
from components.platform.settings import Settings
from pipelines.language.check import load_plan
from pipelines.language.plan import Plan
from pipelines.run.task import Attempt, InterruptedRunError, may_pass, process, request_of, run_stage, sentence

YAML = """
name: adding
window: {days: 2}
params: {count: {type: integer, default: 4, minimum: 1}}
stages:
  numbers: {uses: count_numbers, with: {count: "${params.count}"}}
  total: {uses: add_numbers, in: {numbers: numbers.numbers}, cache: 'off'}
"""
MOMENT = datetime(2026, 3, 4, 15, 30, tzinfo=UTC)


class Watcher:
    def __init__(self) -> None:
        self.seen: list[tuple[str, str]] = []

    def started(self, attempt: Attempt) -> None:
        self.seen.append(("started", attempt.stage.name))

    def finished(self, attempt: Attempt, result: StageResult) -> None:
        self.seen.append(("cached" if result.cached else "finished", attempt.stage.name))

    def failed(self, attempt: Attempt, error: BaseException) -> None:
        self.seen.append((type(error).__name__, attempt.stage.name))

    def asked(self, question: Question) -> Answer | None:
        return None


@pytest.fixture
def plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Plan]:
    offered = [EntryPoint(name, f"tests.example_component:{name}", catalog.ENTRY_POINTS) for name in ("COUNT", "ADD")]
    monkeypatch.setattr(catalog, "entry_points", lambda group: offered)
    catalog.catalog.cache_clear()
    file = tmp_path / "adding.yaml"
    file.write_text(YAML)
    yield load_plan(file)
    catalog.catalog.cache_clear()


@pytest.fixture
def watcher() -> Iterator[Watcher]:
    watcher = Watcher()
    process.observer, process.stopped_by = watcher, None
    yield watcher
    process.observer, process.stopped_by = None, None


def attempt(plan: Plan, stage: str, upstream: dict[str, StageResult] | None = None, **conf: Any) -> Attempt:
    return Attempt(plan, plan.stage(stage), "run-1", conf, MOMENT, upstream or {})


def test_a_request_holds_params_window_and_cache_mode(plan: Plan) -> None:
    request = request_of(attempt(plan, "numbers", count=9))
    assert request.config["count"] == 9 and request.cache == "all"
    assert str(request.window) == "[2026-03-02T00:00:00Z, 2026-03-04T00:00:00Z)"
    assert request_of(attempt(plan, "numbers")).config["count"] == 4


def test_stages_hand_on_references_and_the_observer_sees_them(plan: Plan, watcher: Watcher, tmp_path: Path) -> None:
    settings = Settings.at(tmp_path / "home")
    numbers = run_stage(attempt(plan, "numbers", count=5), settings)
    total = run_stage(attempt(plan, "total", {"numbers": numbers}), settings)
    run_stage(attempt(plan, "numbers", count=5), settings)
    assert total.notes == ["sum 10"]
    assert StageResult.model_validate(total.model_dump(mode="json")) == total
    assert watcher.seen == [
        ("started", "numbers"),
        ("finished", "numbers"),
        ("started", "total"),
        ("finished", "total"),
        ("started", "numbers"),
        ("cached", "numbers"),
    ]


def test_unknown_conf_and_vanished_outputs_are_refused(plan: Plan, watcher: Watcher, tmp_path: Path) -> None:
    settings = Settings.at(tmp_path / "home")
    with pytest.raises(BadInputError, match=r"no param 'cuont' \(did you mean 'count'\?\)"):
        run_stage(attempt(plan, "numbers", cuont=5), settings)
    numbers = run_stage(attempt(plan, "numbers"), settings)
    changed = numbers.model_copy(update={"outputs": {}})
    with pytest.raises(BadInputError, match=r"reads numbers\.numbers"):
        run_stage(attempt(plan, "total", {"numbers": changed}), settings)
    assert ("BadInputError", "total") in watcher.seen


def test_no_stage_starts_after_the_run_was_stopped(plan: Plan, watcher: Watcher, tmp_path: Path) -> None:
    with pytest.raises(InterruptedRunError, match="SIGTERM"):
        process.stop(15)
    with pytest.raises(InterruptedRunError):
        run_stage(attempt(plan, "numbers"), Settings.at(tmp_path / "home"))
    assert not (tmp_path / "home").exists()


@pytest.mark.parametrize(
    ("error", "passes"),
    [
        (StorageError("x"), True),
        (RetryableError("x"), True),
        (ConnectionError("x"), True),
        (MemoryError("x"), True),
        (GateRefusedError("x"), False),
        (BadInputError("x"), False),
        (KeyError("x"), False),
        (TypeError("x"), False),
    ],
)
def test_only_failures_of_the_environment_may_pass(error: Exception, passes: bool) -> None:
    assert may_pass(error) is passes


def test_sentences_keep_our_words_and_name_foreign_errors() -> None:
    assert sentence(BadInputError("one sentence")) == "one sentence"
    assert sentence(TypeError("no")) == "TypeError: no"
    assert sentence(ValueError()) == "ValueError"
    assert sentence(TypeError("no\n  more")) == "TypeError: no more"


def test_a_library_s_error_is_one_line_that_names_the_library() -> None:
    """polars adds the plan of a query below what it says, pandas raises a bare KeyError."""
    with pytest.raises(pl.exceptions.ColumnNotFoundError) as caught:
        pl.LazyFrame({"age": [1]}).select(pl.col("taste")).collect()
    assert "\n" in str(caught.value)
    said = sentence(caught.value)
    assert said.startswith("polars: ") and "taste" in said and "\n" not in said
    with pytest.raises(KeyError) as missing:
        pd.DataFrame({"age": [1]})["taste"]
    assert sentence(missing.value) == "pandas: there is no 'taste'"
