"""Which rows are not published as they are? Those that repeat another one, and those that break the funnel."""

from __future__ import annotations

from itertools import pairwise

import polars as pl

from components.ingest.ingest_table.config import CREATED, EVENT, REQUEST, Config
from components.platform.errors import BadInputError


def without_duplicates(rows: pl.DataFrame, config: Config) -> tuple[pl.DataFrame, int]:
    """Return the impressions after the rule about duplicates, and how many rows it left out.

    Raises:
        BadInputError: the rule is `refuse` and two rows agree.
    """
    user_item = [config.user_name, config.item_name]
    if config.duplicates == "keep":
        return rows, 0
    if config.duplicates == "latest":
        same = [*user_item, EVENT, *([REQUEST] if config.request else [])]
        # Of rows stored at once the order of their other values decides, so that the files' order does not.
        ordered = rows.sort([*same, CREATED, *(name for name in rows.columns if name not in (*same, CREATED))])
        once = ordered.unique(same, keep="last", maintain_order=True)
    else:
        once = rows.unique(keep="first", maintain_order=True)
    repeated = len(rows) - len(once)
    if repeated and config.duplicates == "refuse":
        user, item, time = rows.filter(rows.is_duplicated()).select(*user_item, EVENT).row(0)
        raise BadInputError(
            f"{repeated:,} rows of {config.files} repeat another one, first user {user}, item {item} at "
            f"{time:%Y-%m-%d %H:%M:%S} UTC: remove them, or set duplicates to drop"
        )
    return once, repeated


def mended(rows: pl.DataFrame, config: Config) -> tuple[pl.DataFrame, dict[str, int]]:
    """Return the impressions after the rule about broken funnels, and how many it met, by what to tell of them.

    Raises:
        BadInputError: the rule leaves every row out.
    """
    if config.funnel is None:
        return rows, {}
    labels, broken = config.funnel.labels, config.funnel.broken
    breaks = pl.any_horizontal(pl.col(later) > pl.col(earlier) for earlier, later in pairwise(labels))
    count = int(rows.select(breaks.sum()).item())
    if broken == "drop":
        if count == len(rows):
            raise BadInputError(
                f"every impression breaks the funnel {' -> '.join(labels)}: correct the order of its labels"
            )
        rows = rows.filter(~breaks)
    elif broken == "force":
        rows = rows.with_columns(pl.max_horizontal(labels[at:]).alias(name) for at, name in enumerate(labels))
    done = {"drop": "dropped", "force": "mended", "keep": "kept"}[broken]
    return rows, {f"rows that break the funnel {' -> '.join(labels)} {done}": count}
