"""Do the impressions and a table about their users or items meet at all? Ids written in two ways never do."""

from __future__ import annotations

import re
import unicodedata
from typing import Any

import polars as pl

from components.ingest.ingest_table.config import Entities
from components.platform.errors import BadInputError

_IDS = 100_000
"""Ids of a side among which one is sought that the other side writes in another way."""


def tell_unmatched(unmatched: pl.Series, total: int, entities: pl.DataFrame, table: Entities, role: str) -> str | None:
    """Return a line about the impressions that found no row, or None when each did.

    Args:
        unmatched: ids of those impressions, named as they are published.
        total: how many impressions there are, at least one.
        entities: rows of the table.
        table: what the config says of it.
        role: ``users`` or ``items``.

    Raises:
        BadInputError: not one impression found its row, or more did not than `unmatched.at_most` allows.
    """
    if not len(unmatched):
        return None
    limit = table.unmatched.at_most
    if len(unmatched) == total and limit is None:
        raise BadInputError(
            f"not one of {total:,} impressions finds its row in {table.files}: {_why(unmatched, entities)}"
        )
    share = len(unmatched) / total
    first = unmatched.drop_nulls().min()
    if limit is not None and share > limit:
        raise BadInputError(
            f"{len(unmatched):,} of {total:,} impressions ({share:.1%}) find no row in {table.files}, such as "
            f"{unmatched.name} {first!r}, and unmatched.at_most is {limit}: complete the table, or raise the limit"
        )
    mark = "warning: " if share > table.unmatched.warn_above else ""
    return (
        f"{mark}{len(unmatched):,} impressions ({share:.1%}) of {role} without a row in their table, such as "
        f"{unmatched.name} {first!r}"
    )


def _why(unmatched: pl.Series, entities: pl.DataFrame) -> str:
    name = unmatched.name
    if entities.is_empty():
        return "the table holds no rows; write it again"
    here, there = unmatched.unique(), entities[name].unique()
    if both := here.filter(here.is_in(there.implode())).to_list():
        return (
            f"the rows of {name} {min(both)!r}, as all others, hold only since its impressions or later; correct "
            "valid_from (unit, zone), leave it out where rows hold from the beginning, or set unmatched.at_most: 1"
        )
    one, other = _pair(here.sort().head(_IDS).to_list(), there.sort().head(_IDS).to_list())
    return f"{name} is written {one!r} in the impressions and {other!r} in the table; write ids alike in both"


def _pair(here: list[Any], there: list[Any]) -> tuple[Any, Any]:
    """Return an id of either side, the same one if the sides write it in two ways."""
    known = {_bare(one): one for one in reversed(there)}
    return next(((one, known[_bare(one)]) for one in here if _bare(one) in known), (here[0], there[0]))


def _bare(one: Any) -> str:
    text = unicodedata.normalize("NFKC", str(one)).casefold()
    return re.sub(r"\s+", "", re.sub(r"\.0+$", "", text)).lstrip("0")
