"""What does `promote_model` take and give? A challenger in, a verdict and perhaps a new champion out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Literal, get_args

from pydantic import Field

from components.platform.artifacts import ModelVersion, Promotion, TrainingSet
from components.platform.columns import Columns, Fault, Flow, absent_weights
from components.platform.contract import ComponentConfig, ComponentSpec, Ports
from components.platform.errors import did_you_mean
from features.declaration import Frozen
from features.ground.durations import Duration
from registry.champion.protection import Person
from registry.evaluation import RequestMetric
from registry.gate.policy import GatePolicy, ServedPolicy


class Approval(Frozen):
    """A question to people between the gate's yes and the move of the alias."""

    within: Duration = timedelta(hours=12)
    """How long it waits for an answer; the run is active meanwhile."""
    on_deadline: Literal["refuse", "promote"] = "refuse"
    """What no answer in that time is taken for."""
    by: tuple[Person, ...] | None = Field(None, min_length=1)
    """Who may answer, by the id that Airflow knows them by, or groups of the profile; left out, whoever Airflow lets
    answer questions of this DAG."""


class Config(ComponentConfig):
    """The gate, and the provider that scores both models."""

    gate: GatePolicy = GatePolicy()
    """What the challenger must show against the champion."""
    served: ServedPolicy | None = None
    """Comparison of `compare_served` that the challenger must have passed against the present champion; left out, none
    is asked for. A first champion has nothing to be compared with."""
    allow_older: bool = False
    """Whether a ranker of a window that ends before the champion's may replace it; otherwise a run for a past day, such
    as a backfill, ends well and leaves the champion."""
    approval: Approval | None = None
    """Whether people are asked before a challenger that the gate lets through becomes champion; left out, nobody is."""
    on_refusal: Literal["fail", "finish"] = "fail"
    """What a refusal does to the run: `fail` ends it at once with status 3; `finish` ends the stage well with the
    verdict, so that stages after it run, and says no news to pipelines that wait for `promotion`."""
    provider: Literal["auto", "cpu", "cuda"] = "auto"
    """Execution provider that scores the rows."""


class Inputs(Ports):
    """The challenger, and the rows that both models are scored on."""

    version: ModelVersion
    dataset: TrainingSet


class Outputs(Ports):
    """The verdict and what was done."""

    promotion: Promotion


def _asks(config: Config, inputs: Mapping[str, Columns]) -> Iterator[Fault]:
    tasks = inputs["dataset"].tasks if "dataset" in inputs else ()
    if config.gate.weighted:
        yield from absent_weights(inputs.get("dataset"), "gate", "weighted")
    if not tasks:
        return
    requests = any(column.role == "request" for column in inputs["dataset"].known.values())
    for name, floor in config.gate.floors.items():
        if name not in tasks:
            message = f"a floor for {name!r}, which the model does not predict{did_you_mean(name, tasks)}"
            yield Fault(("gate", "floors", name), message, "key")
        for metric in () if requests else [metric for metric in floor.limits if metric in get_args(RequestMetric)]:
            message = f"{metric} is measured within requests: name their column in request of the training set"
            yield Fault(("gate", "floors", name, metric), message, "key")


COMPONENT = ComponentSpec(
    name="promote_model",
    version="5",
    summary="Compare challenger and champion on the same rows and move the champion alias when the gate agrees.",
    config=Config,
    inputs=Inputs,
    outputs=Outputs,
    flow=Flow(asks=_asks),
    entrypoint="components.release.promote_model.component:run",
    cacheable=False,
)
