"""Do two runs at once leave each other alone, and does a run of a part do what a failed run says?"""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest

from components.platform.settings import Settings
from components.platform.store.publish import open_store
from pipelines.record.runs import recorded_runs
from tests.integration.airflow import probe
from tests.integration.airflow.conftest import World

pytestmark = pytest.mark.engine

THREE = """
  first: {{uses: write_words, with: {{text: "${{params.text}}", trace: {trace}}}}}
  second: {{uses: shout_words, in: {{words: first.words}}}}
  third: {{uses: write_words, with: {{text: third, outcome: "${{params.outcome}}"}}, cache: 'off', after: [second]}}
"""
PARAMS = "params: {text: {type: string, default: twice}, outcome: {type: string, default: fine}}"


def words(world: World, name: str, stage: str) -> str:
    """What the newest run of a pipeline made in a stage."""
    run = next(iter(recorded_runs(Settings.at(world.home), name)))
    ref = next(result for result in run.results if result.stage == stage).outputs["words"]
    return (open_store(Settings.at(world.home)).fetch(probe.Words(uri=ref.uri)) / "words.txt").read_text()


def test_two_runs_of_one_pipeline_at_once(world: World) -> None:
    file = world.pipeline("twice", THREE.format(trace=world.folder / "twice.trace"), PARAMS)
    settings = Settings.at(world.home)
    commands = [["run", str(file)], ["run", str(file), "-p", "text=twice"]]
    running = [world.start(*command) for command in commands]
    done = [process.wait() for process in running]
    assert [one.returncode for one in done] == [0, 0], done

    runs = recorded_runs(settings, "twice")
    assert [run.state for run in runs] == ["success", "success"]
    assert len({run.folder for run in runs}) == 2
    first, second = ({result.stage: result.outputs["words"] for result in run.results} for run in runs)
    assert {name: ref.digest for name, ref in first.items()} == {name: ref.digest for name, ref in second.items()}
    assert first["first"].uri == second["first"].uri, "whoever came second took what the first one published"
    assert first["third"].uri != second["third"].uri, "its cache is off"
    store = open_store(settings)
    for ref in (*first.values(), *second.values()):
        store.fetch(probe.Words(uri=ref.uri, digest=ref.digest))
    assert not list(Path(settings.home).rglob(".incoming*")) and not list((settings.home / "scratch").iterdir())


def test_a_failed_run_prints_the_command_that_continues_it(world: World) -> None:
    # Where a scheduler would run it is no matter here: there is no such pool, queue and executor.
    place = "defaults: {pool: absent, queue: absent, executor: Absent}\ndeadline: 1h\n"
    file = world.pipeline("resumed", THREE.format(trace=world.folder / "resumed.trace"), place + PARAMS)
    failed = world.rankmill("run", str(file), "-p", "text=bye", "-p", "outcome=mistake")
    assert failed.returncode == 1
    (line,) = [line for line in failed.stdout.splitlines() if line.startswith("continue with: ")]
    command = shlex.split(line.partition(": ")[2])
    assert command == ["rankmill", "run", str(file), "--param", "text=bye", "--param", "outcome=mistake",
                       "--from", "third"]  # fmt: skip

    plan = json.loads(world.rankmill("plan", *command[2:], "--json").stdout)
    assert {stage["name"]: stage["prediction"]["state"] for stage in plan["stages"]} == {
        "first": "hit", "second": "hit", "third": "runs"
    }  # fmt: skip
    mended = [word.replace("outcome=mistake", "outcome=fine") for word in command[1:]]
    done = world.rankmill(*mended)
    assert done.returncode == 0, done.stdout
    assert "2 of 3 stages come from the cache; 1 would run" in done.stdout
    assert words(world, "resumed", "second") == "BYE"
    assert len((world.folder / "resumed.trace").read_text().splitlines()) == 1
    listed = world.rankmill("runs", "resumed").stdout
    assert "success" in listed and "failed" in listed and "TypeError: unsupported operand" in listed

    part = world.rankmill("run", str(file), "-p", "text=bye", "--except", "second")
    assert part.returncode == 0 and "--except leaves out second, and with it third, which needs it" in part.stdout
    (newest,) = [run for run in recorded_runs(Settings.at(world.home), "resumed")][:1]
    assert newest.start.options == ("--except second",) and [result.stage for result in newest.results] == ["first"]

    other = world.rankmill("run", str(file), "-p", "text=new", "--only", "third")
    assert other.returncode == 2
    assert "'first' and 'second' must come from the store" in other.stderr or "'first' or 'second'" in other.stderr
    assert "config text: bye → new" in other.stderr and "use --from first" in other.stderr
