"""Is a table that is computed of one range of keys after the other the table that is computed at once, to the byte?"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import polars as pl
import pytest

from features.declaration import Window
from features.definitions.recipe import Activity, Count, Decay, Distinct, History, Last, Profile, Rate, Recipe, Sum
from features.ground.errors import RetryableError
from features.joins import spill
from features.recipes import by_key
from features.recipes.by_key import write_computed

START = datetime(2026, 1, 1, tzinfo=UTC)
WINDOW = Window(start=START, end=START + timedelta(days=9))
RATES = (Rate("click", prior=0.1),)
RECIPES: dict[str, tuple[Recipe, dict[str, str]]] = {
    "histories": (
        Activity(
            key="user",
            prefix="u",
            rates=RATES,
            history=(
                History({"seen": "item", "seen_at": "event_timestamp"}, length=4),
                History({"liked": "item"}, length=2, where="click == 1"),
            ),
        ),
        {"user": "string", "seen": "array<string>", "seen_at": "array<int64>", "liked": "array<string>"},
    ),
    "two keys": (
        Activity(key=("user", "item"), prefix="ui", rates=RATES),
        {"user": "string", "item": "string", "ui_impressions": "int64", "ui_click_rate": "float32"},
    ),
    "spans": (
        Activity(
            key="item",
            prefix="i",
            rates=RATES,
            counts=(Count(over=Last(days=2)),),
            distincts=(Distinct("user", over=Last(days=3)),),
            sums=(Sum("price", over=Decay(days=2)), Sum("price", over=Last(days=1))),
        ),
        {"item": "string", "i_impressions": "int64"},
    ),
    "profile": (Profile(key="item", columns=("price",)), {"item": "string", "price": "float64"}),
}


def events(rows: int, seed: int) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    at = [START + timedelta(hours=int(hour)) for hour in rng.integers(-20, 240, rows)]
    return pl.DataFrame(
        {
            "user": [None if n == 9 else f"u{n}" for n in rng.integers(0, 10, rows)],
            "item": [f"i{n}" for n in rng.integers(0, 6, rows)],
            "price": rng.integers(1, 99, rows) / 7,
            "click": rng.integers(0, 2, rows).astype(np.int8),
            "event_timestamp": at,
            "created_timestamp": at,
        }
    ).with_columns(pl.col("event_timestamp", "created_timestamp").dt.cast_time_unit("us"))


def written(name: str, log: Path, folder: Path) -> tuple[int, dict[str, bytes]]:
    recipe, columns = RECIPES[name]
    folder.mkdir()
    rows = write_computed(recipe, log, WINDOW, columns, folder / "x.parquet", [next(iter(columns))], scratch=log.parent)
    return rows, {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize("at_once", [1, 20, 70])
def test_ranges_of_keys_give_the_bytes_of_the_whole(
    name: str, at_once: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = tmp_path / "events.parquet"
    events(150, at_once).write_parquet(log)
    whole = written(name, log, tmp_path / "whole")
    assert whole[0] and (name != "histories" or len(whole[1]) == 3)
    monkeypatch.setenv(spill.VARIABLE, str(at_once))
    assert written(name, log, tmp_path / "parts") == whole
    assert not [*tmp_path.glob("rankmill-*")]


def test_the_bytes_are_others_when_a_range_forgets_the_events_behind_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(by_key, "START", "#nothing")
    with pytest.raises((AssertionError, pl.exceptions.PolarsError)):
        test_ranges_of_keys_give_the_bytes_of_the_whole("histories", 20, tmp_path, monkeypatch)


def test_a_log_without_a_row_in_the_window_gives_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(spill.VARIABLE, "2")
    log = tmp_path / "events.parquet"
    events(9, 0).with_columns(pl.col("event_timestamp") - pl.duration(days=99)).write_parquet(log)
    assert written("two keys", log, tmp_path / "none") == (0, {})


def test_more_rows_than_a_row_group_are_divided_as_polars_divides_a_frame() -> None:
    frame = pl.DataFrame({"number": np.arange(250_001), "text": (np.arange(250_001) // 9).astype(str)})
    with TemporaryDirectory() as folder:
        whole, parts = Path(folder) / "whole.parquet", Path(folder) / "parts.parquet"
        frame.write_parquet(whole, compression="zstd", statistics=True)
        by_key._sink(frame.iter_slices(70_001), len(frame), parts)
        assert parts.read_bytes() == whole.read_bytes()


def test_what_waited_and_was_harmed_ends_in_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = tmp_path / "events.parquet"
    events(60, 0).write_parquet(log)
    monkeypatch.setenv(spill.VARIABLE, "20")
    close = spill.Spill.close

    def harmed(self: spill.Spill, *given: object) -> spill.Spilled:
        file = close(self, *given)  # type: ignore[arg-type]
        whole = bytearray(file.path.read_bytes())
        whole[len(whole) // 3] ^= 1
        file.path.write_bytes(whole)
        return file

    monkeypatch.setattr(spill.Spill, "close", harmed)
    with pytest.raises(RetryableError, match="which this stage put on disk, cannot be read again"):
        written("two keys", log, tmp_path / "x")
    assert not [*tmp_path.glob("rankmill-*")]
