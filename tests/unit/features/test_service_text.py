"""Does the text of definitions tell what the objects say, and nothing where it cannot?"""

from __future__ import annotations

from pathlib import Path

import pytest

from features.definitions import load_definitions
from features.services.service import describe
from features.services.service_text import told

SERVICES = [service.name for service in load_definitions().services]
OWN = """from feast import Entity, FeatureService, FeatureView, Field, ValueType
from feast.types import Int64, String
from features.definitions.common import source
from features.definitions.recipe import Profile
who = Entity(name="who", join_keys=["user_id"], value_type=ValueType.INT64)
{more}
view = FeatureView(name="view", entities=[who], source=source("table", ""), schema={schema})
ranker = FeatureService(name="ranker", features=[view{chosen}])
DEFINITIONS = Definitions(entities=(who,), views=(view,), services=(ranker,),
    recipes={{"table": Profile(key="user_id", columns=("taste",))}})
"""
PLAIN = '[Field(name="user_id", dtype=Int64), Field(name="taste", dtype=String), Field(name="city", dtype=String)]'


@pytest.mark.parametrize("service", SERVICES)
def test_the_text_of_a_shipped_service_tells_what_its_objects_say(service: str) -> None:
    features, sources = describe(service)
    text = told(service)
    assert text is not None and text.features is not None
    assert text.keys == {name: dtype for source in sources for name, dtype in source.keys.items()}
    assert {name: (f.dtype, f.auxiliary) for name, f in text.features.items()} == {
        f.name: (f.dtype, f.auxiliary) for f in features
    }
    elapsed = {f.name for f in features if f.encoding is not None and f.encoding.kind == "elapsed"}
    assert {name for name, f in text.features.items() if f.kind == "elapsed"} == elapsed
    assert set(text.recipes) == {source.name for source in sources}


def written(folder: Path, schema: str = PLAIN, chosen: str = "", more: str = "") -> Path:
    file = folder / "own_features.py"
    file.write_text(OWN.format(schema=schema, chosen=chosen, more=more), encoding="utf-8")
    return file


def test_own_definitions_are_read_and_only_the_chosen_features(tmp_path: Path) -> None:
    text = told("ranker", written(tmp_path, chosen='[["taste"]]'))
    assert text is not None and text.features is not None
    assert set(text.features) == {"taste"} and text.keys == {"user_id": "int64"}
    assert list(text.recipes) == ["table"]


@pytest.mark.parametrize(
    ("schema", "more"),
    [
        ("make()", "def make(): return []"),
        ("FIELDS", "FIELDS = []\nFIELDS = [Field(name='user_id', dtype=Int64)]"),
        ('[Field(name=word, dtype=String) for word in WORDS if word != "x"]', 'WORDS = ("taste",)'),
        ("LOOP", "LOOP = LOOP"),
        ("FIELDS", "FIELDS, REST = make()"),
        ('[Field(name="taste", dtype=String, tags=dict(kind="bag"))]', ""),
    ],
)
def test_what_the_text_does_not_tell_is_not_guessed(schema: str, more: str, tmp_path: Path) -> None:
    text = told("ranker", written(tmp_path, schema, more=more))
    assert text is not None and text.features is None and text.keys == {"user_id": "int64"}


def test_of_several_names_at_once_each_has_its_own_part(tmp_path: Path) -> None:
    more = "FIELDS, REST = [Field(name='user_id', dtype=Int64), Field(name='age', dtype=Int64)], [1, 2]"
    text = told("ranker", written(tmp_path, "FIELDS", more=more))
    assert text is not None and text.features is not None and {*text.features} == {"age"}


def test_nothing_of_a_file_is_run(tmp_path: Path) -> None:
    file = written(tmp_path, more=f"open({str(tmp_path / 'ran')!r}, 'w')")
    assert told("ranker", file) is not None and not (tmp_path / "ran").exists()


@pytest.mark.parametrize("content", ["def broken(:", "x = '\\ud800'", ""])
def test_a_file_that_tells_nothing_gives_none(content: str, tmp_path: Path) -> None:
    file = tmp_path / "own_features.py"
    file.write_text(content, encoding="utf-8")
    assert told("ranker", file) is None
    assert told("ranker", tmp_path / "absent.py") is None
