"""Is nothing opened or written outside the store, whatever a manifest, a record or a tag says, and no change missed?"""

from __future__ import annotations

import json
from pathlib import Path, PurePosixPath
from typing import Any

import fsspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from components.platform.artifacts import EventsTable, Ranker
from components.platform.errors import MissingError, StorageError
from components.platform.settings import Settings
from components.platform.store.publish import Store, open_store
from components.platform.store.records import MANIFEST, StageRecord, content_digest
from features.ground.files import sha256_file
from features.ground.plain_names import FileName, FolderName, is_plain
from registry.versions.seal import Seal
from tests.trained import publish

PARTS = st.sampled_from(["a", "b.json", "..", ".", "", "~", "C:", "c:x", "a\\b", "\\", "..\\..", "x\0y", "..."])
NAMES = st.one_of(st.text(max_size=12), st.lists(PARTS, max_size=5).map("/".join))
OUTSIDE = [
    "../../../etc/passwd", "..", "a/../../b", "/etc/passwd", "//host/share", "C:/x", "c:x", "..\\x", "\\\\host\\x", "",
    "a//b", "./a", "a/", "a\nb",
]  # fmt: skip


@given(NAMES)
def test_a_plain_name_never_leaves_its_folder(name: str) -> None:
    if not is_plain(name):
        return
    for base in (PurePosixPath("/store/x"), PurePosixPath("rel")):
        joined = base / name
        assert joined.is_relative_to(base) and joined != base and ".." not in joined.parts
    assert "\\" not in name and not name.startswith("/")
    TypeAdapter(FileName).validate_python(name)


@pytest.mark.parametrize("name", OUTSIDE)
def test_a_name_that_could_leave_is_refused_wherever_one_stands(name: str) -> None:
    assert not is_plain(name)
    with pytest.raises(ValidationError):
        TypeAdapter(FolderName).validate_python(name)
    with pytest.raises(ValidationError):
        Seal(files={name: "0" * 64})


def test_an_ordinary_name_passes() -> None:
    assert all(map(is_plain, ["events.parquet", "ranker/weights.safetensors", "..a", "a b/ü #%.json"]))


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings.at(tmp_path / "home")


@pytest.fixture
def table(settings: Settings, tmp_path: Path) -> EventsTable:
    (tmp_path / "made").mkdir()
    (tmp_path / "made" / "events.parquet").write_text("rows")
    loaded = publish(settings, EventsTable, tmp_path / "made").load()
    assert isinstance(loaded, EventsTable)
    return loaded


def folder_of(table: EventsTable) -> Path:
    return Path(table.uri.removeprefix("file://"))


def rewrite(table: EventsTable, **changes: Any) -> None:
    path = folder_of(table) / MANIFEST
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize("name", OUTSIDE)
def test_a_manifest_with_such_a_name_is_one_sentence(settings: Settings, table: EventsTable, name: str) -> None:
    rewrite(table, files={name: "0" * 64})
    with pytest.raises(StorageError, match=r"manifest\.json at .* cannot be read: .* no plain relative name") as caught:
        open_store(settings).fetch(table)
    assert "\n" not in str(caught.value)


def test_files_that_changed_with_their_manifest_are_refused(settings: Settings, table: EventsTable) -> None:
    """Whoever changes the files and lists them as they are now cannot keep the digest."""
    changed = folder_of(table) / "events.parquet"
    changed.write_text("other rows")
    now = {"events.parquet": sha256_file(changed)}
    rewrite(table, files=now)
    with pytest.raises(StorageError, match="was changed: its digest is not that of its files"):
        open_store(settings).fetch(table)
    rewrite(table, files=now, digest=content_digest("events_table", 1, now))
    with pytest.raises(StorageError, match=f"expected {table.digest[:12]}"):
        open_store(settings).fetch(table)


def test_a_file_that_was_added_is_refused(settings: Settings, table: EventsTable) -> None:
    (folder_of(table) / "more.parquet").write_text("rows of somebody else")
    with pytest.raises(StorageError, match=r"more\.parquet of events_table at .* is not among the files that were"):
        open_store(settings).fetch(table)


class Noticing(fsspec.AbstractFileSystem):  # type: ignore[misc]  # fsspec has no types
    """A driver that must not be asked."""

    protocol = "noticing"

    def _open(self, path: str, *args: Any, **options: Any) -> Any:
        raise AssertionError(f"{path} was opened")

    cat_file = info = ls = _open


@pytest.mark.parametrize(
    "uri",
    [
        "zip://manifest.json::noticing://host/x.zip",
        "noticing://host/x",
        "noticing://host/x::{root}/a/b/c",
        "{root}/../outside",
        "{root}/a/%2e%2e/%2e%2e/outside",
        "{root}::noticing://x",
        "{root}",
        "{root}/",
        "{root}-other/a/b/c",
        "file://noticing{path}/a/b/c",
        "/etc",
        "s3://bucket/a/b/c",
        "",
    ],
)
@pytest.mark.parametrize("remote", [False, True])
def test_a_place_outside_the_store_is_never_opened(uri: str, remote: bool, tmp_path: Path) -> None:
    fsspec.register_implementation("noticing", Noticing, clobber=True)
    root = "memory://bucket/store" if remote else (tmp_path / "store").as_uri()
    store = Store(root, tmp_path / "cache")
    artifact = Ranker(uri=uri.format(root=root, path=tmp_path / "store"), digest="0" * 64)
    for ask in (store.manifest, store.fetch, lambda one: store.open_file(one, "x")):
        with pytest.raises(MissingError, match="lies outside the store"):
            ask(artifact)


@pytest.mark.parametrize("field", ["component", "key", "output"])
def test_a_record_with_a_name_that_leaves_counts_as_absent(settings: Settings, table: EventsTable, field: str) -> None:
    store, path = open_store(settings), folder_of(table).parent / "stage.json"
    record = json.loads(path.read_text())
    component, key = record["component"], record["key"]
    assert isinstance(store.find(component, key), StageRecord)
    record |= {"outputs": {"../x": record["outputs"]["made"]}} if field == "output" else {field: "../x"}
    path.write_text(json.dumps(record))
    assert store.find(component, key) is None
    with pytest.raises(MissingError, match="names no stage of a store"):
        store.find("../other", key)
