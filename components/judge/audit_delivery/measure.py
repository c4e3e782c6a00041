"""Whom did each ad reach, and whom might it have? Counts of people and impressions by group, and their variance."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from components.judge.audit_delivery.chance import Chance, Floats, Integers, fair_impressions, fair_people, variance
from components.judge.audit_delivery.config import Config
from components.judge.audit_delivery.report import Ad, Delivery, State
from components.platform.errors import BadInputError
from registry.evaluation import Interval

if TYPE_CHECKING:
    import pyarrow as pa

UNKNOWN = 0.2
"""Share of people without a group from which a remark says so."""
_AD, _GROUP, _USER, _AMONG, _TIMES = "ad", "group", "user", "among", "times"


@dataclass(frozen=True)
class Reached:
    """Whom one ad reached."""

    name: str
    impressions: int
    group: Integers
    """``[people]``, place of each one's group; those of an unknown group are left out."""
    times: Integers
    """``[people]``, impressions."""
    unknown: float


def audited(table: pa.Table, config: Config, digest: str, most: int) -> Delivery:
    """Return the report of a table.

    Raises:
        BadInputError: a person is of two groups, groups are too many, too few or not those declared, or no ad can be
            judged.
    """
    names = {config.ad: _AD, config.group: _GROUP, config.user: _USER}
    columns = [pl.col(old).cast(pl.String).alias(new) for old, new in names.items()]
    if config.among is not None:
        columns.append(pl.col(config.among).cast(pl.String).alias(_AMONG))
    rows = pl.DataFrame(pl.from_arrow(table)).select(columns)
    for key, name in config.named.items():
        if key != "group" and (missing := rows[key].null_count()):
            raise BadInputError(f"{missing:,} rows have no {name!r}, which an audit counts by: leave such rows out")
    people = _people(rows, config)
    groups = _groups(people, config, most)
    known = people.drop_nulls(_GROUP)
    reached = _reached(rows, people, groups)
    judged = [one for one in reached if one.impressions >= config.min_impressions and len(one.group)]
    if not judged:
        raise BadInputError(
            f"no {config.ad!r} has {config.min_impressions} impressions and anybody of a known {config.group!r}: lower "
            "min_impressions, or bring a longer window"
        )
    eligible = _eligible(rows, known, groups, config)
    ads = [_ad(one, groups, eligible[one.name], config, place) for place, one in enumerate(judged)]
    order: dict[State, int] = {"over": 0, "chance": 1, "within": 2}
    ads.sort(key=lambda ad: (order[ad.state], -(ad.variance.value or 0.0), ad.name))
    whole = _counts(known[_GROUP], groups) if config.eligible == "population" else _declared(config, groups)
    unknown = 1 - len(known) / len(people)
    sizes = np.array([ad.impressions for ad in ads], dtype=np.float64)
    fine = np.array([ad.state != "over" for ad in ads], dtype=np.float64)
    left = [one for one in reached if all(one is not other for other in judged)]
    return Delivery(
        table_digest=digest,
        ad=config.ad,
        group=config.group,
        unit=config.unit,
        declared=config.eligible != "population",
        among=config.among,
        at_most=config.at_most,
        level=config.level,
        resamples=config.bootstrap,
        min_impressions=config.min_impressions,
        people=len(people),
        unknown=unknown,
        population=_shares(whole, groups),
        ads=tuple(ads),
        left_out=len(left),
        left_out_impressions=sum(one.impressions for one in left),
        above=sum((ad.variance.value or 0.0) > ad.limit + 1e-12 for ad in ads),
        by_chance=(1 - config.level) * len(ads),
        within_ads=float(fine.mean()),
        within_impressions=float(fine @ sizes / sizes.sum()),
        remarks=_remarks(unknown, left, ads, config),
    )


def _people(rows: pl.DataFrame, config: Config) -> pl.DataFrame:
    """Return everybody once, with a group or without one."""
    people = rows.group_by(_USER).agg(pl.col(_GROUP).drop_nulls().unique()).sort(_USER)
    several = people.filter(pl.col(_GROUP).list.len() > 1)
    if len(several):
        one = several.row(0, named=True)
        raise BadInputError(
            f"{len(several):,} people have several values of {config.group!r}, such as {config.user} {one[_USER]}: "
            f"{', '.join(sorted(one[_GROUP])[:3])}; publish one value per person"
        )
    return people.with_columns(pl.col(_GROUP).list.first())


def _groups(people: pl.DataFrame, config: Config, most: int) -> list[str]:
    groups = sorted(people[_GROUP].drop_nulls().unique().to_list())
    if isinstance(config.eligible, dict) and (odd := sorted({*groups} ^ {*config.eligible})):
        where = "the table" if odd[0] in groups else "eligible"
        raise BadInputError(f"{config.group} {odd[0]!r} is in {where} alone: declare the shares of all groups")
    if not 1 < len(groups) <= most:
        raise BadInputError(
            f"{config.group!r} has {len(groups)} values, and an audit compares 2 to {most}: publish bands of it"
        )
    return groups


