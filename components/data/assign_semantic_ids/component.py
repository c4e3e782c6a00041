"""How do items get ids of their content? Codes learned from items that were there, and columns of them for all."""

from __future__ import annotations

import hashlib
import math
import shutil
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from components.data.assign_semantic_ids.align import Engaged, Turn, engaged, turn_of, turned
from components.data.assign_semantic_ids.config import (
    Align,
    Codebook,
    Config,
    Inputs,
    LevelUse,
    Outputs,
    Pieces,
    RqVae,
    columns_of,
)
from components.data.assign_semantic_ids.quantise import Codes, Floats, assigned, kmeans_books
from components.ingest.item_vectors import Vectors, VectorsHeader, local_folder, read_header, read_vectors
from components.platform.artifacts import EventsTable, SemanticIds
from components.platform.contract import RunContext
from components.platform.errors import BadInputError, MissingError, no_columns

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa

BOOK, WEIGHTS, CODES = "codebook.json", "codebook.safetensors", "codes.parquet"
TIME = "event_timestamp"
NONE = 0
"""Value of an item without a vector; others start at 1."""
_MIDDLE, _SCALE, _LEVEL, _TURN, _TOLD = "middle", "scale", "level_", "turn", "told"


@dataclass(frozen=True)
class Learned:
    """What codes are made with."""

    middle: Floats
    """float32 ``[D]``, taken from a vector."""
    scale: float
    """What it is divided by."""
    books: tuple[Floats, ...]
    """float32 ``[K, d]`` by level."""
    encoder: dict[str, Floats] = field(default_factory=dict)
    """Weights of the network before them, of `rqvae`."""
    turn: Turn | None = None
    """How vectors are turned before everything else, of aligned codes."""

    def codes(self, vectors: Floats) -> tuple[Codes, list[float]]:
        """Return int64 ``[n, L]`` codes, and by level the share of the vectors' squares that is left after it."""
        ready = ((vectors - self.middle) / np.float32(self.scale)).astype(np.float32)
        if self.turn is not None:
            ready = turned(ready, self.turn.matrix)
        if self.encoder:
            from components.data.assign_semantic_ids.rqvae import encoded

            ready = encoded(ready, self.encoder)
        codes, errors = assigned(ready, self.books)
        whole = float((ready.astype(np.float64) ** 2).sum(axis=1).mean())
        return codes, [error / whole if whole else 0.0 for error in errors]

    def tensors(self) -> dict[str, NDArray[Any]]:
        """Return everything by name, as it is kept."""
        books = {f"{_LEVEL}{level}": book for level, book in enumerate(self.books, start=1)}
        turn: dict[str, NDArray[Any]] = {}
        if self.turn is not None:
            turn = {_TURN: self.turn.matrix, _TOLD: np.array([self.turn.told], np.float64)}
        return {_MIDDLE: self.middle, _SCALE: np.array([self.scale], np.float64), **books, **self.encoder, **turn}

    @classmethod
    def of(cls, tensors: dict[str, NDArray[Any]]) -> Learned:
        """Return what was kept."""
        levels = sum(name.startswith(_LEVEL) for name in tensors)
        books = tuple(tensors[f"{_LEVEL}{level}"] for level in range(1, levels + 1))
        encoder = {name: value for name, value in tensors.items() if name.startswith("encoder.")}
        turn = Turn(tensors[_TURN], float(tensors[_TOLD][0])) if _TURN in tensors else None
        return cls(tensors[_MIDDLE], float(tensors[_SCALE][0]), books, encoder, turn)

    def digest(self) -> str:
        """Return sha256 of all of it."""
        made = hashlib.sha256()
        for name, value in sorted(self.tensors().items()):
            made.update(name.encode() + np.ascontiguousarray(value).tobytes())
        return made.hexdigest()


