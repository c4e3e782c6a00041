"""Kill a run at chosen points, look at what it left, run again: one line of JSON per trial.

`python -m tests.integration.faults.mill FOLDER SEED POINTS [CONTROL]` runs a pipeline of small components stage by
stage, as its DAG does, in forked children. Points are file operations below the home, counted by an audit hook,
so that a run is killed between any two of them. Half of the trials run a second, undisturbed run beside
the killed one. CONTROL breaks a protection, to see that the trials notice.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

from components.platform import catalog
from components.platform.errors import RankmillError, RetryableError
from components.platform.execute import StageResult
from components.platform.settings import Settings
from components.platform.sources import modules_of, source_digest, source_files
from components.platform.store.publish import DISCARDED, INCOMING, STAGE, Store, open_store
from pipelines.language.check import load_plan
from pipelines.language.plan import Plan
from pipelines.run.task import Attempt, run_stage
from registry.champion.ledger import champion, pending
from tests.integration.faults import shelf

PIPELINE = """
name: toy
window: {days: 2, end: '2026-01-03'}
params: {count: {type: integer, default: 2}}
stages:
  make: {uses: count_numbers, with: {count: "${params.count}"}}
  sum: {uses: add_numbers, in: {numbers: make.numbers}, cache: inputs}
  again: {uses: add_numbers, in: {numbers: sum.numbers}, cache: 'off'}
  promote: {uses: promote_numbers, in: {numbers: again.numbers}, with: {count: "${params.count}"}}
"""
MOMENT = datetime(2026, 1, 3, tzinfo=UTC)
EVENTS = {"open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "os.truncate", "shutil.rmtree"}
EVENTS |= {"os.utime", "sqlite3.connect"}


def load(folder: Path) -> Plan:
    offered = {"COUNT": "tests.example_component", "ADD": "tests.example_component", "PROMOTE": shelf.__name__}
    points = [EntryPoint(name, f"{module}:{name}", catalog.ENTRY_POINTS) for name, module in offered.items()]
    catalog.entry_points = lambda group: points  # type: ignore[assignment]  # as an installed package would offer them
    file = folder / "toy.yaml"
    file.write_text(PIPELINE)
    return load_plan(file)


def run(plan: Plan, home: Path, count: int, marks: list[int] | None = None, seen: list[int] | None = None) -> None:
    """Run all stages; another try where one may help, as the DAG's retries do."""
    results: dict[str, StageResult] = {}
    for stage in plan.stages:
        if marks is not None and seen is not None:
            marks.append(seen[0] + 1)
        for number in range(1, 100):
            try:
                attempt = Attempt(plan, stage, f"run{os.getpid()}", {"count": count}, MOMENT, results)
                results[stage.name] = run_stage(attempt, Settings.at(home))
                break
            except RetryableError:
                if number == 99:
                    raise
                time.sleep(0.05)


def counting(home: Path, kill_at: int | None) -> list[int]:
    """Count file operations below `home`, and kill this process before the one that is asked for."""
    seen = [0]
    inside = str(home)

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event in EVENTS and any(isinstance(a, str | os.PathLike) and str(a).startswith(inside) for a in arguments):
            seen[0] += 1
            if seen[0] == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)
    return seen


def fork(work: Callable[[], None]) -> int:
    """Do some work in a child; return its process."""
    child = os.fork()
    if child == 0:
        try:
            work()
            os._exit(0)
        except BaseException as error:
            sys.stderr.write(f"{type(error).__name__}: {error}\n")
            os._exit(1)
    return child


