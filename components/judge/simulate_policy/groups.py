"""Which rows are judged together, and what does the reference log say about them?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from components.judge.policy_files import EVERY_ROW
from components.judge.simulate_policy.config import Config
from components.judge.simulate_policy.contexts import Candidates
from components.judge.simulate_policy.estimators import Floats, Integers
from components.judge.simulate_policy.policies import frequencies
from components.platform.errors import BadInputError, did_you_mean, no_columns
from features.declaration import Declaration, Window


@dataclass(frozen=True)
class Reference:
    """What the log of another policy says about one group of n judged rows."""

    target: Floats
    """float64 ``[n, K]``, how often it shows each candidate in the slot of each judged row."""
    reward: Floats
    """float64, reward of each impression of its own."""
    unit: Integers
    """int64, what the bootstrap draws of them."""


def groups_of(judged: pa.Table, log: pa.Table, column: str | None) -> Iterator[tuple[str, pa.Table, pa.Table]]:
    """Yield the judged rows and the whole log of each value of `column`, sorted by it, or all without one."""
    if column is None:
        yield EVERY_ROW, judged, log
        return
    values, every = (table[column].cast(pa.string()) for table in (judged, log))
    for value in sorted(pc.unique(values).drop_null().to_pylist()):
        yield value, judged.filter(pc.equal(values, value)), log.filter(pc.equal(every, value))


def require(names: Sequence[str], found: Sequence[str], what: str, advice: str) -> None:
    """Check that every column is there.

    Raises:
        BadInputError: one is not; the message names every one that is absent.
    """
    if absent := [name for name in names if name not in found]:
        raise BadInputError(f"{what} has {no_columns(absent, found)}: {advice}")


def read_reference(
    path: Path, config: Config, declaration: Declaration, action: str, reward: Mapping[str, float], window: Window
) -> pl.DataFrame:
    """Return the impressions of the reference log inside `window`, with columns named by what they are for.

    `action` is the column of what was chosen, `reward` the weights of the columns that it is the sum of.

    Returns:
        ``policy``, ``item``, ``user``, ``reward`` (float64), ``group`` (string) and ``slot``.

    Raises:
        BadInputError: a column is missing.
    """
    wanted = {"policy": config.policy_column, "item": action, "user": declaration.user}
    found = pl.scan_parquet(path)
    names = [*wanted.values(), *reward, declaration.time, *filter(None, (config.candidates_per, config.slot))]
    require(names, found.collect_schema().names(), "the reference log", "wire a log that has it")
    group = pl.col(config.candidates_per).cast(pl.String) if config.candidates_per else pl.lit(EVERY_ROW)
    return (
        found.filter(pl.col(declaration.time).is_between(window.start, window.end, closed="left"))
        .select(
            *(pl.col(name).alias(role) for role, name in wanted.items()),
            pl.sum_horizontal(pl.col(name).cast(pl.Float64) * weight for name, weight in reward.items()).alias(
                "reward"
            ),
            group.alias("group"),
            (pl.col(config.slot) if config.slot else pl.lit(0)).alias("slot"),
        )
        .collect()
    )


def reference_of(
    log: pl.DataFrame, policy: str, group: str, candidates: Candidates, slots: pa.Array, unit: str
) -> Reference:
    """Return what a policy's own log says about the rows of a group.

    Raises:
        BadInputError: the policy has no rows there, or shows what the judged log never does.
    """
    known = log["policy"].unique().to_list()
    if policy not in known:
        raise BadInputError(
            f"the reference log holds no policy {policy!r} in the time of the judged rows"
            f"{did_you_mean(policy, known)}: wire its log of that time"
        )
    rows = log.filter(pl.col("policy") == policy, pl.col("group") == group)
    if rows.is_empty():
        raise BadInputError(f"policy {policy!r} has no impression in {group!r}: wire its log of these rows")
    shown = pc.index_in(rows["item"].to_arrow().cast(candidates.items.type), value_set=candidates.items)
    _check_support(rows, shown, policy, group)
    places = pc.unique(slots)
    place = pc.fill_null(pc.index_in(rows["slot"].to_arrow().cast(places.type), value_set=places), len(places))
    # The last row counts impressions in slots that no judged row has.
    table = frequencies(_whole(shown), _whole(place), len(places) + 1, len(candidates.items))[: len(places)]
    if np.isnan(table).any():
        raise BadInputError(
            f"policy {policy!r} has no impression in a slot of {group!r} that the judged log has: leave slot out, or "
            "wire more of its log"
        )
    drawn = rows["user"].rank("dense") if unit == "user" else pl.arange(len(rows), eager=True)
    return Reference(
        target=table[_whole(pc.index_in(slots, value_set=places))],
        reward=rows["reward"].to_numpy(),
        unit=drawn.to_numpy().astype(np.int64),
    )


def _whole(values: pa.Array) -> Integers:
    return np.asarray(values.to_numpy(zero_copy_only=False), dtype=np.int64)


def _check_support(rows: pl.DataFrame, shown: pa.Array, policy: str, group: str) -> None:
    """Raise when the policy shows items that the judged log never does."""
    lost = rows.filter(pl.Series(shown.is_null().to_numpy(zero_copy_only=False)))
    if len(lost):
        names = lost["item"].unique().sort().to_list()
        some = ", ".join(map(repr, names[:3])) + (", …" if len(names) > 3 else "")
        raise BadInputError(
            f"policy {policy!r} shows {len(names)} items in {group!r} that the judged log never shows ({some}), in "
            f"{100 * len(lost) / len(rows):.1f} % of its impressions: it cannot be valued from this log, use one that "
            "shows every item"
        )
