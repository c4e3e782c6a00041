"""How fast do feature values reach the online store?"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

from tests.benchmarks import point_in_time as tables
from tests.benchmarks.contract import Benchmark, Report, Series, at_least, table_of
from tests.benchmarks.lab import Lab

VIEWS = {"user_activity": "4 numbers", "user_session": "4 numbers and a list of 10"}
OURS, FEAST = "rankmill", "Feast's SQLite store"


def run(lab: Lab) -> Report:
    """Materialise one view at a time into an empty database, ours and Feast's in turns."""
    tables.write_tables(lab.work, 200 if lab.quick else 1)
    cases = [f"100,000 users, {what}" if not lab.quick else f"500 users, {what}" for what in VIEWS.values()]
    rates: dict[str, dict[str, list[float]]] = {who: {case: [] for case in cases} for who in (OURS, FEAST)}
    for view, case in zip(VIEWS, cases, strict=True):
        stored = set()
        for number in range(lab.rounds(2)):
            for who in (OURS, FEAST)[:: 1 if number % 2 == 0 else -1]:
                lab.say(f"{case}, round {number + 1}: {who}")
                home = lab.work / f"{view}-{number}-{who == OURS}"
                cost = lab.child(write, folder=str(lab.work), home=str(home), view=view, ours=who == OURS)
                assert cost is not None, f"{who} did not write {view}"
                users, digest = cost.value
                rates[who][case].append(users / cost.seconds)
                stored.add(digest)
        assert len(stored) == 1, f"the databases of {view} differ"
    series = Series(
        title="Rate of materialisation", unit="entities/s", better="higher", axis="one feature view",
        cases=tuple(cases), samples=table_of(rates, cases),
    )  # fmt: skip
    goals = tuple(at_least(series, OURS, FEAST, case, 3.0, f"{case}: at least 3 × Feast's rate") for case in cases)
    return Report(series=(series,), goals=goals, charts=(series.title,))


def write(folder: str, home: str, view: str, ours: bool) -> Iterator[None]:
    """Materialise a view; gives the number of users and a digest of the database's rows."""
    import hashlib
    import importlib

    online = importlib.import_module("features.joins.online")
    store = importlib.import_module("features.joins.store")
    importlib.import_module("features.joins.asof_store")
    if not ours:
        online.can_encode = lambda *_: False  # Feast writes what we leave to it
    definitions = tables._definitions()
    span = (tables.START, tables.START + timedelta(days=tables.DAYS))
    yield
    list(store.materialize(Path(home), Path(folder), [view], [span], definitions))
    yield
    connection = sqlite3.connect(Path(home) / "online.db")
    users = connection.execute(f"SELECT count(DISTINCT entity_key) FROM rankmill_{view}").fetchone()[0]
    digest = hashlib.sha256()
    for row in connection.execute(f"SELECT * FROM rankmill_{view} ORDER BY entity_key, feature_name"):
        digest.update(repr(row).encode())
    return users, digest.hexdigest()


BENCHMARK = Benchmark(
    title="Writing the online store",
    question="How fast do the newest feature values reach SQLite?",
    run=run,
    order=30,
    notes=(
        "Each measurement is a process of its own with an empty database; opening Feast's registry and finding the "
        "newest row per user, which both do alike, are inside. The two databases are equal, row by row.",
        "Of Feast's time about two fifths go into one SQL statement per cell, a third into turning cells into message "
        "objects one by one (half of that asks pandas whether a value is missing), and the rest into keys and into "
        "looking at each message again. `joins/online.py` is a Feast provider that encodes columns, spells keys "
        "by the array, and hands SQLite batches in the order of its index with a page cache that holds them.",
    ),
)
