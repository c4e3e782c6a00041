"""How is the policy found? A network climbs the lower bound of its estimated value until validation rows say stop."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from components.judge.learn_policy.config import Config
from components.judge.learn_policy.objective import Batch, lower_bound, policy_of, terms
from components.judge.learn_policy.rows import Log, Part
from components.judge.policy_files import Floats, Weights
from components.judge.simulate_policy.estimators import Integers
from features.declaration import FieldSpec

SMOOTHING = 100.0
"""Rows of the mean reward that every action of the reward model starts with."""
DECAY = 1e-3
"""Of the weights of the reward model."""
SURE = 1.645
"""Standard errors below the estimate on validation rows, one-sided 95 %, by which an epoch is chosen."""


@dataclass(frozen=True)
class Step:
    """What one pass over the rows led to, on the validation rows."""

    epoch: int
    value: float
    """Doubly robust value of the policy."""
    low: float
    """Its lower bound."""


@dataclass(frozen=True)
class Learned:
    """The best policy and how it was found."""

    weights: Weights
    steps: tuple[Step, ...]
    """The first is the uniform policy, before any pass."""
    best: int
    """Epoch that was kept."""
    reward_epochs: int
    """Passes after which the reward model was best on validation rows."""
    logged: float
    """Mean reward of the validation rows."""


class Scores(nn.Module):
    """Scores ``[n, A]`` of all actions by features; the outer layer starts at 0, so that all scores are equal."""

    def __init__(self, fields: tuple[FieldSpec, ...], hidden: int, actions: int, seed: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)

        def drawn(*shape: int, scale: float) -> nn.Parameter:
            return nn.Parameter(torch.randn(*shape, generator=generator, dtype=torch.float64) * scale)

        self.fields = fields
        scale = 1.0 / np.sqrt(max(1, len(fields)))
        self.rows = nn.ParameterDict({f.name: drawn(f.size, hidden, scale=scale) for f in fields if f.embedded})
        self.numbers = nn.ParameterDict(
            {f.name: drawn(max(1, f.length), hidden, scale=scale) for f in fields if not f.embedded}
        )
        self.bias = drawn(hidden, scale=scale)
        self.out = nn.Parameter(torch.zeros(hidden, actions, dtype=torch.float64))
        self.out_bias = nn.Parameter(torch.zeros(actions, dtype=torch.float64))

    def forward(self, inputs: dict[str, Tensor]) -> Tensor:
        """Return float64 ``[n, A]``."""
        total = self.bias
        for field in self.fields:
            values = inputs[field.name]
            if field.embedded:
                total = total + self.rows[field.name][values]
            else:
                total = total + values.to(torch.float64).reshape(len(values), -1) @ self.numbers[field.name]
        return torch.relu(total) @ self.out + self.out_bias

    def taken(self) -> Weights:
        """Return a copy of the weights."""

        def copy(values: Tensor) -> Floats:
            return np.array(values.detach().numpy(), dtype=np.float64)

        return Weights(
            tables={name: copy(values) for name, values in self.rows.items()},
            numbers={name: copy(values) for name, values in self.numbers.items()},
            bias=copy(self.bias),
            out=copy(self.out),
            out_bias=copy(self.out_bias),
        )


def learn(log: Log, config: Config, progress: Callable[[str], None]) -> Learned:
    """Return the policy whose lower bound on the validation rows is highest.

    The reward model is fitted on the training rows and stopped by the validation rows; the rows of `dr` are judged by
    models that have not seen their part of the units, made with as many passes.
    """
    whole, epochs = _reward_model(log, config, log.train, log.validation, config.epochs)
    if config.objective == "dr":
        expected = _cross_fitted(log, config, epochs)
    else:
        expected = np.zeros((log.train.rows, len(log.actions)))  # not read
    validation = _batch(log.validation, _predict(whole, log.validation))
    allowed = torch.from_numpy(log.allowed)
    network = Scores(log.features, config.hidden, len(log.actions), config.seed)
    optimiser = torch.optim.Adam(network.parameters(), lr=config.learning_rate)
    steps = [_judged(0, network, log, config, validation)]
    best, kept = 0, network.taken()
    for epoch in range(1, config.epochs + 1):
        for rows in _order(log.train.rows, config, epoch):
            chance = policy_of(
                network(_inputs(log.train, rows)), allowed[log.train.group[rows]], config.temperature, config.floor
            )
            found = terms(chance, _batch(log.train, expected, rows), config.objective, config.clip)
            loss = -lower_bound(found, config.pessimism, log.train.rows)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        steps.append(_judged(epoch, network, log, config, validation))
        if steps[-1].low > steps[best].low:
            best, kept = epoch, network.taken()
        elif epoch - best >= config.patience:
            break
        if epoch % 10 == 0:
            progress(f"pass {epoch}: value {steps[-1].value:.5f}, best lower bound {steps[best].low:.5f}")
    return Learned(kept, tuple(steps), best, epochs, float(log.validation.reward.mean()))


def best_fixed(log: Log) -> dict[str, int]:
    """Return by group the place of the action with the highest self-normalised value over training and validation."""
    parts = (log.train, log.validation)
    weight = np.concatenate([1 / part.propensity for part in parts])
    chosen = np.concatenate([part.chosen for part in parts])
    group = np.concatenate([part.group for part in parts])
    reward = np.concatenate([part.reward for part in parts])
    shape = log.allowed.shape
    cell = group * shape[1] + chosen
    above, below = (np.bincount(cell, v, minlength=log.allowed.size).reshape(shape) for v in (weight * reward, weight))
    value = np.where(log.allowed, above / np.maximum(below, 1e-300), -np.inf)
    return dict(zip(log.groups, (int(place) for place in value.argmax(axis=1)), strict=True))


def _judged(epoch: int, network: Scores, log: Log, config: Config, batch: Batch) -> Step:
    with torch.no_grad():
        allowed = torch.from_numpy(log.allowed)[log.validation.group]
        chance = policy_of(network(_inputs(log.validation)), allowed, config.temperature, config.floor)
        # Not clipped: cut weights would leave a policy that few rows speak of with what its reward model hopes.
        found = terms(chance, batch, "dr").numpy()
    value = float(found.mean())
    units = np.bincount(log.validation.unit, found - value)
    # Units are drawn whole: the spread of their sums is the spread of the mean.
    return Step(epoch, value, value - SURE * float(np.sqrt(np.square(units).sum())) / found.size)


def _reward_model(log: Log, config: Config, seen: Part, stop: Part | None, epochs: int) -> tuple[Scores, int]:
    """Return a model of the reward of every action, and after how many passes it was best on the rows of `stop`."""
    network = Scores(log.features, config.hidden, len(log.actions), config.seed)
    start = _shrunk_means(seen, len(log.actions))
    with torch.no_grad():
        network.out_bias.copy_(torch.from_numpy(start))
    optimiser = torch.optim.Adam(network.parameters(), lr=config.learning_rate, weight_decay=0.0)
    decayed = [network.out, *network.rows.values(), *network.numbers.values()]
    best, least, kept = 0, np.inf, {name: value.clone() for name, value in network.state_dict().items()}
    if stop is not None:
        least = _error(network, stop)
    for epoch in range(1, epochs + 1):
        for rows in _order(seen.rows, config, epoch):
            found = network(_inputs(seen, rows)).gather(1, torch.from_numpy(seen.chosen[rows])[:, None])[:, 0]
            loss = (found - torch.from_numpy(seen.reward[rows])).square().mean()
            loss = loss + DECAY * sum(values.square().sum() for values in decayed) / seen.rows
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        if stop is not None:
            error = _error(network, stop)
            if error < least:
                best, least = epoch, error
                kept = {name: value.clone() for name, value in network.state_dict().items()}
            elif epoch - best >= config.patience:
                break
    if stop is not None:
        network.load_state_dict(kept)
    return network, best


def _cross_fitted(log: Log, config: Config, epochs: int) -> Floats:
    """Return float64 ``[n, A]`` expected rewards that no row's own fold of units has had a part in."""
    part = log.train
    of_unit = np.random.default_rng([config.seed, 1]).permutation(int(part.unit.max()) + 1) % config.folds
    fold = of_unit[part.unit]
    found = np.zeros((part.rows, len(log.actions)))
    for place in range(config.folds):
        inside = np.flatnonzero(fold == place)
        if not inside.size:
            continue
        rest = np.flatnonzero(fold != place)
        seen = _rows_of(part, rest if rest.size else inside)
        model, _ = _reward_model(log, config, seen, None, epochs)
        found[inside] = _predict(model, _rows_of(part, inside))
    return found


