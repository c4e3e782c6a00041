"""Does a label that is fair to a number say what an amount means, and nothing of that number?"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from scipy.stats import spearmanr

from components.data.derive_labels.config import COMPONENT, Config, MadeLabels
from components.data.derive_labels.fair import Cuts, cuts_of, edges_of, mid_ranks
from components.data.derive_labels.report import correlation
from components.platform.columns import Column, Columns
from components.platform.errors import BadInputError
from components.testing.component import ComponentKit

START = datetime(2026, 1, 1, tzinfo=UTC)
WATCH = np.array([10.0, 20, 30, 40, 5, 25, 60, 15])
DURATION = np.array([10.0, 30, 60, 90, 12, 28, 95, 11])
EDGES = np.array([20.0, 50.0])


def test_golden() -> None:
    cuts = cuts_of(WATCH, DURATION, EDGES, 0.5)
    groups = cuts.groups(DURATION)
    assert groups.tolist() == [0, 1, 2, 2, 0, 1, 2, 0]
    q = [mid_ranks(WATCH[i : i + 1], np.sort(WATCH[groups == groups[i]]))[0] for i in range(8)]
    assert q == pytest.approx([0.5, 0.25, 1 / 6, 0.5, 1 / 6, 0.75, 5 / 6, 5 / 6])
    assert cuts.labels(WATCH, DURATION).tolist() == [0, 0, 0, 0, 0, 1, 1, 1]


AMOUNTS = st.lists(st.integers(0, 6), min_size=1, max_size=40)


@given(AMOUNTS, AMOUNTS, st.sampled_from([0.1, 0.25, 0.3, 0.5, 0.75, 0.9]))
def test_a_cut_is_the_same_as_the_quantile(fitted: list[int], later: list[int], above: float) -> None:
    """Also for amounts that no row has which it was cut on."""
    amount, other = np.array(fitted, dtype=float), np.array(later) + 0.5 * (np.arange(len(later)) % 2)
    cuts = cuts_of(amount, np.zeros(len(amount)), np.zeros(0), above)
    for values in (amount, other):
        wanted = mid_ranks(values, np.sort(amount)) > above
        assert cuts.labels(values, np.zeros(len(values))).tolist() == wanted.astype(int).tolist()


@given(AMOUNTS, st.integers(2, 4))
def test_where_all_groups_watch_alike_the_label_is_the_plain_one(amounts: list[int], groups: int) -> None:
    """The neutral setting: nothing to be fair to, so nothing changes, to the bit."""
    amount, within = np.tile(np.array(amounts, dtype=float), groups), np.repeat(np.arange(groups), len(amounts)) * 1.0
    fair = cuts_of(amount, within, np.arange(1.0, groups), 0.5)
    plain = Cuts(np.zeros(0), fair.amounts[:1], fair.inclusive[:1])
    assert fair.labels(amount, within).tolist() == plain.labels(amount, within).tolist()


def test_small_groups_are_joined_and_two_must_be_left() -> None:
    within = np.repeat([1.0, 2.0, 3.0, 4.0, 5.0], [300, 50, 50, 150, 90])
    assert edges_of(within, 20, 200).tolist() == [2.0]
    assert edges_of(within, 20, 100).tolist() == [2.0, 4.0]
    assert edges_of(within, 20, 90).tolist() == [2.0, 4.0, 5.0]
    with pytest.raises(BadInputError, match=r"640 rows with 5 values make no two groups of 400 rows: lower min_group"):
        edges_of(within, 20, 400)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_videos_are_ordered_by_interest_and_not_by_duration(seed: int) -> None:
    """The controls: watch time puts long videos first, the share watched short ones."""
    rng = np.random.default_rng(seed)
    videos = 2000
    interest, duration = rng.normal(size=videos), np.exp(rng.normal(3, 0.8, size=videos))
    video = rng.integers(videos, size=60_000)
    fraction = 1 / (1 + np.exp(-(interest[video] + rng.normal(size=video.size) - 0.02 * (duration[video] - 20))))
    watch = fraction * duration[video]
    label = cuts_of(watch, duration[video], edges_of(duration[video], 20, 200), 0.5).labels(watch, duration[video])

    def of_videos(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        return np.asarray(np.bincount(video, values, minlength=videos) / np.bincount(video, minlength=videos))

    found = {name: of_videos(one) for name, one in (("watch", watch), ("share", fraction), ("label", label))}
    truth = {name: spearmanr(one, interest).statistic for name, one in found.items()}
    length = {name: correlation(one, duration) or 0.0 for name, one in found.items()}
    assert truth["label"] > truth["share"] + 0.02 and truth["label"] > truth["watch"] + 0.2, truth
    assert abs(length["label"]) < 0.05 and length["watch"] > 0.4 and length["share"] < -0.3, length


def write_views(folder: Path, rows: int = 1200, extra: int = 0, **changed: Any) -> None:
    """Write views of videos of six lengths, one a minute; `extra` rows more, of other behaviour."""
    rng = np.random.default_rng(0)
    duration = rng.choice([8, 15, 30, 60, 120, 240], size=rows)
    watch = np.floor(rng.random(rows) * duration)
    duration, watch = np.append(duration, np.full(extra, 15)), np.append(watch, np.full(extra, 15.0))
    moments = [START + timedelta(minutes=i) for i in range(rows + extra)]
    columns = {"play_time": watch, "duration": duration, "finished": (watch >= 0.9 * duration).astype(np.int64)}
    frame = pl.DataFrame({**columns, **changed}).with_columns(
        pl.Series("event_timestamp", moments, pl.Datetime("us", "UTC"))
    )
    frame.write_parquet(folder / "events.parquet")
    (folder / "window.json").write_text("{}")


class TestDeriveLabels(ComponentKit):
    component = COMPONENT
    extra = 0
    changed: Mapping[str, Any] = {}

    def example(self, folders: Mapping[str, Path]) -> Mapping[str, Any]:
        write_views(folders["table"], extra=self.extra, **self.changed)
        fair = {"amount": "play_time", "within": "duration", "groups": 6, "min_group": 50, "beside": ["finished"]}
        return {"labels": {"fair_view": fair}, "fit_before": "2026-01-01T16:00:00Z"}

    def test_labels_are_even_in_every_group_and_all_else_stays(self, tmp_path: Path) -> None:
        made = self.run(tmp_path)
        write_views(tmp_path)
        table = pq.read_table(made.outputs["events"] / "events.parquet")
        assert table.drop_columns(["fair_view"]).equals(pq.read_table(tmp_path / "events.parquet"))
        assert (made.outputs["events"] / "window.json").exists()
        report = MadeLabels.model_validate_json((made.outputs["labels"] / "labels.json").read_text())
        (label,) = report.labels
        assert (report.fitted, report.rows, report.known_until) == (960, 1200, START + timedelta(minutes=959))
        assert [group.low for group in label.groups] == [None, 15, 30, 60, 120, 240]
        assert sum(group.fitted for group in label.groups) == 960 == 1200 - sum(g.later for g in label.groups)
        for group in label.groups:  # ties of whole seconds in short videos
            assert group.rates["fair_view"][0] == pytest.approx(0.5, abs=1 / np.sqrt(group.fitted) + 0.05)
        amount, share, beside, new = label.correlations
        assert [one.of for one in label.correlations] == [
            "play_time",
            "play_time per duration",
            "finished",
            "fair_view",
        ]
        assert (
            (amount.linear[0] or 0) > 0.6 and abs(new.linear[0] or 1) < 0.05 and None not in (*share.rank, *beside.rank)
        )
        page = (made.outputs["labels"] / "labels.html").read_text()
        assert "from 240" in page and "data:image/png" in page
        assert made.result.notes[0].startswith("fair_view: 6 groups of duration; correlation with it ")

    def test_later_rows_change_no_earlier_label(self, tmp_path: Path) -> None:
        one = pq.read_table(self.run(tmp_path / "a").outputs["events"] / "events.parquet")["fair_view"]
        self.extra = 500
        other = pq.read_table(self.run(tmp_path / "b").outputs["events"] / "events.parquet")["fair_view"]
        assert other[:1200].equals(one) and other[1200:].to_pylist() == [1] * 500

    def test_what_cannot_be_is_a_sentence(self, tmp_path: Path) -> None:
        with pytest.raises(BadInputError, match="no row is earlier than 2020-01-01"):
            self.run(tmp_path / "a", fit_before="2020-01-01T00:00:00Z")
        with pytest.raises(BadInputError, match=r"no column 'lasts' .*: name another"):
            self.run(tmp_path / "b", labels={"fair": {"amount": "play_time", "within": "lasts"}})
        with pytest.raises(BadInputError, match="a column 'finished' already"):
            self.run(tmp_path / "c", labels={"finished": {"amount": "play_time", "within": "duration"}})
        with pytest.raises(BadInputError, match=r"label 'f': 'duration' of 960 rows .* make no two groups"):
            self.run(tmp_path / "d", labels={"f": {"amount": "play_time", "within": "duration", "min_group": 900}})
        for place, bad in enumerate((-1.0, float("nan"), None)):
            self.changed = {"play_time": [3.0, bad, *[5.0] * 1198]}
            with pytest.raises(
                BadInputError, match=r"1 rows have another 'play_time', first row 1 with (-1.0|nan|None):"
            ):
                self.run(tmp_path / f"e{place}")
        self.changed = {"duration": ["long"] * 1200}
        with pytest.raises(BadInputError, match=r"'duration' is (large_)?string: name a column of numbers"):
            self.run(tmp_path / "f")


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"labels": {}}, "at least 1"),
        ({"labels": {"a": {"amount": "b", "within": "b"}}}, "compares 'b' with itself"),
        ({"labels": {"a": {"amount": "b", "within": "c", "groups": 1}}}, "greater than or equal to 2"),
        (
            {"labels": {"a": {"amount": "b", "within": "c"}}, "fit_before": "2026-01-01T00:00:00Z", "fit_share": 0.5},
            "leave one out",
        ),
    ],
)
def test_a_contradiction_is_told(config: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Config.model_validate(config)


def test_validate_knows_the_columns() -> None:
    known = {"play": Column("int64"), "kind": Column("string"), "click": Column("int64", "feedback")}
    table = Columns(known)
    asked = {"labels": {"click": {"amount": "plays", "within": "kind", "beside": ["play"]}}}
    faults = [*COMPONENT.flow.asks(Config.model_validate(asked), {"table": table})]
    assert [(fault.where, fault.message) for fault in faults] == [
        (("labels", "click", "amount"), "the table has no column 'plays' (did you mean 'play'?)"),
        (("labels", "click", "within"), "'kind' is string: name a column of numbers"),
        (("labels", "click", "beside", 0), "'play' is no label (known: click)"),
        (("labels", "click"), "the table has a column 'click' already: choose another name"),
    ]
    right = Config.model_validate({"labels": {"fair": {"amount": "play", "within": "play_of"}}})
    assert COMPONENT.flow.gives(right, {"table": table})["events"].known["fair"] == Column("int64", "feedback")
    assert COMPONENT.flow.gives(right, {}) == {}
