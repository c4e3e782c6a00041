"""How does Feast answer about the past in time that grows with the rows? By an offline store with a merge of its own.

Feast's duckdb engine joins each entity row to all earlier feature rows of its key before it ranks them. Everything
but the historical question (materialisation, saved data sets) stays Feast's, which is given the lists of histories
that a table keeps by reference.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from feast import FeatureView, OnDemandFeatureView, RepoConfig
from feast.data_source import DataSource
from feast.infra.offline_stores.duckdb import DuckDBOfflineStore, DuckDBOfflineStoreConfig
from feast.infra.offline_stores.file_source import FileSource
from feast.infra.offline_stores.offline_store import RetrievalJob, RetrievalMetadata
from feast.infra.offline_stores.offline_utils import infer_event_timestamp_from_entity_df
from feast.infra.registry.base_registry import BaseRegistry

from features.ground.errors import BadInputError
from features.joins.asof import ASKED_AT, CREATED, EVENT, MOMENT, TIME, known_rows
from features.joins.histories import listed, stored_columns, with_histories

GATHER_ROWS = 1 << 17
"""Entity rows per piece of the answer: a piece stays in the cache, and no Arrow list or text outgrows its 32-bit
offsets."""


class AsOfOfflineStoreConfig(DuckDBOfflineStoreConfig):
    """Settings of `AsOfOfflineStore`: those of Feast's duckdb engine."""

    type: str = "features.joins.asof_store.AsOfOfflineStore"


class AsOfOfflineStore(DuckDBOfflineStore):
    """Feast's duckdb engine with another point-in-time join over Parquet files; answers are the same."""

    @staticmethod
    def get_historical_features(
        config: RepoConfig,
        feature_views: list[FeatureView],
        feature_refs: list[str],
        entity_df: pd.DataFrame | str,
        registry: BaseRegistry,
        project: str,
        full_feature_names: bool = False,
        filter_by_created_timestamp: bool = False,
    ) -> RetrievalJob:
        """Return a job that joins the newest known features to each entity row, in the order of the rows.

        See `OfflineStore.get_historical_features` of Feast.

        A text in the place of a data frame is the path of a Parquet file with the entity rows, whose time is called
        `event_timestamp`; such a job is answered on disk, by `StoredJob.write`.

        Raises:
            BadInputError: `entity_df` is neither a data frame nor a Parquet file, or a view's source is none.
        """
        if isinstance(entity_df, str) and entity_df.endswith(".parquet"):
            from features.joins.asof_stored import StoredJob

            wanted = {view.projection.name_to_use(): _references(view, feature_refs) for view in feature_views}
            return StoredJob(Path(entity_df), feature_views, wanted, filter_by_created_timestamp)
        if not isinstance(entity_df, pd.DataFrame):
            raise BadInputError(
                "entities must be a pandas data frame or the path of a Parquet file: this offline store reads files, "
                "not SQL"
            )
        time = infer_event_timestamp_from_entity_df(dict(zip(entity_df.columns, entity_df.dtypes, strict=True)))
        wanted = {view.projection.name_to_use(): _references(view, feature_refs) for view in feature_views}
        derived = OnDemandFeatureView.get_requested_odfvs(feature_refs, project, registry)
        return _AsOfJob(
            entity_df, time, feature_views, wanted, derived, feature_refs, full_feature_names,
            filter_by_created_timestamp,
        )  # fmt: skip

    @staticmethod
    def pull_latest_from_table_or_query(
        config: RepoConfig, data_source: DataSource, join_key_columns: list[str], feature_name_columns: list[str],
        *args: Any, **options: Any,
    ) -> RetrievalJob:  # fmt: skip
        """Return a job with the newest row of each key; see `OfflineStore.pull_latest_from_table_or_query` of Feast."""
        return _with_lists(
            DuckDBOfflineStore.pull_latest_from_table_or_query, config, data_source, join_key_columns,
            feature_name_columns, *args, **options,
        )  # fmt: skip

    @staticmethod
    def pull_all_from_table_or_query(
        config: RepoConfig, data_source: DataSource, join_key_columns: list[str], feature_name_columns: list[str],
        *args: Any, **options: Any,
    ) -> RetrievalJob:  # fmt: skip
        """Return a job with all rows; see `OfflineStore.pull_all_from_table_or_query` of Feast."""
        return _with_lists(
            DuckDBOfflineStore.pull_all_from_table_or_query, config, data_source, join_key_columns,
            feature_name_columns, *args, **options,
        )  # fmt: skip


def _with_lists(
    pull: Callable[..., RetrievalJob], config: RepoConfig, source: DataSource, keys: list[str], features: list[str],
    *args: Any, **options: Any,
) -> RetrievalJob:  # fmt: skip
    """Return Feast's own job, its answer with lists where the table has references."""
    path = Path(source.path) if isinstance(source, FileSource) else Path()
    columns = stored_columns(path, features) if path.suffix == ".parquet" and path.exists() else features
    job = pull(config, source, keys, columns, *args, **options)
    return job if columns == features else _ListedJob(job, path, features)


