"""Are days of a service's log deleted when its file says so, and none before?"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest

from components.platform.settings import Settings
from pipelines.record import served_logs
from pipelines.record.served_logs import forget, overdue
from registry.serving.log.segments import segments_of

NOW = datetime(2024, 3, 1, 12, tzinfo=UTC)
DAY = timedelta(days=1)


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Logs of three services: one keeps a week, one keeps nothing any more, one has no file."""
    files = {"shop": "log: {keep: 7d}", "mute": "limits: {queue: 4}"}
    paths = {}
    for name, more in files.items():
        paths[name] = tmp_path / f"{name}.yaml"
        paths[name].write_text(f"name: {name}\nmodel: m\n{more}\n")
    monkeypatch.setattr(served_logs, "serving_files", lambda: paths)
    settings = Settings.at(tmp_path / "home")
    for name in ("shop", "mute", "gone"):
        for part in segments_of(settings.artifacts, name):
            for days in (0, 6, 9, 40):
                part.write(pa.table({"age": [days]}), NOW - timedelta(days=days))
    return settings


def ages(settings: Settings, service: str) -> list[int]:
    questions, _ = segments_of(settings.artifacts, service)
    return sorted(age for one in questions.read(NOW - timedelta(days=60), NOW + DAY) for age in one["age"].to_pylist())


def test_each_service_s_file_says_how_long(settings: Settings) -> None:
    found = overdue(settings, NOW, timedelta(days=30))
    assert {one.service: one.days for one in found} == {"shop": 4, "mute": 2, "gone": 2}, "answers and feedback"
    assert ages(settings, "shop") == [0, 6, 9, 40], "nothing goes by looking"
    assert [forget(settings, one) for one in found] == [one.days for one in found]
    assert ages(settings, "shop") == [0, 6]
    assert ages(settings, "mute") == ages(settings, "gone") == [0, 6, 9]
    assert overdue(settings, NOW, timedelta(days=30)) == []


def test_where_nothing_was_served_nothing_is_overdue(tmp_path: Path) -> None:
    assert overdue(Settings.at(tmp_path), NOW, timedelta(days=1)) == []
