"""Does the shipped pipeline read a dirty video log as promised?"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from components.platform.errors import BadInputError, MissingError
from components.platform.execute import StageRequest, execute
from components.platform.settings import Settings
from features.declaration import Window
from tests.ingesting import events, with_of

KUAIRAND = with_of("kuairand_daily")
LOG_HEADER = (
    "user_id,video_id,date,hourmin,time_ms,is_click,is_like,is_follow,is_comment,is_forward,is_hate,long_view,"
    "play_time_ms,duration_ms,profile_stay_time,comment_stay_time,is_profile_enter,is_rand,tab"
)
START = datetime(2022, 4, 25, 18, 30, tzinfo=UTC)
"""02:30 of the 26th in the data set's own zone."""
WINDOW = Window(start=START, end=START + timedelta(days=1))
LOG, USERS, VIDEOS = (
    f"kuairand-pure/data/{name}.csv"
    for name in ("log_standard_4_22_to_5_08_pure", "user_features_pure", "video_features_basic_pure")
)


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
    USERS: (
        "user_id,user_active_degree,is_lowactive_period,is_live_streamer,is_video_author,follow_user_num,"
        "follow_user_num_range,fans_user_num,fans_user_num_range,friend_user_num,friend_user_num_range,register_days,"
        f"register_days_range,{','.join(f'onehot_feat{i}' for i in range(18))}\n"
        f'1,full_active,0,-124,1,514,500+,150,"[100,1k)",34,"[30,60)",799,730+,{CODES}\n'
        f'2,low_active,0,1,0,5,500+,1,"[1,10)",3,"[1,5)",80,61-90,{CODES}\n'
    ),
    VIDEOS: (
        "video_id,author_id,video_type,upload_dt,upload_type,visible_status,video_duration,server_width,"
        "server_height,music_id,music_type,tag\n"
        '10,7,NORMAL,2022-04-10,Web,0.0,20000.0,720.0,1280.0,9155697141,9.0,"20,43"\n'
        "11,8,AD,2022-04-10,Web,0.0,,720.0,1280.0,0,,\n"
    ),
}


def test_rows_are_typed_sorted_counted_and_half_open(tmp_path: Path) -> None:
    table, notes = events(tmp_path, KUAIRAND, FILES, window=WINDOW)
    assert table.select("user_id", "video_id", "tab", "click", "long_view").rows() == [
        (1, 10, "1", 1, 0), (2, 10, "1", 1, 1), (2, 11, "4", 0, 0), (9, 99, "1", 0, 0),
    ]  # fmt: skip
    first, _, third, last = table.to_dicts()
    assert first["event_timestamp"] == START == first["created_timestamp"]
    assert (first["hour"], first["weekday"]) == (2, 2), "02:30 on a Tuesday in UTC+8"
    assert last["event_timestamp"] == START + timedelta(seconds=120, milliseconds=1)
    assert (first["is_live_streamer"], first["onehot_feat0"], first["onehot_feat4"]) == (-124, 1, None)
    assert [first[name] for name in ("watched", "watched_3s", "finished")] == ["1000_1999", 0, 0]
    assert (first["music_id"], first["video_duration"], first["tags"]) == (9155697141, 20000, ["20", "43"])
    assert (third["video_type"], third["video_duration"], third["music_type"], third["tags"]) == ("AD", None, None, [])
    assert (last["user_active_degree"], last["video_type"], last["tags"]) == (None, None, None)
    assert notes[0].startswith("4 impressions of 3 users, 3 items; click 50.0 %, long_view 25.0 %")
    assert notes[1:] == [
        "1 rows outside the window left out",
        "2 repeated rows dropped",
        "1 rows that break the funnel click -> long_view dropped",
        "warning: 1 impressions (25.0%) of users without a row in their table, such as user_id 9",
        "warning: 1 impressions (25.0%) of items without a row in their table, such as video_id 99",
    ]


def test_rows_that_differ_in_an_outcome_alone_stay(tmp_path: Path) -> None:
    other = ROWS[0].replace(",20000,0,0,", ",20000,0,7354,")
    table, notes = events(tmp_path, KUAIRAND, FILES | {LOG: FILES[LOG] + other + "\n"}, window=WINDOW)
    assert table["video_id"].to_list() == [10, 10, 10, 11, 99]
    assert "1 rows differ from another one of the same user, item and time" in notes


@pytest.mark.parametrize(
    ("name", "old", "new", "message"),
    [
        (LOG, "is_click", "clicked", "no column 'is_click'"),
        (LOG, ",1,0,0,0,0,0,1,", ",2,0,0,0,0,0,1,", "row 1: column 'is_click' is '2', expected 0 or 1"),
        (LOG, "000,1,", ",1,", "lies in the window|time in milliseconds"),
        (USERS, "514", "many", "row 1: column 'follow_user_num' is 'many'"),
        (USERS, "\n2,low", "\n1,low", "row 2: 'user_id' 1 has a row already"),
        (VIDEOS, ",tag\n", ",tags\n", "no column 'tag'"),
    ],
)
def test_a_damaged_file_is_one_sentence(tmp_path: Path, name: str, old: str, new: str, message: str) -> None:
    with pytest.raises(BadInputError, match=message) as raised:
        events(tmp_path, KUAIRAND, FILES | {name: FILES[name].replace(old, new, 1)}, window=WINDOW)
    assert "\n" not in str(raised.value)


def test_absent_files_say_where_to_get_them_and_changed_ones_are_read_again(tmp_path: Path) -> None:
    settings = Settings.at(tmp_path)
    request = StageRequest(component="ingest_table", config=KUAIRAND, window=WINDOW)
    with pytest.raises(MissingError, match=r"pure\.csv\*: download the data set from https://kuairand.com and put"):
        execute(request, settings)
    events(settings.data, KUAIRAND, FILES, tmp_path / "scratch", WINDOW)
    assert not execute(request, settings).cached
    assert execute(request, settings).cached
    users = settings.data / USERS
    users.write_text(users.read_text().replace("514", "515"))
    assert not execute(request, settings).cached


def test_what_was_shown_at_random_is_told_where_its_log_is_there(tmp_path: Path) -> None:
    shown = [row[: row.rindex(",0,")] + ",1,1" for row in (line(2, 11, 300, 1, 0), line(1, 11, 301, 0, 0))]
    log = LOG.replace("standard", "random")
    table, _ = events(
        tmp_path, with_of("kuairand_random"), FILES | {log: "\n".join([LOG_HEADER, *shown, ""])}, window=WINDOW
    )
    assert table.select("user_id", "video_id", "is_rand").rows() == [
        (1, 10, 0), (2, 10, 0), (2, 11, 0), (9, 99, 0), (2, 11, 1), (1, 11, 1),
    ]  # fmt: skip
    without = tmp_path / "without"
    without.mkdir()
    assert events(without, with_of("kuairand_random"), FILES, window=WINDOW)[0]["is_rand"].to_list() == [0, 0, 0, 0]