def run(inputs: Inputs, config: Config, context: RunContext) -> Outputs:
    """Learn or take a codebook, and write the table with its codes.

    Raises:
        BadInputError: a column is missing or there already, items are too few, or an earlier codebook does not fit.
        MissingError: there is no earlier codebook.
    """
    import polars as pl
    import pyarrow as pa
    import pyarrow.parquet as pq

    source, given = context.local(inputs.table), context.local(inputs.vectors)
    vectors, header = read_vectors(given), read_header(given)
    table = pq.read_table(source / "events.parquet")
    if config.key not in table.column_names:
        raise BadInputError(f"the table has {no_columns([config.key], table.column_names)}: name another")
    if config.reuse is None:
        align = config.align if config.align is not None and config.align.weight else None
        if align is not None and (odd := [n for n in (align.feedback, align.user) if n not in table.column_names]):
            raise BadInputError(f"align: the table has {no_columns(odd, table.column_names)}: name another")
        read = [config.key, TIME, *([align.feedback, align.user] if align else [])]
        early, limit = _early(pl.DataFrame(pl.from_arrow(table.select([*dict.fromkeys(read)]))), config)
        seen = _seen(early, vectors, config.key, limit)
        latest: Any = early[TIME].max()
        until: datetime | None = latest
        said = None if align is None else _said(early, vectors, config.key, align)[seen]
        learned = learn(vectors.values.astype(np.float32)[seen], config, said)
    else:
        learned, until = reused(config, header, context)
    codes, errors = learned.codes(vectors.values.astype(np.float32))
    size = len(learned.books[0])
    columns = dict(
        zip(columns_of(config.into, codes.shape[1], config.pieces), pieced(codes, size, config.pieces).T, strict=True)
    )
    if taken := sorted({*columns} & {*table.column_names}):
        raise BadInputError(f"the table has a column {taken[0]!r} already: choose another name with into")
    at = _places(table.column(config.key), vectors)
    draft = context.draft("events")
    shutil.copytree(source, draft, dirs_exist_ok=True, ignore=shutil.ignore_patterns("manifest.json", "events.parquet"))
    for name, values in columns.items():
        table = table.append_column(name, pa.array(np.where(at < 0, NONE, values[at] + 1)))
    pq.write_table(table, draft / "events.parquet", compression="zstd", version="2.6")
    book = described(learned, codes, errors, header, until, config)
    kept = context.draft("codebook")
    _write(kept, learned, book, vectors, columns)
    for line in _told(book, columns, float((at < 0).mean())):
        context.note(line)
    return Outputs(events=EventsTable(uri=str(draft)), codebook=SemanticIds(uri=str(kept)))


def learn(vectors: Floats, config: Config, said: Engaged | None = None) -> Learned:
    """Return what codes are made with, learned from some vectors.

    Args:
        vectors: float32 ``[n, D]``.
        config: method, levels, codes, seed.
        said: what clicks say of the same items, where codes should hear it.

    Raises:
        BadInputError: there are fewer than four items for a code, or all vectors are equal.
    """
    if config.codes * 4 > len(vectors):
        raise BadInputError(
            f"{config.codes} codes for {len(vectors):,} items to learn from, fewer than four for each: lower codes"
        )
    middle = vectors.astype(np.float64).mean(axis=0)
    scale = math.sqrt(float(((vectors - middle) ** 2).sum(axis=1).mean()))
    if not scale:
        raise BadInputError("the vectors of all items are equal, so no code tells them apart: make others")
    middle = middle.astype(np.float32)
    ready = ((vectors - middle) / np.float32(scale)).astype(np.float32)
    turn = None
    if said is not None and config.align is not None:
        turn = turn_of(ready, said, config.align)
        ready = turned(ready, turn.matrix)
    if config.method == "kmeans":
        return Learned(middle, scale, tuple(kmeans_books(ready, config.levels, config.codes, config.seed)), turn=turn)
    from components.data.assign_semantic_ids.rqvae import train_rqvae

    books, encoder = train_rqvae(ready, config.levels, config.codes, config.rqvae or RqVae(), config.seed)
    return Learned(middle, scale, tuple(books), encoder, turn)


def pieced(codes: Codes, size: int, pieces: Pieces) -> Codes:
    """Return int64 ``[n, P]``, the number of each piece of codes ``[n, L]`` of `size` values, from 0."""
    if pieces == "unigram":
        return codes
    if pieces == "bigram":
        return codes[:, ::2] * size + codes[:, 1::2]
    made = [codes[:, 0]]
    for level in range(1, codes.shape[1]):
        made.append(made[-1] * size + codes[:, level])
    return np.stack(made, axis=1)


