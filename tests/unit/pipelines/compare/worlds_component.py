"""What does a component look like that makes a small training set without any engine? For comparisons in tests."""

from __future__ import annotations

from components.platform.artifacts import TrainingSet
from components.platform.contract import ComponentConfig, ComponentSpec, NoInputs, Ports, RunContext
from components.platform.errors import MissingError


class Config(ComponentConfig):
    """Which world."""

    seed: int = 0
    dry: bool = False


class Outputs(Ports):
    """Rows."""

    training_set: TrainingSet


def run(inputs: NoInputs, config: Config, context: RunContext) -> Outputs:
    """Write the world, or fail as ingestion without its files does."""
    from tests.worlds import write_training_set

    if config.dry:
        raise MissingError("there are no rows: bring some")
    draft = context.draft("training_set")
    write_training_set(draft, rows=1500, seed=config.seed)
    return Outputs(training_set=TrainingSet(uri=str(draft)))


MAKE = ComponentSpec(
    name="make_world",
    version="1",
    summary="Write a small synthetic training set.",
    config=Config,
    inputs=NoInputs,
    outputs=Outputs,
    entrypoint="tests.unit.pipelines.compare.worlds_component:run",
)
