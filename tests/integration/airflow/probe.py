"""Small components that do real, tiny work: what the Airflow tests run instead of engines."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

from components.platform.approval import Question
from components.platform.artifacts import Artifact
from components.platform.contract import ComponentConfig, ComponentSpec, NoInputs, Ports, RunContext
from components.platform.errors import BadInputError, GateRefusedError, StorageError
from components.release.promote_model.config import Approval
from registry.gate.verdict import Verdict


class Words(Artifact):
    """A text file: `words.txt`."""

    kind = "probe_words"


class Bell(Artifact):
    """Whether it rang: `bell.txt`."""

    kind = "probe_bell"
    news = "it rang"


class Config(ComponentConfig):
    """What happens, and where it leaves a trace."""

    text: str = "word"
    """What is written."""
    trace: str = ""
    """File that gets one line per run."""
    outcome: str = "fine"
    """`fine`, `refused`, `mistake`, `flaky` (fails until `trace` has two lines), `sleep`, or `tell` (says a secret)."""
    approval: Approval | None = None
    """Whether a person is asked first."""
    times: int = 1
    """Repetitions of the text."""


class Outputs(Ports):
    """The words."""

    words: Words


class Inputs(Ports):
    """Words to write in capitals."""

    words: Words


class Rung(Ports):
    """The bell."""

    bell: Bell


def write(inputs: NoInputs, config: Config, context: RunContext) -> Outputs:
    """Write the text, or fail in the way that was asked for."""
    trace = Path(config.trace) if config.trace else None
    if trace:
        with trace.open("a") as stream:
            stream.write(f"{context.run_id} {context.window}\n")
    if config.outcome == "refused":
        raise GateRefusedError("the gate refused version 7: like lost 0.02 AUC; train longer")
    if config.outcome == "mistake":
        raise TypeError("unsupported operand")
    if config.outcome == "flaky" and trace and len(trace.read_text().splitlines()) < 2:
        raise StorageError("the store did not answer; run again")
    if config.outcome == "tell":
        secret = os.environ["PROBE_SECRET"]
        sys.stdout.write(f"chatter {secret}\n")
        subprocess.run(["/bin/sh", "-c", "echo chatter of a child $PROBE_SECRET"], check=True)
        context.note(f"told {secret} to {context.settings.tracking_uri}")
        raise BadInputError(f"the store refused {secret}")
    if config.outcome == "sleep" and trace:
        sleeper = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
        with trace.open("a") as stream:
            stream.write(f"pid {sleeper.pid}\n")
        time.sleep(600)
    draft = context.draft("words")
    (draft / "words.txt").write_text(" ".join([config.text] * config.times))
    context.note(f"wrote {config.text}")
    return Outputs(words=Words(uri=str(draft)))


def shout(inputs: Inputs, config: Config, context: RunContext) -> Outputs:
    """Write the words in capitals."""
    words = (context.local(inputs.words) / "words.txt").read_text()
    sys.stdout.write("chatter on stdout\n")
    if protocol := sys.modules.get("airflow.api_fastapi.execution_api.versions"):
        sys.stdout.write(f"versions of Airflow's protocol: {len(protocol.bundle.versions)}\n")
    subprocess.run([sys.executable, "-c", "print('chatter of a child')"], check=True)
    draft = context.draft("words")
    (draft / "words.txt").write_text(words.upper())
    context.note(f"wrote {words.upper()}")
    return Outputs(words=Words(uri=str(draft)))


def ask(inputs: Inputs, config: Config, context: RunContext) -> Outputs:
    """Write who agreed and why, or refuse."""
    verdict = Verdict(
        model="probe", challenger=7, champion=6, answer="waiting", reason="not worse", judgements=(), rows=10,
        dataset_digest="d", decided_at=datetime(2026, 1, 1, tzinfo=UTC),
    )  # fmt: skip
    asked = config.approval or Approval()
    answer = context.ask(
        Question(verdict=verdict, page="/verdict.html", within=asked.within, on_deadline=asked.on_deadline,
                 by=asked.by or ())
    )  # fmt: skip
    said = f"{answer.by or 'nobody'}: {answer.note or '-'}"
    if not answer.approved:
        raise GateRefusedError(f"declined by {said}")
    draft = context.draft("words")
    (draft / "words.txt").write_text(said)
    context.note(f"approved by {said}")
    return Outputs(words=Words(uri=str(draft)))


def ring(inputs: Inputs, config: Config, context: RunContext) -> Rung:
    """Ring for a text that shouts."""
    draft = context.draft("bell")
    (draft / "bell.txt").write_text(config.text)
    if not config.text.isupper():
        context.says_no_news("bell")
    return Rung(bell=Bell(uri=str(draft)))


RING = ComponentSpec(
    name="ring_words",
    version="1",
    summary="Ring for a text that shouts.",
    config=Config,
    inputs=Inputs,
    outputs=Rung,
    entrypoint="tests.integration.airflow.probe:ring",
    cacheable=False,
)
ASK = ComponentSpec(
    name="ask_words",
    version="1",
    summary="Write who agreed.",
    config=Config,
    inputs=Inputs,
    outputs=Outputs,
    entrypoint="tests.integration.airflow.probe:ask",
    cacheable=False,
)
WRITE = ComponentSpec(
    name="write_words",
    version="1",
    summary="Write words.",
    config=Config,
    inputs=NoInputs,
    outputs=Outputs,
    entrypoint="tests.integration.airflow.probe:write",
)
SHOUT = ComponentSpec(
    name="shout_words",
    version="1",
    summary="Write words in capitals.",
    config=Config,
    inputs=Inputs,
    outputs=Outputs,
    entrypoint="tests.integration.airflow.probe:shout",
)
