"""Does cleaning up delete what nothing refers to, and nothing else, also while runs go on?"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner

import components.platform.execute as execution
from components.platform.errors import StorageError
from components.platform.execute import StageRequest, StageResult, execute
from components.platform.settings import Settings
from components.platform.store.collect import References, inventory, stale_copies, unused
from components.platform.store.publish import Store, open_store
from features.declaration import Window
from pipelines.cli import main as cli
from pipelines.record import runs
from registry.serving.model.contract import RegisteredVersion
from registry.versions.client import ListedVersion
from tests.example_component import ADD, COUNT

NOW = datetime.now(UTC)
OLD = NOW - timedelta(days=90)
SINCE = NOW - timedelta(days=30)
WINDOW = Window(start=datetime(2024, 1, 1, tzinfo=UTC), end=datetime(2024, 1, 2, tzinfo=UTC))
NOTHING = References(frozenset(), frozenset(), frozenset())


@pytest.fixture(params=["file", "memory"])
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Settings:
    monkeypatch.setattr(execution, "component", {spec.name: spec for spec in (COUNT, ADD)}.__getitem__)
    monkeypatch.setenv("RANKMILL_HOME", str(tmp_path / "home"))
    if request.param == "memory":
        monkeypatch.setenv("RANKMILL_ARTIFACTS", f"memory://collect{tmp_path.name}")
    return Settings.from_environment()


def run(settings: Settings, count: int, **more: object) -> tuple[StageResult, StageResult]:
    """Count and add, as two stages of a run."""
    common = {"window": WINDOW, "pipeline": "toy", "run_id": f"run{count}"}
    made = execute(
        StageRequest.model_validate(
            {"component": "count_numbers", "stage": "make", "config": {"count": count}, **common, **more}
        ),
        settings,
    )
    added = execute(
        StageRequest.model_validate(
            {"component": "add_numbers", "stage": "sum", "inputs": made.outputs, **common, **more}
        ),
        settings,
    )
    return made, added


def age(store: Store) -> None:
    """Make everything in the store three months old."""
    for stage in inventory(store):
        component, key = stage.place
        if stage.record is not None:
            store.supersede(component, key, stage.record.model_copy(update={"created_at": OLD}))
        if store.last_used(component, key):
            store._fs.rm_file(f"{store._stage_path(component, key)}/used")


def keys(store: Store) -> set[str]:
    return {key for component in store.components() for key in store.keys(component)}


def collected(store: Store, keep: References) -> set[str]:
    return {stage.place[1] for stage in unused(store, inventory(store), keep, SINCE)}


def test_what_is_new_stays_and_what_is_old_goes_with_its_size(settings: Settings) -> None:
    store = open_store(settings)
    made, added = run(settings, 3)
    assert collected(store, NOTHING) == set()
    age(store)
    found = {stage.place: stage for stage in unused(store, inventory(store), NOTHING, SINCE)}
    assert set(found) == {("count_numbers", made.key), ("add_numbers", added.key)}
    assert all(stage.kinds == ("numbers",) and stage.bytes > 500 for stage in found.values())
    for stage in found.values():
        assert store.remove_unused(*stage.place, since=SINCE)
    assert keys(store) == set()
    assert run(settings, 3)[0].cached is False


@pytest.mark.parametrize(
    ("named", "kept"),
    [
        (lambda made, added: References(frozenset({added.outputs["numbers"].uri}), frozenset(), frozenset()), "added"),
        (lambda made, added: References(frozenset(), frozenset({made.outputs["numbers"].digest}), frozenset()), "made"),
        (
            lambda made, added: References(frozenset(), frozenset(), frozenset({added.outputs["numbers"].digest})),
            "made added",
        ),
    ],
    ids=["by uri", "by content", "with what it was made from"],
)
def test_what_is_named_stays(
    settings: Settings, named: Callable[[StageResult, StageResult], References], kept: str
) -> None:
    store = open_store(settings)
    made, added = run(settings, 3)
    run(settings, 5)
    age(store)
    gone = collected(store, named(made, added))
    assert keys(store) - gone == {{"made": made, "added": added}[name].key for name in kept.split()}


def test_what_a_run_takes_from_the_store_stays_even_after_it_was_found_unused(settings: Settings) -> None:
    store = open_store(settings)
    made, added = run(settings, 3)
    age(store)
    found = unused(store, inventory(store), NOTHING, SINCE)
    again = run(settings, 3)
    assert [result.cached for result in again] == [True, True]
    assert [store.remove_unused(*stage.place, since=SINCE) for stage in found] == [False, False]
    assert collected(store, NOTHING) == set()
    assert keys(store) == {made.key, added.key}


def test_a_result_made_anew_stays_with_the_key_that_leads_to_it(settings: Settings) -> None:
    store = open_store(settings)
    made, _ = run(settings, 3)
    anew, _ = run(settings, 3, start="anew")
    assert anew.key != made.key
    age(store)
    uris = frozenset({anew.outputs["numbers"].uri})
    gone = collected(store, References(uris, frozenset(), frozenset()))
    assert {anew.key, made.key} & gone == set()


def test_a_stage_of_which_a_part_went_runs_again_where_it_is_needed(settings: Settings) -> None:
    store = open_store(settings)
    made, _ = run(settings, 3)
    age(store)
    assert store.free_outputs([("count_numbers", made.key)], ["numbers"], SINCE)
    again = run(settings, 3)
    assert [result.cached for result in again] == [False, True] and again[0].key != made.key
    assert [result.cached for result in run(settings, 3)] == [True, True]
    assert again[0].outputs["numbers"].digest == made.outputs["numbers"].digest


@pytest.mark.parametrize("settings", ["file"], indirect=True)  # an object store has no locks
def test_runs_and_cleaning_at_once_do_not_hurt_each_other(settings: Settings) -> None:
    """Eight runs take and rebuild stages while another thread deletes all it can."""
    store = open_store(settings)
    for count in range(4):
        run(settings, count)
    age(store)

    def clean() -> int:
        return sum(
            store.remove_unused(*stage.place, since=SINCE) for stage in unused(store, inventory(store), NOTHING, SINCE)
        )

    with ThreadPoolExecutor(5) as pool:
        deleted = [pool.submit(clean) for _ in range(2)]
        done = [pool.submit(run, settings, number % 4) for number in range(8)]
        results = [future.result() for future in done]
        assert sum(future.result() for future in deleted) <= 8
    for pair in results:
        for result in pair:
            store.fetch(result.outputs["numbers"].load())


def test_local_copies_of_a_remote_store_go_when_nobody_reads_them(tmp_path: Path) -> None:
    for name, when in (("old", OLD), ("new", NOW)):
        (tmp_path / name).mkdir()
        os.utime(tmp_path / name, (when.timestamp(), when.timestamp()))
    assert stale_copies(tmp_path, SINCE) == (tmp_path / "old",)
    assert stale_copies(tmp_path / "absent", SINCE) == ()


class Shelf:
    """A registry with one version behind an alias and one without."""

    digests: tuple[str, str]

    def __init__(self, *where: object) -> None:
        pass

    def models(self) -> tuple[str, ...]:
        return ("toy",)

    def versions(self, model: str) -> tuple[ListedVersion, ...]:
        return tuple(
            ListedVersion(
                version=RegisteredVersion(
                    model=model, version=number, digest=digest, model_uri="", ranker_digest="", report_digest="",
                    created_at=OLD,
                ),
                aliases=("champion",) if number == 1 else (),
                tags={},
                run_id="",
            )
            for number, digest in enumerate(self.digests, 1)
        )  # fmt: skip


def test_the_command_lists_first_and_keeps_versions_and_kept_runs(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store(settings)
    champion, other, pinned, last, gone, alive = (run(settings, count) for count in range(2, 8))
    Shelf.digests = (champion[1].outputs["numbers"].digest, other[1].outputs["numbers"].digest)
    monkeypatch.setattr("registry.versions.client.Registry", Shelf)
    for number, pair in enumerate((champion, other, pinned, last, gone, alive), 2):
        start = runs.start_of("toy", f"run{number}", NOW, ("make", "sum"), {})
        runs.write_start(settings, start.model_copy(update={"started_at": OLD + timedelta(days=number)}))
        ended = "success" if pair in (last, pinned) else "failed"
        if pair is not alive:
            runs.write_end(settings, start, runs.RunEnd(state=ended, seconds=1))
    runs.pin(runs.find_run(settings, "toy", "run4"), keep=True)
    age(store)
    before = keys(store)

    listed = CliRunner().invoke(cli.app, ["gc", "--dry-run"])
    assert listed.exit_code == 0 and "3 of 12 stages" in listed.output and "nothing was" in listed.output
    assert keys(store) == before

    done = CliRunner().invoke(cli.app, ["gc"])
    assert "3 of 12 stages deleted" in done.output
    kept = {result.key for pair in (champion, pinned, last, alive) for result in pair} | {other[1].key}
    assert keys(store) == kept
    runs.pin(runs.find_run(settings, "toy", "run4"), keep=False)
    assert "2 of 9 stages deleted" in CliRunner().invoke(cli.app, ["gc"]).output


def test_nothing_is_deleted_when_the_registry_cannot_be_read(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store(settings)
    run(settings, 3)
    age(store)
    before = keys(store)

    def refuse(*where: object) -> None:
        raise StorageError("MLflow does not answer; start it")

    monkeypatch.setattr("registry.versions.client.Registry", refuse)
    result = CliRunner().invoke(cli.app, ["gc"])
    assert isinstance(result.exception, StorageError)
    assert keys(store) == before
