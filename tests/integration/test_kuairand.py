"""Does the real KuaiRand log come out as a contract-clean, nested table with the day split of the reference?"""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import polars as pl
import pytest

from components.data.build_training_set.config import Split
from components.data.build_training_set.split import split_rows
from components.platform.execute import StageRequest, StageResult, execute
from components.platform.settings import Settings
from components.platform.store.publish import open_store
from features.declaration import Window
from features.definitions import load_definitions
from features.recipes.table import compute_table
from tests.homes import shared_data
from tests.ingesting import with_of

pytestmark = pytest.mark.engine

WINDOW = Window(start=datetime(2022, 4, 24, tzinfo=UTC), end=datetime(2022, 5, 5, tzinfo=UTC))
LOCAL = timedelta(hours=8)
FOLDER = "kuairand-pure"


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> tuple[Settings, StageResult, StageResult]:
    """Ingest the real log and check it against its contract."""
    data = shared_data(FOLDER)
    settings = Settings.at(tmp_path_factory.mktemp("home"))
    settings.home.mkdir(exist_ok=True)
    settings.data.symlink_to(data.resolve())
    ingest = execute(StageRequest(component="ingest_table", config=with_of("kuairand_daily"), window=WINDOW), settings)
    contract = execute(
        StageRequest(
            component="validate_data",
            config={"suite": "kuairand_events"},
            inputs={"table": ingest.outputs["events"]},
            window=WINDOW,
        ),
        settings,
    )
    return settings, ingest, contract


@pytest.fixture(scope="module")
def table(bench: tuple[Settings, StageResult, StageResult]) -> pl.DataFrame:
    settings, _, contract = bench
    store = open_store(settings)
    return pl.read_parquet(store.fetch(contract.outputs["table"].load()) / "events.parquet")


def test_the_real_log_is_repaired_and_keeps_its_contract(
    bench: tuple[Settings, StageResult, StageResult], table: pl.DataFrame
) -> None:
    _, ingest, _ = bench
    assert ingest.notes[0].startswith(
        "166,773 impressions of 24,070 users, 6,071 items; click 45.2 %, long_view 31.8 %"
    )
    assert ingest.notes[1:] == [
        "4,729 repeated rows dropped",
        "169 rows that break the funnel click -> long_view dropped",
        "10 rows differ from another one of the same user, item and time",
    ]
    assert (table["long_view"] <= table["click"]).all()
    assert table["event_timestamp"].is_sorted()
    assert not table.select("user_id", "video_id", "event_timestamp").is_duplicated().any()
    assert 0.40 < float(table["click"].cast(pl.Float64).mean() or 0) < 0.50
    assert table["tab"].n_unique() == 15


def test_the_split_is_by_the_data_set_s_own_days(table: pl.DataFrame) -> None:
    split = Split.model_validate({"validation_from": "2022-05-02T16:00:00Z", "test_from": "2022-05-03T16:00:00Z"})
    parts = split_rows(table["event_timestamp"], split)
    days = (table["event_timestamp"] + LOCAL).dt.date()
    assert days[parts["train"]].max() == date(2022, 5, 2)
    assert set(days[parts["validation"]]) == {date(2022, 5, 3)}
    assert days[parts["test"]].min() == date(2022, 5, 4)


def test_what_a_video_is_known_for_excludes_the_impression_itself(table: pl.DataFrame) -> None:
    """Recount the rate of one busy video by hand, as of its 50th impression."""
    recipe = load_definitions().recipes["kuairand_video_activity"]
    busy = table["video_id"].value_counts(sort=True)["video_id"][0]
    mine = table.filter(pl.col("video_id") == busy)
    states = compute_table(recipe, table.lazy(), WINDOW).filter(pl.col("video_id") == busy)
    moment = mine["event_timestamp"][50]
    known = states.filter(pl.col("event_timestamp") < moment).tail(1)
    before = mine.filter(pl.col("event_timestamp") < moment)
    assert known["video_impressions"].item() == len(before)
    wanted = (int(before["click"].sum()) + 0.4 * 10) / (len(before) + 10)
    assert known["video_click_rate"].item() == pytest.approx(wanted, abs=1e-6)
