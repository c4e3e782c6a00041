"""How does an artifact come into being at once or not at all, and how is it read back unharmed?

The outputs of a stage are written to a local staging directory, described by manifests, and then
published together under ``<root>/<component>/<key>/``. On a local store that is one directory
rename; on an object store the files go up first and ``stage.json`` last. A stage without
``stage.json``, or an artifact without ``manifest.json``, does not exist. Beside ``stage.json`` a
run that takes the stage from the store leaves ``used``, the time of its last use.
"""

from __future__ import annotations

import errno
import os
import shutil
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path, PurePosixPath
from typing import Any

from pydantic import ValidationError

from components.platform.artifacts import Artifact
from components.platform.errors import BadInputError, MissingError, StorageError
from components.platform.half_done import DISCARDED, INCOMING, half_done, sweep
from components.platform.records import (
    MANIFEST,
    ArtifactRef,
    Manifest,
    StageRecord,
    content_digest,
    file_digests,
    files_below,
    sha256_json,
)
from components.platform.settings import Settings
from features.ground.files import locked, sha256_file, write_durably
from features.ground.plain_names import is_plain
from features.ground.remote_files import local_path, name_below, open_files

__all__ = [
    "MANIFEST",
    "ArtifactRef",
    "Manifest",
    "StageRecord",
    "Store",
    "content_digest",
    "file_digests",
    "open_store",
    "sha256_json",
]

STAGE = "stage.json"
USED = "used"
USE_COUNTS_FOR = timedelta(hours=1)
"""A use within this time of the last one is not written down again."""


def _fsync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


