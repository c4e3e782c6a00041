"""How does an artifact come into being at once or not at all, and how is it read back unharmed?

The outputs of a stage are written to a local staging directory, described by manifests, and then
published together under ``<root>/<component>/<key>/``. On a local store that is one directory
rename; on an object store the files go up first and ``stage.json`` last. A stage without
``stage.json``, or an artifact without ``manifest.json``, does not exist.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote, urlparse

from pydantic import BaseModel, ConfigDict, Field

from components.artifacts import Artifact, artifact_kinds
from components.errors import MissingError, StorageError
from components.settings import Settings
from features.files import sha256_file, write_durably

MANIFEST = "manifest.json"
STAGE = "stage.json"


class ArtifactRef(BaseModel):
    """What travels in XCom: a typed reference, never bytes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: str
    uri: str
    digest: str

    def load(self) -> Artifact:
        """Return the typed artifact.

        Raises:
            MissingError: no loaded component declares this kind.
        """
        kinds = artifact_kinds()
        if self.kind not in kinds:
            raise MissingError(
                f"artifact kind {self.kind!r} at {self.uri} is not known: install the component that makes it"
            )
        return kinds[self.kind](uri=self.uri, digest=self.digest)

    @classmethod
    def of(cls, artifact: Artifact) -> ArtifactRef:
        """Return the reference of a published artifact."""
        return cls(kind=artifact.kind, uri=artifact.uri, digest=artifact.digest)


class Manifest(BaseModel):
    """The last file of an artifact.

    `files` maps relative names to sha256; `digest` covers kind, schema version and `files` only, so
    that the same bytes have the same digest whoever made them.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: str
    schema_version: int
    digest: str
    files: dict[str, str]
    sizes: dict[str, int]
    component: str
    component_version: str
    config_digest: str
    inputs: dict[str, str] = Field(default_factory=dict)
    annotations: dict[str, str] = Field(default_factory=dict)
    created_at: datetime


class StageRecord(BaseModel):
    """The last file of a published stage: what it made and in how long."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    component: str
    component_version: str
    key: str
    outputs: dict[str, ArtifactRef]
    seconds: float
    notes: list[str]
    annotations: dict[str, str]
    explanation: dict[str, str]
    created_at: datetime


def sha256_json(value: Any) -> str:
    """Return the sha256 of the canonical JSON of `value` (sorted keys, no spaces)."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def content_digest(kind: str, schema_version: int, files: Mapping[str, str]) -> str:
    """Return the digest of an artifact with these files."""
    return sha256_json({"kind": kind, "schema_version": schema_version, "files": dict(sorted(files.items()))})


def files_below(directory: Path) -> list[Path]:
    """Return the files below `directory`, sorted by relative name, without its manifest."""
    return sorted(p for p in directory.rglob("*") if p.is_file() and p.relative_to(directory).as_posix() != MANIFEST)


def file_digests(directory: Path) -> dict[str, str]:
    """Return the sha256 of each file below `directory` by relative name, sorted, without its manifest."""
    return {path.relative_to(directory).as_posix(): sha256_file(path) for path in files_below(directory)}


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
        import fsspec

        self.root = root.rstrip("/")
        self.cache = cache
        self._local = urlparse(root).scheme in ("", "file")
        self._fs, self._base = fsspec.core.url_to_fs(self.root)

    def _stage_path(self, component: str, key: str) -> str:
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
        """Return every published record of a component, newest first; unreadable ones count as absent.

        It reads them all: for a person's question, not for a run.
        """
        try:
            keys = [PurePosixPath(path).name for path in self._fs.ls(f"{self._base}/{component}", detail=False)]
        except FileNotFoundError:
            return ()
        found = [self.find(component, key) for key in keys if not key.startswith(".")]
        return tuple(sorted((r for r in found if r is not None), key=lambda r: r.created_at, reverse=True))

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
        incoming = target.parent / f".incoming-{record.key}-{uuid.uuid4().hex}"
        try:
            try:
                staged.rename(incoming)
            except OSError as error:
                if error.errno != errno.EXDEV:
                    raise
                shutil.copytree(staged, incoming)
            for file in incoming.rglob("*"):
                _fsync(file)
            if self.find(record.component, record.key) is None and target.exists():
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

    def discard(self, component: str, key: str) -> None:
        """Delete a published stage that turned out to be damaged; its record goes first."""
        path = self._stage_path(component, key)
        if self._fs.exists(f"{path}/{STAGE}"):
            self._fs.rm_file(f"{path}/{STAGE}")
        self._fs.rm(path, recursive=True)

    def manifest(self, artifact: Artifact) -> Manifest:
        """Return the manifest of a published artifact.

        Raises:
            MissingError: there is no artifact at this URI.
            StorageError: its manifest is not the one the reference was made from.
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
                f"the {MANIFEST} at {artifact.uri} cannot be read: {error}; delete the folder and run again"
            ) from error
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
        if not self._local and not (directory / MANIFEST).exists():
            incoming = self.cache / f".{manifest.digest}-{uuid.uuid4().hex}"
            for name in manifest.files:
                (incoming / name).parent.mkdir(parents=True, exist_ok=True)
                self._fs.get_file(f"{remote}/{name}", str(incoming / name))
            (incoming / MANIFEST).write_text(manifest.model_dump_json())
            try:
                incoming.rename(directory)
            except OSError:
                shutil.rmtree(incoming, ignore_errors=True)
        for name, expected in manifest.files.items():
            file = directory / name
            if not file.exists() or sha256_file(file) != expected:
                state = "changed since it was published" if file.exists() else "missing"
                raise StorageError(
                    f"{name} of {artifact.kind} at {artifact.uri} is {state}; "
                    f"delete {self._parent(artifact.uri)} and run again to rebuild it"
                )
        return directory

    def _path(self, uri: str) -> str:
        parsed = urlparse(uri)
        if self._local:
            path = Path(unquote(parsed.path) if parsed.scheme else uri)
            if not path.is_relative_to(self._base):
                raise MissingError(
                    f"artifact {uri} lies outside the store {self.root}: point RANKMILL_ARTIFACTS at its store"
                )
            return str(path)
        import fsspec

        return str(fsspec.core.url_to_fs(uri)[1])

    @staticmethod
    def _parent(uri: str) -> str:
        return uri.rsplit("/", 1)[0]


def open_store(settings: Settings) -> Store:
    """Return the artifact store of these settings."""
    return Store(settings.artifacts, settings.home / "fetched")
