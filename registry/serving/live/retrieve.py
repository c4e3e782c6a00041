"""Which items is a question about that names none? Those nearest to its user, of a whole catalogue, exactly.

The vectors of all items lie in memory; they are made anew for another version, after a materialisation, and now and
then. A ranker then answers about the items that were found, as about any others.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

import numpy as np

from features.ground.errors import BadInputError, RankmillError, RetryableError
from registry.serving.answers.excluded import histories_of
from registry.serving.answers.retrieval import retrieve, side_vectors
from registry.serving.live.lookup import Lookup
from registry.serving.live.rows import rows_of
from registry.serving.live.version import Live
from registry.serving.wire.protocol import Question, RefusedError, Tensor, Value, datatype_of

if TYPE_CHECKING:
    import pyarrow as pa

    from registry.serving.model.separable import Vectors

AT_ONCE = 2000
"""Items whose features are read at a time when vectors are made."""
AGAIN = 30.0
"""Seconds after which vectors that could not be made are tried again."""
LOOK = 0.5
log = logging.getLogger("rankmill.serving")


@dataclass(frozen=True)
class Index:
    """A catalogue as one version places it."""

    live: Live
    """The version; questions about the catalogue place their users by it too."""
    items: tuple[Value, ...]
    """Ids, each once."""
    vectors: Vectors
    """float32 ``[I, D]``."""
    places: Mapping[Value, int]
    """Row of each id."""


def build_index(live: Live, items: pa.Array, lookup: Lookup | None, now: datetime) -> Index:
    """Return where a version places a catalogue.

    Args:
        live: the version.
        items: ids.
        lookup: online store with the items' features, which may take its time; None for a ranker that reads ids alone.
        now: the moment that the items' features are asked for, UTC.

    Raises:
        BadInputError: the ranker places no items, or there are none.
        RetryableError: the store did not answer.
    """
    ids = tuple(value for value in items.unique().to_pylist() if value is not None)
    if not ids:
        raise BadInputError("the catalogue holds no items: name a file with some in retrieve.catalogue")
    parts = []
    for start in range(0, len(ids), AT_ONCE):
        some = ids[start : start + AT_ONCE]
        rows = rows_of(Question({_item(live): _tensor(live, some)}), live.reads, lookup, now, AT_ONCE)
        if rows.late:
            raise RetryableError("the online store does not answer, so the items of the catalogue have no vectors yet")
        parts.append(side_vectors(live.model, rows.table, "item"))
    return Index(live, ids, np.concatenate(parts), {item: place for place, item in enumerate(ids)})


def with_candidates(index: Index, question: Question, lookup: Lookup | None, now: datetime) -> Question:
    """Return a question about the items that suit its user best.

    Fewer than it asks for where the catalogue, less what it excludes, has no more.

    Args:
        index: the catalogue.
        question: names no candidates, but how many it wants.
        lookup: the online store.
        now: time of the request where the question does not give one, UTC.

    Raises:
        RefusedError: 400, it does not say who asks, excludes what nobody knows to be seen, or nothing is left.
    """
    live, wanted = index.live, int(question.retrieve or 0)
    user = live.reads.declaration.user
    alone = replace(question, tensors={**question.tensors, _item(live): _tensor(live, (None,))})
    rows = rows_of(alone, live.reads, lookup, now, 1)
    if user not in rows.table.column_names or rows.table[user].null_count:
        raise RefusedError(400, f"nobody is named who the items should suit: send the input {user!r}")
    try:
        vector = side_vectors(live.model, rows.table, "user")
        left_out = {index.places[item] for item in question.exclude if item in index.places}
        if question.exclude_seen:
            left_out |= _seen(index, rows.table)
    except BadInputError as error:
        raise RefusedError(400, str(error)) from None
    pairs = np.array([(0, place) for place in sorted(left_out)], dtype=np.int64).reshape(-1, 2)
    found = retrieve(vector, index.vectors, min(wanted, len(index.items)), pairs)
    items = tuple(index.items[place] for place in found.items[0][np.isfinite(found.scores[0])].tolist())
    if not items:
        raise RefusedError(400, "nothing of the catalogue is left: exclude fewer items")
    return replace(question, tensors={**question.tensors, _item(live): _tensor(live, items)})


def _seen(index: Index, rows: pa.Table) -> set[int]:
    found = set()
    for name in histories_of(index.live.model.contract.schema_):
        for item in rows[name][0].as_py() or ():
            if item in index.places:
                found.add(index.places[item])
    return found


def _item(live: Live) -> str:
    return live.reads.declaration.item


def _tensor(live: Live, items: tuple[Value, ...]) -> Tensor:
    name = _item(live)
    return Tensor(name, datatype_of(live.reads.dtype(name) or "int64"), (len(items),), items)


class Catalogue:
    """Holds the index of what answers, and makes it anew when that changes."""

    def __init__(self, live: Callable[[], Live | None], build: Callable[[Live], Index], every: float) -> None:
        """Make the index of `live()` by `build`, and again after so many seconds."""
        self.index: Index | None = None
        self.tried = False
        """Whether there is an index, or it was found that there is none to be had."""
        self.why = "the vectors of the items are being made: ask again"
        """Why there is no index."""
        self._live, self._build, self._every = live, build, every
        self._of: tuple[int, str] | None = None
        """Number and digest of the version that an index was last made of, or could not be."""
        self._due = float("-inf")
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="catalogue", daemon=True)

    def start(self) -> None:
        """Begin, in a thread of its own."""
        self._thread.start()

    def stop(self) -> None:
        """End; what is there stays."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(timeout=5)

    def renew(self) -> None:
        """Make the index anew soon, as after a materialisation."""
        self._due = float("-inf")

    def look(self) -> None:
        """Make the index if it is due or of another version."""
        live, started = self._live(), time.monotonic()
        if live is None:
            return
        of = live.pointed.version, live.pointed.digest
        if of == self._of and started < self._due:
            return
        self._of, self._due = of, started + self._every
        try:
            self.index = made = self._build(live)
            seconds = time.monotonic() - started
            log.info("%d items of v%d are placed in %.1f s", len(made.items), live.pointed.version, seconds)
        except Exception as error:  # whatever a store raises: questions that name their candidates are answered
            self._due = time.monotonic() + min(AGAIN, self._every)
            why = str(error) if isinstance(error, RankmillError) else f"{type(error).__name__}: {error}"
            if why != self.why:
                log.warning("%s", why)
            self.why = why
        self.tried = True

    def _run(self) -> None:
        while not self._stop.is_set():
            self.look()
            self._stop.wait(LOOK)


def index_of(catalogue: Catalogue | None) -> Index:
    """Return the index that a question asks for.

    Raises:
        RefusedError: 400, the service retrieves nothing; 503, there is no index yet.
    """
    if catalogue is None:
        raise RefusedError(400, "this service finds no candidates itself: send their ids, or give its file `retrieve`")
    if catalogue.index is None:
        raise RefusedError(503, catalogue.why, retry_after=2)
    return catalogue.index


def item_ids(question: Question, item: str) -> np.ndarray[Any, Any]:
    """Return the candidates of a question, int64 or texts ``[N]``."""
    return np.array(question.tensors[item].data)
