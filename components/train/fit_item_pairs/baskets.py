"""Which items lay in one basket, before and after? Lines of baskets, the newest of them held out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow.parquet as pq
from numpy.typing import NDArray
from scipy import sparse

from components.platform.errors import BadInputError, MissingError, no_columns
from components.train.fit_item_pairs.config import Config

TIME = "event_timestamp"
LEAST_PAIRS = 1000
"""Fewer pairs say nothing about pairs."""
Integers = NDArray[np.int64]
_BASKET, _ITEM = "basket", "item"


@dataclass(frozen=True)
class Lines:
    """Baskets of two items or more, one line per item, each item once."""

    basket: Integers
    """``[L]``, ascending."""
    item: Integers
    """``[L]``, index of the item."""

    @property
    def lengths(self) -> Integers:
        """``[L]``, items of the basket that a line is of."""
        _, place, counts = np.unique(self.basket, return_inverse=True, return_counts=True)
        return np.asarray(counts[place], dtype=np.int64)

    @property
    def pairs(self) -> int:
        """Ordered pairs of items of one basket."""
        return int((self.lengths - 1).sum())

    def shown(self, contexts: int, rng: np.random.Generator) -> Iterator[tuple[Integers, Integers]]:
        """Yield, time by time, ``[n]`` items with another item of the basket: `contexts` different ones at random."""
        order = np.lexsort((rng.random(len(self.item)), self.basket))
        item, length = self.item[order], self.lengths
        _, first, place = np.unique(self.basket, return_index=True, return_inverse=True)
        start = first[place]
        within = np.arange(len(item)) - start
        for step in range(1, contexts + 1):
            some = np.flatnonzero(length > step)
            if not len(some):
                return
            yield item[some], item[start[some] + (within[some] + step) % length[some]]


@dataclass(frozen=True)
class Baskets:
    """What is learned from, and what is judged by."""

    items: pl.Series
    """Ids ``[I]``, ascending."""
    counts: Integers
    """``[I]``, baskets with the item, of those that are learned from."""
    train: Lines
    test: Lines
    names: pl.Series | None
    """Texts ``[I]``, where items have names."""
    left_out: int
    """Items in too few baskets."""

    def together(self) -> sparse.csr_matrix:
        """Return float64 ``[I, I]``, in how many baskets of the training two items lay; 0 with itself."""
        _, row = np.unique(self.train.basket, return_inverse=True)
        ones = np.ones(len(row), dtype=np.float64)
        inside = sparse.csr_matrix((ones, (row, self.train.item)), shape=(int(row.max()) + 1, len(self.items)))
        counts = (inside.T @ inside).tocoo()
        other = counts.row != counts.col
        return sparse.csr_matrix((counts.data[other], (counts.row[other], counts.col[other])), shape=counts.shape)


def read_baskets(folder: Path, config: Config) -> Baskets:
    """Return the baskets of a log.

    Raises:
        BadInputError: the log lacks a column, or there are fewer than `LEAST_PAIRS` pairs to learn from, or none to
            judge by.
        MissingError: there is no such log.
    """
    name = config.log or "events"
    file = folder / f"{name}.parquet"
    if not file.is_file():
        known = ", ".join(sorted(path.stem for path in folder.glob("*.parquet")))
        raise MissingError(f"the events table has no log {name!r}: name one of {known}")
    wanted = [config.basket, config.item, TIME, *([config.named] if config.named else ())]
    there = pq.read_schema(file).names
    if absent := [column for column in wanted if column not in there]:
        raise BadInputError(f"log {name!r} has {no_columns(absent, there)}: correct the config")
    rows = pl.read_parquet(file, columns=list(dict.fromkeys(wanted)))
    return baskets_of(rows, config)


def baskets_of(rows: pl.DataFrame, config: Config) -> Baskets:
    """Return the baskets of rows with a basket, an item and a time, in whatever order; see `read_baskets`."""
    rows = rows.drop_nulls([config.basket, config.item])
    lines = rows.group_by(pl.col(config.basket).alias(_BASKET), pl.col(config.item).alias(_ITEM)).agg(
        pl.col(TIME).min()
    )
    lines = lines.with_columns(pl.col(TIME).min().over(_BASKET)).sort(TIME, _BASKET, _ITEM)
    number = pl.struct(TIME, _BASKET).rle_id().cast(pl.Int64)
    lines = lines.with_columns(number.alias(_BASKET))
    first = int((lines[_BASKET].max() + 1) * (1 - config.test_share)) if len(lines) else 0  # type: ignore[operator]
    before = lines.filter(pl.col(_BASKET) < first)
    counts = before.group_by(_ITEM).len().sort(_ITEM)
    kept = counts.filter(pl.col("len") >= config.min_baskets)
    rng = np.random.default_rng(config.seed)
    index = kept.select(_ITEM, pl.int_range(pl.len()).cast(pl.Int64).alias("index"))
    known = lines.join(index, on=_ITEM, maintain_order="left")
    drawn = known.with_columns(pl.Series("key", rng.random(len(known))))
    drawn = drawn.filter(pl.col("key").rank("ordinal").over(_BASKET) <= config.at_most)
    drawn = drawn.filter(pl.len().over(_BASKET) > 1)
    train, test = (_lines(drawn.filter(side)) for side in (pl.col(_BASKET) < first, pl.col(_BASKET) >= first))
    if train.pairs < LEAST_PAIRS:
        raise BadInputError(
            f"the baskets hold {train.pairs:,} pairs of items in {config.min_baskets} baskets or more, and at least "
            f"{LEAST_PAIRS:,} are needed: ingest a longer window, lower min_baskets, or name something coarser as item"
        )
    if not test.pairs:
        raise BadInputError("no newest basket holds two known items, so nothing judges the lists: raise test_share")
    names = None
    if config.named:
        named = rows.filter(pl.col(config.named).is_not_null()).group_by(pl.col(config.item).alias(_ITEM))
        told = named.agg(pl.col(config.named).cast(pl.String).min())
        names = kept.join(told, on=_ITEM, how="left", maintain_order="left")[config.named].fill_null("")
    items = kept[_ITEM]
    return Baskets(items, kept["len"].cast(pl.Int64).to_numpy(), train, test, names, len(counts) - len(kept))


def _lines(frame: pl.DataFrame) -> Lines:
    return Lines(frame[_BASKET].to_numpy(), frame["index"].to_numpy())
