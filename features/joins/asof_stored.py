"""How is a question about the past answered whose rows memory should not hold? On disk, one column after the other.

The entity rows lie in a file. Which row of a view each of them knows is found for some of the keys after the others,
and takes four bytes a row; with these numbers every column is then gathered by itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from feast import FeatureView, OnDemandFeatureView
from feast.infra.offline_stores.offline_store import RetrievalJob

from features.joins.asof import ASKED_AT, MOMENT, known_rows_of_parts
from features.joins.asof_store import ViewQuestion
from features.joins.histories import COUNT, START, referred_files, stored_columns
from features.joins.spill import BLOCK, GROUP, Column, InFile, Spill, Spilled, blocks_of, rows_at_once
from features.joins.stored_rows import Referred

TIME = "event_timestamp"
Types = Mapping[str, pa.DataType]


class StoredJob(RetrievalJob):
    """One question, answered when `write` is called."""

    def __init__(
        self, entities: Path, views: list[FeatureView], wanted: dict[str, list[str]], honour_created: bool
    ) -> None:
        self._entities, self._views, self._wanted = Spilled(entities), views, wanted
        self._honour_created = honour_created

    @property
    def full_feature_names(self) -> bool:
        """Whether a feature's column begins with its view's name."""
        return False

    @property
    def on_demand_feature_views(self) -> list[OnDemandFeatureView]:
        """None; Feast computes them from answers in memory."""
        return []

    def write(self, folder: Path, types: Types) -> dict[str, Column]:
        """Write the features of each entity row, in the order of the rows, and return where they lie.

        Args:
            folder: empty, where the columns go.
            types: Arrow type by feature.
        """
        columns = dict[str, Column]()
        for number, view in enumerate(self._views):
            here = folder / str(number)
            here.mkdir(parents=True)
            features = self._wanted[view.projection.name_to_use()]
            columns |= _joined(self._entities, view, features, types, self._honour_created, here)
        return columns

    def _to_arrow_internal(self, timeout: int | None = None) -> pa.Table:
        raise NotImplementedError

    def _to_df_internal(self, timeout: int | None = None) -> pd.DataFrame:
        raise NotImplementedError


def _joined(
    entities: Spilled, view: FeatureView, features: list[str], types: Types, honour_created: bool, folder: Path
) -> dict[str, Column]:
    """Return the columns of one view."""
    ask = ViewQuestion.of(view)
    there = ask.known(pl.DataFrame(pq.read_schema(ask.path).empty_table().select(ask.read))).schema
    needed = [*dict.fromkeys(ask.own.values()), TIME, *([ASKED_AT] if ASKED_AT in entities.schema.names else [])]
    given = ask.asked(pl.DataFrame(entities.read(needed, 0, 0)).rename({TIME: MOMENT})).schema
    odd = {
        f"__key_{name}": theirs for name, theirs in ask.own.items() if given[f"__key_{name}"] != there[f"__key_{name}"]
    }
    empty = [key for key, theirs in odd.items() if _never_given(entities, theirs)]

    def asked() -> Iterator[pl.DataFrame]:
        for start in range(0, max(1, len(entities)), BLOCK):
            rows = pl.DataFrame(entities.read(needed, start, min(start + BLOCK, len(entities))))
            yield ask.same_types(ask.asked(rows.rename({TIME: MOMENT})), there, empty)

    most = max(len(entities), pq.read_metadata(ask.path).num_rows)
    rows = known_rows_of_parts(
        asked(), (ask.known(pl.DataFrame(block)) for block in blocks_of(ask.path, ask.read)), ask.keys, ask.ttl,
        honour_created=honour_created, parts=-(-most // rows_at_once()), folder=folder,
    )  # fmt: skip
    names = ask.stored_names(features)
    plain = {old: types[name] for name, old in names.items()}
    found = {
        name: _gathered(ask.path, name, rows, plain.get(name), folder / f"{number}.parquet")
        for number, name in enumerate(stored_columns(ask.path, names.values()))
    }
    columns = dict[str, Column](found)
    for file in referred_files(found):
        events = Spilled(ask.path.parent / file)
        columns |= {
            name: Referred(found[file + START], found[file + COUNT], events.columns()[name])
            for name in events.schema.names
        }
    return {name: columns[old] for name, old in names.items()}


def _never_given(entities: Spilled, key: str) -> bool:
    spans = range(0, len(entities), BLOCK)
    return all(
        column.null_count == len(column)
        for column in (entities.read([key], at, min(at + BLOCK, len(entities))).column(0) for at in spans)
    )


def _gathered(path: Path, name: str, rows: pl.Series, wanted: pa.DataType | None, to: Path) -> InFile:
    """Write one column of a view's file at some of its rows, and return it."""
    values = pl.read_parquet(path, columns=[name])[name].rechunk().to_arrow(compat_level=pl.CompatLevel.oldest())
    at = rows.rechunk().to_arrow()
    spill = Spill(to)
    wanted = wanted or values.type

    def piece(start: int) -> pa.Table:
        return pa.table({name: pc.take(values, at.slice(start, GROUP)).cast(wanted)})

    # Arrow takes from one column on one processor.
    with ThreadPoolExecutor(pl.thread_pool_size()) as threads:
        for start in range(0, max(1, len(rows)), BLOCK):
            for taken in threads.map(piece, range(start, min(start + BLOCK, max(1, len(rows))), GROUP)):
                spill.write(taken)
    return InFile(spill.close(), name, wanted)
