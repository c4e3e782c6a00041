"""What do the tests of `ingest_table` share? A small shop's tables, and one call that reads them."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from components.ingest.ingest_table.component import events_schema, read_events
from components.ingest.ingest_table.config import Config
from components.ingest.ingest_table.reading.files import sources
from features.declaration import Window

WINDOW = Window(start=datetime(2026, 1, 1, tzinfo=UTC), end=datetime(2026, 1, 3, tzinfo=UTC))
HEADER = "uid,article,shown_at,clicked,rating,price,status"
ROWS = (
    "u1,7,2026-01-01 10:00:00,1,4,9.5,paid",
    "u2,8,2026-01-01 11:00:00,0,2,1,open",
    "u2,7,2026-01-02 23:59:59.999999,0,5,,paid",
)
Read = Callable[..., tuple[pl.DataFrame, list[str]]]


def csv(*rows: str, header: str = HEADER) -> str:
    """Return the text of a CSV file."""
    return "\n".join([header, *rows, ""])


@pytest.fixture
def read(tmp_path: Path) -> Read:
    """Read tables given as files' texts or frames, with a config that may be changed."""

    def one(files: dict[str, Any], window: Window = WINDOW, /, **changes: Any) -> tuple[pl.DataFrame, list[str]]:
        for name, content in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(content, pl.DataFrame):
                content.write_parquet(path)
            elif isinstance(content, bytes):
                path.write_bytes(content)
            else:
                path.write_text(content, encoding="utf-8")
        base: dict[str, Any] = {
            "files": "events*",
            "user": "uid",
            "item": {"column": "article", "type": "int64"},
            "timestamp": "shown_at",
            "feedback": {"click": "clicked"},
        }
        given = {key: value for key, value in deepcopy(base | changes).items() if value is not None}
        for table in (given, given.get("users", {}), given.get("items", {})):
            if "files" in table and "://" not in table["files"]:
                table["files"] = str(tmp_path / table["files"])
        config = Config.model_validate(given)
        found = sources(config, tmp_path / "data")
        frame, notes = read_events(found, config, window, tmp_path / "scratch", lambda line: None)
        assert frame.rows.columns == events_schema(config).names
        return frame.whole(), notes

    return one
