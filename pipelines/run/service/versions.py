"""Which version of a model answers, and where do its files and its memory come from? MLflow, this disk, the store."""

from __future__ import annotations

import json
import os
import shutil
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from components.platform.errors import BadInputError, MissingError
from components.platform.settings import Settings
from features.ground.files import locked, write_durably
from registry.serving.live.version import Live, open_live
from registry.serving.wire.config import ServingConfig
from registry.serving.wire.pointed import Pointed

if TYPE_CHECKING:
    from registry.champion.trials import Trials
    from registry.memory.error_memory import Memory
    from registry.versions.client import Registry

KEPT = 3
"""Versions of a model whose files stay on this machine."""
CHECKED_FOR = 600.0
"""Seconds for which processes take one another's word that files are whole, unless a file was written since: a service
starts, and exchanges its version, in several at once, and gigabytes of tables take seconds to read."""


def serving_folder(settings: Settings, model: str) -> Path:
    """Return where the files of a model's versions lie on a machine that serves it."""
    return settings.home / "serving" / model


@dataclass(frozen=True)
class StoredVersions:
    """Versions of MLflow's registry, their files on this machine, and memories of the artifact store."""

    settings: Settings
    config: ServingConfig
    beside: str = ""
    """Alias of a challenger; empty for the version that answers."""
    trials: Trials | None = None
    """Which versions may be a challenger; None takes any."""

    @property
    def alias(self) -> str:
        """Alias that is followed."""
        return self.beside or self.config.follow.alias

    @property
    def registry(self) -> Registry:
        """The registry that the settings name."""
        from registry.versions.client import Registry

        return Registry(self.settings.tracking_uri, self.settings.mlflow_artifacts)

    @property
    def folder(self) -> Path:
        """Where versions lie, and what answered last."""
        return serving_folder(self.settings, self.config.model)

    def pointed(self) -> Pointed:
        """Return what the alias points at.

        Raises:
            MissingError: there is no such model, alias or version; or a challenger is what answers already, or was
                taken back by a person.
        """
        from registry.versions.memory_pointer import BANDIT, pointer_in

        state = self.registry.state(self.config.model)
        number, digest = state.behind(self.config.model, self.alias)
        if self.beside and state.aliases.get(self.config.follow.alias) == number:
            if self.trials is not None:
                self.trials.forget()  # it may be taken back before it is seen again
            raise MissingError(
                f"{self.alias} of {self.config.model} is v{number}, which answers already: nothing is compared until "
                "another version is registered"
            )
        if self.trials is not None:
            self.trials.check(number, digest)
        memory = pointer_in(state.tags[number]) if self.config.memory.use else None
        bandit = pointer_in(state.tags[number], BANDIT) if self._explores else None
        return Pointed(
            version=number,
            digest=digest,
            memory=memory.digest if memory is not None else "",
            bandit=bandit.digest if bandit is not None else "",
        )

    def open(self, pointed: Pointed) -> Live:
        """Return a version, opened, proved and warm; its files are brought once for all processes.

        Raises:
            RankmillError: they cannot be had, were changed, or answer otherwise here.
        """
        directory = self._files(pointed)
        memory = self._memory(pointed)
        live = open_live(self.config.model, self.alias, pointed, directory, memory, self.config.provider)
        return self.with_bandit(live, pointed) if pointed.bandit else live

    def with_memory(self, live: Live, pointed: Pointed) -> Live:
        """Return a version with the error memory that the registry points at."""
        return live.with_memory(self._memory(pointed), pointed.memory)

    @property
    def _explores(self) -> bool:
        """Whether its answers explore: those of a challenger are compared, and do not."""
        return not self.beside and self.config.explore is not None and self.config.explore.use

    def with_bandit(self, live: Live, pointed: Pointed) -> Live:
        """Return a version with the bandit that the registry points at."""
        from components.memory.refresh_bandit.pointer import find_bandit

        found = find_bandit(self.settings, self.config.model, pointed.version) if pointed.bandit else None
        return live.with_bandit(found, pointed.bandit, self.config.explore.draw if self.config.explore else None)

    def last(self) -> Pointed | None:
        """Return what answered last on this machine, or None; a challenger has answered nobody."""
        if self.beside:
            return None
        try:
            return Pointed.model_validate_json((self.folder / "live.json").read_bytes())
        except (OSError, ValidationError):
            return None

    def remember(self, pointed: Pointed) -> None:
        """Note what answers, for a start without a registry."""
        if not self.beside and self.last() != pointed:
            write_durably(self.folder / "live.json", pointed.model_dump_json())

    def _files(self, pointed: Pointed) -> Path:
        from registry.versions.seal import SEAL, Seal, check_seal

        target, what = self.folder / pointed.digest, f"{self.config.model} v{pointed.version}"
        with locked(self.folder / "files.lock"):
            if target.is_dir():
                try:
                    if not _was_checked(target):
                        seal = Seal.model_validate_json((target / SEAL).read_bytes())
                        check_seal(target, seal.digest, what)
                        _note_checked(target)
                    os.utime(target)
                    return target
                except (OSError, ValidationError, BadInputError):  # a disk may lose what was there; it is brought again
                    shutil.rmtree(target, ignore_errors=True)
            incoming = self.folder / f".{pointed.digest[:16]}-{uuid.uuid4().hex}"
            try:
                self.registry.download(self.config.model, pointed.version, incoming).rename(target)
                _note_checked(target)
            finally:
                shutil.rmtree(incoming, ignore_errors=True)
            self._sweep(target)
        return target

    def _sweep(self, newest: Path) -> None:
        """Delete the versions that were used longest ago; an open one needs its files no more."""
        versions = [path for path in self.folder.iterdir() if path.is_dir() and not path.name.startswith(".")]
        for old in sorted(versions, key=lambda path: path.stat().st_mtime)[:-KEPT]:
            if old != newest:
                shutil.rmtree(old, ignore_errors=True)
                _note(old).unlink(missing_ok=True)

    def _memory(self, pointed: Pointed) -> Memory | None:
        if not pointed.memory:
            return None
        from components.memory.refresh_error_memory.pointer import find_memory

        return find_memory(self.settings, self.config.model, pointed.version)


def _note(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.checked")


def _stamps(folder: Path) -> dict[str, list[int]]:
    """Return what changes when somebody writes to a file, by its name."""
    files = {path.relative_to(folder).as_posix(): path.stat() for path in folder.rglob("*") if path.is_file()}
    return {name: [found.st_size, found.st_mtime_ns, found.st_ino] for name, found in files.items()}


def _note_checked(folder: Path) -> None:
    """Note that the files of a folder are whole now."""
    write_durably(_note(folder), json.dumps({"at": time.time(), "files": _stamps(folder)}))


def _was_checked(folder: Path) -> bool:
    """Return whether a process of this machine found these files whole a moment ago, and nobody wrote to them since."""
    try:
        note = json.loads(_note(folder).read_bytes())
        return 0 <= time.time() - note["at"] < CHECKED_FOR and note["files"] == _stamps(folder)
    except (OSError, ValueError, TypeError, KeyError):
        return False
