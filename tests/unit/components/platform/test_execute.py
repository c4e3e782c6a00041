"""Does a stage publish everything or nothing, find its own cache, and notice damage?"""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import shutil
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import components.platform.execute as execution
import components.platform.store.publish as storage
from components.platform.cache import cache_key, key_parts
from components.platform.contract import ComponentConfig, ComponentSpec, Ports, RunContext
from components.platform.errors import BadInputError, MissingError, StorageError
from components.platform.execute import StageRequest, StageResult, execute
from components.platform.settings import Settings
from components.platform.sources import source_files
from components.platform.store.publish import Store, open_store
from components.platform.store.records import ArtifactRef
from features.declaration import Window
from tests.example_component import ADD, COUNT, CountConfig, CountOutputs, Numbers, SumInputs, add

WINDOW = Window(start=datetime(2024, 1, 1, tzinfo=UTC), end=datetime(2024, 1, 2, tzinfo=UTC))
KNOWN: Mapping[str, ComponentSpec] = {spec.name: spec for spec in (COUNT, ADD)}


@pytest.fixture(autouse=True)
def _catalog(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(execution, "component", KNOWN.__getitem__)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings.at(tmp_path / "home")


def count(
    settings: Settings,
    marker: Path | str = "",
    *,
    run_id: str = "r1",
    cache: str = "all",
    start: str = "cache",
    **config: object,
) -> StageResult:
    request = StageRequest.model_validate(
        {
            "component": "count_numbers",
            "config": {"marker": str(marker), **config},
            "window": WINDOW,
            "stage": "count",
            "run_id": run_id,
            "cache": cache,
            "start": start,
        }
    )
    return execute(request, settings)


def published(settings: Settings) -> list[Path]:
    root = settings.home / "artifacts"
    return sorted(root.glob("*/*")) if root.exists() else []


def test_what_a_stage_took_is_recorded_beside_what_it_made(settings: Settings) -> None:
    first = count(settings)
    assert first.peak_bytes is not None and first.peak_bytes > 2**20
    assert first.made_seconds is not None and first.made_seconds <= first.seconds
    again = count(settings, run_id="r2")
    assert (again.cached, again.peak_bytes, again.made_seconds) == (True, None, first.made_seconds)
    record = open_store(settings).find("count_numbers", first.key)
    assert record is not None and (record.peak_bytes, record.rows) == (first.peak_bytes, first.rows)


def test_second_run_is_a_hit_with_the_same_artifact(settings: Settings, tmp_path: Path) -> None:
    marker = tmp_path / "runs"
    first, second = count(settings, marker), count(settings, marker, run_id="r2")
    assert (first.cached, second.cached) == (False, True)
    assert first.outputs == second.outputs
    assert second.notes == ["3 numbers"]
    assert marker.read_text() == "x"


def tell(outputs: Ports, config: ComponentConfig, settings: Settings) -> str:
    """Tell the outside world about outputs that exist."""
    with (settings.home / "told").open("a") as stream:
        stream.write("x")
    return "told"


def test_what_was_published_is_told_each_time_but_where_a_run_only_takes_it(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    telling = {"count_numbers": replace(COUNT, after_publish=f"{__name__}:tell")}
    monkeypatch.setattr(execution, "component", telling.__getitem__)
    notes = [count(settings).notes, count(settings).notes, count(settings, start="taken").notes]
    assert notes == [["3 numbers", "told"], ["3 numbers", "told"], ["3 numbers"]]
    assert (settings.home / "told").read_text() == "xx"


def test_cache_off_runs_again_and_keeps_both(settings: Settings, tmp_path: Path) -> None:
    marker = tmp_path / "runs"
    first = count(settings, marker, cache="off")
    second = count(settings, marker, cache="off")
    assert marker.read_text() == "xx"
    assert first.outputs["numbers"].uri != second.outputs["numbers"].uri
    assert first.outputs["numbers"].digest == second.outputs["numbers"].digest


def test_a_failed_stage_publishes_nothing_and_leaves_no_scratch(settings: Settings) -> None:
    with pytest.raises(BadInputError, match="no such thing"):
        count(settings, fail="no such thing")
    assert published(settings) == []
    assert list((settings.home / "scratch").iterdir()) == []


def _killed(home: Path) -> None:
    execution.component = KNOWN.__getitem__
    count(Settings.at(home), fail="kill")


def test_sigkill_in_the_middle_leaves_no_half_artifact_and_running_again_completes(settings: Settings) -> None:
    process = multiprocessing.get_context("spawn").Process(target=_killed, args=(settings.home,))
    process.start()
    process.join()
    assert process.exitcode == -9
    assert published(settings) == []
    assert len(list((settings.home / "scratch").iterdir())) == 1
    assert count(settings).cached is False
    assert list((settings.home / "scratch").iterdir()) == []


@pytest.mark.parametrize("damage", ["truncate", "delete", "tamper"])
def test_a_damaged_artifact_is_refused_by_readers_and_rebuilt_by_its_stage(settings: Settings, damage: str) -> None:
    result = count(settings)
    artifact = result.outputs["numbers"].load()
    file = Path(artifact.uri.removeprefix("file://")) / "numbers.txt"
    if damage == "delete":
        file.unlink()
    else:
        file.write_text("" if damage == "truncate" else file.read_text() + "\n4")
    with pytest.raises(StorageError, match=r"numbers\.txt of numbers at .* (missing|changed)"):
        open_store(settings).fetch(artifact)
    again = count(settings)
    assert again.cached is False
    assert again.outputs == result.outputs
    assert count(settings).cached is True


def test_an_input_that_was_replaced_is_refused(settings: Settings) -> None:
    numbers = count(settings).outputs["numbers"]
    other = count(settings, count=5).outputs["numbers"]
    wrong = numbers.model_copy(update={"digest": other.digest})
    request = StageRequest(component="add_numbers", inputs={"numbers": wrong}, window=WINDOW)
    with pytest.raises(StorageError, match="it was replaced"):
        execute(request, settings)


def test_full_disk_while_publishing_is_one_sentence_and_loses_nothing(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = count(settings)
    original = storage.write_durably

    def full(path: Path, text: str) -> None:
        if path.name == storage.STAGE:
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        original(path, text)

    with monkeypatch.context() as patch:
        patch.setattr(storage, "write_durably", full)
        with pytest.raises(StorageError, match=r"the disk is full; nothing was published.*run again"):
            count(settings, count=4)
    assert [path.name for path in published(settings)] == [kept.key]
    assert count(settings).cached is True
    assert count(settings, count=4).cached is False


def test_a_store_on_another_disk_that_is_full_is_one_sentence_too(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There a stage is copied, and Python tells of every file that could not be."""

    def full(source: Path, target: Path) -> None:
        raise shutil.Error([(source / name, target, f"[Errno 28] No space left: '{name}'") for name in ("a", "b")])

    moved = os.strerror(errno.EXDEV)
    monkeypatch.setattr(Path, "rename", lambda self, target: (_ for _ in ()).throw(OSError(errno.EXDEV, moved)))
    monkeypatch.setattr(shutil, "copytree", full)
    with pytest.raises(StorageError, match=r"^cannot publish \S+ to \S+: \[Errno 28\] No space left: 'a'; nothing was"):
        count(settings)
    monkeypatch.setattr(os, "strerror", lambda number: "No space left")
    with pytest.raises(StorageError, match=r"^cannot publish \S+ to \S+: the disk is full; nothing was"):
        count(settings)


def test_what_another_run_publishes_between_the_look_and_the_start_is_taken(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    look, marker = execution.earlier_result, tmp_path / "marker"

    def too_early(*given: object) -> object:
        found = look(*given)  # type: ignore[arg-type]  # the same arguments
        monkeypatch.setattr(execution, "earlier_result", look)
        count(settings, marker, run_id="beside")
        return found

    monkeypatch.setattr(execution, "earlier_result", too_early)
    assert count(settings, marker).cached
    assert marker.read_text() == "x" and len(published(settings)) == 1


def test_two_runs_of_one_stage_at_once_agree(settings: Settings) -> None:
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda n: count(settings, run_id=f"r{n}"), range(8)))
    assert len({result.outputs["numbers"].uri for result in results}) == 1
    assert [path.name for path in published(settings)] == [results[0].key]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"config": {"cuont": 2}}, "config cuont"),
        ({"inputs": {}}, "input 'numbers' is missing"),
        ({"component": "count_numbers", "config": {}}, "'numbers' is not an input"),
    ],
)
def test_requests_that_do_not_fit_are_refused(settings: Settings, change: dict[str, object], message: str) -> None:
    numbers = count(settings).outputs["numbers"]
    good = {"component": "add_numbers", "inputs": {"numbers": numbers}, "window": WINDOW, "stage": "add"}
    assert execute(StageRequest.model_validate(good), settings).notes == ["sum 3"]
    with pytest.raises(BadInputError, match=message):
        execute(StageRequest.model_validate({**good, **change}), settings)


class SumOfTwoInputs(SumInputs):
    """The numbers to add, and perhaps others."""

    more: Numbers | None = None


def add_both(inputs: SumOfTwoInputs, config: CountConfig, context: RunContext) -> CountOutputs:
    """Add the numbers, and note how many inputs there are."""
    context.note("one" if inputs.more is None else "two")
    return add(inputs, config, context)


ADD_BOTH = replace(ADD, inputs=SumOfTwoInputs, entrypoint=f"{__name__}:add_both")


def test_an_input_that_may_be_left_out_is_none_and_no_part_of_the_key(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(execution, "component", {"count_numbers": COUNT, "add_numbers": ADD_BOTH}.__getitem__)
    numbers = count(settings).outputs["numbers"]

    def summed(**inputs: ArtifactRef) -> StageResult:
        return execute(StageRequest(component="add_numbers", inputs=inputs, window=WINDOW, stage="add"), settings)

    alone, both = summed(numbers=numbers), summed(numbers=numbers, more=numbers)
    assert (alone.notes, both.notes) == (["one", "sum 3"], ["two", "sum 3"])
    record = open_store(settings).find("add_numbers", alone.key)
    assert record is not None and {part for part in record.explanation if part.startswith("input.")} == {
        "input.numbers"
    }
    assert both.key != alone.key == summed(numbers=numbers).key
    with pytest.raises(BadInputError, match=r"'numbers' is missing; inputs of add_numbers are .*'more, if any'"):
        summed(more=numbers)
    with pytest.raises(BadInputError, match=r"input 'more' is a ranker, add_numbers takes a numbers"):
        summed(numbers=numbers, more=numbers.model_copy(update={"kind": "ranker"}))


@given(words=st.dictionaries(st.sampled_from("abc"), st.text("0123456789abcdef", min_size=1, max_size=3)))
def test_a_port_that_nobody_wires_leaves_every_key_as_it_was(words: dict[str, str]) -> None:
    assert key_parts(ADD, {}, words, WINDOW, {}) == key_parts(ADD_BOTH, {}, words, WINDOW, {})


def test_annotations_travel_but_do_not_change_the_digest(settings: Settings) -> None:
    first = count(settings, cache="off", run_id="a").outputs["numbers"]
    second = count(settings, cache="off", run_id="b").outputs["numbers"]
    store = open_store(settings)
    assert store.manifest(first.load()).annotations == {"run": "a"}
    assert store.manifest(second.load()).annotations == {"run": "b"}
    assert first.digest == second.digest


def test_the_run_record_is_json_a_table_can_read(settings: Settings) -> None:
    result = count(settings, run_id="manual__2024-01-01T00:00:00+00:00")
    records = list(settings.runs.rglob("count.json"))
    assert [json.loads(path.read_text())["key"] for path in records] == [result.key]


def test_a_key_covers_component_config_inputs_and_where_it_counts_the_window() -> None:
    old = key_parts(COUNT, {"count": 1}, {}, WINDOW)
    variants = [
        key_parts(replace(COUNT, version="2"), {"count": 1}, {}, WINDOW),
        key_parts(COUNT, {"count": 2}, {}, WINDOW),
        key_parts(COUNT, {"count": 1}, {"table": "abc"}, WINDOW),
        key_parts(replace(COUNT, windowed=True), {"count": 1}, {}, WINDOW),
        key_parts(replace(COUNT, sources=("this",)), {"count": 1}, {}, WINDOW),
    ]
    assert len({cache_key(parts) for parts in (old, *variants)}) == 6
    unkeyed = replace(COUNT, unkeyed=("marker",))
    assert key_parts(unkeyed, {"count": 1, "marker": "here"}, {}, WINDOW) == old
    assert key_parts(unkeyed, {"count": 2, "marker": "here"}, {}, WINDOW) != old
    assert "window" not in old


def test_the_record_says_in_full_what_the_key_digests(settings: Settings) -> None:
    result = count(settings, count=4)
    record = open_store(settings).find("count_numbers", result.key)
    assert record is not None
    assert record.config == {"count": 4, "fail": "", "marker": ""}
    assert record.sources == dict(source_files("tests")) and "tests/example_component.py" in record.sources
    assert record.made_by == "component.count"


def test_a_store_elsewhere_is_not_read_by_accident(settings: Settings, tmp_path: Path) -> None:
    artifact = count(settings).outputs["numbers"].load()
    with pytest.raises(MissingError, match="outside the store"):
        Store((tmp_path / "other").as_uri(), tmp_path).fetch(artifact)


def test_a_home_with_a_space_in_its_path_is_like_any_other(tmp_path: Path) -> None:
    settings = Settings.at(tmp_path / "my home")
    first = count(settings)
    request = StageRequest(component="add_numbers", inputs=first.outputs, window=WINDOW)
    assert execute(request, settings).notes == ["sum 3"]
    assert count(settings, run_id="r2").cached is True
    assert (tmp_path / "my home" / "artifacts" / "count_numbers" / first.key).is_dir()


def test_an_object_store_holds_the_same_artifacts(settings: Settings) -> None:
    """`memory://` behaves as object stores do: no rename, no directories."""
    remote = replace(settings, artifacts="memory://rankmill-test")
    first = count(remote)
    request = StageRequest(component="add_numbers", inputs=first.outputs, window=WINDOW)
    assert execute(request, remote).notes == ["sum 3"]
    assert count(remote, run_id="r2").cached is True
    assert first.outputs["numbers"].digest == count(settings).outputs["numbers"].digest


def test_an_object_that_was_lost_is_made_again(settings: Settings) -> None:
    import fsspec

    remote = replace(settings, artifacts="memory://rankmill-lost")
    first = count(remote)
    files = fsspec.filesystem("memory")
    [lost] = [path for path in files.find(first.outputs["numbers"].uri) if not path.endswith("manifest.json")]
    files.rm_file(lost)
    assert count(remote, run_id="r2").cached is False
    assert files.exists(lost) and count(remote, run_id="r3").cached is True


def test_a_damaged_copy_of_an_object_is_fetched_again(settings: Settings) -> None:
    remote = replace(settings, artifacts="memory://rankmill-copy")
    count(remote)
    assert count(remote, run_id="r2").cached is True
    [copy] = (settings.home / "fetched").glob("*/numbers.txt")
    copy.write_text("8")
    assert count(remote, run_id="r3").cached is True, "what lies in the store is whole"
    assert copy.read_text() != "8"
