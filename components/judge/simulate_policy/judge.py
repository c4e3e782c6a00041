"""What is each policy worth on the rows of one group? Every estimator with its interval, on the same draws."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import polars as pl
import pyarrow as pa

from components.judge.simulate_policy import estimators, policies
from components.judge.simulate_policy.config import Config, Policy
from components.judge.simulate_policy.contexts import Candidates, candidates_of, predict
from components.judge.simulate_policy.estimators import Floats, Integers, Logged, Ratio
from components.judge.simulate_policy.groups import Reference, reference_of
from components.judge.simulate_policy.report import PolicyValue
from components.judge.simulate_policy.rewards import cross_fitted_rates
from registry.evaluation import Interval
from registry.metrics.resampling import bootstrap_ratios
from registry.serving.served_model import ServedModel


@dataclass(frozen=True)
class Judge:
    """Everything that the groups of rows have in common."""

    model: ServedModel
    config: Config
    reward: str
    """Label."""
    reference: pl.DataFrame
    """Reference log, as `read_reference` returns it."""
    progress: Callable[[str], None]

    def group(self, name: str, table: pa.Table, log: pa.Table) -> list[PolicyValue]:
        """Return the value of every policy on the judged rows of one group, whose whole `log` shows its candidates."""
        declaration = self.model.contract.schema_.declaration
        candidates = candidates_of(table, log, declaration.item)
        logged = Logged(
            reward=_floats(table[self.reward]),
            propensity=_floats(table[self.config.propensity]),
            shown=candidates.shown,
        )
        predicted = self._predicted(name, table, candidates, logged)
        rewards: dict[str, Floats] = {kind: predicted[kind] for kind in dict.fromkeys(self.config.rewards)}
        unit = _units(table[declaration.user], self.config.unit)
        found = []
        for policy in self.config.policies:
            reference = self._reference(policy, name, table, candidates)
            target = reference.target if reference else _target(policy, logged, candidates, predicted)
            found.append(value_of(policy.label, name, target, logged, rewards, unit, self.config, reference))
        return found

    def _predicted(self, name: str, table: pa.Table, candidates: Candidates, logged: Logged) -> dict[str, Floats]:
        """Return the reward models that are asked for, and the ranker's predictions when a policy needs them."""
        found = {}
        ranked = any(policy.kind in ("greedy", "softmax") for policy in self.config.policies)
        if ranked or "ranker" in self.config.rewards:

            def say(line: str) -> None:
                self.progress(f"{name}: {line}")

            found["ranker"] = predict(self.model, table, candidates, self.reward, self.config.context, say)
        if "rates" in self.config.rewards:
            found["rates"] = cross_fitted_rates(logged, len(candidates.items), self.config.seed)
        return found

    def _reference(self, policy: Policy, name: str, table: pa.Table, candidates: Candidates) -> Reference | None:
        if policy.log is None:
            return None
        slots = (
            table[self.config.slot].combine_chunks() if self.config.slot else pa.array(np.zeros(table.num_rows, int))
        )
        return reference_of(self.reference, policy.log, name, candidates, slots, self.config.unit)


def value_of(
    policy: str,
    group: str,
    target: Floats,
    logged: Logged,
    rewards: Mapping[str, Floats],
    unit: Integers,
    config: Config,
    reference: Reference | None = None,
) -> PolicyValue:
    """Return the estimates of one policy.

    Args:
        policy: label.
        group: of the rows.
        target: ``[n, K]`` probabilities of the policy.
        logged: the rows.
        rewards: by reward model ``[n, K]`` predicted rewards.
        unit: ``[n]``, equal for rows that the bootstrap draws together.
        config: clipping and resampling.
        reference: the policy's own log, when it has one.
    """
    weight = estimators.weights(target, logged)
    used = weight if config.clip is None else np.minimum(weight, config.clip)
    ones = np.ones_like(weight)
    estimates: dict[str, Ratio] = {"ips": estimators.ips(used, logged), "snips": estimators.snips(used, logged)}
    corrections: dict[str, Ratio] = {}
    for name, predicted in rewards.items():
        estimates[f"direct ({name})"] = estimators.direct(target, predicted)
        estimates[f"dr ({name})"] = estimators.doubly_robust(target, used, logged, predicted)
        corrections[name] = estimators.correction(used, logged, predicted)
    overview = {"logged": Ratio(logged.reward, ones), "weight": Ratio(used, ones)}
    parts = {"overview": overview, "estimate": estimates, "correction": corrections}
    # One call, so that every figure comes from the same draws.
    named = {f"{part} {name}": ratio for part, ratios in parts.items() for name, ratio in ratios.items()}
    found = _intervals(named, unit, config)
    own = None
    if reference is not None:
        ratio = Ratio(reference.reward, np.ones_like(reference.reward))
        own = _intervals({"own": ratio}, reference.unit, config)["own"]
    return PolicyValue(
        policy=policy,
        group=group,
        rows=weight.size,
        positives=int(logged.reward.sum()),
        candidates=target.shape[1],
        logged=found["overview logged"],
        mean_weight=found["overview weight"],
        effective_rows=estimators.effective_rows(used),
        largest_weight=float(weight.max()),
        clipped=float((used < weight).mean()),
        estimates={name: found[f"estimate {name}"] for name in estimates},
        corrections={name: found[f"correction {name}"] for name in corrections},
        on_policy=own,
    )


