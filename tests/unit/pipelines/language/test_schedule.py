"""Does the language take the cron expressions that Airflow takes, and no others?"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest
from croniter import croniter
from hypothesis import example, given, settings
from hypothesis import strategies as st

from components.platform.errors import BadInputError
from pipelines.language.schedule import PRESETS, cron_fault, first_run, moment_of, without_news
from pipelines.language.spec import PipelineSpec, Schedule

FIELD = st.sampled_from(
    ["*", "0", "1", "5", "*/5", "1-5", "1,2", "60", "24", "31", "mon", "jan", "a", "*/0", "-", "7", "L", "1#2"]
)


@given(st.lists(FIELD, min_size=3, max_size=7).map(" ".join) | st.text(max_size=20))
@settings(deadline=None)
def test_a_taken_expression_has_five_fields_and_a_next_time(text: str) -> None:
    if cron_fault(text) is None and text not in PRESETS:
        assert len(text.split()) == 5
        assert croniter(" ".join(text.split())).get_next() > 0


@pytest.mark.parametrize("text", ["0 2 * * *", "*/30 * * * *", "0 9-17 * * mon-fri", "15 3 1,15 * *", *PRESETS])
def test_usual_expressions_are_taken(text: str) -> None:
    assert cron_fault(text) is None


@pytest.mark.parametrize(
    "text", ["", "@", "@once", "daily", "* * * *", "0 2 * * * *", "60 * * * *", "0 0 31 2 *", "H * * * *"]
)
def test_others_are_refused_with_a_way_out(text: str) -> None:
    assert "@daily" in (cron_fault(text) or "")


def test_the_presets_are_airflows_own() -> None:
    from airflow.utils.dates import cron_presets

    assert cron_presets == PRESETS


@given(
    st.sampled_from(["0 2 * * *", "*/30 * * * *", "15 3 1,15 * *", *PRESETS]),
    st.datetimes(datetime(2020, 1, 1), datetime(2030, 1, 1), timezones=st.just(UTC)),
)
@example("*/30 * * * *", datetime(2020, 1, 1, 0, 0, 0, 1, tzinfo=UTC))
def test_the_first_run_is_the_earliest_tick_that_is_not_before(cron: str, moment: datetime) -> None:
    found = first_run(cron, moment)
    assert found >= moment and first_run(cron, found) == found
    between = first_run(cron, moment + (found - moment) / 2)
    assert between == found, "no run lies between"


ZONES = ["UTC", "Europe/Berlin", "America/New_York", "Asia/Tokyo", "Australia/Lord_Howe", "Africa/Casablanca"]
CRONS = ["0 2 * * *", "30 2 * * *", "15 1,3 * * *", "*/30 * * * *", "0 * * * *", "0 3 * * mon", "@daily"]


@given(
    st.sampled_from(CRONS),
    st.sampled_from(ZONES),
    st.datetimes(datetime(2024, 1, 1), datetime(2027, 1, 1), timezones=st.just(UTC)),
)
@example("30 2 * * *", "Europe/Berlin", datetime(2026, 3, 29, tzinfo=UTC))
@example("30 2 * * *", "Europe/Berlin", datetime(2026, 10, 25, tzinfo=UTC))
@example("*/30 * * * *", "Europe/Berlin", datetime(2026, 10, 25, 0, 40, tzinfo=UTC))
@settings(deadline=None)
def test_the_first_run_is_airflows_own_through_summer_time(cron: str, zone: str, day: datetime) -> None:
    from airflow.timetables.trigger import CronTriggerTimetable
    from pendulum import instance

    table = CronTriggerTimetable(cron, timezone=zone)
    moment = day.replace(microsecond=0)
    run = table._get_next(instance(moment - timedelta(days=2)))
    while run < moment:
        run = table._get_next(run)
    assert first_run(cron, moment, zone) == run


PARAMS = {"as_of": {"type": "string", "default": "2026-01-15", "format": "date"}}


@pytest.mark.parametrize(
    ("schedule", "end", "told"),
    [
        ("0 3 * * *", "2026-01-15", "reads the same window, which ends on 2026-01-15: leave"),
        ("0 3 * * *", "${params.as_of}", "which ends on 2026-01-15, the default of as_of: leave"),
        ({"cron": "@weekly"}, "2026-01-15", "reads the same window"),
        ("@hourly", None, "starts several runs a day"),
        ("0 3,15 * * *", None, "starts several runs a day"),
        ("0 3 * * *", None, None),
        ("0 3 * * mon", None, None),
        (None, "2026-01-15", None),
        ({"assets": ["a.train.ranker"]}, "2026-01-15", None),
        ({"cron": "*/30 * * * *", "assets": ["a.train.ranker"]}, None, None),
    ],
)
def test_a_schedule_that_never_brings_news_is_remarked(schedule: object, end: str | None, told: str | None) -> None:
    window = {"days": 14} | ({"end": end} if end else {})
    stages = {"one": {"uses": "ingest_table"}}
    spec = PipelineSpec.model_validate(
        {"name": "p", "schedule": schedule, "window": window, "params": PARAMS, "stages": stages}
    )
    assert told in said if (said := without_news(spec)) and told else said == told


@dataclass
class Run:
    run_type: str = "manual"
    logical_date: datetime | None = None
    data_interval_end: datetime | None = None
    run_after: datetime = datetime(2026, 1, 9, 15, tzinfo=UTC)
    partition_key: str | None = None
    partition_date: datetime | None = None


DAY = datetime(2026, 1, 5, 2, tzinfo=UTC)


@pytest.mark.parametrize(
    ("run", "moment"),
    [
        (Run(), Run.run_after),
        (Run(logical_date=DAY), DAY),
        (Run("manual", DAY, DAY + timedelta(days=1)), DAY),
        (Run("scheduled", DAY, DAY), DAY),
        (Run("scheduled", DAY, DAY + timedelta(days=1)), DAY + timedelta(days=1)),
        (Run("backfill", DAY, DAY + timedelta(days=1)), DAY + timedelta(days=1)),
        (Run(partition_key="2026-01-05T02:00:00"), DAY),
        (Run(partition_key="2026-01-05T04:00:00+02:00"), DAY),
        (Run(partition_key="2026-01-05"), DAY.replace(hour=0)),
        (Run(partition_key="as you like", partition_date=DAY), DAY),
    ],
)
def test_what_a_run_is_for(run: Run, moment: datetime) -> None:
    assert moment_of(run) == moment


def test_a_partition_that_is_no_time_is_refused() -> None:
    with pytest.raises(BadInputError, match="partition key 'DE' is no time: give the day"):
        moment_of(Run(partition_key="DE"))


def test_a_partitioned_schedule_has_one_source() -> None:
    assert Schedule(cron="@daily", partitioned=True).partitioned
    assert Schedule(assets=("a.b.c",), partitioned=True).partitioned
    with pytest.raises(ValueError, match="a cron expression or assets, not both"):
        Schedule(cron="@daily", assets=("a.b.c",), partitioned=True)
