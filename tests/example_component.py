"""What does the smallest third-party component look like? Used to test everything around components."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from components.platform.artifacts import Artifact
from components.platform.contract import ComponentConfig, ComponentSpec, NoInputs, Ports, RunContext
from components.platform.errors import BadInputError


class Numbers(Artifact):
    """A text file of numbers."""

    kind = "numbers"


class CountConfig(ComponentConfig):
    """How many numbers, and what goes wrong."""

    count: int = 3
    fail: str = ""
    marker: str = ""


class CountOutputs(Ports):
    """The numbers."""

    numbers: Numbers


class SumInputs(Ports):
    """The numbers to add."""

    numbers: Numbers


def count(inputs: NoInputs, config: CountConfig, context: RunContext) -> CountOutputs:
    """Write the numbers below `count`; every run leaves one byte in `marker`, so that tests can count runs."""
    if config.marker:
        with Path(config.marker).open("a") as stream:
            stream.write("x")
    draft = context.draft("numbers")
    (draft / "numbers.txt").write_text("\n".join(map(str, range(config.count))))
    if config.fail == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if config.fail:
        raise BadInputError(config.fail)
    context.note(f"{config.count} numbers")
    context.annotate("run", context.run_id)
    return CountOutputs(numbers=Numbers(uri=str(draft)))


def add(inputs: SumInputs, config: CountConfig, context: RunContext) -> CountOutputs:
    """Write the sum of the numbers."""
    values = (context.local(inputs.numbers) / "numbers.txt").read_text().split()
    draft = context.draft("numbers")
    (draft / "numbers.txt").write_text(str(sum(map(int, values))))
    context.note(f"sum {sum(map(int, values))}")
    return CountOutputs(numbers=Numbers(uri=str(draft)))


COUNT = ComponentSpec(
    name="count_numbers",
    version="1",
    summary="Write some numbers.",
    config=CountConfig,
    inputs=NoInputs,
    outputs=CountOutputs,
    entrypoint="tests.example_component:count",
)
ADD = ComponentSpec(
    name="add_numbers",
    version="1",
    summary="Add some numbers.",
    config=CountConfig,
    inputs=SumInputs,
    outputs=CountOutputs,
    entrypoint="tests.example_component:add",
)
