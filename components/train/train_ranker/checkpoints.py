"""Where is training when something kills it? Whole checkpoints, checked before one is trusted.

A checkpoint is a folder ``<epoch>-<step>`` with the ranker's and the optimiser's tensors (safetensors) and a JSON file
that says where training was and what the tensors' sha256 is. It appears under its name at once or not at all. Where
tables are sharded, each worker's rows lie in a file beside them (`shard_files`), which is checked as they are.
"""

from __future__ import annotations

import logging
import os
import shutil
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from components.train.train_ranker.job import PROGRESS, Progress
from features.declaration import Frozen
from features.ground.files import sha256_file, write_durably

if TYPE_CHECKING:
    from torch import Tensor

FOLDER = "checkpoints"
STATE = "state.safetensors"
POSITION = "position.json"
_PARTIAL = ".partial-"
log = logging.getLogger("rankmill")


class Position(Frozen):
    """Where training was."""

    epoch: int = 1
    """The epoch, from 1."""
    step: int = 0
    """Steps of it that were taken; 0 stands for its beginning."""
    loss: float = 0.0
    """Sum of the epoch's losses so far, each times its rows."""
    best: float | None = None
    """Best score of an epoch so far; None before the first."""
    without_progress: int = 0
    """Epochs since the best one."""
    history: tuple[Progress, ...] = ()
    """Lines of the progress file so far."""
    state: str = ""
    """sha256 of the tensors' file."""
    shards: tuple[str, ...] = ()
    """By worker, sha256 of the file with its rows; empty where every worker holds whole tables."""


def save(directory: Path, position: Position, tensors: dict[str, Tensor], keep: int) -> str | None:
    """Write a checkpoint and delete all but the newest `keep`.

    A checkpoint that cannot be written does not end training; the ones before it stay.

    Returns:
        None, or one sentence that says why there is no checkpoint.
    """
    return complete(directory, partial_of(directory, uuid.uuid4().hex), position, tensors, keep)


def partial_of(directory: Path, name: str) -> Path:
    """Return the folder of a checkpoint that is not complete; nobody reads from it."""
    return directory / FOLDER / f"{_PARTIAL}{name}"


def shard_name(rank: int, world: int) -> str:
    """Return the name of the file with the rows of one of so many workers."""
    return f"rows-{rank + 1:05d}-of-{world:05d}.safetensors"


def write_tensors(path: Path, tensors: dict[str, Tensor]) -> str:
    """Write tensors to the disk and return the file's sha256.

    Raises:
        OSError: there is no room, or no right to.
        SafetensorError: the same, as that package says it.
    """
    from safetensors.torch import save_file

    save_file(_apart(tensors), str(path))
    with path.open("rb") as stream:
        os.fsync(stream.fileno())
    return sha256_file(path)


def complete(
    directory: Path, partial: Path, position: Position, tensors: dict[str, Tensor], keep: int, failed: str = ""
) -> str | None:
    """Make a checkpoint of a partial one; see `save`.

    Args:
        directory: the training's.
        partial: what `partial_of` returned; files that lie there belong to the checkpoint.
        position: as in `save`.
        tensors: as in `save`.
        keep: as in `save`.
        failed: why a file that belongs there could not be written; there is no checkpoint then.
    """
    from safetensors import SafetensorError

    parent = directory / FOLDER
    try:
        if failed:
            raise OSError(failed)
        partial.mkdir(parents=True, exist_ok=True)
        digest = write_tensors(partial / STATE, tensors)
        write_durably(partial / POSITION, position.model_copy(update={"state": digest}).model_dump_json())
        final = parent / f"{position.epoch:06d}-{position.step:09d}"
        shutil.rmtree(final, ignore_errors=True)
        partial.rename(final)
    except (OSError, SafetensorError) as error:
        return (
            f"no checkpoint at epoch {position.epoch}, step {position.step}: {error}; training goes on, make room on "
            f"the disk of {parent}"
        )
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    for old in _folders(directory)[keep:]:
        shutil.rmtree(old, ignore_errors=True)
    return None


def _apart(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors on the CPU; a second name of the same memory gets a copy, as the file format wants."""
    made: dict[str, Tensor] = {}
    known: set[int] = set()
    for name, value in sorted(tensors.items()):
        plain = value.detach().cpu().contiguous()
        made[name] = plain.clone() if plain.numel() and plain.data_ptr() in known else plain
        known.add(plain.data_ptr())
    return made


def newest(directory: Path) -> tuple[Position, Path] | None:
    """Return the newest checkpoint whose tensors are as they were written, or None; damaged ones are told and deleted.

    Returns:
        Where training was, and the file with its tensors.
    """
    for folder in _folders(directory):
        try:
            position = Position.model_validate_json((folder / POSITION).read_text(encoding="utf-8"))
            world = len(position.shards)
            files = {STATE: position.state} | {shard_name(i, world): sha for i, sha in enumerate(position.shards)}
            if all(sha256_file(folder / name) == sha for name, sha in files.items()):
                return position, folder / STATE
            reason = "its tensors are not those that were written"
        except (OSError, ValidationError) as error:
            reason = str(error).splitlines()[0]
        log.warning("checkpoint %s is damaged and left out: %s", folder, reason)
        shutil.rmtree(folder, ignore_errors=True)
    return None


def rewind(directory: Path) -> Position | None:
    """Put the progress file back to where the newest checkpoint was, and return that place; None starts anew."""
    found = newest(directory)
    put_back(directory, found[0] if found else Position())
    return found[0] if found else None


def put_back(directory: Path, position: Position) -> None:
    """Write the progress file as it was at a position."""
    write_durably(directory / PROGRESS, "".join(line.model_dump_json() + "\n" for line in position.history))


def _folders(directory: Path) -> list[Path]:
    """Return the checkpoints' folders, newest first."""
    parent = directory / FOLDER
    found = parent.iterdir() if parent.is_dir() else ()
    return sorted((path for path in found if not path.name.startswith(_PARTIAL)), reverse=True)