def wait(child: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def survey(plan: Plan, home: Path, report: Path) -> dict[str, list[int]]:
    """Run undisturbed and say where stages begin and between which operations they publish."""

    def work() -> None:
        seen, marks, publishing = counting(home, None), [], []
        original = Store.publish

        def publish(self: Store, *given: Any, **named: Any) -> Any:
            begin = seen[0]
            record = original(self, *given, **named)
            publishing.extend(range(begin + 1, seen[0] + 1))
            return record

        Store.publish = publish  # type: ignore[method-assign]  # watched, not changed
        run(plan, home, 2, marks, seen)
        report.write_text(json.dumps({"boundaries": marks, "publishing": publishing, "all": [*range(1, seen[0] + 1)]}))

    if wait(fork(work)):
        raise SystemExit("the undisturbed run failed")
    found: dict[str, list[int]] = json.loads(report.read_text())
    return found


def faults_of(home: Path, expected: dict[str, str] | None) -> list[str]:
    """Return what is wrong with a home; after a complete run also what is not as expected."""
    wrong = []
    store = open_store(Settings.at(home))
    for component in store.components():
        for key in store.keys(component):
            record = store.find(component, key)
            if record is None:
                wrong.append(f"{component}/{key} has no record")
                continue
            for ref in record.outputs.values():
                try:
                    store.fetch(ref.load())
                except RankmillError as error:
                    wrong.append(f"half an artifact: {error}")
    moves = shelf.promotions(home)
    alias = moves.registry.alias(shelf.MODEL, "champion")
    if alias is None:
        wrong.append("the champion is lost")
    entries = moves.ledger.entries(shelf.MODEL)
    if expected is None:
        return wrong
    last = champion(entries)
    if alias is None or alias.version != 2 or pending(entries) is not None or last is None or last.champion != 2:
        wrong.append(f"champion {alias}, ledger {[entry.action for entry in entries]}")
    left = [str(p.name) for p in home.rglob(".*") if p.name.startswith((INCOMING, DISCARDED))]
    left += [p.name for p in (home / "scratch").iterdir()]
    wrong += [f"left behind: {name}" for name in left]
    if (found := contents(store)) != expected:
        wrong.append(f"results differ: {found} and not {expected}")
    return wrong


def contents(store: Store) -> dict[str, str]:
    """Return the digest of each result that has a key of its own."""
    return {
        f"{component}/{key}": ref.digest
        for component in ("count_numbers", "add_numbers")
        for key in store.keys(component)
        if (record := store.find(component, key)) and "run" not in record.explanation
        for ref in record.outputs.values()
    }


def trial(plan: Plan, template: Path, home: Path, point: int, beside: bool, expected: dict[str, str]) -> dict[str, Any]:
    """Kill a run at a point, look, run again, look again."""
    restore(template, home)
    killed = fork(lambda: (counting(home, point), run(plan, home, 2))[1])
    other = fork(lambda: run(plan, home, 2)) if beside else None
    code = wait(killed)
    wrong = faults_of(home, None) if other is None else []
    if other is not None and wait(other):
        wrong.append("the run beside it failed")
    if wait(fork(lambda: run(plan, home, 2))):
        wrong.append("the next run failed")
    wrong += faults_of(home, expected)
    return {"point": point, "beside": beside, "killed": code == -signal.SIGKILL, "wrong": wrong}


def restore(template: Path, home: Path) -> None:
    """Put a home back to where version 1 is champion; references hold its path."""
    shutil.rmtree(home, ignore_errors=True)
    shutil.copytree(template, home)


def carelessly(self: Store, staged: Path, record: Any) -> Any:
    """Publish as it must not be done: the record first, then file by file, in place."""
    target = Path(self._stage_path(record.component, record.key))
    target.mkdir(parents=True, exist_ok=True)
    shutil.copy(staged / STAGE, target / STAGE)
    shutil.copytree(staged, target, dirs_exist_ok=True)
    return record


def forgetfully(self: shelf.Shelf, model: str, alias: str, version: int) -> None:
    """Move an alias as it must not be done: away first, then there."""
    self._ask("delete from aliases")
    self._ask("insert into aliases values (?, ?)", alias, version)


def main(folder: Path, seed: int, points: int, control: str) -> None:
    """Print what every trial found."""
    plan = load(folder)
    for stage in plan.stages:  # once, for all children: whoever edits a test meanwhile changes no key
        source_files(*modules_of(stage.component))
        source_digest(*modules_of(stage.component))
    template, home = folder / "template", folder / "home"
    if wait(fork(lambda: run(plan, home, 1))):
        raise SystemExit("the first run failed")
    home.rename(template)
    restore(template, home)
    where = survey(plan, home, folder / "survey.json")
    expected = contents(open_store(Settings.at(home)))
    if control == "careless":
        Store._publish_local = carelessly  # type: ignore[method-assign]  # the protection that is taken away
    elif control == "forgetful":
        shelf.Shelf.set_alias = forgetfully  # type: ignore[method-assign]  # the protection that is taken away
    chance = random.Random(seed)
    inside = chance.sample(where["publishing"], min(points, len(where["publishing"])))
    anywhere = [chance.choice(where["all"]) for _ in range(points)]
    middle = [point for pair in zip(inside, anywhere[: len(inside)], strict=True) for point in pair]
    chosen = [*where["boundaries"], *middle, *anywhere[len(inside) :]][:points]
    if control == "forgetful":
        chosen = [
            point for point in where["all"] if point > where["boundaries"][-1] and point not in where["publishing"]
        ]
    for number, point in enumerate(chosen):
        beside = not control and number % 2 == 1
        found = trial(plan, template, home, point, beside, expected)
        kind = "boundary" if point in where["boundaries"] else "publish" if point in where["publishing"] else "other"
        sys.stdout.write(json.dumps(found | {"kind": kind}) + "\n")
        if control and found["wrong"]:
            break  # noticed


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4] if len(sys.argv) > 4 else "")
