"""Is a fair delivery left in peace, and one that is not told, whatever its size?"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from itertools import product
from math import comb
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from components.judge.audit_delivery.chance import Chance, fair_impressions, fair_people, variance
from components.judge.audit_delivery.config import COMPONENT, Config
from components.judge.audit_delivery.report import Ad, Delivery
from components.platform.columns import Column, Columns
from components.platform.errors import BadInputError
from components.testing.component import ComponentKit
from tests.worlds import write_training_set

START = datetime(2026, 1, 1, tzinfo=UTC)
FOUR = np.array([0.6, 0.2, 0.12, 0.08])


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def test_golden() -> None:
    assert variance(np.array([0.68, 0.32]), np.array([0.5, 0.5])) == pytest.approx(0.18)
    assert variance(np.array([0.72, 0.13, 0.10, 0.05]), FOUR) == pytest.approx(0.12)
    two, four = (fair_people(300, shares, False, rng()) for shares in (np.array([0.5, 0.5]), FOUR))
    assert (two.mean, four.mean) == pytest.approx((0.023, 0.034), abs=5e-4)
    assert (two.limit(0.95), four.limit(0.95)) == pytest.approx((0.057, 0.063), abs=6e-4)


@given(st.lists(st.integers(1, 4), min_size=2, max_size=4), st.data(), st.booleans())
def test_chance_is_what_counting_every_delivery_gives(people: list[int], data: st.DataObject, finite: bool) -> None:
    """By hand: all ways to reach so many, without putting back, or with."""
    n = data.draw(st.integers(1, sum(people) if finite else 6))
    eligible = np.array(people, dtype=float)
    ways: dict[float, float] = {}
    for counts in product(*(range(n + 1) for _ in people)):
        if sum(counts) != n or (finite and any(c > size for c, size in zip(counts, people, strict=True))):
            continue
        if finite:
            weight = float(np.prod([comb(size, c) for c, size in zip(counts, people, strict=True)]))
        else:
            left, weight = n, 1.0
            for c, size in zip(counts, people, strict=True):
                weight, left = weight * comb(left, c) * (size / sum(people)) ** c, left - c
        value = round(float(variance(np.array(counts, dtype=float), eligible)), 9)
        ways[value] = ways.get(value, 0.0) + weight
    found = fair_people(n, eligible, finite, rng())
    assert found.exact and found.values == pytest.approx(sorted(ways), abs=1e-8)
    total = sum(ways.values())
    assert found.shares == pytest.approx([ways[value] / total for value in sorted(ways)], abs=1e-9)


@pytest.mark.parametrize("finite", [True, False])
def test_fair_deliveries_exceed_the_printed_level_as_often_as_it_says(finite: bool) -> None:
    eligible = FOUR * 2500
    chance = fair_people(400, eligible, finite, rng())
    draw = np.random.default_rng(1)
    if finite:
        drawn = draw.multivariate_hypergeometric(eligible.astype(int), 400, size=20_000)
    else:
        drawn = draw.multinomial(400, FOUR, size=20_000)
    variances = variance(drawn.astype(float), eligible)
    assert np.mean(variances > chance.limit(0.95) + 1e-12) == pytest.approx(0.05, abs=0.01)
    assert variances.mean() == pytest.approx(chance.mean, rel=0.02)
    more = fair_people(400, np.append(eligible, [30.0, 20, 10]), finite, rng())
    assert not more.exact and more.limit(0.95) == pytest.approx(chance.limit(0.95), rel=0.1)


def test_showings_to_one_person_are_not_as_many_people() -> None:
    """The control counts them as such, and calls a third of fair deliveries unfair."""
    eligible, draw = np.array([0.5, 0.5]), np.random.default_rng(1)
    times = np.sort(draw.geometric(0.15, size=200))
    fair = np.array([np.bincount(draw.integers(2, size=200), times, minlength=2) for _ in range(4000)])
    chance = fair_impressions(times, eligible, rng())
    naive = fair_people(int(times.sum()), eligible, False, rng())
    exceed = [np.mean(variance(fair, eligible) > one.limit(0.95) + 1e-12) for one in (chance, naive)]
    assert exceed[0] == pytest.approx(0.05, abs=0.015) and exceed[1] > 0.3


def test_everybody_reached_is_even_to_the_bit() -> None:
    eligible = np.array([50.0, 30.0, 20.0])
    assert variance(eligible, eligible) == 0.0
    chance = fair_people(100, eligible, True, rng())
    assert (chance.values.tolist(), chance.shares.tolist()) == ([0.0], [1.0]) and chance.limit(0.95) == 0.0
    assert Chance(np.array([0.0, 0.1]), np.array([0.9, 0.1]), True).at_least(0.1) == pytest.approx(0.1)


def write_showings(folder: Path, **changed: Any) -> None:
    """Write who of 1,000 people (a fifth without a band) saw what.

    `fair` goes to 400 of them, `odd` to young ones twice as often, `small` to few, `twice` to everybody, two times.
    """
    draw = np.random.default_rng(3)
    people = np.arange(1000)
    band = np.where(people % 2 == 0, "old", "young").astype(object)
    band[people % 5 == 4] = None
    young = np.where(people % 2 == 1, 2.0, 1.0)
    seen = {
        "fair": draw.choice(people, 400, replace=False),
        "odd": draw.choice(people, 400, replace=False, p=young / young.sum()),
        "small": people[:20],
        "twice": np.repeat(people, 2),
    }
    user = np.concatenate(list(seen.values()))
    columns = {
        "user_id": user,
        "item_id": np.repeat(list(seen), [len(one) for one in seen.values()]),
        "band": band[user],
        "land": np.where(user % 3 == 0, "a", "b"),
        **changed,
    }
    times = pl.Series("event_timestamp", [START + timedelta(minutes=i) for i in range(len(user))])
    pl.DataFrame(columns).with_columns(times.cast(pl.Datetime("us", "UTC"))).write_parquet(folder / "events.parquet")


class TestAuditDelivery(ComponentKit):
    component = COMPONENT
    changed: Mapping[str, Any] = {}
    dataset: Path | None = None

    def example(self, folders: Mapping[str, Path]) -> Mapping[str, Any]:
        write_showings(folders["table"], **self.changed)
        if self.dataset is not None:
            write_training_set(folders["dataset"], 200)
        return {"ad": "item_id", "group": "band"}

    def ads(self, home: Path, **changed: Any) -> dict[str, Ad]:
        folder = self.run(home, **changed).outputs["report"]
        self.report = Delivery.model_validate_json((folder / "report.json").read_text())
        self.page = (folder / "report.html").read_text()
        return {ad.name: ad for ad in self.report.ads}

    def test_the_odd_one_is_told_and_the_others_are_not(self, tmp_path: Path) -> None:
        found = self.ads(tmp_path)
        assert {name: ad.state for name, ad in found.items()} == {"odd": "over", "fair": "within", "twice": "within"}
        odd, fair, twice = found["odd"], found["fair"], found["twice"]
        assert odd.shares["young"] > 0.6 and odd.variance.low is not None and odd.variance.low > odd.limit > odd.mean
        assert odd.chance < 1e-6 and fair.chance > 0.05 and odd.exact
        assert twice.variance.value == twice.limit == 0.0 and (twice.people, twice.impressions) == (800, 2000)
        assert (self.report.left_out, self.report.left_out_impressions, self.report.above) == (1, 20, 1)
        assert self.report.within_ads == pytest.approx(2 / 3) and self.report.within_impressions == pytest.approx(6 / 7)
        assert self.report.unknown == pytest.approx(0.2) and self.report.population == {"old": 0.5, "young": 0.5}
        assert "chance level" in self.page and "1 item_ids with 20 impressions" in self.page

    def test_a_small_ad_may_be_chance(self, tmp_path: Path) -> None:
        """Few people are never even: the bound alone would call it unfair."""
        self.changed = {"band": ["old"] * 8 + ["young"] * 2 + [None] * 2810, "user_id": np.arange(2820)}
        self.changed |= {"item_id": ["x"] * 4 + ["y"] * 2816}
        found = self.ads(tmp_path, min_impressions=1)
        assert (found["x"].state, found["x"].variance.value) == ("chance", pytest.approx(0.2))

    def test_impressions_and_declared_shares_and_countries(self, tmp_path: Path) -> None:
        shown = self.ads(tmp_path / "a", unit="impressions")
        assert shown["odd"].state == "over" and not shown["odd"].exact
        told = self.ads(tmp_path / "b", eligible={"old": 0.3, "young": 0.7})
        assert told["odd"].state == "within" and told["fair"].state == "over"
        here = self.ads(tmp_path / "c", among="land")
        assert here["odd"].eligible == {"old": 0.5, "young": 0.5} and here["odd"].state == "over"

    def test_what_cannot_be_is_a_sentence(self, tmp_path: Path) -> None:
        with pytest.raises(BadInputError, match="no 'item_id' has 9000 impressions and anybody of a known 'band'"):
            self.run(tmp_path / "a", min_impressions=9000)
        with pytest.raises(BadInputError, match=r"no column 'bands' \(did you mean 'band'\?\): name another"):
            self.run(tmp_path / "b", group="bands")
        with pytest.raises(BadInputError, match=r"people have several values of 'land2', such as user_id 0: a, b"):
            self.changed = {"land2": np.where(np.arange(2820) % 2 == 0, "a", "b")}
            self.run(tmp_path / "c", group="land2")
        with pytest.raises(BadInputError, match="band 'middle' is in eligible alone: declare the shares of all groups"):
            self.run(tmp_path / "d", eligible={"old": 0.5, "young": 0.4, "middle": 0.1})
        self.changed = {"band": ["old"] * 2820}
        with pytest.raises(BadInputError, match="'band' has 1 values, and an audit compares 2 to 50"):
            self.run(tmp_path / "e")
        self.changed = {"land": [None] * 2820}
        with pytest.raises(BadInputError, match="2,820 rows have no 'land', which an audit counts by"):
            self.run(tmp_path / "f", among="land")

    def test_a_group_that_the_ranker_reads_is_refused(self, tmp_path: Path) -> None:
        self.dataset, self.changed = tmp_path, {"age_band": ["a", "b"] * 1410, "user_id": np.arange(2820)}
        assert {*self.ads(tmp_path / "a")} == {"fair", "odd", "twice"}
        with pytest.raises(
            BadInputError, match="the ranker reads 'age_band', and a group that an audit asks about may"
        ):
            self.run(tmp_path / "b", group="age_band")


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"ad": "a", "group": "a"}, "three columns"),
        ({"ad": "a", "group": "b", "eligible": {"x": 0.5, "y": 0.4}}, "add up to 0.9, must be 1"),
        ({"ad": "a", "group": "b", "eligible": {"x": 0.5, "y": 0.5}, "among": "c"}, "eligible declares their shares"),
    ],
)
def test_a_contradiction_is_told(config: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Config.model_validate(config)


def test_validate_knows_the_columns_and_what_the_ranker_reads() -> None:
    table, read = Columns({"item_id": Column(), "band": Column(), "user_id": Column()}), Columns({"band": Column()})
    config = Config(ad="itm_id", group="band")
    assert [fault.where for fault in COMPONENT.flow.asks(config, {"table": table})] == [("ad",)]
    assert [fault.where for fault in COMPONENT.flow.asks(config, {"dataset": read})] == [("group",)]
    carried = Columns({"band": Column(auxiliary=True)})
    assert [*COMPONENT.flow.asks(Config(ad="item_id", group="band"), {"table": table, "dataset": carried})] == []
