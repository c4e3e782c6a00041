"""Which attributes did a user or an item have when an impression happened? Read from its table, joined as of then."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import polars as pl

from components.ingest.ingest_table.config import EVENT, Config
from components.ingest.ingest_table.fields import Column, Key, as_columns, as_time
from components.ingest.ingest_table.place import Entities
from components.ingest.ingest_table.reading.files import Source
from components.ingest.ingest_table.reading.scan import scan
from components.ingest.ingest_table.typed import identity, moment, refuse, typed
from components.platform.errors import BadInputError

_ROW, _SINCE, _FOUND = "__row", "__since", "__found"


def _places(found: Sequence[Source], table: Entities, scratch: Path) -> pl.Series:
    """Return the ids of an entity table as texts, in the order of its rows: what numbers them.

    Raises:
        BadInputError: a file is damaged, or its ids are no texts.
    """
    parts = []
    for source in found:
        file = scan(source, table.ids.read, table, scratch)
        parts.append(file.collect(file.rows.select(identity("id", "string", table.ids, file)[-1].value)))
    return pl.concat(parts)["id"].unique(maintain_order=True)


def numbers_of(found: Mapping[str, Sequence[Source]], config: Config, scratch: Path) -> dict[str, pl.Series]:
    """Return by role, ``users`` or ``items``, the texts of ids in the order that numbers them, where it does."""
    return {
        role: _places(found[role], table, scratch)
        for role, table, key in (("users", config.users, config.user_key), ("items", config.items, config.item_key))
        if table is not None and key.numbered
    }


def read_entities(
    found: Sequence[Source], table: Entities, key: Key, name: str, scratch: Path, numbers: pl.Series | None = None
) -> pl.DataFrame:
    """Return the rows of an entity table, checked and typed.

    Args:
        found: its files.
        table: what the config says of it.
        key: the impressions' id; its type is the type of the table's ids.
        name: published name of the id.
        scratch: folder for copies of files.
        numbers: what `numbers_of` returned, when ids are numbered.

    Returns:
        The id, the attributes and, where rows have a time, ``__since`` in ``datetime[us, UTC]``.

    Raises:
        BadInputError: a field is not what its column promises, or an id (and time) has two rows.
    """
    columns = as_columns(table.columns)
    since = as_time(table.valid_from) if table.valid_from is not None else None
    parts = []
    absent: list[frozenset[str]] = []
    for source in found:
        file = scan(source, table.read, table, scratch, optional_columns(columns))
        absent.append(file.absent)
        checks = identity(name, key.type, table.ids, file, numbers)
        checks += [typed(given, column, file) for given, column in columns.items()]
        checks += [moment(_SINCE, since, file)] if since else []
        refuse(file, checks, file.rows)
        published = [*(one.value for one in checks if one.name), pl.lit(file.shown).alias("__file")]
        parts.append(file.collect(file.rows.select(published).with_row_index(_ROW)))
    require_somewhere(absent, table.files)
    whole = pl.concat(parts)
    unique = [name, *([_SINCE] if since else [])]
    again = whole.filter(~pl.struct(unique).is_first_distinct())
    if len(again):
        row, file_name, value = again.select(_ROW, "__file", name).row(0)
        said = " and ".join(map(repr, table.ids.read))
        told = f"{file_name}, row {row + 1}: {said} {value!r} has a row already"
        remedy = ", or name the column that says since when a row holds in valid_from"
        raise BadInputError(f"{told} with this time; keep one" if since else f"{told}; keep one{remedy}")
    return whole.drop(_ROW, "__file")


def optional_columns(columns: Mapping[str, Column]) -> set[str]:
    """Return the names, as files have them, of columns that a file may lack."""
    return {column.column or given for given, column in columns.items() if column.optional}


def require_somewhere(absent: Sequence[frozenset[str]], files: str) -> None:
    """Check that no column is absent from every file.

    Args:
        absent: per file, the optional columns that it lacks.
        files: pattern of the files.

    Raises:
        BadInputError: one is, so that its name is probably wrong.
    """
    for name in sorted(frozenset.intersection(*absent)):
        raise BadInputError(f"no file of {files} has the optional column {name!r}: correct its name, or leave it out")


def join_entities(events: pl.DataFrame, entities: pl.DataFrame, name: str) -> tuple[pl.DataFrame, pl.Series]:
    """Return the impressions with attributes, and the ids of those that found none.

    A row with a time reaches impressions later than that time only, so that nothing written at the moment of an
    impression, perhaps because of it, reaches the impression itself.

    Args:
        events: impressions, in any order.
        entities: rows of `read_entities`.
        name: published name of the id.
    """
    marked = entities.with_columns(pl.lit(True).alias(_FOUND))
    if _SINCE in entities.columns:
        joined = events.sort(EVENT).join_asof(
            marked.sort(_SINCE),
            left_on=EVENT,
            right_on=_SINCE,
            by=name,
            allow_exact_matches=False,
            check_sortedness=False,
        )
    else:
        joined = events.join(marked, on=name, how="left")
    missing = joined[name].filter(joined[_FOUND].is_null())
    return joined.drop(_FOUND, *([_SINCE] if _SINCE in joined.columns else [])), missing
