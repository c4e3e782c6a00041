"""Does the ledger keep every entry, in order, and notice who meddles with it?"""

from __future__ import annotations

import json
import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.ground.errors import BadInputError, RetryableError
from registry.champion.ledger import (
    Action,
    Entry,
    Holder,
    Ledger,
    LostRaceError,
    Note,
    champion,
    champion_at,
    pending,
    predecessors,
)

DAY = datetime(2026, 1, 1, tzinfo=UTC)


def note(action: Action = "promoted", version: int = 1, **more: object) -> Note:
    return Note(action=action, model="ranker", version=version, digest=f"d{version}", actor="ada", **more)  # type: ignore[arg-type]


@pytest.fixture(params=["local", "memory"])
def ledger(request: pytest.FixtureRequest, tmp_path: Path) -> Ledger:
    return Ledger(tmp_path.as_uri() if request.param == "local" else f"memory://{uuid.uuid4().hex}")


def test_entries_come_back_as_they_were_written(ledger: Ledger) -> None:
    assert ledger.entries("ranker") == ()
    holder = Holder(token="t", host="h", pid=1)
    written = [
        ledger.append(note("promoting", 3, previous=2, reason='a "quoted" ü reason', holder=holder)),
        ledger.append(note("promoted", 3, previous=2, settles=1, effective_at=DAY)),
        ledger.append(note("refused", 4)),
    ]
    assert list(ledger.entries("ranker")) == written
    assert [entry.sequence for entry in written] == [1, 2, 3]
    assert ledger.entries("other") == ()


def test_a_writer_who_saw_an_older_state_loses(ledger: Ledger) -> None:
    seen = ledger.append(note(version=1)).sequence
    ledger.append(note(version=2), after=seen)
    with pytest.raises(LostRaceError, match="run again") as failure:
        ledger.append(note(version=3), after=seen)
    assert failure.value.retryable
    assert [entry.version for entry in ledger.entries("ranker")] == [1, 2]


def test_many_writers_at_once_leave_one_chain_without_gaps(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path.as_uri())
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda version: ledger.append(note("refused", version)), range(1, 25)))
    entries = ledger.entries("ranker")
    assert sorted(entry.version for entry in entries) == list(range(1, 25))
    assert [entry.sequence for entry in entries] == list(range(1, 25))


def test_of_writers_with_the_same_expectation_exactly_one_wins(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path.as_uri())
    ledger.append(note())

    def attempt(version: int) -> bool:
        try:
            ledger.append(note("promoting", version), after=1)
        except LostRaceError:
            return False
        return True

    with ThreadPoolExecutor(6) as pool:
        assert sum(pool.map(attempt, range(2, 8))) == 1


def _edit(path: Path) -> None:
    content = json.loads(path.read_text())
    path.write_text(json.dumps(content | {"actor": "mallory"}, indent=2))


@pytest.mark.parametrize(
    ("harm", "sentence"),
    [
        (lambda folder: _edit(folder / "00000002.json"), r"00000003\.json .* does not follow 00000002\.json"),
        (lambda folder: (folder / "00000002.json").unlink(), r"lacks entry 00000002\.json"),
        (lambda folder: (folder / "00000001.json").unlink(), r"lacks entry 00000001\.json"),
        (lambda folder: (folder / "00000002.json").write_text("{"), r"00000002\.json .* cannot be read"),
        (lambda folder: (folder / "00000003.json").write_bytes(b""), r"00000003\.json .* cannot be read"),
        (
            lambda folder: (folder / "00000003.json").write_bytes((folder / "00000002.json").read_bytes()),
            r"00000003\.json .* does not follow",
        ),
    ],
)
def test_meddling_is_noticed_and_stops_every_writer(harm: object, sentence: str, tmp_path: Path) -> None:
    ledger = Ledger(tmp_path.as_uri())
    for version in (1, 2, 3):
        ledger.append(note(version=version))
    harm(tmp_path / "ranker")  # type: ignore[operator]
    before = sorted(path.name for path in (tmp_path / "ranker").iterdir())
    with pytest.raises(BadInputError, match=sentence):
        ledger.entries("ranker")
    with pytest.raises(BadInputError, match=sentence):
        ledger.append(note(version=4))
    assert sorted(path.name for path in (tmp_path / "ranker").iterdir()) == before


def test_a_half_written_file_of_a_killed_writer_is_no_entry(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path.as_uri())
    ledger.append(note(version=1))
    (tmp_path / "ranker" / ".00000002.json.abc").write_text('{"action": "prom')
    assert ledger.append(note(version=2)).sequence == 2


