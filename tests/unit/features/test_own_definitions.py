"""Do Feast definitions of a file beside a pipeline work as the shipped ones do, and does a bad file say where?"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from components.data.materialize_features.component import write_tables
from features.declaration import Window
from features.definitions import load_definitions
from features.ground.errors import BadInputError, MissingError
from features.joins.histories import listed, read_table
from features.services.own_definitions import definitions_of
from features.services.service import describe

TEXT = '''"""Features of a shop."""
from feast import Entity, FeatureService, FeatureView, Field, ValueType
from feast.types import Int64, String

from features.definitions import Definitions
from features.definitions.common import NEVER, source
from features.definitions.recipe import Profile

shopper = Entity(name="shopper", join_keys=["user_id"], value_type=ValueType.STRING)
profile = FeatureView(
    name="shopper_profile",
    entities=[shopper],
    ttl=NEVER,
    source=source("shopper_profile", "Attributes."),
    schema=[Field(name="user_id", dtype=String), Field(name="age", dtype=Int64)],
)
shop_ranker = FeatureService(name="shop_ranker", features=[profile])
DEFINITIONS = Definitions(
    entities=(shopper,),
    views=(profile,),
    services=(shop_ranker,),
    recipes={"shopper_profile": Profile(key="user_id", columns=("age",))},
)
'''


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "shop_features.py"
    path.write_text(TEXT)
    return path


def test_no_file_means_the_shipped_definitions() -> None:
    assert definitions_of(None) is load_definitions()


def test_a_file_is_a_world_of_its_own(file: Path) -> None:
    own = definitions_of(file)
    assert [service.name for service in own.services] == ["shop_ranker"]
    features, sources = describe("shop_ranker", own)
    assert [(f.name, f.dtype) for f in features] == [("age", "int64")]
    assert [s.keys for s in sources] == [{"user_id": "string"}]
    with pytest.raises(MissingError, match=r"no feature service 'movielens_ranker'.*defined in shop_features.py"):
        own.service("movielens_ranker")
    with pytest.raises(MissingError, match="no feature service 'shop_ranker'"):
        load_definitions().service("shop_ranker")
    assert list(file.parent.iterdir()) == [file], "the user's folder is left as it was"


def test_a_changed_file_is_read_again(file: Path) -> None:
    assert describe("shop_ranker", definitions_of(file))[0][0].name == "age"
    file.write_text(TEXT.replace('"age"', '"years"'))
    assert describe("shop_ranker", definitions_of(file))[0][0].name == "years"


def test_its_tables_are_computed(file: Path, tmp_path: Path) -> None:
    start = datetime(2026, 1, 1, tzinfo=UTC)
    times = pl.Series([start, start + timedelta(hours=1)]).dt.cast_time_unit("us")
    events = {"user_id": ["a", "b"], "age": [30, 40], "event_timestamp": times, "created_timestamp": times}
    pl.DataFrame(events).write_parquet(tmp_path / "events.parquet")
    window = Window(start=start, end=start + timedelta(days=1))
    snapshot = write_tables(tmp_path, "shop_ranker", window, tmp_path, definitions_of(file))
    assert snapshot.rows == {"shopper_profile": 2}
    assert pl.read_parquet(tmp_path / "shopper_profile.parquet")["age"].to_list() == [30, 40]


RECENT = """ACTIVITY = Activity(
    key="user_id",
    prefix="user",
    rates=(Rate("click", prior=0.5, weight=1, over=Last(hours=1)),),
    counts=(Count(where="age > 30 or click", over=Last(hours=2), name="good"),),
    history=History({"clicked_ages": "age"}, where="click"),
)
profile = FeatureView("""


def test_windows_conditions_and_a_filtered_history_of_its_own_are_computed(file: Path, tmp_path: Path) -> None:
    text = TEXT.replace("import Profile", "import Activity, Count, History, Last, Rate")
    text = text.replace("import NEVER, source", "import NEVER, activity_fields, listed_field, source")
    text = text.replace("profile = FeatureView(", RECENT).replace(
        'Profile(key="user_id", columns=("age",))', "ACTIVITY"
    )
    field = 'listed_field("clicked_ages", 50, "at")'
    longer = text.replace('Field(name="age", dtype=Int64)', field.replace("50", "51"))
    file.write_text(longer)
    with pytest.raises(
        BadInputError, match=r"'clicked_ages' has length 51 in its tags, and its recipe lists 50 events"
    ):
        definitions_of(file)
    file.write_text(text.replace('Field(name="age", dtype=Int64)', f"*activity_fields(ACTIVITY), {field}"))
    start = datetime(2026, 1, 1, tzinfo=UTC)
    times = pl.Series([start, start + timedelta(minutes=30)]).dt.cast_time_unit("us")
    events = {"user_id": ["a", "a"], "age": [30, 40], "click": [1, 0]}
    events |= {"event_timestamp": times, "created_timestamp": times}
    pl.DataFrame(events).write_parquet(tmp_path / "events.parquet")
    window = Window(start=start, end=start + timedelta(days=1))
    snapshot = write_tables(tmp_path, "shop_ranker", window, tmp_path, definitions_of(file))
    assert snapshot.rows == {"shopper_profile": 6}
    table = pl.DataFrame(listed(read_table(tmp_path / "shopper_profile.parquet")))
    minutes = ((table["event_timestamp"] - start).dt.total_minutes()).to_list()
    assert minutes == [0, 30, 60, 90, 120, 150]
    assert table["user_click_rate_1h"].to_list() == pytest.approx([0.75, 0.5, 0.25, 0.5, 0.5, 0.5])
    assert table["user_good_count_2h"].to_list() == [1, 2, 2, 2, 1, 0]
    assert table["clicked_ages"].to_list() == [[30]] * 6


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("DEFINITIONS =", "OTHER =", r"shop_features.py defines no DEFINITIONS: end it with"),
        ("DEFINITIONS = Definitions(", "DEFINITIONS = dict(", r"defines no DEFINITIONS"),
        ('columns=("age",))', 'columns=("age",)', r"shop_features.py:2\d: SyntaxError"),
        ("NEVER, source", "NEVR, source", r"shop_features.py:6: ImportError: .*NEVR"),
        ("shopper = Entity(", "import beside_it\nshopper = Entity(", r"shop_features.py:9: ModuleNotFoundError"),
        ("ttl=NEVER", "ttl=1 / 0", r"shop_features.py:13: ZeroDivisionError"),
        ('recipes={"shopper_profile"', 'recipes={"other"', r"its source 'shopper_profile' has no recipe"),
        ('name="shopper",', 'name="user",', r"Entity 'user' has a name of features/definitions/: import that one"),
        ('name="shopper_profile",', 'name="item_profile",', r"FeatureView 'item_profile' has a name of features/def"),
        ('name="shop_ranker"', 'name="movielens_ranker"', r"FeatureService 'movielens_ranker' has a name of"),
    ],
)
def test_a_bad_file_is_one_sentence(file: Path, old: str, new: str, sentence: str) -> None:
    assert TEXT.count(old) == 1
    file.write_text(TEXT.replace(old, new))
    (file.parent / "beside_it.py").write_text("")
    with pytest.raises(BadInputError, match=sentence) as caught:
        definitions_of(file)
    assert "\n" not in str(caught.value)


def test_an_entity_of_the_shipped_definitions_may_be_used(file: Path) -> None:
    text = TEXT.replace("import NEVER, source", "import NEVER, source, user as shopper")
    text = text.replace(text[text.index("shopper = Entity") : text.index("profile = FeatureView")], "")
    file.write_text(text.replace("dtype=String", "dtype=Int64"))
    assert [entity.name for entity in definitions_of(file).entities] == ["user"]


def test_an_absent_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(MissingError, match=r"nothing.py cannot be read \(No such file or directory\)"):
        definitions_of(tmp_path / "nothing.py")
