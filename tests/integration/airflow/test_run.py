"""Does `rankmill run` behave as the DAG does under a scheduler, and does it end cleanly?"""

from __future__ import annotations

import json
import signal
import time

import psutil
import pytest

from tests.integration.airflow.conftest import World
from tests.receiver import receiving

pytestmark = pytest.mark.engine

TWO = """
  first: {{uses: write_words, with: {{text: "${{params.text}}", trace: {trace}, outcome: {outcome}}}}}
  second: {{uses: shout_words, in: {{words: first.words}}}}
"""
PARAMS = "params: {text: {type: string, default: hello, enum: [hello, bye]}}"
NOTIFY = "\nnotify: {failure: {webhook: {connection: hook}}, refusal: {webhook: {connection: hook}}}"


def test_a_second_run_takes_every_stage_from_the_store(world: World) -> None:
    trace = world.folder / "again.trace"
    file = world.pipeline("again", TWO.format(trace=trace, outcome="fine"), PARAMS)

    first, second = world.rankmill("run", str(file)), world.rankmill("run", str(file))

    assert (first.returncode, second.returncode) == (0, 0), first.stdout + first.stderr + second.stderr
    assert "wrote HELLO" in first.stdout
    assert "0 cached" in first.stdout and "2 cached" in second.stdout
    assert len(trace.read_text().splitlines()) == 1
    assert "2026-01-01T00:00:00Z, 2026-01-08T00:00:00Z" in trace.read_text()
    assert "chatter" not in first.stdout + first.stderr
    records = sorted((world.home / "runs" / "again").iterdir())
    assert [json.loads((r / "second.json").read_text())["cached"] for r in records] == [False, True]
    log = (records[0] / "run.log").read_text()
    assert "chatter on stdout" in log and "chatter of a child" in log
    assert "versions of Airflow's protocol: 1" in log, "models of all others take a third of a run without news"
    assert not list((world.home / "airflow" / "in_process").iterdir())


@pytest.fixture(scope="module")
def flaky(world: World) -> tuple[str, list[str]]:
    """What a run for 5 January 1999 said whose store did not answer at first, and its trace."""
    trace = world.folder / "flaky.trace"
    head = f"{PARAMS}\ndefaults: {{retries: 2, retry_delay: 1s}}"
    file = world.pipeline("flaky", TWO.format(trace=trace, outcome="flaky"), head)
    file.write_text(file.read_text().replace(", end: '2026-01-08'", ""))
    done = world.rankmill("run", str(file), "--at", "1999-01-05")
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout, trace.read_text().splitlines()


def test_a_run_is_for_any_day(flaky: tuple[str, list[str]]) -> None:
    """Also for one long before this program was written, whose rows are as good as others."""
    assert "1998-12-29T00:00:00Z, 1999-01-05T00:00:00Z" in flaky[1][0]


def test_a_refused_gate_fails_at_once_with_its_sentence_and_status(world: World) -> None:
    trace = world.folder / "gate.trace"
    head = f"{PARAMS}{NOTIFY}\ndefaults: {{retries: 3, retry_delay: 5m}}"
    file = world.pipeline("gate", TWO.format(trace=trace, outcome="refused"), head)

    with receiving() as receiver:
        done = world.start("run", str(file), "--param", "text=bye", AIRFLOW_CONN_HOOK=receiver.url).wait()

    assert receiver.bodies == [] and "told" not in done.stdout, "a run by hand has its reader before it"
    assert done.returncode == 3
    assert "first failed: the gate refused version 7: like lost 0.02 AUC; train longer" in done.stdout
    assert "not run: second" in done.stdout
    assert "run.log" in done.stdout and "Traceback" not in done.stdout + done.stderr
    assert len(trace.read_text().splitlines()) == 1


def test_a_run_that_is_to_notify_tells_what_a_stage_failed_with(world: World) -> None:
    file = world.pipeline("told", TWO.format(trace=world.folder / "told.trace", outcome="refused"), PARAMS + NOTIFY)
    with receiving() as receiver:
        url = f"{receiver.url}/s3cretpath"
        done = world.start("run", str(file), "--notify", AIRFLOW_CONN_HOOK=url).wait()
        assert done.returncode == 3, done.stdout + done.stderr
        (body,) = receiver.bodies
    assert body["event"] == "refusal" and body["stage"] == "first" and body["run_url"] is None
    assert body["what"] == "the gate refused version 7: like lost 0.02 AUC; train longer"
    assert body["window"] == {"start": "2026-01-01T00:00:00+00:00", "end": "2026-01-08T00:00:00+00:00"}
    unreached = world.start("run", str(file), "--notify", AIRFLOW_CONN_HOOK=url).wait()
    assert unreached.returncode == 3
    assert "its refusal was not told through webhook (hook): it cannot be reached" in unreached.stdout
    assert "s3cret" not in done.stdout + done.stderr + unreached.stdout + unreached.stderr