class Store:
    """Artifacts at an fsspec URI.

    Args:
        root: URI of the store, such as ``file:///var/rankmill/artifacts`` or ``s3://bucket/rankmill``.
        cache: local folder for artifacts fetched from a remote store.
    """

    def __init__(self, root: str, cache: Path) -> None:
        self.root = root.rstrip("/")
        self.cache = cache
        self._local = local_path(self.root) is not None
        self._fs, self._base = open_files(self.root, "RANKMILL_ARTIFACTS", StorageError)

    def _stage_path(self, component: str, key: str) -> str:
        if not is_plain(f"{component}/{key}"):
            raise MissingError(f"{component}/{key} names no stage of a store: give a component and a key")
        return str(PurePosixPath(self._base) / component / key)

    def stage_uri(self, component: str, key: str) -> str:
        """Return the URI that the outputs of `component` under `key` have."""
        return f"{self.root}/{component}/{key}"

    def find(self, component: str, key: str) -> StageRecord | None:
        """Return the published record of a stage, or None when it does not exist.

        A record that cannot be read counts as absent: the stage runs again.
        """
        try:
            text = self._fs.cat_file(f"{self._stage_path(component, key)}/{STAGE}").decode()
            return StageRecord.model_validate_json(text)
        except (FileNotFoundError, ValueError):
            return None

    def records(self, component: str) -> tuple[StageRecord, ...]:
        """Return every published record of a component, newest first; unreadable ones count as absent."""
        found: dict[str, StageRecord] = {}
        for key in self.keys(component):
            record = self.find(component, key)
            if record is not None:
                found[record.key] = record  # a superseded key leads to a record that has its own folder too
        return tuple(sorted(found.values(), key=lambda record: record.created_at, reverse=True))

    def components(self) -> tuple[str, ...]:
        """Return the components that have something in the store, sorted."""
        return tuple(self._names(self._base))

    def keys(self, component: str) -> tuple[str, ...]:
        """Return the keys below a component, sorted, those without a readable record included."""
        return tuple(self._names(f"{self._base}/{component}"))

    def _names(self, folder: str) -> list[str]:
        try:
            names = sorted(PurePosixPath(path).name for path in self._fs.ls(folder, detail=False))
        except FileNotFoundError:
            return []
        return [name for name in names if not name.startswith(".")]

    def publish(
        self,
        staged: Path,
        outputs: Mapping[str, Artifact],
        *,
        component: str,
        component_version: str,
        key: str,
        config_digest: str,
        inputs: Mapping[str, str],
        explanation: Mapping[str, str],
        seconds: float,
        notes: list[str],
        annotations: Mapping[str, str],
        config: Mapping[str, Any] | None = None,
        sources: Mapping[str, str] | None = None,
        made_by: str = "",
    ) -> StageRecord:
        """Publish the drafts below `staged` (one directory per output) as one stage.

        Returns:
            The record; when another run has published the same key meanwhile, that run's.

        Raises:
            StorageError: the store is full or unreachable; nothing was published.
        """
        now = datetime.now(UTC)
        refs: dict[str, ArtifactRef] = {}
        try:
            for name, artifact in sorted(outputs.items()):
                directory = staged / name
                hashes = file_digests(directory)
                manifest = Manifest(
                    kind=artifact.kind,
                    schema_version=artifact.schema_version,
                    digest=content_digest(artifact.kind, artifact.schema_version, hashes),
                    files=hashes,
                    sizes={file: (directory / file).stat().st_size for file in hashes},
                    component=component,
                    component_version=component_version,
                    config_digest=config_digest,
                    inputs=dict(sorted(inputs.items())),
                    annotations=dict(sorted(annotations.items())),
                    created_at=now,
                )
                write_durably(directory / MANIFEST, manifest.model_dump_json(indent=2))
                refs[name] = ArtifactRef(
                    kind=artifact.kind, uri=f"{self.stage_uri(component, key)}/{name}", digest=manifest.digest
                )
            record = StageRecord(
                component=component,
                component_version=component_version,
                key=key,
                outputs=refs,
                seconds=seconds,
                notes=notes,
                annotations=dict(sorted(annotations.items())),
                explanation=dict(explanation),
                config=dict(config or {}),
                sources=dict(sources or {}),
                made_by=made_by,
                created_at=now,
            )
            write_durably(staged / STAGE, record.model_dump_json(indent=2))
            return self._publish_local(staged, record) if self._local else self._publish_remote(staged, record)
        except OSError as error:
            reason = "the disk is full" if error.errno == errno.ENOSPC else str(error)
            raise StorageError(
                f"cannot publish {component} to {self.stage_uri(component, key)}: {reason}; "
                "nothing was published, free space or fix the store and run again"
            ) from error

    def _publish_local(self, staged: Path, record: StageRecord) -> StageRecord:
        target = Path(self._stage_path(record.component, record.key))
        target.parent.mkdir(parents=True, exist_ok=True)
        # The rename must not cross file systems, so stage a copy beside the target where it would.
        sweep(Path(self._base))
        incoming = target.parent / half_done(INCOMING, record.key)
        try:
            try:
                staged.rename(incoming)
            except OSError as error:
                if error.errno != errno.EXDEV:
                    raise
                shutil.copytree(staged, incoming)
            for file in incoming.rglob("*"):
                _fsync(file)
            # First whether it is there, then whether it counts: a whole stage appears at once, so that what
            # another run publishes between the two questions is never taken for a ruin.
            if target.exists() and self.find(record.component, record.key) is None:
                shutil.rmtree(target)  # left by hand or by a broken disk: without its record it does not exist
            try:
                incoming.rename(target)
            except OSError as error:
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                    raise
                first = self.find(record.component, record.key)
                if first is None:
                    raise
                return first
            _fsync(target.parent)
        finally:
            shutil.rmtree(incoming, ignore_errors=True)
        return record

    def _publish_remote(self, staged: Path, record: StageRecord) -> StageRecord:
        first = self.find(record.component, record.key)
        if first is not None:
            return first
        target = self._stage_path(record.component, record.key)
        last = [p for p in staged.rglob(MANIFEST)] + [staged / STAGE]
        for path in sorted(p for p in staged.rglob("*") if p.is_file() and p not in last) + last:
            self._fs.put_file(str(path), f"{target}/{path.relative_to(staged).as_posix()}")
        return record

    def supersede(self, component: str, key: str, record: StageRecord) -> None:
        """Let `key` lead to a newer stage that was made from the same parts; what lay there stays readable by URI."""
        text = record.model_dump_json(indent=2)
        path = f"{self._stage_path(component, key)}/{STAGE}"
        try:
            if self._local:
                write_durably(Path(path), text)
            else:
                self._fs.pipe_file(path, text.encode())
        except OSError as error:
            raise StorageError(f"cannot write {path}: {error}; free space or fix the store and run again") from error

    def touch(self, component: str, key: str) -> bool:
        """Note that a run uses a stage now, which keeps it from `remove_unused`; return whether it is still there."""
        path = self._stage_path(component, key)
        try:
            with self._removing():
                if not self._fs.exists(f"{path}/{STAGE}"):
                    return False
                last = self.last_used(component, key)
                if last is None or datetime.now(UTC) - last > USE_COUNTS_FOR:
                    self._fs.pipe_file(f"{path}/{USED}", datetime.now(UTC).isoformat().encode())
        except (PermissionError, BadInputError):  # whoever may only read the store cannot collect it either
            return self.find(component, key) is not None
        return True

    def last_used(self, component: str, key: str) -> datetime | None:
        """Return when a run last took a stage from the store, or None when none did."""
        try:
            text = self._fs.cat_file(f"{self._stage_path(component, key)}/{USED}").decode()
        except FileNotFoundError:
            return None
        try:
            return datetime.fromisoformat(text)
        except ValueError:  # cut short by a crash: somebody was using it
            return datetime.now(UTC)

    def changed(self, component: str, key: str) -> datetime | None:
        """Return when a file of a stage was last written, complete or not; None where the store cannot tell."""
        found = self._fs.find(self._stage_path(component, key), detail=True).values()
        times = [info.get("mtime") or info.get("LastModified") or info.get("created") for info in found]
        known = [datetime.fromtimestamp(t, UTC) if isinstance(t, int | float) else t for t in times]
        return max((moment for moment in known if moment is not None), default=None)

    def size(self, component: str, key: str) -> int:
        """Return the bytes that a stage takes."""
        return int(self._fs.du(self._stage_path(component, key)))

    def remove_unused(self, component: str, key: str, since: datetime) -> bool:
        """Delete a stage unless a run has made or used it since; return whether it was deleted."""
        with self._removing():
            record = self.find(component, key)
            times = [self.last_used(component, key), record.created_at if record else self.changed(component, key)]
            known = [moment for moment in times if moment is not None]
            if not known or max(known) >= since:
                return False  # gone already, or in use again
            gone = self._put_aside(component, key)
        self._delete(gone)
        return True

    def discard(self, record: StageRecord) -> None:
        """Delete a published stage that turned out to be damaged, unless it has been published anew meanwhile."""
        with self._removing():
            now = self.find(record.component, record.key)
            if now is not None and now != record:
                return
            gone = self._put_aside(record.component, record.key)
        self._delete(gone)

    def _delete(self, path: str) -> None:
        if self._fs.exists(path):
            self._fs.rm(path, recursive=True)

    def _put_aside(self, component: str, key: str) -> str:
        """Make a stage cease to exist at once, and return what is left to be deleted."""
        path = self._stage_path(component, key)
        if self._local:
            aside = Path(path).with_name(half_done(DISCARDED, key))
            if Path(path).exists():
                Path(path).rename(aside)
            return str(aside)
        if self._fs.exists(f"{path}/{STAGE}"):
            self._fs.rm_file(f"{path}/{STAGE}")
        return path

    @contextmanager
    def _removing(self) -> Iterator[None]:
        """Keep using and removing a stage apart, where the store is a folder; an object store has no locks."""
        if not self._local:
            yield
            return
        with locked(Path(self._base) / ".lock"):
            yield

    def manifest(self, artifact: Artifact) -> Manifest:
        """Return the manifest of a published artifact.

        Raises:
            MissingError: there is no artifact at this URI.
            StorageError: its manifest is not the one the reference was made from, or contradicts itself.
        """
        path = f"{self._path(artifact.uri)}/{MANIFEST}"
        try:
            manifest = Manifest.model_validate_json(self._fs.cat_file(path))
        except FileNotFoundError:
            raise MissingError(
                f"no {artifact.kind} at {artifact.uri}: its {MANIFEST} is missing; run the stage that makes it"
            ) from None
        except ValueError as error:
            raise StorageError(
                f"the {MANIFEST} at {artifact.uri} cannot be read: {_reason(error)}; delete the folder and run again"
            ) from error
        if manifest.digest != content_digest(manifest.kind, manifest.schema_version, manifest.files):
            raise StorageError(
                f"the {MANIFEST} at {artifact.uri} was changed: its digest is not that of its files; "
                f"delete {self._parent(artifact.uri)} and run again to rebuild it"
            )
        if artifact.digest and manifest.digest != artifact.digest:
            raise StorageError(
                f"{artifact.kind} at {artifact.uri} has digest {manifest.digest[:12]}, "
                f"expected {artifact.digest[:12]}: it was replaced; run the stage that makes it again"
            )
        return manifest

    def fetch(self, artifact: Artifact) -> Path:
        """Return a local directory with the files of a published artifact, each checked against its sha256.

        Raises:
            MissingError: there is no artifact at this URI.
            StorageError: a file is missing, truncated or changed.
        """
        manifest = self.manifest(artifact)
        remote = self._path(artifact.uri)
        directory = Path(remote) if self._local else self.cache / manifest.digest
        fault = _fault(directory, manifest)
        if fault and not self._local:
            fault = self._copy(remote, directory, manifest)
        if fault:
            raise StorageError(
                f"{fault[0]} of {artifact.kind} at {artifact.uri} is {fault[1]}; "
                f"delete {self._parent(artifact.uri)} and run again to rebuild it"
            )
        if not self._local:
            os.utime(directory)
        return directory

    def _copy(self, remote: str, directory: Path, manifest: Manifest) -> tuple[str, str] | None:
        """Fetch an artifact from an object store to `directory`, whole or not at all; return what `_fault` finds."""
        incoming = self.cache / f".{manifest.digest}-{uuid.uuid4().hex}"
        try:
            for name in manifest.files:
                (incoming / name).parent.mkdir(parents=True, exist_ok=True)
                with suppress(FileNotFoundError):  # a fault, which is told with the others
                    self._fs.get_file(f"{remote}/{name}", str(incoming / name))
            if fault := _fault(incoming, manifest):
                return fault
            (incoming / MANIFEST).write_text(manifest.model_dump_json())
            shutil.rmtree(directory, ignore_errors=True)
            try:
                incoming.rename(directory)
            except OSError:  # another process was faster
                return _fault(directory, manifest)
            return None
        finally:
            shutil.rmtree(incoming, ignore_errors=True)

    def open_file(self, artifact: Artifact | ArtifactRef, name: str) -> Any:
        """Open one file of an artifact for reading, unchecked: for who looks at a footer and does not compute with it.

        Raises:
            MissingError: the artifact lies outside this store, or the name leads out of the artifact.
        """
        if not is_plain(name):
            raise MissingError(f"{name!r} names no file of {artifact.uri}: give a plain relative name")
        return self._fs.open(f"{self._path(artifact.uri)}/{name}", "rb")

    def _path(self, uri: str) -> str:
        """Return the path of an artifact in this store's file system.

        Raises:
            MissingError: it does not lie below the root.
        """
        name = name_below(self.root, uri)
        if name is None:
            raise MissingError(
                f"artifact {uri} lies outside the store {self.root}: point RANKMILL_ARTIFACTS at its store"
            )
        return f"{self._base.rstrip('/')}/{name}"

    @staticmethod
    def _parent(uri: str) -> str:
        return uri.rsplit("/", 1)[0]


def _fault(directory: Path, manifest: Manifest) -> tuple[str, str] | None:
    """Return the first file that is not what the manifest says, and in what state it is, or None."""
    for name, expected in manifest.files.items():
        file = directory / name
        if not file.exists() or sha256_file(file) != expected:
            return name, "changed since it was published" if file.exists() else "missing"
    present = {file.relative_to(directory).as_posix() for file in files_below(directory)}
    if added := sorted(present - {*manifest.files}):
        return added[0], "not among the files that were published"
    return None


def _reason(error: ValueError) -> str:
    """Return why a manifest cannot be read, in one line."""
    return str(error.errors()[0]["msg"]) if isinstance(error, ValidationError) else str(error).splitlines()[0]


def open_store(settings: Settings) -> Store:
    """Return the artifact store of these settings."""
    return Store(settings.artifacts, settings.home / "fetched")
