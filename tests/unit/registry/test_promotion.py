"""Can a crash between alias and ledger lose a champion or leave a ledger that lies?

MLflow is replaced by a dictionary that can fail before or after it does what it was asked; the ledger is real.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from features.ground.errors import BadInputError, MissingError, RankmillError, RetryableError
from registry.champion import promotion
from registry.champion.ledger import MOVES, Ledger, Note, champion, pending
from registry.champion.promotion import Promotions, Request
from registry.serving.model.contract import ParityCase, ParityReport, RegisteredVersion
from registry.versions.client import ListedVersion

ASK = Request(actor="ada", reason="test")


class Killed(BaseException):
    """The process dies here."""


@dataclass
class Faults:
    """Counts the steps that change or read the outside world, and fails at one of them."""

    at: int = -1
    after: bool = False
    error: BaseException = field(default_factory=Killed)
    seen: int = 0

    def around(self, step: Callable[[], Any]) -> Any:
        """Run one step, failing before or after it when its turn has come."""
        mine = self.seen == self.at
        self.seen += 1
        if mine and not self.after:
            raise self.error
        result = step()
        if mine:
            raise self.error
        return result


class Memory:
    """The part of `Registry` that promotions use, in memory."""

    def __init__(self, versions: int) -> None:
        self.tracking_uri = "sqlite:////one/mlflow.db"
        self.aliases: dict[str, int] = {}
        self.digests: dict[int, str] = {}
        self.parity = {number: True for number in range(1, versions + 1)}
        self.faults = Faults()

    def version(self, model: str, which: int) -> RegisteredVersion:
        if which not in self.parity:
            raise MissingError(f"model {model!r} has no version {which}")
        return RegisteredVersion(
            model=model, version=which, digest=self.digests.get(which, f"d{which}"),
            model_uri="", ranker_digest="r", report_digest="e",
            created_at=datetime(2026, 1, 1, tzinfo=UTC),
        )  # fmt: skip

    def alias(self, model: str, alias: str) -> RegisteredVersion | None:
        number = self.faults.around(lambda: self.aliases.get(alias))
        return self.version(model, number) if number in self.parity else None

    def versions(self, model: str) -> tuple[ListedVersion, ...]:
        return tuple(ListedVersion(version=self.version(model, number), aliases=()) for number in sorted(self.parity))

    def set_alias(self, model: str, alias: str, version: int) -> None:
        self.faults.around(lambda: self.aliases.__setitem__(alias, version))

    def download(self, model: str, which: int, to: Path) -> Path:
        to.mkdir()
        case = ParityCase(batch=1, history=0, output="like", max_abs_difference=0.0)
        report = ParityReport(passed=self.parity[which], tolerance=1e-5, provider="cpu", cases=(case,))
        (to / "parity.json").write_text(report.model_dump_json())
        return to


@dataclass(frozen=True)
class FaultyLedger(Ledger):
    faults: Faults = field(default_factory=Faults)

    def append(self, note: Note, after: int | None = None) -> Any:
        return self.faults.around(lambda: Ledger.append(self, note, after))


@pytest.fixture
def world(tmp_path: Path) -> Iterator[tuple[Memory, Promotions]]:
    registry = Memory(versions=4)
    yield registry, Promotions(registry, Ledger(tmp_path.as_uri()))  # type: ignore[arg-type]
    assert promotion._live == set()


def consistent(registry: Memory, ledger: Ledger) -> None:
    """Alias and ledger agree, nothing is left open, and every move starts where the one before ended."""
    entries = ledger.entries("m")
    last = champion(entries)
    assert (last.champion if last else None) == registry.aliases.get("champion")
    assert pending(entries) is None
    before: int | None = None
    for entry in entries:
        if entry.action in MOVES:
            assert entry.previous == before
            before = entry.champion


def test_promote_promote_rollback_rollback(world: tuple[Memory, Promotions]) -> None:
    registry, promotions = world
    assert promotions.promote("m", 1, ASK, decided_on=None).action == "promoted"
    assert promotions.promote("m", 2, ASK, decided_on=registry.version("m", 1)).previous == 1
    assert promotions.promote("m", 3, ASK, decided_on=registry.version("m", 2)).version == 3
    assert promotions.rollback("m", ASK).version == 2
    entry = promotions.rollback("m", ASK)
    assert (entry.action, entry.version, entry.previous) == ("rolled back", 1, 2)
    with pytest.raises(MissingError, match="no earlier champion than v1"):
        promotions.rollback("m", ASK)
    assert promotions.rollback("m", ASK, to=4).version == 4
    consistent(registry, promotions.ledger)


def test_promoting_the_champion_again_changes_nothing(world: tuple[Memory, Promotions]) -> None:
    registry, promotions = world
    promotions.promote("m", 1, ASK, decided_on=None)
    assert promotions.promote("m", 1, ASK, decided_on=None).action == "unchanged"
    assert promotions.rollback("m", ASK, to=1).action == "unchanged"
    assert registry.aliases == {"champion": 1}


def test_a_decision_about_another_champion_does_not_count(world: tuple[Memory, Promotions]) -> None:
    registry, promotions = world
    promotions.promote("m", 1, ASK, decided_on=None)
    promotions.promote("m", 2, ASK, decided_on=registry.version("m", 1))
    with pytest.raises(RetryableError, match=r"champion of 'm' is v2 and was v1 when v3 was judged"):
        promotions.promote("m", 3, ASK, decided_on=registry.version("m", 1))
    assert registry.aliases == {"champion": 2}


def test_failed_parity_never_goes_live(world: tuple[Memory, Promotions]) -> None:
    registry, promotions = world
    promotions.promote("m", 1, ASK, decided_on=None)
    registry.parity[2] = False
    with pytest.raises(BadInputError, match="parity of m v2 failed"):
        promotions.promote("m", 2, ASK, decided_on=registry.version("m", 1))
    with pytest.raises(BadInputError, match="parity of m v2 failed"):
        promotions.rollback("m", ASK, to=2)
    assert registry.aliases == {"champion": 1}
    assert [entry.action for entry in promotions.ledger.entries("m")] == ["promoting", "promoted"]


def test_a_refusal_is_written_down(world: tuple[Memory, Promotions]) -> None:
    registry, promotions = world
    promotions.promote("m", 1, ASK, decided_on=None)
    entry = promotions.refuse("m", 2, Request(actor="pipeline:p", reason="like in north: worse", run_id="r"))
    assert (entry.action, entry.version, entry.previous, entry.run_id) == ("refused", 2, 1, "r")
    assert registry.aliases == {"champion": 1}


def test_a_move_made_in_mlflow_is_written_down(world: tuple[Memory, Promotions]) -> None:
    registry, promotions = world
    registry.aliases["champion"] = 2
    assert promotions.champion("m") == registry.version("m", 2)
    registry.aliases.clear()
    assert promotions.champion("m") is None
    actions = [(e.action, e.version, e.previous) for e in promotions.ledger.entries("m")]
    assert actions == [("moved outside", 2, None), ("removed outside", 2, 2)]
    consistent(registry, promotions.ledger)


def _steps(tmp_path: Path) -> int:
    """Return how many outside steps one promotion takes."""
    registry = Memory(versions=2)
    registry.aliases["champion"] = 1
    promotions = Promotions(registry, Ledger(tmp_path.as_uri()))  # type: ignore[arg-type]
    promotions.champion("m")
    registry.faults = Faults()
    Promotions(registry, FaultyLedger(promotions.ledger.root, registry.faults)).promote(
        "m", 2, ASK, decided_on=registry.version("m", 1)
    )  # type: ignore[arg-type]
    return registry.faults.seen


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("error", [Killed(), RetryableError("database is locked")], ids=["killed", "locked"])
def test_whatever_step_fails_the_next_call_finds_the_truth(tmp_path: Path, after: bool, error: BaseException) -> None:
    steps = _steps(tmp_path / "count")
    assert steps >= 5  # settle, announce, look again, move, settle: none of them may go untested
    outcomes = set()
    for at in range(steps):
        registry = Memory(versions=3)
        ledger = Ledger((tmp_path / f"{at}").as_uri())
        plain = Promotions(registry, ledger)  # type: ignore[arg-type]
        plain.promote("m", 1, ASK, decided_on=None)
        registry.faults = Faults(at=at, after=after, error=error)
        faulty = Promotions(registry, FaultyLedger(ledger.root, registry.faults))  # type: ignore[arg-type]
        with pytest.raises((Killed, RankmillError)):
            faulty.promote("m", 2, ASK, decided_on=registry.version("m", 1))
            raise Killed  # an error that the promotion survived is no failure
        registry.faults = Faults()
        found = plain.champion("m")
        assert found is not None  # never a lost champion
        consistent(registry, ledger)
        assert "moved outside" not in {entry.action for entry in ledger.entries("m")}  # no move goes unannounced
        outcomes.add(found.version)
        plain.promote("m", 2, ASK, decided_on=found)
        assert registry.aliases == {"champion": 2}
        assert plain.rollback("m", ASK).version == 1
        consistent(registry, ledger)
    assert outcomes == {1, 2}


def test_an_answer_that_came_too_late_is_a_promotion_all_the_same(tmp_path: Path) -> None:
    """MLflow moved the alias and then timed out: the alias says so, the caller is told `promoted`."""
    registry = Memory(versions=1)
    ledger = Ledger(tmp_path.as_uri())
    move = registry.set_alias

    def late(model: str, alias: str, version: int) -> None:
        move(model, alias, version)
        raise RetryableError("timed out")

    registry.set_alias = late  # type: ignore[method-assign]  # the fault under test
    entry = Promotions(registry, ledger).promote("m", 1, ASK, decided_on=None)  # type: ignore[arg-type]
    assert (entry.action, entry.settles) == ("promoted", 1)
    consistent(registry, ledger)


def test_another_process_in_the_middle_of_a_move_is_left_alone(tmp_path: Path) -> None:
    registry = Memory(versions=3)
    ledger = Ledger(tmp_path.as_uri())
    promotions = Promotions(registry, ledger)  # type: ignore[arg-type]
    promotions.promote("m", 1, ASK, decided_on=None)
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        holder = promotion.Holder(token="t", host=promotion.socket.gethostname(), pid=child.pid)
        ledger.append(
            Note(action="promoting", model="m", version=2, digest="d2", previous=1, actor="bob", holder=holder)
        )
        with pytest.raises(RetryableError, match="bob is promoting 'm' to v2"):
            promotions.promote("m", 3, ASK, decided_on=registry.version("m", 1))
    finally:
        child.communicate(b"\n")
    assert promotions.promote("m", 3, ASK, decided_on=registry.version("m", 1)).action == "promoted"
    assert [e.action for e in ledger.entries("m")][2:] == ["promoting", "abandoned", "promoting", "promoted"]
    consistent(registry, ledger)


def test_an_announcement_from_another_machine_runs_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    registry = Memory(versions=2)
    promotions = Promotions(registry, Ledger(tmp_path.as_uri()))  # type: ignore[arg-type]
    holder = promotion.Holder(token="t", host="elsewhere", pid=1)
    promotions.ledger.append(Note(action="promoting", model="m", version=1, digest="d1", actor="bob", holder=holder))
    registry.aliases["champion"] = 1
    with pytest.raises(RetryableError, match="run again in a minute"):
        promotions.champion("m")
    monkeypatch.setattr(promotion, "LEASE", timedelta(0))
    assert promotions.champion("m") == registry.version("m", 1)
    entry = promotions.ledger.entries("m")[-1]
    assert (entry.action, entry.settles) == ("promoted", 1)
    assert entry.effective_at == promotions.ledger.entries("m")[0].at
    assert "completed after an interruption" in entry.reason


def _champions(promotions: Promotions, registry: Memory, *numbers: int) -> None:
    for number in numbers:
        promotions.promote("m", number, ASK, decided_on=promotions.champion("m"))


def test_a_registry_made_anew_does_not_make_other_content_champion_by_its_number(
    world: tuple[Memory, Promotions],
) -> None:
    registry, promotions = world
    _champions(promotions, registry, 1, 2)
    registry.tracking_uri = "sqlite:////two/mlflow.db"
    registry.digests = {1: "refused", 2: "new"}
    with pytest.raises(MissingError, match=r"sqlite:////two/mlflow.db has none of the earlier champions .*v1 \(d1\)"):
        promotions.rollback("m", ASK)
    with pytest.raises(BadInputError, match=r"m v1 has digest refused, .* v1 of sqlite:////one/mlflow\.db .* had d1"):
        promotions.rollback("m", ASK, to=1)
    assert registry.aliases == {"champion": 2}
    last = promotions.ledger.entries("m")[-1]
    assert (last.action, last.digest, last.previous_digest) == ("moved outside", "new", "d2")
    assert last.registry == "sqlite:////two/mlflow.db" and "/one/mlflow.db" in last.reason


def test_a_rollback_finds_a_champion_by_its_content_whatever_its_number_is_now(
    world: tuple[Memory, Promotions],
) -> None:
    registry, promotions = world
    _champions(promotions, registry, 1, 2)
    registry.digests = {1: "x", 2: "d2", 3: "d1"}
    assert promotions.rollback("m", ASK).version == 3


@pytest.mark.parametrize("gone", [2, 3])
def test_a_rollback_goes_to_the_nearest_champion_that_exists(world: tuple[Memory, Promotions], gone: int) -> None:
    registry, promotions = world
    _champions(promotions, registry, 1, 2, 3)
    del registry.parity[gone]  # the alias of a deleted champion dangles, as on older servers
    assert promotions.rollback("m", ASK).version == (1 if gone == 2 else 2)
    consistent(registry, promotions.ledger)


def test_going_back_does_not_lead_to_what_was_taken_back(world: tuple[Memory, Promotions]) -> None:
    registry, promotions = world
    _champions(promotions, registry, 1, 2, 3)
    promotions.rollback("m", ASK, to=2)
    promotions.rollback("m", ASK, to=3)
    assert set(promotions.taken_back("m")) == {"d2"}
    assert promotions.rollback("m", ASK).version == 1
    consistent(registry, promotions.ledger)


def test_where_every_earlier_champion_was_taken_back_a_person_names_one(world: tuple[Memory, Promotions]) -> None:
    registry, promotions = world
    _champions(promotions, registry, 1, 2)
    promotions.rollback("m", ASK)
    promotions.rollback("m", ASK, to=2)
    with pytest.raises(MissingError, match=r"was taken back \(v1\): name a version with --to .*promote m 1 --lift"):
        promotions.rollback("m", ASK)
    assert registry.aliases == {"champion": 2}
    promotions.lift("m", 1, ASK)
    assert promotions.rollback("m", ASK).version == 1


def test_a_version_taken_back_stays_out_until_a_person_lifts_it(world: tuple[Memory, Promotions]) -> None:
    registry, promotions = world
    _champions(promotions, registry, 1, 2)
    with pytest.raises(BadInputError, match="m v2 is not taken back"):
        promotions.lift("m", 2, ASK)
    promotions.rollback("m", ASK)
    [(digest, entry)] = promotions.taken_back("m").items()
    assert digest == "d2" and entry.held.startswith("rolled back on ") and entry.held.endswith(" by ada")
    _champions(promotions, registry, 3)
    assert set(promotions.taken_back("m")) == {"d2"}
    assert promotions.lift("m", 2, ASK).action == "lifted"
    assert promotions.taken_back("m") == {}
    assert registry.aliases == {"champion": 3}


def test_promoting_by_hand_lifts_and_a_move_back_in_mlflow_takes_back(world: tuple[Memory, Promotions]) -> None:
    registry, promotions = world
    _champions(promotions, registry, 1, 2)
    registry.aliases["champion"] = 1
    promotions.champion("m")
    assert promotions.taken_back("m")["d2"].held.startswith("taken back in MLflow, seen ")
    _champions(promotions, registry, 2)
    assert promotions.taken_back("m") == {}


def test_a_version_of_somebody_else_is_neither_promoted_nor_written_down(world: tuple[Memory, Promotions]) -> None:
    registry, promotions = world
    registry.digests = {1: "", 2: "", 3: "", 4: ""}
    registry.aliases["champion"] = 1
    for act in (
        lambda: promotions.promote("m", 2, ASK, decided_on=None),
        lambda: promotions.rollback("m", ASK),
        lambda: promotions.rollback("m", ASK, to=2),
    ):
        with pytest.raises(BadInputError, match="Rankmill"):
            act()
    assert promotions.ledger.entries("m") == ()


def test_a_ledger_of_an_older_release_is_read(world: tuple[Memory, Promotions], tmp_path: Path) -> None:
    """Its entries have no field `registry`."""
    registry, promotions = world
    _champions(promotions, registry, 1)
    [first, second] = sorted((tmp_path / "m").iterdir())
    old = [Note(action="promoted", model="m", version=1, digest="d1", effective_at=datetime.now(UTC))]
    for path in (first, second):
        path.unlink()
    entry = promotions.ledger.append(old[0])
    path = tmp_path / "m" / "00000001.json"
    lines = [line for line in path.read_text().splitlines() if '"registry"' not in line]
    path.write_text("\n".join(lines).replace('"holder": null,', '"holder": null,'))
    assert promotions.champion("m") == registry.version("m", 1)
    assert promotions.ledger.entries("m")[0] == entry
