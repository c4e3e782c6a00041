"""What does a champion's error memory hold, and how is it kept? A header, a store, and the read-out.

The memory compensates the feedback tasks, which are defined over every impression. Conditional tasks
(P(love | like)) keep the base model's answer: their labels exist on some impressions only, so after
compensation `love` is no longer the product `like` × `love_given_like`. The funnel's order is kept.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field, ValidationError

from features.declaration import Frozen, Name, Window
from features.ground.errors import BadInputError, MissingError
from registry.memory.compensation import apply, errors_of, in_funnel_order
from registry.memory.keys import row_keys
from registry.memory.neighbours import Store
from registry.memory.spec import KeySpec, ReadOut, StoreChoice
from registry.memory.stores import fingerprint, layout, restored

if TYPE_CHECKING:
    import pyarrow as pa

Array = np.ndarray[Any, Any]
HEADER = "memory.json"
TENSORS = "memory.safetensors"


class TaskCompensation(Frozen):
    """How much one task is compensated, and what that did when rows were scored before they were written."""

    weight: float
    """λ, chosen on every slot of the stream."""
    base_log_loss: float | None
    """The base model's log-loss over the slots after the first; None with one slot."""
    log_loss: float | None
    """The same after compensation, each slot with the λ chosen on earlier slots."""
    enabled: bool
    """False where compensation made the log-loss worse, or could not be judged: the task then keeps the base model's
    answer."""


class MemoryHeader(Frozen):
    """Whose memory it is, how rows were stored, what it covers and how it is read."""

    model: Name
    """Registered model."""
    version: int
    """The champion's version when the memory was written."""
    ranker_digest: str
    """`ModelContract.ranker_digest` of the champion: keys live in its hidden space, so no other model may read this
    memory."""
    feedback: tuple[Name, ...]
    """Compensated tasks, shallow to deep."""
    funnel: bool
    """Whether the deeper task is kept no likelier than the shallower."""
    key: KeySpec
    """What the key of a row is made of."""
    store: StoreChoice
    """Sketch or exact, and its size."""
    seed: int
    """Seed of a sketch's projections, or of an exact store's sample."""
    projections: str
    """sha256 of the projections a sketch's buckets were found with."""
    read_out: ReadOut
    """How neighbours become a correction."""
    decay: float = Field(1.0, gt=0, le=1)
    """ρ; at the end of each slot everything older counts this much of what it did."""
    tasks: dict[Name, TaskCompensation]
    """Compensation by task."""
    covers: Window
    """``[first row, just after the last row)`` of the stream."""
    rows: int
    """Rows of the stream."""
    stored: int
    """Rows the store stands for: fewer after decay, below an error threshold, or beyond a capacity."""
    slots: int
    """Slots of time they came in."""
    tensors: str = ""
    """sha256 of ``memory.safetensors``."""

    @property
    def enabled(self) -> bool:
        """Whether any task is compensated."""
        return any(task.enabled for task in self.tasks.values())