def headline(value: PolicyValue) -> str:
    """Return one line with the estimates that need no reward model, and what there is to compare them with."""
    parts = [f"{name.upper()} {shown(value.estimates[name])}" for name in ("ips", "snips")]
    parts += [
        f"{name.replace('dr', 'DR')} {shown(found)}" for name, found in value.estimates.items() if name[:2] == "dr"
    ]
    told = f"log {shown(value.logged)}"
    if value.on_policy is not None:
        told += f", on-policy {shown(value.on_policy)}"
    return f"{value.policy} in {value.group}: {', '.join(parts)}; {told}; worth {value.effective_rows:,.0f} rows"


def shown(interval: Interval) -> str:
    """Return a value with its bounds, as far as there are any."""
    if interval.value is None:
        return "–"
    bounds = f" [{interval.low:.5f}, {interval.high:.5f}]" if interval.low is not None else ""
    return f"{interval.value:.5f}{bounds}"


def remarks(value: PolicyValue) -> list[str]:
    """Return what a reader must know before believing an estimate."""
    where = f"{value.policy} in {value.group}"
    lines = []
    if value.clipped == 0 and not _holds(value.mean_weight, 1):
        lines.append(
            f"{where}: the mean weight is {value.mean_weight.value:.3f}, not 1: the propensities are wrong, or the "
            "policy shows what the log hardly does"
        )
    if value.effective_rows < 0.01 * value.rows:
        lines.append(f"{where}: {value.rows:,} rows are worth {value.effective_rows:,.0f} for this policy")
    if value.estimates["ips"].value == 0:
        lines.append(
            f"{where}: nothing that the policy would have shown earned anything, so no interval tells how wrong "
            "its value may be: more rows are needed"
        )
    for name, interval in value.corrections.items():
        if not _holds(interval, 0):
            lines.append(
                f"{where}: reward model {name!r} is off by {interval.value:+.5f}: believe DR, not the direct one"
            )
    for name in value.estimates:
        if not name.startswith("direct") and value.covers(name) is False:
            lines.append(f"{where}: the on-policy value lies outside the interval of {name}")
    return lines


def _holds(interval: Interval, value: float) -> bool:
    """Return whether the interval holds the value; an interval without bounds says nothing against it."""
    return interval.low is None or interval.high is None or interval.low <= value <= interval.high


def _target(policy: Policy, logged: Logged, candidates: Candidates, predicted: Mapping[str, Floats]) -> Floats:
    if policy.kind == "greedy":
        return policies.greedy(predicted["ranker"])
    if policy.temperature is not None:
        return policies.softmax(predicted["ranker"], policy.temperature)
    return policies.uniform(logged.reward.size, len(candidates.items))


def _intervals(ratios: Mapping[str, Ratio], unit: Integers, config: Config) -> dict[str, Interval]:
    pairs = {name: (ratio.above, ratio.below) for name, ratio in ratios.items()}
    return bootstrap_ratios(pairs, unit, config.bootstrap, config.seed, config.confidence)


def _units(users: pa.ChunkedArray, unit: str) -> Integers:
    if unit == "row":
        return np.arange(len(users), dtype=np.int64)
    codes = users.combine_chunks().dictionary_encode(null_encoding="encode").indices
    return np.asarray(codes.to_numpy(zero_copy_only=False), dtype=np.int64)


def _floats(column: pa.ChunkedArray) -> Floats:
    return np.asarray(column.cast(pa.float64()).to_numpy(), dtype=np.float64)
