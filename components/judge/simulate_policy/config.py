"""What does `simulate_policy` take and give? A ranker and logged impressions in, values of policies out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Literal, Self

from pydantic import Field, model_validator

from components.platform.artifacts import EventsTable, OnnxModel, PolicyReport, TrainingSet
from components.platform.artifacts import Policy as LearnedPolicy
from components.platform.columns import Columns, Fault, Flow
from components.platform.contract import ComponentConfig, ComponentSpec, Ports
from features.declaration import Name


class Policy(ComponentConfig):
    """A way to choose one action, such as an item, among the candidates of an impression."""

    kind: Literal["greedy", "softmax", "uniform", "logged", "learned", "fixed"]
    """`greedy` shows the item with the highest predicted probability, `softmax` draws items in proportion to their
    predicted odds to the power of 1 / temperature, `uniform` draws any, `logged` is a policy of the reference log,
    `learned` is the wired policy of `learn_policy`, `fixed` always takes one action."""
    temperature: float | None = Field(None, gt=0, le=100)
    """Of a `softmax`: near 0 it is greedy, large it is uniform."""
    log: str | None = None
    """Of a `logged` policy: its name in the policy column of the reference log."""

    action: int | str | None = None
    """Of a `fixed` policy; left out, the one that was worth most, per group, in the rows that the wired policy was
    learned from."""

    @property
    def label(self) -> str:
        """Name in reports."""
        if self.kind == "fixed":
            return "fixed: best before" if self.action is None else f"fixed: {self.action}"
        if self.kind == "softmax":
            return f"softmax {self.temperature:g}"
        return f"logged: {self.log}" if self.kind == "logged" else self.kind

    @property
    def from_wired(self) -> bool:
        """Whether it is taken from the wired policy."""
        return self.kind == "learned" or (self.kind == "fixed" and self.action is None)

    @model_validator(mode="after")
    def _whole(self) -> Self:
        for name, value, kind in (("temperature", self.temperature, "softmax"), ("log", self.log, "logged")):
            if (value is not None) != (self.kind == kind):
                verb = "needs" if self.kind == kind else "has no"
                raise ValueError(f"a {self.kind} policy {verb} {name!r}")
        if self.action is not None and self.kind != "fixed":
            raise ValueError(f"a {self.kind} policy has no 'action'")
        return self


class Config(ComponentConfig):
    """Which policies, on which rows, and how sure."""

    policies: tuple[Policy, ...] = Field(min_length=1)
    """Policies to value."""
    feedback: Name | None = None
    """Label that is the reward; left out, the reward of the wired policy, without one the shallowest feedback."""
    propensity: Name = "propensity"
    """Column with the probability with which the log's policy chose the shown item; `carry` it into the data set."""
    policy_column: Name = "policy"
    """Column of the reference log with the name of the policy that chose."""
    candidates_per: Name | None = None
    """Column whose values have candidates of their own, such as the campaign; every item is a candidate otherwise. That
    of a wired policy is its own."""
    slot: Name | None = None
    """Column of the place on the page; a logged policy has its own item frequencies in each."""
    context: tuple[Name, ...] = ()
    """Features of the request that would be the same had another item been shown, besides domain and those of the
    user; the ranker can be asked about another item only when every feature is known for it."""
    rows: Literal["held_out", "all"] = "held_out"
    """`held_out` takes the test split; `all` every row, for policies and reward models that do not use the ranker."""
    rewards: tuple[Literal["ranker", "rates"], ...] | None = Field(None, min_length=1)
    """Reward models of the direct method and of doubly robust: the ranker's probability, or mean rewards per action
    that each row takes from the folds it is not in. Both where a ranker is wired, else `rates`."""
    clip: float | None = Field(None, gt=0)
    """Largest weight of a row; a smaller one trades bias for variance. None leaves weights alone."""
    unit: Literal["row", "user"] = "user"
    """What the bootstrap draws: users, whose rows depend on each other, or rows where there is no user id."""
    bootstrap: int = Field(500, ge=0, le=100_000)
    """Resamples behind each interval; 0 leaves intervals out."""
    confidence: float = Field(0.95, gt=0.5, lt=1)
    """Coverage of the intervals."""
    seed: int = 0
    """Seed of the resampling and of the folds."""
    provider: Literal["auto", "cpu", "cuda"] = "auto"
    """Execution provider that scores the candidates."""

    @model_validator(mode="after")
    def _fair(self) -> Self:
        labels = [policy.label for policy in self.policies]
        for label in labels:
            if labels.count(label) > 1:
                raise ValueError(f"policy {label!r} is named twice; remove one")
        if self.rows == "all":
            seen = [policy.label for policy in self.policies if policy.kind in ("greedy", "softmax")]
            seen += ["rewards: ranker"] if self.rewards is None or "ranker" in self.rewards else []
            if seen:
                raise ValueError(f"rows: all holds rows that the ranker was trained on, so {seen[0]} needs held_out")
            if own := [policy.label for policy in self.policies if policy.from_wired]:
                raise ValueError(f"rows: all holds rows that the policy was learned from, so {own[0]} needs held_out")
        return self


class Inputs(Ports):
    """Logged rows with their features, and what they are to value."""

    model: OnnxModel | None = None
    """The ranker, for `greedy`, `softmax` and its reward model."""
    dataset: TrainingSet
    reference: EventsTable | None = None
    """Logs of policies to compare with, for `logged`."""
    policy: LearnedPolicy | None = None
    """For `learned`, and for the best `fixed` action before."""


class Outputs(Ports):
    """Values with intervals."""

    report: PolicyReport


def _asks(config: Config, inputs: Mapping[str, Columns]) -> Iterator[Fault]:
    places = {"dataset": ("feedback", "propensity", "candidates_per", "slot"), "reference": ("policy_column",)}
    for port, keys in places.items():
        columns = inputs.get(port)
        for key in keys if columns is not None else ():
            name = getattr(config, key)
            if name is not None and columns is not None and (absent := columns.absent(name)):
                yield Fault((key,), f"the {port} has {absent}")


COMPONENT = ComponentSpec(
    name="simulate_policy",
    version="3",
    summary="Value policies on a log with propensities (IPS, SNIPS, direct, doubly robust), with bootstrap intervals.",
    config=Config,
    inputs=Inputs,
    outputs=Outputs,
    flow=Flow(asks=_asks),
    entrypoint="components.judge.simulate_policy.component:run",
)
