"""Is what several artifacts hold stored once, readable from each as long as it stays, and gone with the last?"""

from __future__ import annotations

import errno
import os
import shutil
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path

import fsspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.platform.artifacts import Artifact, LabelledRows, Ranker
from components.platform.cache import earlier_result
from components.platform.errors import StorageError
from components.platform.store import contents
from components.platform.store.collect import References, inventory, remove, unused
from components.platform.store.publish import Store, sweep
from components.platform.store.records import StageRecord
from tests.example_component import COUNT

SOON = datetime.now(UTC) + timedelta(days=1)
ROWS, OTHER = b"rows" * 2000, b"more" * 2000
NOTHING = References(frozenset(), frozenset(), frozenset())


@pytest.fixture(params=["file", "memory"])
def store(tmp_path: Path, request: pytest.FixtureRequest) -> Store:
    local = request.param == "file"
    return Store((tmp_path / "store").as_uri() if local else f"memory://{uuid.uuid4().hex}", tmp_path / "fetched")


Kinds = dict[str, type[Artifact]]


def publish(
    store: Store, key: str, files: dict[str, bytes], component: str = "made", kinds: Kinds | None = None
) -> StageRecord:
    """Publish a stage with an output per name in `kinds`, the files of each below a folder of its name."""
    staged = store.cache.parent / "staged" / uuid.uuid4().hex
    outputs = {name: kind(uri=str(staged / name)) for name, kind in (kinds or {"rows": LabelledRows}).items()}
    for name, content in files.items():
        path = staged / (name if "/" in name else f"rows/{name}")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return store.publish(
        staged, outputs, component=component, component_version="1", key=key, config_digest="", inputs={},
        explanation={"key": key}, seconds=0.0, notes=[], annotations={},
    )  # fmt: skip


def read(store: Store, record: StageRecord, output: str = "rows") -> dict[str, bytes]:
    folder = store.fetch(record.outputs[output].load())
    return {p.name: p.read_bytes() for p in folder.rglob("*") if p.is_file() and p.name != "manifest.json"}


def kept(store: Store) -> list[str]:
    """Return the contents of the store."""
    folder = f"{store._base}/{contents.CONTENTS}"
    return sorted(store._fs.find(folder)) if store._fs.exists(folder) else []


def used(store: Store) -> int:
    """Return the bytes on the disk: of each file of the disk once."""
    if not store._local:
        return int(store._fs.du(store._base))
    found = {(p.stat().st_ino, p.stat().st_size) for p in Path(store._base).rglob("*") if p.is_file()}
    return sum(size for _, size in found)


def test_a_file_of_several_artifacts_is_stored_once_under_the_digest_that_it_always_had(store: Store) -> None:
    first = publish(store, "a", {"rows.parquet": ROWS, "small.json": b"{}"})
    before = used(store)
    second = publish(store, "b", {"rows.parquet": ROWS, "rows/more/rows.parquet": ROWS, "other": OTHER}, "handed_on")
    assert len(kept(store)) == 2 and used(store) - before < len(OTHER) + 4000
    for record, names in ((first, {"rows.parquet", "small.json"}), (second, {"rows.parquet", "other"})):
        found = read(store, record)
        assert found.keys() == names and found["rows.parquet"] == ROWS
    with store.open_file(second.outputs["rows"], "rows.parquet") as stream:
        assert stream.read() == ROWS
    same = Store((store.cache.parent / "elsewhere").as_uri(), store.cache)
    assert publish(same, "a", {"rows.parquet": ROWS, "small.json": b"{}"}).outputs["rows"].digest == (
        first.outputs["rows"].digest
    )


