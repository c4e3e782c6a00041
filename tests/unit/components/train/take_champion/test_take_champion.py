"""Which champion is continued: the newest that learned from nothing of today's, wherever the alias points meanwhile?

The registry is a dictionary; ledger and artifact store are real.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from components.data.build_training_set.config import SplitReport
from components.data.training_set import read_schema
from components.platform.artifacts import Ranker, TrainingSet
from components.platform.errors import BadInputError, MissingError
from components.platform.settings import Settings
from components.platform.store.publish import Store, open_store
from components.train.take_champion.component import Found, _trained_until, find, find_ranker
from components.train.take_champion.config import Taken
from registry.champion.ledger import Ledger, Note
from registry.serving.model.contract import RegisteredVersion
from registry.versions.client import ListedVersion
from tests.trained import publish

DAYS = [datetime(2026, 1, day, tzinfo=UTC) for day in range(1, 6)]


@dataclass
class Versions:
    """The part of `Registry` that is asked."""

    rankers: dict[int, str] = field(default_factory=dict)
    present: int | None = None

    def version(self, model: str, which: int) -> RegisteredVersion:
        if which not in self.rankers:
            raise MissingError("deleted")
        return RegisteredVersion(
            model=model, version=which, digest=f"d{which}", model_uri="", ranker_digest=self.rankers[which],
            report_digest="", created_at=DAYS[0],
        )  # fmt: skip

    def alias(self, model: str, alias: str) -> RegisteredVersion | None:
        return self.version(model, self.present) if self.present is not None else None

    def versions(self, model: str) -> tuple[ListedVersion, ...]:
        return tuple(ListedVersion(version=self.version(model, number), aliases=()) for number in sorted(self.rankers))


@dataclass
class Place:
    """A store, a ledger and a registry with one version a day."""

    settings: Settings
    store: Store
    ledger: Ledger
    registry: Versions
    schema: str

    def champion(self, version: int, action: str = "promoted", trained_until: datetime | None = None) -> None:
        """Make `version` the champion; its ranker learned from rows before `trained_until`."""
        if version not in self.registry.rankers:
            folder = self.settings.home / f"ranker{version}"
            folder.mkdir(parents=True)
            schema = read_schema(Path(self.schema)).model_copy(update={"trained_until": trained_until})
            (folder / "schema.json").write_text(schema.model_dump_json())
            (folder / "weights.safetensors").write_text(f"weights of {version}")
            self.registry.rankers[version] = publish(self.settings, Ranker, folder).digest
        self.ledger.append(Note(action=action, model="shop", version=version, digest=f"d{version}"))  # type: ignore[arg-type]  # one of its words
        self.registry.present = version

    def find(self, until: datetime) -> Found | Taken:
        return find("shop", until, self.registry, self.ledger, self.store)  # type: ignore[arg-type]  # what is asked of it


@pytest.fixture
def place(tmp_path: Path, training_set_dir: Path) -> Place:
    settings = Settings.at(tmp_path / "home")
    return Place(settings, open_store(settings), Ledger(settings.ledger), Versions(), str(training_set_dir))


def test_the_first_day_has_nothing_to_continue(place: Place) -> None:
    assert place.find(DAYS[0]) == Taken(reason="'shop' has no champion yet")


def test_a_day_continues_the_day_before_also_when_it_is_run_again_or_backfilled(place: Place) -> None:
    taken = []
    for number, day in enumerate(DAYS[:3], start=1):
        taken.append(place.find(day))
        place.champion(number, trained_until=day)
    assert [found.version.version if isinstance(found, Found) else None for found in taken] == [None, 1, 2]
    again = [place.find(day) for day in DAYS[:3]]
    assert again[1:] == taken[1:], "its own model and those of later days are passed over"
    assert again[0] == Taken(reason="no champion of 'shop' learned from earlier rows only")


def test_rows_at_the_end_of_training_are_not_learned_from(place: Place) -> None:
    """`trained_until` is exclusive; the same end is the same window run again, which continues the day before."""
    place.champion(1, trained_until=DAYS[1])
    assert isinstance(place.find(DAYS[1]), Taken)
    assert isinstance(place.find(DAYS[1] + timedelta(microseconds=1)), Found)


def test_after_a_rollback_the_version_that_is_live_again_goes_on(place: Place) -> None:
    place.champion(1, trained_until=DAYS[0])
    place.champion(2, trained_until=DAYS[1])
    place.champion(1, "rolled back")
    found = place.find(DAYS[2])
    assert isinstance(found, Found) and found.version.version == 1


def test_a_refused_version_and_a_deleted_one_are_passed_over(place: Place) -> None:
    place.champion(1, trained_until=DAYS[0])
    place.champion(2, trained_until=DAYS[1])
    place.champion(3, trained_until=DAYS[3])
    place.ledger.append(Note(action="refused", model="shop", version=9, digest="d9"))
    del place.registry.rankers[2]
    found = place.find(DAYS[2])
    assert isinstance(found, Found) and found.version.version == 1


def test_without_its_ranker_in_the_store_nothing_is_taken_and_that_is_not_as_expected(place: Place) -> None:
    place.champion(1, trained_until=DAYS[0])
    shutil.rmtree(place.settings.home / "artifacts" / "made_ranker")
    found = place.find(DAYS[1])
    assert isinstance(found, Taken) and not found.as_expected
    assert "the artifact store does not have the ranker" in found.reason and "shop v1: point" in found.reason


def test_a_ranker_is_found_by_its_content_alone(place: Place, training_set_dir: Path) -> None:
    place.champion(1, trained_until=DAYS[0])
    dataset = publish(place.settings, TrainingSet, training_set_dir)
    assert find_ranker(place.store, dataset.digest) is None
    assert find_ranker(place.store, "") is None
    ranker = find_ranker(place.store, place.registry.rankers[1])
    assert ranker is not None and (place.store.fetch(ranker) / "weights.safetensors").read_text() == "weights of 1"


def test_a_random_split_is_refused(training_set_dir: Path, tmp_path: Path) -> None:
    assert _trained_until(training_set_dir) == read_schema(training_set_dir).trained_until
    shutil.copytree(training_set_dir, tmp_path / "random")
    report = SplitReport.model_validate_json((tmp_path / "random" / "report.json").read_text())
    assert report.test.window is not None
    early = report.test.window.model_copy(update={"start": report.test.window.start - timedelta(days=1)})
    mixed = report.model_copy(update={"test": report.test.model_copy(update={"window": early})})
    (tmp_path / "random" / "report.json").write_text(mixed.model_dump_json())
    with pytest.raises(BadInputError, match="has learned from such rows: use split by time"):
        _trained_until(tmp_path / "random")