def _shrunk_means(part: Part, actions: int) -> Floats:
    count = np.bincount(part.chosen, minlength=actions)
    total = np.bincount(part.chosen, part.reward, minlength=actions)
    return np.asarray((total + SMOOTHING * part.reward.mean()) / (count + SMOOTHING), dtype=np.float64)


def _error(network: Scores, part: Part) -> float:
    expected = _predict(network, part)
    return float(np.square(part.reward - expected[np.arange(part.rows), part.chosen]).mean())


def _predict(network: Scores, part: Part) -> Floats:
    with torch.no_grad():
        return np.asarray(network(_inputs(part)).numpy(), dtype=np.float64)


def _order(rows: int, config: Config, epoch: int) -> list[Integers]:
    order = np.random.default_rng([config.seed, 2, epoch]).permutation(rows)
    count = max(1, round(rows / config.batch_size))
    return [np.sort(part) for part in np.array_split(order, count)]


def _inputs(part: Part, rows: Integers | None = None) -> dict[str, Tensor]:
    return {name: torch.from_numpy(values if rows is None else values[rows]) for name, values in part.inputs.items()}


def _batch(part: Part, expected: Floats, rows: Integers | None = None) -> Batch:
    at = slice(None) if rows is None else rows
    return Batch(
        chosen=torch.from_numpy(part.chosen[at]),
        propensity=torch.from_numpy(part.propensity[at]),
        reward=torch.from_numpy(part.reward[at]),
        expected=torch.from_numpy(expected[at]),
    )


def _rows_of(part: Part, rows: Integers) -> Part:
    return Part(
        inputs={name: values[rows] for name, values in part.inputs.items()},
        group=part.group[rows],
        chosen=part.chosen[rows],
        propensity=part.propensity[rows],
        reward=part.reward[rows],
        unit=part.unit[rows],
    )