def test_a_content_goes_with_the_last_artifact_that_holds_it(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(store, "a", {"rows.parquet": ROWS})
    second = publish(store, "b", {"rows.parquet": ROWS}, "handed_on")
    assert store.remove_unused("made", "a", since=SOON)
    monkeypatch.setattr(contents, "SAFE_FOR", -timedelta(days=1))
    assert store.remove_unused_contents() == 0
    assert read(store, second) == {"rows.parquet": ROWS}
    assert store.remove_unused("handed_on", "b", since=SOON)
    assert len(kept(store)) == 1
    assert store.remove_unused_contents() == len(ROWS)
    assert kept(store) == []
    assert store.remove_unused_contents() == 0


@pytest.mark.parametrize("store", ["memory"], indirect=True)
def test_an_object_that_a_publication_may_be_about_to_name_is_left(store: Store) -> None:
    publish(store, "a", {"rows.parquet": ROWS})
    assert store.remove_unused("made", "a", since=SOON)
    assert store.remove_unused_contents() == 0 and len(kept(store)) == 1
    [path] = kept(store)
    files = fsspec.filesystem("memory").store
    files[path].created = datetime.now(UTC) - timedelta(days=2)
    publish(store, "b", {"rows.parquet": ROWS})  # renews it
    assert files[path].created > datetime.now(UTC) - timedelta(hours=1)
    files[path].created = datetime.now(UTC) - timedelta(days=2)
    assert store.remove_unused_contents() == 0, "a manifest names it"
    assert store.remove_unused("made", "b", since=SOON)
    assert store.remove_unused_contents() == len(ROWS)


def test_what_a_deletion_frees_is_counted_once_and_without_what_stays_elsewhere(store: Store) -> None:
    publish(store, "a", {"rows.parquet": ROWS})
    publish(store, "b", {"rows.parquet": ROWS, "other": OTHER})
    stays = publish(store, "c", {"other": OTHER})
    keep = References(frozenset({stays.outputs["rows"].uri}), frozenset(), frozenset())
    found = unused(store, inventory(store), keep, SOON)
    assert [stage.place[1] for stage in found] == ["a", "b"]
    freed = sum(stage.bytes for stage in found)
    assert len(ROWS) < freed < len(ROWS) + 4000
    if store._local:
        before = used(store)
        assert all(remove(store, stage, SOON) for stage in found)
        store.remove_unused_contents()
        assert before - used(store) == freed


def test_a_damaged_content_is_not_handed_on(store: Store) -> None:
    first = publish(store, "a", {"rows.parquet": ROWS})
    [path] = kept(store)
    with store._fs.open(path, "wb") as stream:
        stream.write(OTHER)
    with pytest.raises(StorageError, match=r"rows\.parquet of labelled_rows at .* is changed"):
        store.fetch(first.outputs["rows"].load())
    store.discard(first)
    assert read(store, publish(store, "a", {"rows.parquet": ROWS})) == {"rows.parquet": ROWS}


@pytest.mark.parametrize("store", ["file"], indirect=True)
def test_without_hard_links_an_artifact_has_files_of_its_own(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EPERM, "no links here")

    monkeypatch.setattr(os, "link", refuse)
    records = [publish(store, key, {"rows.parquet": ROWS}) for key in "ab"]
    assert [read(store, record) for record in records] == [{"rows.parquet": ROWS}] * 2
    assert kept(store) == []


@pytest.mark.parametrize("store", ["file"], indirect=True)
def test_a_full_disk_publishes_nothing(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(os, "link", refuse)
    with pytest.raises(StorageError, match="the disk is full"):
        publish(store, "a", {"rows.parquet": ROWS})
    assert store.find("made", "a") is None and kept(store) == []


@pytest.mark.parametrize("store", ["memory"], indirect=True)
def test_a_bucket_that_was_copied_to_a_folder_is_read_there(store: Store, tmp_path: Path) -> None:
    record = publish(store, "a", {"rows.parquet": ROWS, "small.json": b"{}"})
    copy = tmp_path / "copy"
    store._fs.get(store._base, str(copy), recursive=True)
    local = Store(copy.as_uri(), tmp_path / "fetched")
    [(_, ref)] = record.outputs.items()
    moved = ref.model_copy(update={"uri": f"{local.stage_uri('made', 'a')}/rows"})
    folder = local.fetch(moved.load())
    assert (folder / "rows.parquet").read_bytes() == ROWS
    with local.open_file(moved, "rows.parquet") as stream:
        assert stream.read() == ROWS


def test_what_is_no_digest_is_no_place() -> None:
    with pytest.raises(StorageError, match="is no sha256"):
        contents.content_path("/store", "../" * 21 + "a")


def test_of_a_stage_that_stays_for_one_output_the_others_go(store: Store) -> None:
    kinds: Kinds = {"ranker": Ranker, "rows": LabelledRows}
    files = {"ranker/weights": OTHER, "rows/rows.parquet": ROWS}
    made = publish(store, "a", files, COUNT.name, kinds)
    publish(store, "b", {"rows.parquet": ROWS}, "newer")
    store.supersede("count_numbers", "leads_there", made)
    keep = References(frozenset(), frozenset({made.outputs["ranker"].digest}), frozenset())
    assert unused(store, inventory(store), keep, made.created_at) == (), "it is new"
    found = {stage.place[1]: stage for stage in unused(store, inventory(store), keep, SOON)}
    assert found.keys() == {"a", "b"}
    part = found["a"]
    assert (part.outputs, part.kinds, part.leading) == (
        ("rows",),
        ("labelled_rows",),
        (("count_numbers", "leads_there"),),
    )
    assert part.bytes > len(ROWS) > found["b"].bytes
    assert not remove(store, part, made.created_at), "a run has made it since"
    assert remove(store, part, SOON)

    assert read(store, made, "ranker") == {"weights": OTHER}
    assert not store._fs.exists(f"{store._stage_path('count_numbers', 'a')}/rows/manifest.json")
    for key in ("a", "leads_there"):
        record = store.find("count_numbers", key)
        assert record is not None and record.freed == ("rows",) and record.outputs == made.outputs
    assert earlier_result(store, COUNT, made.explanation, "inputs", "cache") is None
    assert [stage.place[1] for stage in unused(store, inventory(store), keep, SOON)] == ["b"], "it went already"
    # All that it was made from stays where it is behind an alias: so does what it made.
    roots = References(frozenset(), frozenset(), frozenset({made.outputs["ranker"].digest}))
    assert "a" not in {stage.place[1] for stage in unused(store, inventory(store), roots, SOON)}


@pytest.mark.parametrize("store", ["file"], indirect=True)
def test_what_a_killed_publication_left_among_the_contents_is_swept(store: Store) -> None:
    publish(store, "a", {"rows.parquet": ROWS})
    left = Path(store._base) / contents.CONTENTS / f".incoming-x-{os.uname().nodename.replace('-', '_')}@999999999-1"
    left.write_bytes(b"half")
    sweep(Path(store._base))
    assert not left.exists() and len(kept(store)) == 1


@settings(max_examples=25, deadline=None)
@given(
    nights=st.lists(st.sets(st.integers(0, 5), min_size=1, max_size=3), min_size=1, max_size=5),
    gone=st.sets(st.integers(0, 4)),
)
def test_whatever_goes_the_store_holds_what_stays_and_nothing_else(
    nights: list[set[int]], gone: set[int], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("nights")
    store = Store((folder / "store").as_uri(), folder / "fetched")
    blocks = [{f"day{day}": bytes([day]) * contents.LEAST for day in night} for night in nights]
    records = [publish(store, str(number), files) for number, files in enumerate(blocks)]
    for number in gone & {*range(len(nights))}:
        assert store.remove_unused("made", str(number), since=SOON)
    store.remove_unused_contents()
    stay = [number for number in range(len(nights)) if number not in gone]
    assert all(read(store, records[number]) == blocks[number] for number in stay)
    assert len(kept(store)) == len(set[int]().union(*(nights[number] for number in stay)))
    shutil.rmtree(folder)
