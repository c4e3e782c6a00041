"""Is the online store asked for what is not kept, in time, and left alone when it fails?"""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from features.joins.online_read import Held, Key
from registry.serving.live.kept import Found, ItemCache
from registry.serving.live.lookup import FAILURES, REST, Breaker, Lookup, Question

ROOT = Path(__file__).resolve().parents[4]
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
    assert found.columns[0].tolist() == [20, 30] and found.at.tolist() == [1.0, 1.0] and found.kept == 1
    assert shelf.asked == [("item_profile", ((1,), (2,))), ("item_profile", ((3,),))]
    asked.ask([items(7, kept=False)])
    asked.ask([items(7, kept=False)])
    assert shelf.asked[2:] == [("item_profile", ((7,),))] * 2


def test_what_the_store_does_not_know_is_kept_too() -> None:
    shelf = Shelf()
    asked = lookup(shelf)
    for _ in range(2):
        (found,) = asked.ask([items(0)])
        assert found.told.all() and not found.held.any() and not found.late
    assert len(shelf.asked) == 1


def test_what_is_kept_grows_old_and_makes_room() -> None:
    clock = Clock()
    cache = ItemCache(2, 60, clock)
    cache.keep(ITEM, [(1,), (2,)], [Held((1,), None), None])
    cache.keep(ITEM, [(1,)], [Held((10,), 5.0)])
    cache.keep(ITEM, [(3,)], [None])
    assert known(cache, 1, 2, 3) == [10, "unknown", None], "the oldest one made room"
    clock.now += 61
    assert known(cache, 1) == ["unknown"] and known(cache, 1, stale=True) == [10]
    cache.clear()
    assert known(cache, 1, stale=True) == ["unknown"]


def known(cache: ItemCache, *keys: int, stale: bool = False) -> list[object]:
    found = Found.nothing(len(keys), 1)
    cache.fill(ITEM, [(key,) for key in keys], found, stale=stale)
    return [value if told else "unknown" for value, told in zip(found.columns[0], found.told, strict=True)]


@given(st.lists(st.lists(st.integers(0, 12), unique=True, max_size=9), max_size=8), st.integers(0, 9))
def test_the_newest_are_kept_whatever_comes(calls: list[list[int]], most: int) -> None:
    cache, newest = ItemCache(most, 60, Clock()), dict[int, int | None]()
    for number, keys in enumerate(calls):
        answers = [None if key % 3 == 0 else Held((100 * number + key,), 1.0) for key in keys]
        cache.keep(ITEM, [(key,) for key in keys], answers)
        for key, held in zip(keys, answers, strict=True):
            newest.pop(key, None)
            newest[key] = held.values[0] if held else None
    kept = dict([*newest.items()][-most:]) if most else {}
    assert known(cache, *range(13)) == [kept.get(key, "unknown") for key in range(13)]


def test_a_shelf_grows_to_what_it_may_hold() -> None:
    cache = ItemCache(5000, 60, Clock())
    for start in range(0, 6000, 500):
        keys = range(start, start + 500)
        cache.keep(ITEM, [(key,) for key in keys], [Held((key,), None) for key in keys])
    assert known(cache, *range(6000)) == ["unknown"] * 1000 + [*range(1000, 6000)]


def test_features_of_another_choice_are_asked_for_again() -> None:
    cache = ItemCache(10, 60)
    cache.keep(ITEM, [(1,)], [None])
    found = Found.nothing(1, 2)
    cache.fill(("item_profile", ("price", "brand")), [(1,)], found)
    assert not found.told.any()


def test_a_slow_store_leaves_what_is_known_from_earlier() -> None:
    clock, shelf = Clock(), Shelf()
    asked = lookup(shelf, clock, timeout=0.05)
    asked.ask([items(1)])
    clock.now += 61
    shelf.slow = threading.Event()
    (found,) = asked.ask([items(1, 2)])
    shelf.slow.set()
    assert found.late and found.columns[0].tolist() == [10, None] and found.told.tolist() == [True, False]


def test_a_store_that_fails_again_and_again_is_left_alone_for_a_while() -> None:
    shelf = Shelf(broken=True)
    asked = lookup(shelf)
    for _ in range(FAILURES + 3):
        (found,) = asked.ask([items(1)])
        assert found.late and not found.told.any()
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


NEVER = """
import threading
from registry.serving.live.lookup import ItemCache, Lookup, Question

class Store:
    def read(self, *_):
        threading.Event().wait()

lookup = Lookup(Store, cache=ItemCache(10, 60), timeout=0.1)
(found,) = lookup.ask([Question("item_profile", ("price",), ((1,),), False)])
print(found.late)
"""


def test_a_process_ends_though_its_store_never_answers() -> None:
    ended = subprocess.run([sys.executable, "-c", NEVER], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert (ended.returncode, ended.stdout.strip()) == (0, "True"), ended.stderr