class _ListedJob(RetrievalJob):
    """A job of Feast's, with the histories that its rows refer to."""

    def __init__(self, job: RetrievalJob, path: Path, features: list[str]) -> None:
        self._job, self._path, self._features = job, path, features

    @property
    def full_feature_names(self) -> bool:
        """Whether a feature's column begins with its view's name."""
        return False

    @property
    def on_demand_feature_views(self) -> list[OnDemandFeatureView]:
        """None; Feast computes them from historical answers."""
        return []

    def _to_arrow_internal(self, timeout: int | None = None) -> pa.Table:
        return listed(with_histories(self._job.to_arrow(timeout=timeout), self._path, self._features))

    def _to_df_internal(self, timeout: int | None = None) -> pd.DataFrame:
        return self._to_arrow_internal(timeout).to_pandas()


class _AsOfJob(RetrievalJob):
    """One question, answered when `to_arrow` or `to_df` is called."""

    def __init__(
        self,
        entities: pd.DataFrame,
        time: str,
        views: list[FeatureView],
        wanted: dict[str, list[str]],
        derived: list[OnDemandFeatureView],
        references: list[str],
        full_names: bool,
        honour_created: bool,
    ) -> None:
        self._entities, self._time, self._views, self._wanted = entities, time, views, wanted
        self._derived, self._references = derived, references
        self._full_names, self._honour_created = full_names, honour_created

    @property
    def full_feature_names(self) -> bool:
        """Whether a feature's column begins with its view's name."""
        return self._full_names

    @property
    def on_demand_feature_views(self) -> list[OnDemandFeatureView]:
        """Views that Feast computes from the answer."""
        return self._derived

    @property
    def metadata(self) -> RetrievalMetadata:
        """Features, keys and span of the question."""
        moments = self._entities[self._time]
        keys = [name for name in self._entities.columns if name != self._time]
        return RetrievalMetadata(self._references, keys, moments.min(), moments.max())

    def _to_arrow_internal(self, timeout: int | None = None) -> pa.Table:
        # A missing key may have turned whole numbers into floats; as an object column it could not be told.
        entities = pl.from_pandas(self._entities, nan_to_null=True)
        columns: dict[str, Any] = {name: pa.chunked_array([self._given(name, entities)]) for name in entities.columns}
        moments = entities.with_columns(pl.col(self._time).cast(TIME).alias(MOMENT))
        for view in self._views:
            prefix = f"{view.projection.name_alias or view.name}__" if self._full_names else ""
            features = self._wanted[view.projection.name_to_use()]
            columns |= _join(moments, view, features, prefix, self._honour_created)
        return pa.table(columns)

    def _given(self, name: str, entities: pl.DataFrame) -> pa.Array:
        """Return a column of the question as it came, or as it was read where it holds Python's objects."""
        import pandas as pd

        given = self._entities[name]
        if isinstance(given.dtype, pd.ArrowDtype):
            return pa.array(given.array)
        return entities[name].to_arrow(compat_level=pl.CompatLevel.oldest())

    def _to_df_internal(self, timeout: int | None = None) -> pd.DataFrame:
        return self._to_arrow_internal(timeout).to_pandas()


def _references(view: FeatureView, references: list[str]) -> list[str]:
    prefix = f"{view.projection.name_to_use()}:"
    return [reference.removeprefix(prefix) for reference in references if reference.startswith(prefix)]


def _join(
    moments: pl.DataFrame, view: FeatureView, features: list[str], prefix: str, honour_created: bool
) -> dict[str, pa.ChunkedArray]:
    """Return the columns of one view, one value per moment."""
    ask = ViewQuestion.of(view)
    asked = ask.asked(moments)
    table = ask.known(pl.read_parquet(ask.path, columns=ask.read))
    asked = ask.same_types(asked, table.schema, {key for key in ask.keys if asked[key].null_count() == len(asked)})
    rows = known_rows(asked, table, ask.keys, ask.ttl, honour_created=honour_created)
    del asked, table
    names = ask.stored_names(features)
    columns = dict[str, pa.ChunkedArray]()
    for group in _groups(ask.path, stored_columns(ask.path, names.values())):
        columns |= _gathered(ask.path, group, rows)
    found = with_histories(pa.table(columns), ask.path, names.values())
    return {prefix + name: found.column(old) for name, old in names.items()}


