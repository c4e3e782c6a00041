"""How is what a store holds read back unharmed? A record names its outputs, a manifest each file with its sha256.

A stage without ``stage.json``, or an artifact without ``manifest.json``, does not exist.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import uuid
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import Any

from pydantic import ValidationError

from components.platform.artifacts import Artifact
from components.platform.errors import MissingError, StorageError
from components.platform.store.contents import content_path
from components.platform.store.records import MANIFEST, ArtifactRef, Manifest, StageRecord, content_digest, files_below
from features.ground.files import sha256_file
from features.ground.plain_names import is_plain
from features.ground.remote_files import local_path, name_below, open_files

STAGE = "stage.json"


class StoreReader:
    """Artifacts at an fsspec URI, for reading.

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

    def manifest(self, artifact: Artifact | ArtifactRef) -> Manifest:
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
        # A folder that was an object store's before has its files elsewhere too.
        in_place = self._local and not manifest.shared
        directory = Path(remote) if in_place else self.cache / manifest.digest
        fault = _fault(directory, manifest)
        if fault and not in_place:
            fault = self._copy(remote, directory, manifest)
        if fault:
            raise StorageError(
                f"{fault[0]} of {artifact.kind} at {artifact.uri} is {fault[1]}; "
                f"delete {self._parent(artifact.uri)} and run again to rebuild it"
            )
        if not in_place:
            os.utime(directory)
        return directory

    def _copy(self, remote: str, directory: Path, manifest: Manifest) -> tuple[str, str] | None:
        """Fetch an artifact from an object store to `directory`, whole or not at all; return what `_fault` finds."""
        incoming = self.cache / f".{manifest.digest}-{uuid.uuid4().hex}"
        try:
            for name in manifest.files:
                (incoming / name).parent.mkdir(parents=True, exist_ok=True)
                with suppress(FileNotFoundError):  # a fault, which is told with the others
                    self._fs.get_file(self._place_of(name, remote, manifest), str(incoming / name))
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
        path = self._path(artifact.uri)
        if not self._fs.exists(f"{path}/{name}"):
            return self._fs.open(self._place_of(name, path, self.manifest(artifact)), "rb")
        return self._fs.open(f"{path}/{name}", "rb")

    def read(self, artifact: ArtifactRef, name: str) -> bytes:
        """Return one file of a published artifact, checked against its sha256.

        Raises:
            MissingError: there is no such artifact or file in this store.
            StorageError: the file was changed.
        """
        manifest = self.manifest(artifact)
        if name not in manifest.files:
            raise MissingError(f"{artifact.kind} at {artifact.uri} has no file {name!r}")
        with self.open_file(artifact, name) as stream:
            content = bytes(stream.read())
        if hashlib.sha256(content).hexdigest() != manifest.files[name]:
            raise StorageError(
                f"{name} of {artifact.kind} at {artifact.uri} is changed since it was published; "
                f"delete {self._parent(artifact.uri)} and run again to rebuild it"
            )
        return content

    def _place_of(self, name: str, path: str, manifest: Manifest) -> str:
        """Return where a file of the artifact at `path` lies: there, or among the contents."""
        if name in manifest.shared and name in manifest.files:
            return content_path(self._base, manifest.files[name])
        return f"{path}/{name}"

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
