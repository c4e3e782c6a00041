"""What does the log of a service look like whose rows and feedback a test chooses? A real version, and its memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from features.declaration import Window
from registry.memory.error_memory import Memory, MemoryHeader, TaskCompensation
from registry.memory.keys import row_keys
from registry.memory.spec import ExactStore, KeySpec, ReadOut, SketchStore
from registry.memory.stores import empty_store, fingerprint
from registry.serving.learning.attribution import EARLY
from registry.serving.live.version import Live, open_live
from registry.serving.log.segments import Segments
from registry.serving.wire.pointed import Pointed

Array = np.ndarray[Any, Any]
START = datetime(2024, 2, 1, 12, tzinfo=UTC)
"""Where the base memory ends."""
AFTER = timedelta(minutes=10)
TASKS = ("like", "love")
DIGEST, BASE = "digest1", "b" * 64
WEIGHT = 0.5


@dataclass(frozen=True)
class Row:
    """One answered row."""

    request: str
    item: int
    minute: float
    """When it was answered, after START."""
    user: int = 1
    like: float = 0.3
    """Base probability; that of love is half of it."""
    answered: float | None = None
    """As served; the base where it is left out."""
    digest: str = DIGEST
    role: str = "champion"
    memory: str = BASE
    earlier: float = 0.0
    """By how many minutes the request's own time lies before the answer."""

    @property
    def at(self) -> datetime:
        return START + timedelta(minutes=self.minute)

    @property
    def time(self) -> datetime:
        return self.at - timedelta(minutes=self.earlier)


@dataclass(frozen=True)
class Told:
    """One event, sent once."""

    request: str
    item: int
    feedback: str
    minute: float
    """When it happened, after START."""
    wait: float = 0.0
    """Minutes until it was received."""

    @property
    def at(self) -> datetime:
        return START + timedelta(minutes=self.minute)

    @property
    def received(self) -> datetime:
        return self.at + timedelta(minutes=self.wait)


def hidden_of(row: Row, width: int) -> Array:
    """Return float32 ``[width]``, of the item alone."""
    return np.random.default_rng(row.item).normal(0, 1, width).astype(np.float32)


def answers(rows: Sequence[Row], width: int) -> pa.Table:
    """Return a segment of answers."""
    moment, text = pa.timestamp("us", "UTC"), pa.string()
    places: dict[tuple[str, float], int] = {}
    names = []
    for row in rows:
        place = places.get((row.request, row.minute), 0)
        places[row.request, row.minute] = place + 1
        names.append(f"{row.request}:{place}")
    hidden = np.stack([hidden_of(row, width) for row in rows])
    columns = {
        "served.row": pa.array(names, text),
        "served.request": pa.array([row.request for row in rows], text),
        "served.at": pa.array([row.at for row in rows], moment),
        "served.digest": pa.array([row.digest for row in rows], text),
        "served.memory": pa.array([row.memory for row in rows], text),
        "served.role": pa.array([row.role for row in rows], text),
        "user_id": pa.array([row.user for row in rows], pa.int64()),
        "item_id": pa.array([row.item for row in rows], pa.int64()),
        "event_timestamp": pa.array([row.time for row in rows], moment),
        "hidden.": pa.FixedSizeListArray.from_arrays(pa.array(hidden.reshape(-1)), width),
    }
    for task, share in zip(TASKS, (1.0, 0.5), strict=True):
        columns[f"base.{task}"] = pa.array([row.like * share for row in rows])
        said = [row.like if row.answered is None else row.answered for row in rows]
        columns[f"answer.{task}"] = pa.array([value * share for value in said])
    return pa.table(columns)