@dataclass(frozen=True)
class ViewQuestion:
    """What of entity rows, and of the file of a view, says which row was known."""

    view: FeatureView
    path: Path
    own: Mapping[str, str]
    """By key of the view the column of the entity rows."""
    times: Mapping[str, str]
    """By column of the file whether it holds `EVENT` or `CREATED`."""
    stored: Mapping[str, str]
    """By name in the view the name in the file, where they differ."""

    @classmethod
    def of(cls, view: FeatureView) -> ViewQuestion:
        """Return the question about a view.

        Raises:
            BadInputError: its source is no Parquet file.
        """
        source = view.batch_source
        times = {source.timestamp_field: EVENT}
        if source.created_timestamp_column:
            times[source.created_timestamp_column] = CREATED
        own = view.projection.join_key_map or {column.name: column.name for column in view.entity_columns}
        return cls(view, _file(view), own, times, {new: old for old, new in source.field_mapping.items()})

    @property
    def keys(self) -> list[str]:
        """Columns of the key in what `asked` and `known` return."""
        return [f"__key_{name}" for name in self.own]

    @property
    def ttl(self) -> timedelta:
        """Greatest age; zero means any."""
        return self.view.ttl or timedelta(0)

    @property
    def read(self) -> list[str]:
        """Columns of the file that are needed."""
        return [self.stored.get(name, name) for name in [*self.own, *self.times]]

    def stored_names(self, features: list[str]) -> dict[str, str]:
        """Return by feature its name in the file."""
        return {name: self.stored.get(name, name) for name in features}

    def asked(self, moments: pl.DataFrame) -> pl.DataFrame:
        """Return what `known_rows` asks about."""
        return moments.select(
            *(pl.col(theirs).alias(f"__key_{name}") for name, theirs in self.own.items()),
            *(pl.col(name).cast(TIME) for name in (MOMENT, ASKED_AT) if name in moments.columns),
        )

    def known(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Return what `known_rows` looks among, of columns of the file."""
        return rows.select(
            *(pl.col(self.stored.get(name, name)).alias(f"__key_{name}") for name in self.own),
            *(pl.col(self.stored.get(name, name)).cast(TIME).alias(role) for name, role in self.times.items()),
        )

    def same_types(self, asked: pl.DataFrame, there: pl.Schema, empty: Collection[str]) -> pl.DataFrame:
        """Return rows of `asked` with keys of the file's types.

        Args:
            asked: rows.
            there: types of the file.
            empty: keys that no entity row has.

        Raises:
            BadInputError: a key is a number on one side and a text on the other.
        """
        for key in self.keys:
            left, right = asked.schema[key], there[key]
            if left != right and ((left.is_numeric() and right.is_integer()) or key in empty):
                asked = asked.with_columns(pl.col(key).cast(right))
            elif left != right:
                raise BadInputError(
                    f"key {key.removeprefix('__key_')!r} is {left} in the entities and {right} in feature view "
                    f"{self.view.name!r}: make their types agree"
                )
        return asked


def _file(view: FeatureView) -> Path:
    """Return the Parquet file of a view.

    Raises:
        BadInputError: the source is something else.
    """
    source = view.batch_source
    if not isinstance(source, FileSource) or not source.path.endswith(".parquet"):
        raise BadInputError(
            f"feature view {view.name!r} reads {type(source).__name__} {source.name!r}, but historical features are "
            "joined from Parquet files: give it a FileSource with a path that ends with .parquet"
        )
    return Path(source.path)


def _groups(path: Path, names: list[str]) -> list[list[str]]:
    """Return the columns to hold in memory at once: plain ones together, each list alone."""
    schema = pq.read_schema(path)
    nested = [name for name in names if pa.types.is_nested(schema.field(name).type)]
    plain = [name for name in names if name not in nested]
    return [group for group in [plain, *([name] for name in nested)] if group]


def _gathered(path: Path, group: list[str], rows: pl.Series) -> dict[str, pa.ChunkedArray]:
    table = pl.read_parquet(path, columns=group)
    columns = {name: table[name].rechunk().to_arrow(compat_level=pl.CompatLevel.oldest()) for name in group}
    at = rows.rechunk().to_arrow()
    del table
    # Arrow's usual one takes a third longer over some hundred MiB of lists.
    pool = pa.jemalloc_memory_pool() if "jemalloc" in pa.supported_memory_backends() else None

    def piece(start: int) -> dict[str, pa.Array]:
        here = at.slice(start, GATHER_ROWS)
        return {name: pc.take(values, here, memory_pool=pool) for name, values in columns.items()}

    # Arrow takes from one column on one processor.
    with ThreadPoolExecutor(pl.thread_pool_size()) as threads:
        pieces = list(threads.map(piece, range(0, max(len(rows), 1), GATHER_ROWS)))
    # In one piece, so that a span of the rows is one too; a piece at a time is let go.
    return {name: pa.chunked_array([pa.concat_arrays([each.pop(name) for each in pieces])]) for name in group}
