"""Are columns read out of paths where the pattern names them?"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import fsspec
import pytest
from pydantic import ValidationError

from components.ingest.ingest_table.config import Config
from components.ingest.ingest_table.reading.files import sources
from components.platform.errors import BadInputError, MissingError
from tests.unit.components.ingest.table.conftest import ROWS, Read, csv

BASE: dict[str, Any] = {"user": "u", "item": "i", "timestamp": "t", "feedback": {"click": "c"}}
COLUMNS = {"shop": "string", "day": "string"}


def test_a_brace_is_a_column_of_impressions_and_of_their_tables(read: Read) -> None:
    files = {
        "men/men/1-a.csv": csv(ROWS[0]),
        "all/all/2-b.csv": csv(ROWS[1]),
        "all/men/3-c.csv": csv(ROWS[2]),  # says two shops
        "items/men.csv": csv("7,red", header="article,colour"),
        "items/all.csv": csv("8,blue", header="article,colour"),
    }
    key = {"columns": ["shop", "article"], "separator": "/"}
    frame, _ = read(
        files,
        files="{shop}/{shop}/{day}-?.csv",
        item=key,
        columns=COLUMNS,
        values={"shop": {"all": "everyone"}},
        items={
            "files": "items/{shop}.csv",
            "key": key,
            "columns": {"colour": "string"},
            "values": {"shop": {"all": "everyone"}},
        },
    )
    assert frame.select("item_id", "shop", "day", "colour").rows() == [
        ("men/7", "men", "1", "red"),
        ("everyone/8", "everyone", "2", "blue"),
    ]


def test_a_brace_may_stand_for_one_text_alone(read: Read) -> None:
    files = {"logs/men/x/a.csv": csv(ROWS[0]), "logs/all/a.csv": csv(ROWS[1]), "logs/men/b.csv": csv(ROWS[2])}
    frame, _ = read(files, files="logs/{shop=men}/**/{day}.csv", columns=COLUMNS)
    assert frame.select("shop", "day").rows() == [("men", "a"), ("men", "b")]
    with pytest.raises(MissingError, match=r"no file matches .*logs/\{shop=women\}"):
        read(files, files="logs/{shop=women}/*.csv")


def test_braces_in_a_url(tmp_path: Path) -> None:
    memory = fsspec.filesystem("memory")
    for shop in ("men", "all"):
        memory.pipe(f"/braces/{shop}/{shop}.csv", b"x")
    memory.pipe("/braces/men/all.csv", b"x")
    found = sources(Config.model_validate(BASE | {"files": "memory://braces/{shop}/{shop}.csv"}), tmp_path)["events"]
    assert [source.partitions for source in found] == [{"shop": "all"}, {"shop": "men"}]
    assert [source.name for source in found] == ["events/all/all.csv", "events/men/men.csv"]


def test_braces_in_the_files_of_a_wheel(tmp_path: Path) -> None:
    given = BASE | {"source": "open-bandit", "files": "data://open-bandit/{policy=bts}/{campaign}/{campaign}.csv"}
    found = sources(Config.model_validate(given), tmp_path)["events"]
    assert [source.partitions for source in found] == [
        {"policy": "bts", "campaign": name} for name in ("all", "men", "women")
    ]


def test_a_path_and_a_file_that_say_the_same_column_are_refused(read: Read) -> None:
    with pytest.raises(BadInputError, match=r"has column 'uid', and so has its path: give \{uid\} in files another"):
        read({"men.csv": csv(*ROWS)}, files="{uid}.csv")


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ("{shop/x.csv", "a brace names a column, as in"),
        ("{}/x.csv", "a brace names a column, as in"),
        ("{shop=}/x.csv", "a brace names a column, as in"),
        ("{shop=a*}/x.csv", "a brace names a column, as in"),
        ("{a shop}/x.csv", "a brace names a column, as in"),
        ("{shop}{day}.csv", "two braces stand side by side"),
        ("{shop}/{shop=men}.csv", r"\{shop\} stands before \{shop=men\}: say its text where it stands first"),
        ("{shop}/a**.csv", r"'\*\*' can only be an entire path component"),
    ],
)
def test_braces_that_name_no_column_are_refused(files: str, said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        Config.model_validate(BASE | {"files": files})