def events(told: Sequence[Told], received: datetime | None = None) -> pa.Table:
    """Return a segment of feedback; equal events have equal ids."""
    moment, text = pa.timestamp("us", "UTC"), pa.string()
    return pa.table(
        {
            "request": pa.array([one.request for one in told], text),
            "item": pa.array([str(one.item) for one in told], text),
            "feedback": pa.array([one.feedback for one in told], text),
            "at": pa.array([one.at for one in told], moment),
            "event": pa.array([f"{one.request}/{one.item}/{one.feedback}/{one.minute}" for one in told], text),
            "received": pa.array([received or one.received for one in told], moment),
        }
    )


@dataclass(frozen=True)
class Log:
    """The two folders of a service's log."""

    questions: Segments
    feedback: Segments
    width: int

    @classmethod
    def below(cls, folder: Path, width: int) -> Log:
        return cls(Segments((folder / "questions").as_uri()), Segments((folder / "feedback").as_uri()), width)

    def answered(self, *rows: Row) -> None:
        """Write a segment of answers, named as the service names it: by its first row."""
        self.questions.write(answers(rows, self.width), rows[0].at)

    def told(self, *told: Told) -> None:
        """Write a segment per event, at the moment that it was received."""
        for one in told:
            self.feedback.write(events([one]), one.received)


def version(folder: Path, memory: Memory | None = None, digest: str = DIGEST, base: str = BASE) -> Live:
    """Return a version that is open, with a memory, or with a small one that has seen nothing."""
    opened = open_live("shop", "champion", Pointed(version=1, digest=digest), folder, None, "cpu")
    return with_base(opened, memory or memory_of(opened), base)


def with_base(live: Live, memory: Memory, base: str = BASE) -> Live:
    """Return a version with another base memory."""
    return replace(live, memory=memory, pointed=live.pointed.model_copy(update={"memory": base}))


def memory_of(
    live: Live,
    store: SketchStore | ExactStore | None = None,
    until: datetime = START,
    decay: float = 1.0,
    **tasks: bool,
) -> Memory:
    """Return a memory that has seen nothing and covers all until a moment."""
    choice = store or SketchStore(arrays=4, bits=3)
    contract = live.model.contract
    key = KeySpec(kind="hidden_user", hidden=contract.hidden)
    outcome = TaskCompensation(weight=WEIGHT, base_log_loss=1.0, log_loss=0.5, enabled=True)
    outcomes = {task: outcome.model_copy(update={"enabled": tasks.get(task, True)}) for task in TASKS}
    held = empty_store(choice, key.width, 0, TASKS)
    header = MemoryHeader(
        model="shop", version=1, ranker_digest=contract.ranker_digest, feedback=TASKS, funnel=True, key=key,
        store=choice, seed=0, projections=fingerprint(choice, key.width, 0), read_out=ReadOut(), decay=decay,
        tasks=outcomes, covers=Window(start=until - timedelta(days=1), end=until), rows=0, stored=0, slots=1,
    )  # fmt: skip
    return Memory(header=header, store=held, centre=np.zeros(contract.hidden))


def key_of(memory: Memory, row: Row) -> Array:
    """Return the key of a row, float64 ``[1, width]``."""
    hidden = hidden_of(row, memory.header.key.hidden)[None]
    return row_keys(memory.header.key, hidden, memory.centre, pa.table({"user_id": [row.user]}))


def labels_of(
    rows: Sequence[Row], told: Sequence[Told], now: datetime, since: datetime = START
) -> list[tuple[Row, int, int]]:
    """Return the rows whose time is over with their labels of like and love: the law, said once more and slowly."""
    first: dict[str, float] = {}
    own = [row for row in rows if row.digest == DIGEST and row.role != "shadow" and row.time >= since]
    for row in own:
        first[row.request] = min(first.get(row.request, np.inf), row.minute)
    found = []
    for row in own:
        if row.minute > first[row.request] or row.at + AFTER > now:
            continue
        end = row.at + AFTER
        came = {
            one.feedback
            for one in told
            if (one.request, one.item) == (row.request, row.item)
            and one.at < end
            and row.at - EARLY <= one.received < end
        }
        found.append((row, int(bool(came & {"like", "love"})), int("love" in came)))
    return found
