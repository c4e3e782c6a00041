"""Does the shipped pipeline read both policies' logs with their true propensities?"""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from components.platform.errors import BadInputError
from features.declaration import Window
from features.definitions import load_definitions
from features.recipes.table import compute_table
from tests.ingesting import events, with_of

WINDOW = Window(start=datetime(2019, 11, 24, tzinfo=UTC), end=datetime(2019, 11, 25, tzinfo=UTC))
A, B = "a" * 32, "b" * 32
HEADER = (
    ",timestamp,item_id,position,click,propensity_score,user_feature_0,user_feature_1,user_feature_2,user_feature_3,"
    "user-item_affinity_0,user-item_affinity_1"
)
MEN = [
    f"0,2019-11-24 00:00:17.004101+00:00,1,2,0,0.087125,{A},{B},{A},{B},0.0,1.0",
    f"1,2019-11-24 09:00:00.500000+09:00,0,3,1,4.5e-05,{A},{A},{A},{A},0.0,0.0",  # midnight and a half second, UTC
    f"2,2019-11-25 00:00:00.000000+00:00,0,1,0,0.5,{A},{A},{A},{A},0.0,0.0",  # on the window's end
]
ALL = [f"0,2019-11-24 00:00:17.004101+00:00,1,1,0,1,{B},{B},{B},{B},0.0,0.0"]
ITEMS = (
    ",item_id,item_feature_0,item_feature_1,item_feature_2,item_feature_3\n"
    f"0,0,-0.5,{A},{B},{A}\n1,1,0.25,{B},{B},{B}\n"
)
BTS, RANDOM = with_of("open_bandit", "ingest_bts"), with_of("open_bandit")
FILES = {
    f"open-bandit/{policy}/{campaign}/{name}.csv": text
    for policy in ("bts", "random")
    for campaign, rows in {"men": MEN, "all": ALL}.items()
    for name, text in {campaign: "\n".join([HEADER, *rows, ""]), "item_context": ITEMS}.items()
}
LOG, PRODUCTS = "open-bandit/bts/men/men.csv", "open-bandit/bts/men/item_context.csv"


def test_rows_are_typed_sorted_named_by_campaign_and_half_open(tmp_path: Path) -> None:
    table, _ = events(tmp_path, BTS, FILES, window=WINDOW)
    columns = ["product_id", "campaign", "policy", "position", "click", "propensity", "product_feature_0", "segment"]
    a, b = "a" * 8, "b" * 8
    assert table.select(columns).rows() == [
        ("men/0", "men", "bts", 3, 1, 4.5e-05, -0.5, f"{a}-{a}-{a}-{a}"),
        ("men/1", "men", "bts", 2, 0, 0.087125, 0.25, f"{a}-{b}-{a}-{b}"),
        ("everyone/1", "everyone", "bts", 1, 0, 1.0, 0.25, f"{b}-{b}-{b}-{b}"),
    ]
    assert table["event_timestamp"].to_list()[:2] == [
        WINDOW.start + timedelta(seconds=0.5), WINDOW.start + timedelta(seconds=17, microseconds=4101),
    ]  # fmt: skip
    assert table["user_feature_1"].to_list()[1] == B


def test_the_two_stages_differ_in_the_policy_alone(tmp_path: Path) -> None:
    assert json.dumps(BTS, sort_keys=True).replace("bts", "random") == json.dumps(RANDOM, sort_keys=True)
    log = FILES | {LOG: FILES[LOG].replace(",1,2,0,", ",1,2,1,")}
    bts, random = (events(tmp_path, given, log, tmp_path / "s", WINDOW)[0] for given in (BTS, RANDOM))
    assert (bts["click"].sum(), random["click"].sum()) == (2, 1)
    assert set(random["policy"]) == {"random"}


def test_the_feature_tables_hold_attributes_before_the_first_impression(tmp_path: Path) -> None:
    frame = events(tmp_path, BTS, FILES, window=WINDOW)[0].lazy()
    recipes = load_definitions().recipes
    products = compute_table(recipes["open_bandit_product_profile"], frame, WINDOW)
    segments = compute_table(recipes["open_bandit_segment_profile"], frame, WINDOW)
    assert products["product_id"].to_list() == ["everyone/1", "men/0", "men/1"]
    assert products["event_timestamp"].min() == WINDOW.start + timedelta(seconds=0.5) - timedelta(microseconds=1)
    assert len(segments) == 3


@pytest.mark.parametrize(
    ("name", "old", "new", "message"),
    [
        (LOG, "-24 00:00:17.004101+00:00", "-24 noon", "row 1: column 'timestamp' is .*expected a time such as"),
        (LOG, ",0,0.087125,", ",2,0.087125,", "row 1: column 'click' is '2', expected 0 or 1"),
        (LOG, "0.087125", "often", "row 1: column 'propensity_score' is 'often', expected a chance"),
        (LOG, "0.087125", "nan", "row 1: column 'propensity_score' is 'nan', expected a chance"),
        (LOG, "propensity_score", "pscore", "no column 'propensity_score'"),
        (PRODUCTS, "\n1,1,", "\n1,0,", "row 2: 'campaign' and 'item_id' 'men/0' has a row already"),
        (PRODUCTS, "0.25", "", "row 2: column 'item_feature_0' is empty"),
    ],
)
def test_a_damaged_file_is_one_sentence(tmp_path: Path, name: str, old: str, new: str, message: str) -> None:
    assert old in FILES[name]
    with pytest.raises(BadInputError, match=message) as raised:
        events(tmp_path, BTS, FILES | {name: FILES[name].replace(old, new, 1)}, window=WINDOW)
    assert "\n" not in str(raised.value)
