"""What is written beside an artifact? The reference that travels, its manifest, and the record of its stage."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from pydantic import Field

from components.platform.artifacts import Artifact, artifact_kinds
from components.platform.errors import MissingError
from features.declaration import Frozen
from features.ground.files import sha256_file
from features.ground.plain_names import FileName, FolderName

MANIFEST = "manifest.json"


class ArtifactRef(Frozen):
    """What travels in XCom: a typed reference, never bytes."""

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


class Manifest(Frozen):
    """The last file of an artifact.

    `files` maps relative names to sha256; `digest` covers kind, schema version and `files` only, so
    that the same bytes have the same digest whoever made them. `shared` are the files that lie among the store's
    contents (`components.platform.store.contents`) instead of in the artifact.
    """

    kind: str
    schema_version: int
    digest: str
    files: dict[FileName, str]
    sizes: dict[str, int]
    shared: tuple[FileName, ...] = ()
    component: str
    component_version: str
    config_digest: str
    inputs: dict[str, str] = Field(default_factory=dict)
    annotations: dict[str, str] = Field(default_factory=dict)
    created_at: datetime


class StageRecord(Frozen):
    """The last file of a published stage: what it made, from what, and in how long.

    `explanation` holds the parts of the cache key; `config` and `sources` say in full what two of them
    only digest: the values of the config, and the digest of each source file by module and name; `made_by`
    is ``pipeline.stage``; `peak_bytes` is the most memory that its processes took at once, `rows` counts those of its
    Parquet files. Records of earlier releases lack all of these.
    """

    component: FolderName
    component_version: str
    key: FolderName
    outputs: dict[FolderName, ArtifactRef]
    seconds: float
    notes: list[str]
    annotations: dict[str, str]
    explanation: dict[str, str]
    config: dict[str, Any] = Field(default_factory=dict)
    sources: dict[str, str] = Field(default_factory=dict)
    made_by: str = ""
    freed: tuple[str, ...] = ()
    peak_bytes: int | None = None
    rows: int | None = None
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
