"""Is the online store asked for what is not kept, in time, and left alone when it fails?"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field

from features.joins.online_read import Held, Key
from registry.serving.server.lookup import FAILURES, REST, Breaker, ItemCache, Lookup, Question

ITEM = ("item_profile", ("price",))


@dataclass
class Clock:
    now: float = 100.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Shelf:
    """A store that holds a price per item and writes down what it was asked."""

    asked: list[tuple[str, tuple[Key, ...]]] = field(default_factory=list)
    broken: bool = False
    slow: threading.Event | None = None

    def read(self, view: str, keys: Sequence[Key], names: Sequence[str]) -> list[Held | None]:
        self.asked.append((view, tuple(keys)))
        if self.slow is not None:
            self.slow.wait(20)
        if self.broken:
            raise OSError("the store is gone")
        return [None if key == (0,) else Held((key[0] * 10,), 1.0) for key in keys]


def items(*keys: int, kept: bool = True) -> Question:
    return Question("item_profile", ("price",), tuple((key,) for key in keys), kept)


def lookup(shelf: Shelf, clock: Clock | None = None, most: int = 100, timeout: float = 5.0) -> Lookup:
    return Lookup(lambda: shelf, cache=ItemCache(most, 60, clock or Clock()), timeout=timeout)


def test_items_are_kept_and_users_are_not() -> None:
    shelf = Shelf()
    asked = lookup(shelf)
    asked.ask([items(1, 2)])
    (found,) = asked.ask([items(2, 3)])
    assert {key: held and held.values[0] for key, held in found.held.items()} == {(2,): 20, (3,): 30}
    assert shelf.asked == [("item_profile", ((1,), (2,))), ("item_profile", ((3,),))]
    asked.ask([items(7, kept=False)])
    asked.ask([items(7, kept=False)])
    assert shelf.asked[2:] == [("item_profile", ((7,),))] * 2


def test_what_the_store_does_not_know_is_kept_too() -> None:
    shelf = Shelf()
    asked = lookup(shelf)
    assert [asked.ask([items(0)])[0].held for _ in range(2)] == [{(0,): None}] * 2
    assert len(shelf.asked) == 1


def test_what_is_kept_grows_old_and_makes_room() -> None:
    clock = Clock()
    cache = ItemCache(2, 60, clock)
    cache.keep(ITEM, {(1,): None, (2,): None})
    cache.keep(ITEM, {(1,): None})
    cache.keep(ITEM, {(3,): None})
    assert {*cache.known(ITEM, [(1,), (2,), (3,)])} == {(1,), (3,)}, "the oldest one made room"
    clock.now += 61
    assert cache.known(ITEM, [(1,)]) == {} and cache.known(ITEM, [(1,)], stale=True) == {(1,): None}
    cache.clear()
    assert cache.known(ITEM, [(1,)], stale=True) == {}


def test_features_of_another_choice_are_asked_for_again() -> None:
    cache = ItemCache(10, 60)
    cache.keep(("item_profile", ("price",)), {(1,): None})
    assert cache.known(("item_profile", ("price", "brand")), [(1,)]) == {}


def test_a_slow_store_leaves_what_is_known_from_earlier() -> None:
    clock, shelf = Clock(), Shelf()
    asked = lookup(shelf, clock, timeout=0.05)
    asked.ask([items(1)])
    clock.now += 61
    shelf.slow = threading.Event()
    (found,) = asked.ask([items(1, 2)])
    shelf.slow.set()
    assert found.late and found.held[1,] == Held((10,), 1.0) and (2,) not in found.held


def test_a_store_that_fails_again_and_again_is_left_alone_for_a_while() -> None:
    shelf = Shelf(broken=True)
    asked = lookup(shelf)
    for _ in range(FAILURES + 3):
        (found,) = asked.ask([items(1)])
        assert found.late and found.held == {}
    assert len(shelf.asked) == FAILURES


def test_a_breaker_closes_again() -> None:
    clock = Clock()
    breaker = Breaker(clock)
    for _ in range(FAILURES):
        assert not breaker.open
        breaker.failed()
    assert breaker.open
    clock.now += REST
    assert not breaker.open


def test_failures_far_apart_open_nothing() -> None:
    clock = Clock()
    breaker = Breaker(clock)
    for _ in range(3 * FAILURES):
        breaker.failed()
        clock.now += 3
    assert not breaker.open


def test_a_store_that_cannot_be_opened_is_opened_later() -> None:
    tries = []

    def opened() -> Shelf:
        tries.append(1)
        if len(tries) == 1:
            raise OSError("not yet")
        return Shelf()

    asked = Lookup(opened, cache=ItemCache(10, 60), timeout=5)
    assert asked.ask([items(1)])[0].late
    assert not asked.ask([items(1)])[0].late
    assert len(tries) == 2