def _reached(rows: pl.DataFrame, people: pl.DataFrame, groups: list[str]) -> list[Reached]:
    place = pl.DataFrame({_GROUP: groups, "place": np.arange(len(groups))})
    each = rows.group_by(_AD, _USER).agg(pl.len().alias(_TIMES))
    each = each.join(people.join(place, on=_GROUP, how="left"), on=_USER, how="left").sort(_AD, _USER)
    found = []
    for (name,), part in each.group_by(_AD, maintain_order=True):
        known = part.drop_nulls("place")
        found.append(
            Reached(
                name=str(name),
                impressions=int(part[_TIMES].sum()),
                group=known["place"].to_numpy().astype(np.int64),
                times=known[_TIMES].to_numpy().astype(np.int64),
                unknown=1 - len(known) / len(part),
            )
        )
    return found


def _eligible(rows: pl.DataFrame, known: pl.DataFrame, groups: list[str], config: Config) -> dict[str, Floats]:
    """Return by ad ``[groups]``: people who might have been shown it, or declared shares."""
    ads = rows[_AD].unique().to_list()
    if config.eligible != "population":
        return dict.fromkeys(ads, _declared(config, groups))
    if config.among is None:
        return dict.fromkeys(ads, _counts(known[_GROUP], groups))
    where = dict(rows.group_by(_AD).agg(pl.col(_AMONG).drop_nulls().unique().sort()).iter_rows())
    inside: dict[tuple[str, ...], Floats] = {}
    for values in {tuple(values) for values in where.values()}:
        users = rows.filter(pl.col(_AMONG).is_in(values))[_USER].unique()
        inside[values] = _counts(known.filter(pl.col(_USER).is_in(users.implode()))[_GROUP], groups)
    return {name: inside[tuple(values)] for name, values in where.items()}


def _declared(config: Config, groups: list[str]) -> Floats:
    shares = config.eligible if isinstance(config.eligible, dict) else {}
    return np.array([shares[group] for group in groups])


def _counts(column: pl.Series, groups: list[str]) -> Floats:
    counts = dict(column.value_counts().iter_rows())
    return np.array([float(counts.get(group, 0)) for group in groups])


def _ad(one: Reached, groups: list[str], eligible: Floats, config: Config, place: int) -> Ad:
    rng = np.random.default_rng([config.seed, place])
    there = eligible > 0  # nobody of another group could be reached
    weights = one.times if config.unit == "impressions" else np.ones(len(one.times), dtype=np.int64)
    delivered = np.bincount(one.group, weights, minlength=len(groups)).astype(np.float64)
    chance = _chance(one, eligible[there], config, rng)
    found = float(variance(delivered, eligible))
    limit = chance.limit(config.level)
    above = found > limit + 1e-12
    return Ad(
        name=one.name,
        impressions=one.impressions,
        people=len(one.group),
        unknown=one.unknown,
        shares=_shares(delivered, groups),
        eligible=_shares(eligible, groups),
        variance=_interval(found, one, weights, eligible, config, rng),
        mean=chance.mean,
        limit=limit,
        chance=chance.at_least(found),
        exact=chance.exact,
        state="within" if found <= config.at_most else "over" if above else "chance",
    )


def _chance(one: Reached, eligible: Floats, config: Config, rng: np.random.Generator) -> Chance:
    if config.unit == "impressions":
        return fair_impressions(one.times, eligible, rng)
    return fair_people(len(one.group), eligible, config.eligible == "population", rng)


def _interval(
    found: float, one: Reached, weights: Integers, eligible: Floats, config: Config, rng: np.random.Generator
) -> Interval:
    """Return the variance with a percentile interval over resamples of the ad's people.

    A resample has the noise of the sample on top of its own, which makes it less even: the bounds are moved so that the
    resamples' mean meets the value.
    """
    if not config.bootstrap or len(one.group) < 2:
        return Interval(value=found)
    (group, times), counts = np.unique(np.stack([one.group, weights]), axis=1, return_counts=True)
    drawn = rng.multinomial(counts.sum(), counts / counts.sum(), size=config.bootstrap) * times
    sums = np.stack([drawn[:, group == place].sum(axis=1) for place in range(len(eligible))], axis=1).astype(np.float64)
    resampled = variance(sums, eligible)
    low, high = np.quantile(resampled, [0.025, 0.975]) - (resampled.mean() - found)
    return Interval(value=found, low=max(0.0, float(low)), high=max(found, float(high)))


def _shares(counts: Floats, groups: list[str]) -> dict[str, float]:
    return dict(zip(groups, (counts / counts.sum()).tolist(), strict=True))


def _remarks(unknown: float, left: list[Reached], ads: list[Ad], config: Config) -> tuple[str, ...]:
    lines = []
    if unknown > UNKNOWN:
        lines.append(f"{unknown:.0%} of the people have no {config.group}: delivery among them is in no figure")
    if left:
        count = sum(one.impressions for one in left)
        lines.append(f"{len(left)} {config.ad}s with {count:,} impressions are too small to be judged")
    if several := [ad.name for ad in ads if ad.impressions > 1.5 * ad.people / (1 - ad.unknown)]:
        lines.append(
            f"{len(several)} {config.ad}s were shown to people more than 1.5 times on average; unit: {config.unit} "
            f"counts {'showings' if config.unit == 'impressions' else 'each person once'}"
        )
    return tuple(lines)
