"""How is a table computed of more events than memory should hold? One range of keys after the other.

What a key did depends on its own events alone, and a table lies in the order of its keys: the tables of ranges of keys,
one behind the other, are the table of all. Events, and the tables until all are there, wait on disk.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import polars as pl
import pyarrow.parquet as pq

from features.declaration import Window
from features.definitions.recipe import Recipe
from features.ground.pace import Pace, Report
from features.joins.histories import COUNT, START, events_file
from features.joins.spill import GROUP, Parts, Spill, Spilled, blocks_of, laid_apart, rows_at_once
from features.recipes.table import columns_read, compute, inside, typed_events, typed_rows, write_table

SAMPLE = 100_000
"""Keys among which the bounds of ranges are chosen."""


def write_computed(
    recipe: Recipe,
    log: Path,
    window: Window,
    columns: dict[str, str],
    path: Path,
    keys: Collection[str] = (),
    lengths: Mapping[str, int] | None = None,
    *,
    scratch: Path | None = None,
    report: Report | None = None,
) -> int:
    """Compute a source's table, write it as `write_table` does, and return how many rows it has; none are not written.

    Args:
        recipe: what to compute.
        log: Parquet file of the events that the recipe names.
        window: events outside are not counted.
        columns: Feast dtype by column, keys of the view included.
        path: Parquet file to write.
        keys: columns that tell a row in an error, besides its time.
        lengths: most events of a history that is read less of than its recipe lists.
        scratch: folder where rows wait; the system's own for temporary files when None.
        report: told how far it is.

    Raises:
        BadInputError: see `compute` and `write_table`.
    """
    events, parts = pl.scan_parquet(log), -(-pq.read_metadata(log).num_rows // rows_at_once())
    if parts <= 1:
        table = compute(recipe, events, window)
        if len(table.rows):
            write_table(table, columns, path, keys, lengths)
        return len(table.rows)
    read = columns_read(recipe, events)
    with TemporaryDirectory(prefix="rankmill-ranges-", dir=scratch) as folder:
        laid = _by_range(recipe, log, read, window, parts, Path(folder))
        made = _Made(Path(folder), columns, path, keys, lengths or {})
        pace = Pace(f"computing {path.stem}", len(laid.file), report)
        for number in range(parts):
            rows = laid.part(number)
            if len(rows):
                made.add(recipe, rows, window)
                pace.done(len(rows))
        return made.write()


def _by_range(recipe: Recipe, log: Path, read: list[str], window: Window, parts: int, folder: Path) -> Parts:
    """Lay the events of a window apart by ranges of their first key."""
    first = recipe.keys[0]
    every = max(1, pq.read_metadata(log).num_rows // SAMPLE)
    some = pl.concat([pl.DataFrame(block)[first].gather_every(every) for block in blocks_of(log, [first])])
    sample = some.drop_nulls().sort()
    bounds = sample.gather([len(sample) * at // parts for at in range(1, parts)]).unique().sort()

    def part(rows: pl.DataFrame) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        return bounds.search_sorted(rows[first], side="right").to_numpy().astype(np.int64)

    blocks = (inside(pl.DataFrame(block).lazy(), recipe, window).collect() for block in blocks_of(log, read))
    return laid_apart(blocks, part, parts, folder / "events.parquet")


class _Made:
    """What has been computed of some of the keys."""

    def __init__(
        self, folder: Path, columns: dict[str, str], path: Path, keys: Collection[str], lengths: Mapping[str, int]
    ) -> None:
        self._folder, self._columns, self._path, self._keys, self._lengths = folder, columns, path, keys, lengths
        self._rows = Spill(folder / "rows.parquet")
        self._ends: list[int] = [0]
        self._events: dict[str, tuple[Spill, list[int]]] = {}
        """By file of events how many there are up to each part."""

    def add(self, recipe: Recipe, rows: pl.DataFrame, window: Window) -> None:
        """Compute the table of some keys, greater than those before."""
        table = compute(recipe, rows.lazy(), window)
        if table.rows.is_empty():
            return
        for number, values in typed_events(table, self._columns, self._path, self._keys).items():
            file = events_file(self._path.name, number)
            spill, ends = self._events.setdefault(file, (Spill(self._folder / f"{number}.parquet"), [0]))
            _write(spill, values)
            ends.append(ends[-1] + len(values))
        _write(self._rows, typed_rows(table, self._columns, self._path, self._keys, self._lengths))
        self._ends.append(self._ends[-1] + len(table.rows))

    def write(self) -> int:
        """Write the files of the table and return how many rows it has."""
        total = self._ends[-1]
        if not total:
            return 0
        for file, (spill, ends) in self._events.items():
            (self._path.parent / file).parent.mkdir(exist_ok=True)
            # The newest event of the greatest key comes first.
            _sink(
                _spans(spill.close(), [*pairwise(ends)][::-1]),
                ends[-1],
                self._path.parent / file,
            )
        _sink(self._whole_rows(self._rows.close()), total, self._path)
        return total

    def _whole_rows(self, file: Spilled) -> Iterator[pl.DataFrame]:
        for part, (start, stop) in enumerate(pairwise(self._ends)):
            behind = {name + START: ends[-1] - ends[part + 1] for name, (_, ends) in self._events.items()}
            for rows in _spans(file, [(start, stop)]):
                yield rows.with_columns(
                    pl.when(pl.col(name.removesuffix(START) + COUNT) > 0).then(pl.col(name) + number).otherwise(name)
                    .cast(pl.Int32).alias(name)
                    for name, number in behind.items()
                )  # fmt: skip


def _write(spill: Spill, rows: pl.DataFrame) -> None:
    spill.write(rows.to_arrow(compat_level=pl.CompatLevel.oldest()))


def _spans(file: Spilled, spans: Iterable[tuple[int, int]]) -> Iterator[pl.DataFrame]:
    for start, stop in spans:
        for at in range(start, stop, GROUP):
            yield pl.DataFrame(file.read(file.schema.names, at, min(at + GROUP, stop)))


def _sink(blocks: Iterator[pl.DataFrame], rows: int, path: Path) -> None:
    """Write rows with the row groups that one frame of as many would get, and so with the same bytes."""
    from polars.io.plugins import register_io_source

    first = next(blocks)
    sizes = _row_groups(rows, path)

    def source(*_: object) -> Iterator[pl.DataFrame]:
        waiting = first
        for size in sizes:
            while len(waiting) < size:
                waiting = pl.concat([waiting, next(blocks)])
            yield waiting[:size].rechunk()
            waiting = waiting[size:]

    register_io_source(source, schema=first.schema).sink_parquet(path, compression="zstd", statistics=True)


def _row_groups(rows: int, path: Path) -> list[int]:
    """Return how many rows each group of a frame's file holds."""
    trial = path.with_name(f".{path.name}.trial")
    pl.DataFrame({"nothing": pl.zeros(rows, pl.UInt8, eager=True)}).write_parquet(trial)
    found = pq.read_metadata(trial)
    trial.unlink()
    return [found.row_group(number).num_rows for number in range(found.num_row_groups)]
