"""Does a dirty video log become the promised impressions, and does bad input become one sentence?"""

from __future__ import annotations

import gzip
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from components.ingest.ingest_kuairand.component import events_schema, run
from components.ingest.ingest_kuairand.config import Config
from components.platform.errors import BadInputError, MissingError
from components.platform.execute import StageRequest, execute
from components.platform.settings import Settings
from features.declaration import Window
from tests.ingesting import context_at, events_of

LOG_HEADER = (
    "user_id,video_id,date,hourmin,time_ms,is_click,is_like,is_follow,is_comment,is_forward,is_hate,long_view,"
    "play_time_ms,duration_ms,profile_stay_time,comment_stay_time,is_profile_enter,is_rand,tab"
)
START = datetime(2022, 4, 25, 18, 30, tzinfo=UTC)
"""02:30 of the 26th in the data set's own zone."""
WINDOW = Window(start=START, end=START + timedelta(days=1))
LOG = "log_standard_4_22_to_5_08_pure.csv"


def line(user: int, video: int, seconds: float, click: int, long: int, tab: int = 1, hourmin: int = 200) -> str:
    time = int(START.timestamp() * 1000 + seconds * 1000)
    return f"{user},{video},20220426,{hourmin},{time},{click},0,0,0,0,0,{long},1500,20000,0,0,0,0,{tab}"


ROWS = [
    line(2, 10, 60, 1, 1),
    line(1, 10, 0, 1, 0),  # on the window's first moment, not sorted
    line(1, 10, 0, 1, 0),  # exact duplicate
    line(2, 11, 90, 0, 0, tab=4),
    line(2, 11, 90, 0, 0, tab=4, hourmin=300),  # delivered twice
    line(1, 11, 100, 0, 1, tab=11),  # a long view without a click
    line(9, 99, 120.001, 0, 0),  # no attributes
    line(1, 10, 86_400, 1, 1),  # on the window's end
]
CODES = ",".join(["1"] * 4 + [""] + ["2"] * 7 + [""] * 6)
FILES = {
    LOG: "\n".join([LOG_HEADER, *ROWS, ""]),
    "user_features_pure.csv": (
        "user_id,user_active_degree,is_lowactive_period,is_live_streamer,is_video_author,follow_user_num,"
        "follow_user_num_range,fans_user_num,fans_user_num_range,friend_user_num,friend_user_num_range,register_days,"
        f"register_days_range,{','.join(f'onehot_feat{i}' for i in range(18))}\n"
        f'1,full_active,0,-124,1,514,500+,150,"[100,1k)",34,"[30,60)",799,730+,{CODES}\n'
        f'2,low_active,0,1,0,5,500+,1,"[1,10)",3,"[1,5)",80,61-90,{CODES}\n'
    ),
    "video_features_basic_pure.csv": (
        "video_id,author_id,video_type,upload_dt,upload_type,visible_status,video_duration,server_width,"
        "server_height,music_id,music_type,tag\n"
        '10,7,NORMAL,2022-04-10,Web,0.0,20000.0,720.0,1280.0,9155697141,9.0,"20,43"\n'
        "11,8,AD,2022-04-10,Web,0.0,,720.0,1280.0,0,,\n"
    ),
}
Make = Callable[..., tuple[pa.Table, list[str]]]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The official files, by a user's hand."""
    found = tmp_path / "home" / "data" / "kuairand-pure" / "data"
    found.mkdir(parents=True)
    for name, text in FILES.items():
        (found / name).write_text(text)
    return found


@pytest.fixture
def events(folder: Path, tmp_path: Path) -> Make:
    """Run the component and return its table and notes."""

    def make(window: Window = WINDOW, **config: Any) -> tuple[pa.Table, list[str]]:
        context = context_at(tmp_path / "home", window)
        return events_of(run, Config(**config), context), context.notes

    return make


def test_rows_are_typed_sorted_counted_and_half_open(events: Make) -> None:
    table, notes = events()
    assert table.schema.remove_metadata().equals(events_schema())
    keys = ["user_id", "video_id", "tab", "click", "long_view"]
    assert [tuple(row.values()) for row in table.select(keys).to_pylist()] == [
        (1, 10, "1", 1, 0), (2, 10, "1", 1, 1), (2, 11, "4", 0, 0), (9, 99, "1", 0, 0),
    ]  # fmt: skip
    first, _, third, last = table.to_pylist()
    assert first["event_timestamp"] == START == first["created_timestamp"]
    assert (first["hour"], first["weekday"]) == (2, 2), "02:30 on a Tuesday in UTC+8"
    assert last["event_timestamp"] == START + timedelta(seconds=120, milliseconds=1)
    assert (first["is_live_streamer"], first["onehot_feat0"], first["onehot_feat4"]) == (-124, 1, None)
    assert (first["music_id"], first["video_duration"], first["tags"]) == (9155697141, 20000, ["20", "43"])
    assert (third["video_type"], third["video_duration"], third["music_type"], third["tags"]) == ("AD", None, None, [])
    assert (last["user_active_degree"], last["video_type"], last["tags"]) == (None, None, None)
    assert notes == [
        "4 impressions of 3 users, 3 videos in 2 tabs; click 50.0 %, long_view 25.0 %",
        "1 exact duplicates dropped",
        "1 repeats that differ in date or hourmin only dropped",
        "1 long views without a click dropped",
        "1 impressions without a user's attributes",
        "1 impressions without a video's attributes",
    ]