def test_a_verdict_decides_what_runs(world: World) -> None:
    stages = """
  first: {uses: write_words}
  rings: {uses: ring_words, in: {words: first.words}, with: {text: "${params.text}"}}
  loud: {uses: shout_words, in: {words: first.words}, when: rings.bell}
  louder: {uses: shout_words, in: {words: loud.words}}
"""
    file = world.pipeline("heeding", stages, "params: {text: {type: string, default: hush}}")
    quiet = world.rankmill("run", str(file))
    assert quiet.returncode == 0, quiet.stdout + quiet.stderr
    assert "WORD" not in quiet.stdout and "2 of 4 stages done" in quiet.stdout
    for stage in ("loud", "louder"):
        assert "skipped: rings.bell says nothing new" in quiet.stdout.split(f"– {stage} ")[1].splitlines()[0]
    runs = world.rankmill("runs", "heeding")
    assert "success" in runs.stdout, runs.stdout
    ring = world.rankmill("run", str(file), "-p", "text=HELP")
    assert ring.returncode == 0 and "wrote WORD" in ring.stdout and "4 of 4 stages done" in ring.stdout
    asked = world.rankmill("run", str(file), "--from", "loud")
    assert asked.returncode == 0 and "wrote WORD" in asked.stdout, asked.stdout + asked.stderr


def test_a_run_asks_a_person_or_ends_with_what_to_do(world: World) -> None:
    stages = """
  first: {uses: write_words}
  asks: {uses: ask_words, in: {words: first.words}, with: {approval: {by: [ada]}}}
  last: {uses: shout_words, in: {words: asks.words}}
"""
    file = world.pipeline("asking", stages)
    waits = world.rankmill("run", str(file))
    assert waits.returncode == 5, waits.stdout + waits.stderr
    assert "asks failed: probe v7 waits for a person: `rankmill approve probe 7` promotes it" in waits.stdout
    assert f"continue with: rankmill run {file} --from asks" in waits.stdout and "Traceback" not in waits.stdout
    yes = world.rankmill("run", str(file), "--from", "asks", "--approve", "ada:fine")
    assert yes.returncode == 0, yes.stdout + yes.stderr
    assert "May probe v7 become champion instead of v6? Yes, says ada" in yes.stdout and "wrote ADA" in yes.stdout
    no = world.rankmill("run", str(file), "--from", "asks", "--refuse", "bob")
    assert no.returncode == 77 and "bob may not answer" in no.stdout
    needless = world.rankmill("run", str(world.pipeline("plain", "  first: {uses: write_words}\n")), "--approve", "ada")
    assert needless.returncode == 2 and "no stage of plain asks people" in needless.stderr


def test_a_storage_error_is_tried_again_after_the_delay(flaky: tuple[str, list[str]]) -> None:
    said, trace = flaky
    assert "try 1 of 3 failed: the store did not answer" in said
    assert len(trace) == 2


def test_an_unknown_or_wrong_param_is_refused_before_anything_starts(world: World) -> None:
    trace = world.folder / "params.trace"
    file = world.pipeline("params", TWO.format(trace=trace, outcome="fine"), PARAMS)

    unknown, wrong = world.rankmill("run", str(file), "-p", "txt=x"), world.rankmill("run", str(file), "-p", "text=x")

    assert unknown.returncode == 2 and "no param 'txt' (did you mean 'text'?)" in unknown.stderr
    assert wrong.returncode == 2 and "must be one of hello, bye" in wrong.stderr
    assert not trace.exists()


def test_a_stage_that_takes_too_long_is_ended_with_its_children_and_tried_again(world: World) -> None:
    trace = world.folder / "slow.trace"
    head = f"{PARAMS}\ndefaults: {{retries: 1, retry_delay: 1s, timeout: 3s}}"
    file = world.pipeline("slow", TWO.format(trace=trace, outcome="sleep"), head)

    done = world.rankmill("run", str(file))

    assert done.returncode == 1, done.stdout + done.stderr
    assert "try 1 of 2 failed: it ran longer than its timeout of 3 s" in done.stdout
    assert "first failed: it ran longer than its timeout" in done.stdout
    sleepers = [int(line.partition("pid ")[2]) for line in trace.read_text().splitlines() if "pid" in line]
    assert len(sleepers) == 2 and not any(psutil.pid_exists(sleeper) for sleeper in sleepers)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_running_stage_and_what_it_started(world: World, number: signal.Signals) -> None:
    trace = world.folder / f"sleep{number}.trace"
    head = f"{PARAMS}\ndefaults: {{retries: 3, retry_delay: 1s}}"
    file = world.pipeline(f"sleep{number}", TWO.format(trace=trace, outcome="sleep"), head)
    run = world.start("run", str(file))
    try:
        until = time.monotonic() + 90
        while "pid" not in (trace.read_text() if trace.exists() else "") and time.monotonic() < until:
            time.sleep(0.1)
        sleeper = int(trace.read_text().partition("pid ")[2])
        run.send_signal(number)
    finally:
        done = run.wait(120)

    assert done.returncode == 128 + number, done.stdout + done.stderr
    assert f"stopped by {number.name}" in done.stdout
    assert not psutil.pid_exists(sleeper)
    assert len([line for line in trace.read_text().splitlines() if "pid" not in line]) == 1