@dataclass(frozen=True)
class Memory:
    """An error memory that can be asked."""

    header: MemoryHeader
    store: Store
    centre: Array
    """float64 ``[H]``, subtracted from `hidden` in a key; zeros without centring."""

    def keys(self, hidden: Array, rows: pa.Table) -> Array:
        """Return the keys of rows, see `registry.memory.keys.row_keys`."""
        return row_keys(self.header.key, hidden, self.centre, rows)

    def compensate(self, tasks: Mapping[str, Array], hidden: Array, rows: pa.Table) -> dict[str, Array]:
        """Return the tasks with the base model's known errors taken out.

        Args:
            tasks: the champion's probabilities by task, ``[B]`` each.
            hidden: the champion's hidden vectors of the same rows, float32 ``[B, H]``.
            rows: the same rows, raw: the columns that the keys are made of.

        Returns:
            float64 ``[B]`` by task; a row without any neighbour, a task that is switched off and a
            conditional task keep the base model's answer to the bit.
        """
        compensated = {name: np.asarray(values, dtype=np.float64) for name, values in tasks.items()}
        if not self.header.enabled:
            return compensated
        enabled = [name for name, task in self.header.tasks.items() if task.enabled]
        errors = errors_of(self.store.read(self.keys(hidden, rows), enabled), tasks, self.header.read_out)
        for name, task in self.header.tasks.items():
            if task.enabled:
                compensated[name] = apply(tasks[name], errors[name], task.weight)
        return in_funnel_order(compensated, tasks, self.header.feedback) if self.header.funnel else compensated

    def save(self, directory: Path) -> MemoryHeader:
        """Write ``memory.safetensors`` and ``memory.json``; equal memories give equal bytes.

        Returns:
            The header as written, with the digest of the tensors.
        """
        from safetensors.numpy import save

        content = save({**self.store.tensors(), "centre": np.asarray(self.centre, dtype=np.float64)})
        header = self.header.model_copy(update={"tensors": hashlib.sha256(content).hexdigest()})
        directory.mkdir(parents=True, exist_ok=True)
        (directory / TENSORS).write_bytes(content)
        (directory / HEADER).write_text(header.model_dump_json(indent=2), encoding="utf-8")
        return header


def read_header(directory: Path) -> MemoryHeader:
    """Return the header of a memory.

    Raises:
        MissingError: there is no memory here.
        BadInputError: its header cannot be read.
    """
    try:
        return MemoryHeader.model_validate_json((directory / HEADER).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise MissingError(f"no error memory in {directory}: run refresh_error_memory for the champion") from None
    except (ValidationError, UnicodeDecodeError) as error:
        reason = str(error).splitlines()[0]
        raise BadInputError(
            f"{directory / HEADER} is not the header of an error memory ({reason}): run refresh_error_memory again"
        ) from None


def open_memory(directory: Path, ranker_digest: str) -> Memory:
    """Return the memory that belongs to one champion.

    Raises:
        MissingError: there is no memory here.
        BadInputError: it belongs to another model, was changed since it was written, or hashes with
            projections that this installation does not draw.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load

    header = read_header(directory)
    if header.ranker_digest != ranker_digest:
        raise BadInputError(
            f"the error memory in {directory} belongs to ranker {header.ranker_digest[:12]} "
            f"({header.model} version {header.version}), not to {ranker_digest[:12]}: "
            "run refresh_error_memory for the present champion"
        )
    try:
        content = (directory / TENSORS).read_bytes()
        if hashlib.sha256(content).hexdigest() != header.tensors:
            raise BadInputError(
                f"{directory / TENSORS} changed since it was written: run refresh_error_memory again to rebuild it"
            )
        tensors = load(content)
    except FileNotFoundError:
        raise MissingError(f"{directory / TENSORS} is missing: run refresh_error_memory for the champion") from None
    except SafetensorError as error:
        raise BadInputError(f"{directory / TENSORS} cannot be read ({error}): run refresh_error_memory again") from None
    return Memory(header=header, store=_store(directory, header, tensors), centre=tensors["centre"])


def _store(directory: Path, header: MemoryHeader, tensors: Mapping[str, Array]) -> Store:
    width, again = header.key.width, "run refresh_error_memory again"
    wanted = {"centre": (header.key.hidden,), **layout(header.store, width, header.feedback, header.stored)}
    found = {name: values.shape for name, values in tensors.items()}
    if set(header.tasks) != set(header.feedback) or found != wanted:
        raise BadInputError(
            f"{directory / TENSORS} holds {found}, its header says {wanted} for keys of width {width}: {again}"
        )
    if fingerprint(header.store, width, header.seed) != header.projections:
        raise BadInputError(
            f"the error memory in {directory} was hashed with projections that this numpy does not draw from "
            f"seed {header.seed}: {again}"
        )
    store = restored(header.store, width, header.seed, header.feedback, tensors)
    if store.rows != header.stored:
        raise BadInputError(f"{directory / TENSORS} holds {store.rows} rows, its header says {header.stored}: {again}")
    return store
