"""What does a label say of the number that it must not speak of? Correlations, rates by group, rates over time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from components.data.derive_labels.config import Correlation, FairQuantile, Group, MadeLabel, Period
from components.data.derive_labels.fair import Cuts, Floats

if TYPE_CHECKING:
    import polars as pl

DAYS, WEEK = 31, 7
"""Up to so many days are told one by one, more by the week."""


@dataclass(frozen=True)
class Rows:
    """What is looked at."""

    times: pl.Series
    """``[rows]``, UTC."""
    fitted: NDArray[np.bool_]
    """``[rows]``, which groups were cut on."""
    amount: Floats
    """``[rows]``."""
    within: Floats
    """``[rows]``."""
    labels: Mapping[str, NDArray[Any]]
    """By name ``[rows]``, 0 or 1: the new one first."""


def made_label(name: str, rule: FairQuantile, cuts: Cuts, rows: Rows) -> MadeLabel:
    """Return what is told of a label."""
    days, periods = _periods(rows, rows.labels[name])
    return MadeLabel(
        name=name, rule=rule, groups=_groups(cuts, rows), correlations=_correlations(rule, rows), days=days,
        periods=periods,
    )  # fmt: skip


def headlines(label: MadeLabel) -> tuple[str, ...]:
    """Return the lines of a run's notes."""
    amount, new = label.correlations[0], label.correlations[-1]
    rates = [rate for group in label.groups if (rate := group.rates[label.name][0]) is not None]
    lines = [
        f"{label.name}: {len(label.groups)} groups of {label.rule.within}; correlation with it {_pair(new.linear)} "
        f"({label.rule.amount}: {_pair(amount.linear)}), on the rows that groups were cut on / later ones",
        f"{label.name}: {min(rates):.1%} to {max(rates):.1%} by group",
    ]
    shares = [period.rate for period in label.periods]
    if len(shares) > 1:
        unit = "day" if label.days == 1 else f"{label.days} days"
        lines.append(f"{label.name}: {min(shares):.1%} to {max(shares):.1%} by {unit}")
    return tuple(lines)


def _pair(values: tuple[float | None, float | None]) -> str:
    return " / ".join("–" if value is None else f"{value:+.3f}" for value in values)


def _groups(cuts: Cuts, rows: Rows) -> tuple[Group, ...]:
    group = cuts.groups(rows.within)
    bounds = [None, *cuts.edges.tolist(), None]
    size = len(cuts.amounts)
    parts = (rows.fitted, ~rows.fitted)
    counts = [np.bincount(group[part], minlength=size) for part in parts]
    rates = {
        name: [np.bincount(group[part], label[part], minlength=size) for part in parts]
        for name, label in rows.labels.items()
    }
    return tuple(
        Group(
            low=bounds[place],
            high=bounds[place + 1],
            cut=float(cuts.amounts[place]),
            inclusive=bool(cuts.inclusive[place]),
            fitted=int(counts[0][place]),
            later=int(counts[1][place]),
            rates={
                name: (_share(sums[0][place], counts[0][place]), _share(sums[1][place], counts[1][place]))
                for name, sums in rates.items()
            },
        )
        for place in range(size)
    )


def _share(ones: float, rows: int) -> float | None:
    return float(ones / rows) if rows else None


def _correlations(rule: FairQuantile, rows: Rows) -> tuple[Correlation, ...]:
    name, *beside = rows.labels
    with np.errstate(divide="ignore", invalid="ignore"):
        part = np.where(rows.within > 0, rows.amount / rows.within, np.nan)
    quantities = {rule.amount: rows.amount, f"{rule.amount} per {rule.within}": part}
    quantities |= {one: rows.labels[one] for one in (*beside, name)}
    return tuple(
        Correlation(
            of=of,
            linear=_both(rows, values, correlation),
            rank=_both(rows, values, lambda a, b: correlation(_ranks(a), _ranks(b))),
        )
        for of, values in quantities.items()
    )


def _both(rows: Rows, values: NDArray[Any], measure: Any) -> tuple[float | None, float | None]:
    known = np.isfinite(values)
    one, other = (measure(values[part & known], rows.within[part & known]) for part in (rows.fitted, ~rows.fitted))
    return one, other


def correlation(one: NDArray[Any], other: NDArray[Any]) -> float | None:
    """Return Pearson's correlation, None where either side is constant or there are fewer than two rows."""
    if len(one) < 2 or np.ptp(one) == 0 or np.ptp(other) == 0:
        return None
    a, b = (side - side.mean() for side in (one.astype(np.float64), other.astype(np.float64)))
    return float((a * b).sum() / np.sqrt((a * a).sum() * (b * b).sum()))


def _ranks(values: NDArray[Any]) -> NDArray[Any]:
    import polars as pl

    return pl.Series(values).rank("average").to_numpy()


def _periods(rows: Rows, label: NDArray[Any]) -> tuple[int, tuple[Period, ...]]:
    first: Any = rows.times.min()
    start = first.replace(hour=0, minute=0, second=0, microsecond=0)
    passed = ((rows.times - start).dt.total_days()).to_numpy()
    days = 1 if passed.max() < DAYS else WEEK
    place = passed // days
    size = int(place.max()) + 1
    counts, ones, fitted = (np.bincount(place, weights, minlength=size) for weights in (None, label, rows.fitted))
    return days, tuple(
        Period(
            start=start + timedelta(days=int(at) * days),
            rows=int(counts[at]),
            rate=float(ones[at] / counts[at]),
            fitted=bool(fitted[at]),
        )
        for at in np.flatnonzero(counts)
    )
