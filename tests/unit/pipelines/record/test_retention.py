"""Does `keep` mean what a profile or a command says, and does a content in use keep its version?"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from components.platform.errors import BadInputError
from components.platform.settings import Settings
from pipelines.language.profile import use_profile
from pipelines.record.retention import Retention, judged
from registry.serving.model.contract import RegisteredVersion
from registry.versions.client import ListedVersion

NOW = datetime(2026, 3, 1, tzinfo=UTC)


def test_a_command_wins_over_the_environment_and_nothing_keeps_all() -> None:
    assert Retention.of({}) == Retention(30, None, None)
    env = {"RANKMILL_KEEP_DAYS": "7", "RANKMILL_KEEP_VERSIONS": "3", "RANKMILL_KEEP_CHAMPIONS": "0"}
    assert Retention.of(env) == Retention(7, 3, 0)
    assert Retention.of(env, days=9, versions=None) == Retention(9, 3, 0)
    assert Retention.of({"RANKMILL_KEEP_DAYS": ""}) == Retention()


@pytest.mark.parametrize(
    ("variable", "value"),
    [("RANKMILL_KEEP_DAYS", "0"), ("RANKMILL_KEEP_VERSIONS", "many"), ("RANKMILL_KEEP_CHAMPIONS", "-1")],
)
def test_what_is_no_count_is_told(variable: str, value: str) -> None:
    with pytest.raises(BadInputError, match=rf"{variable} is '{value}': set it to a whole number of at least [01]"):
        Retention.of({variable: value})


def test_a_profile_sets_it(tmp_path: Path) -> None:
    path = tmp_path / "lean.yaml"
    path.write_text("name: lean\nkeep: {days: 7, champions: 2}\n")
    environ: dict[str, str] = {}
    use_profile(str(path), environ)
    assert Retention.of(environ) == Retention(7, None, 2)


def version(number: int, digest: str, days: int) -> ListedVersion:
    made = RegisteredVersion(
        model="toy", version=number, digest=digest, model_uri="", ranker_digest="", report_digest="",
        created_at=NOW - timedelta(days=days),
    )  # fmt: skip
    return ListedVersion(version=made, aliases=())


class Shelf:
    """A registry of one model."""

    listed: Sequence[ListedVersion] = ()

    def __init__(self, *where: object) -> None:
        pass

    def models(self) -> tuple[str, ...]:
        return ("toy",)

    def versions(self, model: str) -> tuple[ListedVersion, ...]:
        return tuple(self.listed)


def test_what_is_young_in_use_or_not_ours_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run may take from the store that it registered a version: the version must still be there."""
    Shelf.listed = (version(1, "used", 90), version(2, "", 90), version(3, "old", 90), version(4, "young", 2),
                    version(5, "newest", 90))  # fmt: skip
    monkeypatch.setattr("registry.versions.client.Registry", Shelf)
    settings = Settings.at(tmp_path)
    found = judged(settings, Retention(30, 1, 0), NOW - timedelta(days=30), {"used"})
    assert [one.version.version for one in found.stay] == [1, 2, 4, 5]
    assert [one.version.version for one in found.go] == [3]
    assert judged(settings, Retention(30), NOW, ()).go == ()