def test_a_full_store_is_worth_a_retry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    ledger = Ledger(tmp_path.as_uri())
    ledger.append(note())
    monkeypatch.setattr("os.link", full)
    with pytest.raises(RetryableError, match="No space left"):
        ledger.append(note(version=2))
    assert [path.name for path in (tmp_path / "ranker").iterdir()] == ["00000001.json"]


def _chain(*moves: tuple[Action, int]) -> list[Entry]:
    entries: list[Entry] = []
    previous: int | None = None
    for number, (action, version) in enumerate(moves, start=1):
        body = note(action, version, previous=previous, effective_at=DAY + timedelta(days=number))
        entries.append(
            Entry(**body.model_dump(), sequence=number, at=DAY + timedelta(days=number, seconds=1), chain="")
        )
        if action in ("promoted", "rolled back", "moved outside"):
            previous = version
        elif action == "removed outside":
            previous = None
    return entries


def test_the_champion_of_any_day_is_known() -> None:
    entries = _chain(("promoted", 1), ("refused", 2), ("promoted", 3), ("removed outside", 3), ("promoted", 4))
    live = [champion_at(entries, DAY + timedelta(days=day, hours=12)) for day in range(6)]
    assert [entry.champion if entry else None for entry in live] == [None, 1, 1, 3, None, 4]
    latest = champion(entries)
    assert latest is not None
    assert latest.champion == 4


@pytest.mark.parametrize(
    ("moves", "line"),
    [
        ((), ()),
        ((("promoted", 1),), ()),
        ((("promoted", 1), ("promoted", 2), ("promoted", 3)), (2, 1)),
        ((("promoted", 1), ("promoted", 2), ("promoted", 3), ("rolled back", 2)), (1,)),
        ((("promoted", 1), ("promoted", 2), ("promoted", 3), ("rolled back", 2), ("rolled back", 1)), ()),
        ((("promoted", 1), ("promoted", 2), ("rolled back", 1), ("promoted", 3)), (1,)),
        ((("promoted", 1), ("moved outside", 7), ("promoted", 2)), (7, 1)),
        ((("promoted", 1), ("promoted", 2), ("removed outside", 2)), (2, 1)),
        ((("promoted", 1), ("refused", 2), ("unchanged", 1), ("promoted", 3)), (1,)),
    ],
)
def test_where_a_rollback_leads(moves: tuple[tuple[Action, int], ...], line: tuple[int, ...]) -> None:
    assert tuple(former.version for former in predecessors(_chain(*moves))) == line


@given(st.lists(st.booleans(), max_size=30))
def test_rolling_back_always_ends_at_the_first_champion(steps: list[bool]) -> None:
    """Promote new versions and roll back in any order: each rollback shortens the line by one."""
    moves: list[tuple[Action, int]] = [("promoted", 1)]
    for number, promote in enumerate(steps, start=2):
        line = predecessors(_chain(*moves))
        if promote:
            moves.append(("promoted", number))
        elif line:
            moves.append(("rolled back", line[0].version))
            assert predecessors(_chain(*moves)) == line[1:]
    line = predecessors(_chain(*moves))
    assert not line or line[-1].version == 1


def test_an_announcement_is_pending_until_an_entry_names_it() -> None:
    entries = _chain(("promoting", 1), ("promoted", 1), ("promoting", 2))
    settled = [entries[0], entries[1].model_copy(update={"settles": 1}), entries[2]]
    assert pending(settled[:1]) == settled[0]
    assert pending(settled[:2]) is None
    assert pending(settled) == settled[2]


@pytest.mark.parametrize("name", ["my home", "hömé", "c#x", "p%20x", "q?x"])
def test_the_ledger_lies_in_the_folder_of_its_name(tmp_path: Path, name: str) -> None:
    home = tmp_path / name
    Ledger(home.as_uri()).append(note())
    assert (home / "ranker" / "00000001.json").is_file()
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert Ledger(str(home)).entries("ranker") == Ledger(home.as_uri()).entries("ranker") != ()


def test_a_ledger_where_an_earlier_release_put_it_is_not_taken_for_an_empty_one(tmp_path: Path) -> None:
    Ledger(str(tmp_path / "my%20home")).append(note())
    with pytest.raises(BadInputError, match=r"lies at .*my%20home, where an earlier release put it: move"):
        Ledger((tmp_path / "my home").as_uri()).entries("ranker")
