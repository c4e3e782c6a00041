"""Small components that do real, tiny work: what the Airflow tests run instead of engines."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

from components.platform.artifacts import Artifact
from components.platform.contract import ComponentConfig, ComponentSpec, NoInputs, Ports, RunContext
from components.platform.errors import BadInputError, GateRefusedError, StorageError


class Words(Artifact):
    """A text file: `words.txt`."""

    kind = "probe_words"


class Config(ComponentConfig):
    """What happens, and where it leaves a trace."""

    text: str = "word"
    """What is written."""
    trace: str = ""
    """File that gets one line per run."""
    outcome: str = "fine"
    """`fine`, `refused`, `mistake`, `flaky` (fails until `trace` has two lines), `sleep`, or `tell` (says a secret)."""
    times: int = 1
    """Repetitions of the text."""


class Outputs(Ports):
    """The words."""

    words: Words


class Inputs(Ports):
    """Words to write in capitals."""

    words: Words


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
