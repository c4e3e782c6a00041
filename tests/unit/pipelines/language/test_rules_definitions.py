"""Is what no stage follows in a file of Feast definitions told by its line, without running the file?"""

from __future__ import annotations

from pathlib import Path

import pytest

from pipelines.language.rules.definitions import unread

TEXT = """from feast import Entity, FeatureService, FeatureView, Field, FileSource
from feast.types import Bytes, Int64, String
from features.definitions import Definitions
buyer = Entity(name="buyer", join_keys=["user_id"])
KEY = Field(name="user_id", dtype=Int64)
profile = FeatureView(name="profile", entities=[buyer], source=SOURCE, schema=[KEY, Field(name="age", dtype=Int64)])
activity = FeatureView(name="activity", entities=[buyer], source=OTHER, schema=[KEY, Field(name="seen", dtype=Int64)])
shop = FeatureService(name="shop", features=[profile[["age"]], activity])
DEFINITIONS = Definitions(entities=(buyer,), views=(profile, activity), services=(shop,), recipes=RECIPES)
raise SystemExit("this file is never run")
"""


KEYLESS = "view '{}' has no Field for its key 'user_id': add Field(name='user_id', dtype=...) to its schema"


def said(tmp_path: Path, text: str) -> tuple[int, str] | None:
    file = tmp_path / "shop_features.py"
    file.write_text(text)
    return unread(file)


def test_a_file_that_is_read_whole_has_nothing_to_tell(tmp_path: Path) -> None:
    assert said(tmp_path, TEXT) is None
    assert said(tmp_path, TEXT.replace("views=(profile, activity)", "views=tuple(VIEWS)")) is None
    assert said(tmp_path, "def (") is None


def test_a_schema_that_the_text_does_not_tell_is_left_to_the_objects(tmp_path: Path) -> None:
    for told in ("schema=[KEY, ", "entities=[buyer]"):
        assert TEXT.count(told) == 2
    assert said(tmp_path, TEXT.replace("schema=[KEY, ", "schema=[*FIELDS, ")) is None
    assert (
        said(tmp_path, TEXT.replace("entities=[buyer]", "entities=[PEOPLE]").replace("schema=[KEY, ", "schema=["))
        is None
    )


@pytest.mark.parametrize(
    ("old", "new", "line", "words"),
    [
        (", activity])", ', profile.with_join_key_map({"user_id": "seller_id"})])', 8, "with_join_key_map is not read"),
        (", activity])", ', profile.with_name("seller")])', 8, "with_name is not read"),
        (", activity])", ', "activity:seen"])', 8, "names 'activity:seen' by text"),
        ("views=(profile, activity)", "views=(profile,)", 8, "view activity of a service is not among the views"),
        ("activity = FeatureView(", "activity = BatchFeatureView(", 7, "batch views are not read"),
        ("activity = FeatureView(", "activity = feast.StreamFeatureView(", 7, "stream views are not read"),
        ("activity = FeatureView(", "activity = OnDemandFeatureView(", 7, "on-demand views are not read"),
        ("shop = ", "@on_demand_feature_view(sources=[])\ndef f(x): ...\nshop = ", 8, "on-demand views are not read"),
        ("source=OTHER", 'source=FileSource(path="a", field_mapping={})', 7, "field_mapping is not read"),
        ("source=OTHER", 'source=FileSource(path="a", timestamp_field="at")', 7, "recipes write 'event_timestamp'"),
        ("source=OTHER", "source=PushSource()", 7, "push sources are not read"),
        ("dtype=Int64)])\na", "dtype=Bytes)])\na", 6, "dtype Bytes is not read"),
        ("dtype=Int64)])\na", "dtype=Array(Bytes))])\na", 6, "dtype Bytes is not read"),
        ('schema=[KEY, Field(name="age"', 'schema=[Field(name="age"', 6, KEYLESS.format("profile")),
        ('schema=[KEY, Field(name="seen"', 'schema=[*(), Field(name="seen"', 7, KEYLESS.format("activity")),
        ('name="shop", ', 'name="shop", precompute_online=True, ', 8, "precompute_online is not read"),
    ],
)
def test_what_no_stage_follows_is_told(tmp_path: Path, old: str, new: str, line: int, words: str) -> None:
    assert TEXT.count(old) == 1
    found = said(tmp_path, TEXT.replace(old, new))
    assert found is not None and found[0] == line
    assert words in found[1] and "\n" not in found[1]