@pytest.mark.parametrize(
    ("policy", "found", "note"),
    [("drop", None, "dropped"), ("force_click", 1, "made clicks"), ("keep", 0, "kept")],
)
def test_a_long_view_without_a_click_follows_the_policy(
    events: Make, policy: str, found: int | None, note: str
) -> None:
    table, notes = events(funnel=policy)
    clicks = {(row["user_id"], row["tab"]): row["click"] for row in table.to_pylist()}
    assert clicks.get((1, "11")) == found
    assert f"1 long views without a click {note}" in notes


def test_gzip_and_the_order_of_lines_change_nothing(events: Make, folder: Path) -> None:
    before, _ = events()
    (folder / LOG).unlink()
    with gzip.open(folder / f"{LOG}.gz", "wt") as file:
        file.write("\n".join([LOG_HEADER, *reversed(ROWS), ""]))
    assert events()[0].equals(before)


def test_an_empty_window_names_the_data_s_own_range(events: Make) -> None:
    empty = Window(start=START + timedelta(days=9), end=START + timedelta(days=10))
    with pytest.raises(BadInputError, match="covers 2022-04-25 18:30 to 2022-04-26 18:30 UTC; move the window"):
        events(empty)


def _cut(text: str) -> str:
    return text[:-9]


def _second_row_short(text: str) -> str:
    head, first, second, *rest = text.split("\n")
    return "\n".join([head, first, second.rpartition(",")[0], *rest])


@pytest.mark.parametrize(
    ("name", "damage", "message"),
    [
        (LOG, _cut, f"{LOG}: the last line has no line break: the file is truncated"),
        (LOG, _second_row_short, rf"{LOG}:3: 18 fields, expected 19"),
        (LOG, lambda text: text.replace("is_click", "clicked"), "column 'is_click' is missing"),
        (LOG, lambda text: text.replace("date", "tab", 1), "column 'tab' occurs twice|'date' is missing"),
        (LOG, lambda text: text.partition("\n")[0] + "\n", "holds no rows"),
        (LOG, lambda text: "", "column 'user_id' is missing"),
        (LOG, lambda text: text.replace(",1,0,0,0,0,0,1,", ",2,0,0,0,0,0,1,", 1), ":2: column 'is_click' is '2'.*0 or"),
        (LOG, lambda text: text.replace("000,1,", ",1,", 1), ":2: column 'time_ms' is .*unix milliseconds"),
        ("user_features_pure.csv", lambda text: text + text.splitlines()[1] + "\n", ":4: .*one line per user_id"),
        ("user_features_pure.csv", lambda text: text.replace("514", "many"), "'follow_user_num' is 'many'"),
        ("video_features_basic_pure.csv", lambda text: text.replace(",tag\n", ",tags\n"), "'tag' is missing"),
    ],
)
def test_a_damaged_file_is_one_sentence(
    events: Make, folder: Path, name: str, damage: Callable[[str], str], message: str
) -> None:
    path = folder / name
    path.write_text(damage(path.read_text()))
    with pytest.raises(BadInputError, match=message) as raised:
        events()
    assert "\n" not in str(raised.value)


def test_a_truncated_gzip_file_is_one_sentence(events: Make, folder: Path) -> None:
    whole = gzip.compress((folder / LOG).read_bytes())
    (folder / LOG).unlink()
    (folder / f"{LOG}.gz").write_bytes(whole[:-20])
    with pytest.raises(BadInputError, match="ends within its compressed data: it is truncated"):
        events()


def test_an_absent_file_says_where_to_get_it(events: Make, folder: Path) -> None:
    (folder / LOG).unlink()
    with pytest.raises(MissingError, match=r"download KuaiRand-Pure from the KuaiRand project .chongminggao/KuaiRand"):
        events()
    with pytest.raises(MissingError, match="log_standard_4_08_to_4_21_pure"):
        events(logs=("4_08_to_4_21",))


def test_changed_files_are_read_again(folder: Path, tmp_path: Path) -> None:
    settings = Settings.at(tmp_path / "home")
    request = StageRequest(component="ingest_kuairand", window=WINDOW)
    assert not execute(request, settings).cached
    assert execute(request, settings).cached
    users = folder / "user_features_pure.csv"
    users.write_text(users.read_text().replace("514", "515"))
    assert not execute(request, settings).cached
