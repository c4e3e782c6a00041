"""How does an artifact come into being at once or not at all, and how does it go?

The outputs of a stage are written to a local staging directory, described by manifests, and then
published together under ``<root>/<component>/<key>/``. On a local store that is one directory
rename; on an object store the files go up first and ``stage.json`` last. Beside ``stage.json`` a
run that takes the stage from the store leaves ``used``, the time of its last use.

A folder that is half published or half deleted has a name that begins with a dot, so that no reader looks into it, and
that names the process which works on it.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import socket
import uuid
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from components.platform.artifacts import Artifact
from components.platform.errors import BadInputError, MissingError, StorageError
from components.platform.settings import Settings
from components.platform.store.contents import (
    CONTENTS,
    LEAST,
    content_path,
    delete_unused,
    link,
    put,
    unlink_unused,
    written_at,
)
from components.platform.store.reader import STAGE, StoreReader
from components.platform.store.records import MANIFEST, ArtifactRef, Manifest, StageRecord, content_digest, file_digests
from features.ground.files import is_gone, locked, write_durably

USED = "used"
USE_COUNTS_FOR = timedelta(hours=1)
"""A use within this time of the last one is not written down again."""
INCOMING = ".incoming"
DISCARDED = ".discarded"
"""Prefixes of folders that are not there yet and not there any more."""


@dataclass(frozen=True)
class Held:
    """What a stage takes in the store."""

    own: int
    """Bytes of files that no other stage can have."""
    contents: Mapping[str, int]
    """Bytes of each file that others may refer to as well, by its sha256."""


class Store(StoreReader):
    """Artifacts at an fsspec URI: read, published, used and removed."""

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
        peak_bytes: int | None = None,
        rows: int | None = None,
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
                sizes = {file: (directory / file).stat().st_size for file in hashes}
                manifest = Manifest(
                    kind=artifact.kind,
                    schema_version=artifact.schema_version,
                    digest=content_digest(artifact.kind, artifact.schema_version, hashes),
                    files=hashes,
                    sizes=sizes,
                    shared=() if self._local else tuple(file for file in hashes if sizes[file] >= LEAST),
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
                peak_bytes=peak_bytes,
                rows=rows,
                created_at=now,
            )
            write_durably(staged / STAGE, record.model_dump_json(indent=2))
            return self._publish_local(staged, record) if self._local else self._publish_remote(staged, record)
        except OSError as error:
            reason = _reason(error)
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
            self._share(incoming, record)
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

    def _share(self, stage: Path, record: StageRecord) -> None:
        """Let the files of a stage that is not published yet be those that the store has already."""
        for name in record.outputs:
            manifest = Manifest.model_validate_json((stage / name / MANIFEST).read_bytes())
            for file, sha256 in manifest.files.items():
                if manifest.sizes[file] >= LEAST:
                    spare = Path(self._base) / CONTENTS / half_done(INCOMING, sha256)
                    link(Path(content_path(self._base, sha256)), stage / name / file, sha256, spare)

    def _publish_remote(self, staged: Path, record: StageRecord) -> StageRecord:
        first = self.find(record.component, record.key)
        if first is not None:
            return first
        target = self._stage_path(record.component, record.key)
        shared: dict[Path, str] = {}
        for name in record.outputs:
            manifest = Manifest.model_validate_json((staged / name / MANIFEST).read_bytes())
            shared |= {staged / name / file: content_path(self._base, manifest.files[file]) for file in manifest.shared}
        last = [p for p in staged.rglob(MANIFEST)] + [staged / STAGE]
        for path in sorted(p for p in staged.rglob("*") if p.is_file() and p not in last) + last:
            if path in shared:
                put(self._fs, shared[path], path)
            else:
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
        return max((moment for info in found if (moment := written_at(info)) is not None), default=None)

    def held(self, component: str, key: str, outputs: Collection[str] | None = None) -> Held:
        """Return the bytes that a stage takes, or some of its outputs; none where it goes while they are counted."""
        path = self._stage_path(component, key)
        own, contents = 0, dict[str, int]()
        for name in outputs if outputs is not None else self._names(path):
            with suppress(FileNotFoundError):
                own += int(self._fs.du(f"{path}/{name}"))
            with suppress(FileNotFoundError, NotADirectoryError, ValueError):
                manifest = Manifest.model_validate_json(self._fs.cat_file(f"{path}/{name}/{MANIFEST}"))
                large = {
                    file: size for file, size in manifest.sizes.items() if size >= LEAST and file in manifest.files
                }
                own -= sum(size for file, size in large.items() if file not in manifest.shared)
                contents |= {manifest.files[file]: size for file, size in large.items()}
        return Held(max(own, 0), contents)

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

    def free_outputs(self, places: Collection[tuple[str, str]], outputs: Collection[str], since: datetime) -> bool:
        """Delete some outputs of a stage unless a run has made or used it since; return whether they were deleted.

        Args:
            places: component and key of the stage, then those that lead to it.
            outputs: names of those that go; the others stay as they are.
            since: aware moment.
        """
        (component, key), *leading = places
        with self._removing():
            record = self.find(component, key)
            if record is None:
                return False
            used = (self.last_used(*place) for place in places)
            if max([record.created_at, *(moment for moment in used if moment is not None)]) >= since:
                return False
            # What says that they are gone is written first: whoever looks a moment later asks for nothing that is not.
            record = record.model_copy(update={"freed": tuple(sorted({*record.freed, *outputs}))})
            for place in ((component, key), *leading):
                self.supersede(*place, record)
            gone = [self._put_output_aside(component, key, name) for name in outputs]
        for path in gone:
            self._delete(path)
        return True

    def _put_output_aside(self, component: str, key: str, name: str) -> str:
        """Make one output of a stage cease to exist at once, and return what is left to be deleted."""
        path = f"{self._stage_path(component, key)}/{name}"
        if self._local:
            aside = Path(self._stage_path(component, half_done(DISCARDED, key)))
            if Path(path).exists():
                Path(path).rename(aside)
            return str(aside)
        if self._fs.exists(f"{path}/{MANIFEST}"):
            self._fs.rm_file(f"{path}/{MANIFEST}")
        return path

    def remove_unused_contents(self) -> int:
        """Delete the contents that no artifact refers to any more, and return their bytes."""
        folder, now = f"{self._base.rstrip('/')}/{CONTENTS}", datetime.now(UTC)
        if self._local:
            return unlink_unused(Path(folder))
        if not self._fs.exists(folder):
            return 0
        used: set[str] = set()
        for path in self._fs.find(self._base):
            if path.rpartition("/")[2] == MANIFEST:
                try:
                    manifest = Manifest.model_validate_json(self._fs.cat_file(path))
                except FileNotFoundError:
                    continue
                except ValueError:
                    return 0  # whatever it refers to must stay
                used |= {manifest.files[file] for file in manifest.shared if file in manifest.files}
        return delete_unused(self._fs, folder, used, now)

    def discard(self, record: StageRecord) -> None:
        """Delete a published stage that turned out to be damaged, unless it has been published anew meanwhile."""
        with self._removing():
            now = self.find(record.component, record.key)
            if now is not None and now != record:
                return
            self._discard_damaged_contents(record)
            gone = self._put_aside(record.component, record.key)
        self._delete(gone)

    def _discard_damaged_contents(self, record: StageRecord) -> None:
        """Delete what a stage refers to in an object store and is not what it says, so that it is written again."""
        for ref in record.outputs.values():
            with suppress(MissingError, StorageError):
                manifest = self.manifest(ref)
                for sha256 in {manifest.files[file] for file in manifest.shared}:
                    path = content_path(self._base, sha256)
                    with suppress(FileNotFoundError), self._fs.open(path, "rb") as stream:
                        if hashlib.file_digest(stream, "sha256").hexdigest() != sha256:
                            self._fs.rm_file(path)

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


def open_store(settings: Settings) -> Store:
    """Return the artifact store of these settings."""
    return Store(settings.artifacts, settings.home / "fetched")


def half_done(kind: str, key: str) -> str:
    """Return a new name for a folder that this process publishes or deletes.

    Args:
        kind: `INCOMING` or `DISCARDED`.
        key: of the stage.
    """
    return f"{kind}-{key}-{_owner()}-{uuid.uuid4().hex}"


def sweep(root: Path) -> None:
    """Delete what killed processes of this machine left half done below the components' folders in `root`."""
    for left in root.glob("*/.*"):
        kind, _, rest = left.name.partition("-")
        owner = rest.split("-")[1:2]
        if kind in (INCOMING, DISCARDED) and owner and _has_ended(owner[0]):
            if left.is_file():  # a spare name of a content
                left.unlink(missing_ok=True)
            shutil.rmtree(left, ignore_errors=True)


def _owner() -> str:
    """Return this process in a name: its machine and number."""
    return f"{socket.gethostname().replace('-', '_')}@{os.getpid()}"


def _has_ended(owner: str) -> bool:
    """Return whether a process of this machine, as `_owner` names it, has ended."""
    machine, _, number = owner.partition("@")
    here = _owner().partition("@")[0]
    return machine == here and number.isdigit() and is_gone(int(number))


def _reason(error: OSError) -> str:
    """Return why something cannot be written; of a copy of many files the first reason."""
    several = error.args[0] if isinstance(error, shutil.Error) and isinstance(error.args[0], list) else ()
    said = str(several[0][2]) if several else str(error)
    return "the disk is full" if error.errno == errno.ENOSPC or os.strerror(errno.ENOSPC) in said else said


def _fsync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
