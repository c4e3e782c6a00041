"""What does `learn_policy` take and give? Logged actions with their chances in, a policy that earns more out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from components.platform.artifacts import Policy, TrainingSet
from components.platform.columns import Columns, Fault, Flow
from components.platform.contract import ComponentConfig, ComponentSpec, Ports
from features.declaration import Name

Weight = Annotated[float, Field(allow_inf_nan=False)]
LEAST_PROPENSITY, RARE = 0.01, 0.01
"""Without `clip`, at most this share (`RARE`) of the rows may have a smaller propensity than `LEAST_PROPENSITY`."""


class Config(ComponentConfig):
    """Which actions, by which features, for which reward, and how to learn from a log that chose otherwise."""

    action: Name
    """Column of what was chosen: the item, or a carried column such as how many ads were shown."""
    features: tuple[Name, ...] = Field(min_length=1)
    """Features that the policy looks at: what is known before the action is chosen. Single values and vectors."""
    reward: dict[Name, Weight] = Field(min_length=1)
    """What is maximised: a weight per label or carried number, such as `{engaged: 1.0, revenue: 0.3}`."""
    propensity: Name = "propensity"
    """Column with the chance that the log's policy gave to what it chose, written down when it chose; `carry` it."""
    actions: tuple[int, ...] | tuple[str, ...] | None = None
    """Actions that the policy may take; those of the training rows when left out."""
    candidates_per: Name | None = None
    """Column whose values have actions of their own, such as the campaign."""
    objective: Literal["dr", "snips", "ips"] = "dr"
    """Estimate of the value that learning raises: doubly robust, self-normalised, or plain inverse propensity."""
    floor: float = Field(0.05, ge=0, lt=1)
    """Share of the choices that stays uniform, so that the next log can judge every action; 0 for none."""
    temperature: float = Field(1.0, gt=0, le=100)
    """Scores are divided by it; below 1 the policy is surer than it learned to be."""
    clip: float | None = Field(10.0, gt=0)
    """Largest weight of a row in learning, at least 1 / the usual propensity, or the log hardly speaks; null leaves
    weights alone. The pass to keep is chosen by weights as they are."""
    pessimism: float = Field(0.1, ge=0)
    """Standard errors of the estimate that learning takes away from it."""
    unit: Literal["row", "user", "request"] = "user"
    """What is kept whole in folds and standard errors: rows whose rewards depend on each other."""
    hidden: int = Field(32, ge=1, le=4096)
    """Width of the one layer between features and scores."""
    epochs: int = Field(60, ge=0, le=10_000)
    """Most passes over the training rows; with 0 the policy stays uniform."""
    patience: int = Field(10, ge=1)
    """Passes without a better lower bound on the validation rows after which learning ends."""
    batch_size: int = Field(1024, ge=2)
    """Rows of a step."""
    learning_rate: float = Field(0.01, gt=0, le=1)
    """Of Adam."""
    folds: int = Field(3, ge=2, le=20)
    """Parts of the training rows; the reward model of a row of `dr` has not seen its part."""
    seed: int = 0
    """Seed of weights, order and folds."""

    @model_validator(mode="after")
    def _means_something(self) -> Self:
        if self.action in self.features:
            raise ValueError(f"action {self.action!r} is named as a feature: a policy cannot look at what it chooses")
        for name in self.reward:
            if name in self.features:
                raise ValueError(f"reward {name!r} is named as a feature: it is known only after the choice")
        if not any(self.reward.values()):
            raise ValueError("every reward has weight 0, so that nothing would be learned: give one a weight")
        if self.actions is not None and len(set(self.actions)) < max(2, len(self.actions)):
            raise ValueError("actions must name at least two actions, each once")
        return self

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns that are read beside the features."""
        named = [self.action, self.propensity, *self.reward, *([self.candidates_per] if self.candidates_per else [])]
        return tuple(dict.fromkeys(named))


class Inputs(Ports):
    """Logged rows with their features, in three splits: learned from, chosen by, and left alone."""

    dataset: TrainingSet


class Outputs(Ports):
    """The policy and what is known of it."""

    policy: Policy


def _asks(config: Config, inputs: Mapping[str, Columns]) -> Iterator[Fault]:
    if (columns := inputs.get("dataset")) is None:
        return
    for key in ("action", "propensity", "candidates_per"):
        name = getattr(config, key)
        if name is not None and (absent := columns.absent(name)):
            yield Fault((key,), f"the dataset has {absent}")
    for place, name in enumerate(config.features):
        if absent := columns.absent(name):
            yield Fault(("features", place), f"the dataset has {absent}")
    for name in config.reward:
        if absent := columns.absent(name):
            yield Fault(("reward", name), f"the dataset has {absent}", at="key")


COMPONENT = ComponentSpec(
    name="learn_policy",
    version="1",
    summary="Learn which action to choose from a log with propensities: a softmax policy, doubly robust or by weights.",
    config=Config,
    inputs=Inputs,
    outputs=Outputs,
    flow=Flow(asks=_asks),
    entrypoint="components.judge.learn_policy.component:run",
)
