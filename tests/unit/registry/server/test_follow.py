"""Does what answers change when the registry says so, and stay when anything goes wrong?"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import Any

import pytest

from features.ground.errors import BadInputError, MissingError
from registry.serving.live.follow import Follower, patience
from registry.serving.live.version import Live
from registry.serving.wire.pointed import Pointed


@dataclass(frozen=True)
class Version:
    """What a follower looks at of a version."""

    pointed: Pointed
    alias: str = "champion"
    name: str = "shop"
    memory: Any = None


@dataclass
class Shelf:
    """A registry that points where the test says."""

    points: Pointed | Exception
    broken: set[int] = field(default_factory=set)
    kept: Pointed | None = None
    opened: list[int] = field(default_factory=list)
    memories: list[str] = field(default_factory=list)
    bandits: list[str] = field(default_factory=list)

    def pointed(self) -> Pointed:
        if isinstance(self.points, Exception):
            raise self.points
        return self.points

    def open(self, pointed: Pointed) -> Live:
        self.opened.append(pointed.version)
        if pointed.version in self.broken:
            raise BadInputError(f"shop v{pointed.version} was changed after registration")
        version: Any = Version(pointed)
        return version  # type: ignore[no-any-return]

    def with_memory(self, live: Live, pointed: Pointed) -> Live:
        self.memories.append(pointed.memory)
        version: Any = Version(pointed, memory=pointed.memory)
        return version  # type: ignore[no-any-return]

    def with_bandit(self, live: Live, pointed: Pointed) -> Live:
        self.bandits.append(pointed.bandit)
        version: Any = Version(pointed, memory=live.memory)
        return version  # type: ignore[no-any-return]

    def last(self) -> Pointed | None:
        return self.kept

    def remember(self, pointed: Pointed) -> None:
        self.kept = pointed


@dataclass
class Told:
    changes: list[tuple[int | None, int]] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    left: list[int] = field(default_factory=list)

    def gone(self, before: Live) -> None:
        self.left.append(before.pointed.version)

    def exchanged(self, before: Live | None, now: Live, seconds: float) -> None:
        self.changes.append((before.pointed.version if before else None, now.pointed.version))

    def failed(self, reason: str) -> None:
        self.failures.append(reason)


def at(version: int, memory: str = "") -> Pointed:
    return Pointed(version=version, digest=f"d{version}", memory=memory)


def answering(follower: Follower) -> int | None:
    return follower.live.pointed.version if follower.live else None


def test_a_promotion_and_a_rollback_are_followed() -> None:
    shelf, told = Shelf(at(1)), Told()
    follower = Follower(shelf, 5, told)
    for version in (1, 1, 2, 1):
        shelf.points = at(version)
        follower.look()
        assert answering(follower) == version
    assert shelf.opened == [1, 2, 1], "what answers is not opened again"
    assert told.changes == [(None, 1), (1, 2), (2, 1)] and shelf.kept == at(1)


def test_the_same_number_with_other_files_is_another_version() -> None:
    shelf = Shelf(at(1))
    follower = Follower(shelf, 5, Told())
    follower.look()
    shelf.points = Pointed(version=1, digest="of an MLflow made anew")
    follower.look()
    assert shelf.opened == [1, 1]


def test_a_new_memory_is_exchanged_alone() -> None:
    shelf = Shelf(at(1))
    follower = Follower(shelf, 5, Told())
    follower.look()
    shelf.points = at(1, memory="m")
    follower.look()
    assert shelf.opened == [1] and shelf.memories == ["m"]
    assert follower.live is not None and follower.live.pointed.memory == "m"


def test_a_version_that_cannot_be_opened_leaves_the_old_one_and_is_said_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    shelf, told = Shelf(at(1), broken={2}), Told()
    follower = Follower(shelf, 5, told)
    follower.look()
    shelf.points = at(2)
    with caplog.at_level(logging.WARNING, "rankmill.serving"):
        logging.getLogger("rankmill").propagate = True
        follower.look()
        follower.look()
    assert answering(follower) == 1 and told.failures == ["version", "version"]
    said = [record.message for record in caplog.records if record.levelno == logging.WARNING]
    assert said == ["shop v2 was changed after registration; shop v1 goes on answering"]
    shelf.broken.clear()
    follower.look()
    assert answering(follower) == 2


def test_without_a_registry_what_answers_goes_on() -> None:
    shelf = Shelf(at(1))
    follower = Follower(shelf, 5, Told())
    follower.look()
    shelf.points = OSError("MLflow does not answer")
    follower.look()
    assert answering(follower) == 1 and follower.without_registry
    shelf.points = at(2)
    follower.look()
    assert answering(follower) == 2 and not follower.without_registry


def test_a_start_without_a_registry_takes_what_answered_last_and_waits_without_that() -> None:
    shelf = Shelf(OSError("MLflow does not answer"), kept=at(3))
    follower = Follower(shelf, 5, Told())
    follower.look()
    assert answering(follower) == 3 and follower.without_registry
    nothing = Follower(Shelf(MissingError("no registered model 'shop'")), 5, Told())
    nothing.look()
    assert nothing.live is None


def test_what_may_be_absent_is_let_go_said_once_and_taken_again(caplog: pytest.LogCaptureFixture) -> None:
    shelf, told = Shelf(at(2)), Told()
    follower = Follower(shelf, 5, told, optional=True)
    follower.look()
    shelf.points = MissingError("model 'shop' has no alias 'challenger'")
    with caplog.at_level(logging.INFO, "rankmill.serving"):
        for _ in range(3):
            follower.look()
    assert answering(follower) is None and not follower.without_registry
    assert (told.failures, told.left) == ([], [2]) and caplog.text.count("no alias 'challenger'") == 1
    shelf.points = at(3)
    follower.look()
    assert answering(follower) == 3
    shelf.points = OSError("MLflow does not answer")
    follower.look()
    assert answering(follower) == 3 and follower.without_registry, "a registry that is silent says nothing of it"


def test_a_champion_whose_alias_is_gone_goes_on() -> None:
    shelf, told = Shelf(at(1)), Told()
    follower = Follower(shelf, 5, told)
    follower.look()
    shelf.points = MissingError("model 'shop' has no alias 'champion'")
    follower.look()
    assert answering(follower) == 1 and told.failures == ["registry"]


def test_pauses_grow_with_failures_and_shrink_again() -> None:
    assert [patience(5, failures) for failures in (0, 1, 2, 3, 4, 50)] == [5, 10, 20, 40, 60, 60]
    assert patience(120, 3) == 120
    shelf = Shelf(OSError("gone"))
    waits: list[float] = []

    def pause(seconds: float) -> float:
        waits.append(seconds)
        if len(waits) == 3:
            shelf.points = at(1)
        if len(waits) == 5:
            follower._stop.set()
        return 0.0

    follower = Follower(shelf, 5, Told(), pause=pause)
    follower.start()
    follower._thread.join(timeout=10)
    assert waits == [10, 20, 40, 5, 5]