def reused(config: Config, header: VectorsHeader, context: RunContext) -> tuple[Learned, datetime | None]:
    """Return an earlier codebook, and until when it had looked.

    Raises:
        MissingError: there is none.
        BadInputError: it was learned from vectors of another maker, or cannot be read.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    folder = local_folder(str(config.reuse), (BOOK, WEIGHTS), context.settings.data, context.scratch / "reused")
    try:
        book = Codebook.model_validate_json((folder / BOOK).read_bytes())
        learned = Learned.of(load_file(str(folder / WEIGHTS)))
    except FileNotFoundError:
        raise MissingError(f"reuse: {config.reuse} holds no codebook: name the `codebook` of an earlier run") from None
    except (SafetensorError, ValueError, KeyError) as error:
        raise BadInputError(f"reuse: the codebook in {config.reuse} cannot be read ({error}): learn another") from None
    if book.made_by != header.made_by or book.width != header.width:
        raise BadInputError(
            f"the codebook was learned from vectors by {book.made_by!r} of {book.width} numbers, and these are by "
            f"{header.made_by!r} of {header.width}: bring vectors of the same maker, or leave reuse out"
        )
    return learned, book.known_until


def _early(rows: pl.DataFrame, config: Config) -> tuple[pl.DataFrame, datetime | None]:
    """Return the rows that are learned from, and the moment before which they are; None where all are."""
    import polars as pl

    limit = config.learns_until(rows[TIME])
    return rows if limit is None else rows.filter(pl.col(TIME) < limit), limit


def _seen(early: pl.DataFrame, vectors: Vectors, key: str, limit: datetime | None) -> NDArray[np.bool_]:
    """Return bool ``[n]``, which vectors are learned from.

    Raises:
        BadInputError: none is early enough.
    """
    seen = _places(early[key].unique().to_arrow(), vectors)
    chosen = np.zeros(len(vectors.items), dtype=bool)
    chosen[seen[seen >= 0]] = True
    if not chosen.any():
        raise BadInputError(f"no item with a vector is earlier than {limit}: learn from more, or bring its vectors")
    return chosen


def _said(early: pl.DataFrame, vectors: Vectors, key: str, align: Align) -> Engaged:
    """Return what the clicks of some rows say of the items with a vector.

    Raises:
        BadInputError: a value of the feedback is not 0 or 1, or they tell no item from another.
    """
    import polars as pl

    clicks = early[align.feedback].cast(pl.Float32, strict=False)
    if wrong := len(clicks) - int(clicks.is_in([0.0, 1.0]).fill_null(value=False).sum()):
        raise BadInputError(
            f"align: {wrong:,} of {len(clicks):,} values of {align.feedback!r} are not 0 or 1: name another column"
        )
    items = _places(early[key].to_arrow(), vectors)
    there = (items >= 0) & early[align.user].is_not_null().to_numpy()
    users = early[align.user].filter(there).rank("dense").to_numpy().astype(np.int64) - 1
    return engaged(users, items[there], clicks.to_numpy()[there], len(vectors.items), align)


def _places(ids: pa.Array | pa.ChunkedArray, vectors: Vectors) -> NDArray[np.int64]:
    """Return int64 ``[rows]``, which vector each id has, −1 where it has none.

    Raises:
        BadInputError: ids are numbers on one side and texts on the other.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_integer(ids.type) != pa.types.is_integer(vectors.items.type):
        raise BadInputError(
            f"the ids of the table are {ids.type}, those of the vectors {vectors.items.type}: make them alike"
        )
    found = pc.index_in(ids.cast(vectors.items.type), value_set=vectors.items)
    return np.asarray(pc.fill_null(found, -1).to_numpy(), dtype=np.int64)


def described(
    learned: Learned, codes: Codes, errors: list[float], header: VectorsHeader, until: datetime | None, config: Config
) -> Codebook:
    """Return what is told of a codebook and of how its codes are used."""
    size = len(learned.books[0])
    use = []
    for level, error in enumerate(errors):
        shares = np.bincount(codes[:, level], minlength=size) / len(codes)
        shares = shares[shares > 0]
        use.append(LevelUse(used=len(shares), entropy=float(-(shares * np.log2(shares)).sum()) + 0.0, error=error))
    _, counts = np.unique(codes, axis=0, return_counts=True)
    return Codebook(
        method="rqvae" if learned.encoder else "kmeans",
        levels=len(learned.books),
        codes=size,
        width=header.width,
        made_by=header.made_by,
        digest=learned.digest(),
        known_until=until,
        items=len(codes),
        alone=float((counts == 1).sum() / len(codes)),
        use=tuple(use),
        told=None if learned.turn is None else learned.turn.told,
    )


def _write(draft: Path, learned: Learned, book: Codebook, vectors: Vectors, columns: dict[str, Codes]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq
    from safetensors.numpy import save_file

    (draft / BOOK).write_text(book.model_dump_json(indent=2), encoding="utf-8")
    tensors = {name: np.ascontiguousarray(value) for name, value in sorted(learned.tensors().items())}
    save_file(tensors, str(draft / WEIGHTS))
    table = pa.table({"item": vectors.items, **{name: pa.array(values + 1) for name, values in columns.items()}})
    pq.write_table(table, draft / CODES, compression="zstd", version="2.6")


def _told(book: Codebook, columns: dict[str, Codes], without: float) -> list[str]:
    levels = "; ".join(
        f"level {level}: {use.used} of {book.codes} codes, {use.entropy:.1f} bits, {use.error:.0%} left"
        for level, use in enumerate(book.use, start=1)
    )
    lines = [
        f"{', '.join(columns)}: {book.items:,} items, {book.alone:.0%} alone in theirs, codebook {book.digest[:12]}; "
        f"{levels}"
    ]
    if book.told is not None:
        lines.append(
            f"aligned: vectors tell {max(book.told, 0):.0%} of what clicks say of an item"
            + ("" if book.told > 0 else ", so codes heard noise: leave align out, or bring vectors that tell more")
        )
    if without:
        lines.append(f"{without:.1%} of the rows have an item without a vector, and {NONE} for its codes")
    return lines
