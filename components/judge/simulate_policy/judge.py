"""What is each policy worth on the rows of one group? Every estimator with its interval, on the same draws."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from components.judge.policy_files import LearnedPolicy, reward_of
from components.judge.simulate_policy import estimators, policies
from components.judge.simulate_policy.config import Config, Policy
from components.judge.simulate_policy.contexts import Candidates, candidates_of, predict
from components.judge.simulate_policy.estimators import Floats, Integers, Logged, Ratio
from components.judge.simulate_policy.groups import Reference, reference_of
from components.judge.simulate_policy.report import THE_LOG, Gain, PolicyValue
from components.judge.simulate_policy.rewards import cross_fitted_rates
from components.platform.errors import BadInputError, did_you_mean
from features.declaration import Declaration
from registry.evaluation import Interval
from registry.metrics.resampling import bootstrap_ratios
from registry.serving.model.served_model import ServedModel


@dataclass(frozen=True)
class Judge:
    """Everything that the groups of rows have in common."""

    model: ServedModel | None
    policy: LearnedPolicy | None
    config: Config
    declaration: Declaration
    action: str
    """Column of what was chosen."""
    reward: Mapping[str, float]
    """Weights of the columns that the reward is the sum of."""
    rewards: tuple[str, ...]
    """Reward models."""
    reference: pl.DataFrame | None
    """Reference log, as `read_reference` returns it."""
    progress: Callable[[str], None]

    def group(self, name: str, table: pa.Table, log: pa.Table) -> list[PolicyValue]:
        """Return the value of every policy on the judged rows of one group, whose whole `log` shows its candidates."""
        candidates = candidates_of(table, log, self.action)
        logged = Logged(
            reward=reward_of(table, self.reward),
            propensity=_floats(table[self.config.propensity]),
            shown=candidates.shown,
        )
        predicted = self._predicted(name, table, candidates, logged)
        rewards: dict[str, Floats] = {kind: predicted[kind] for kind in dict.fromkeys(self.rewards)}
        unit = _units(table[self.declaration.user], self.config.unit)
        found, targets = [], {}
        for policy in self.config.policies:
            reference = self._reference(policy, name, table, candidates)
            if reference is not None:
                target = reference.target
            else:
                target = self._target(policy, name, table, logged, candidates, predicted)
            targets[policy] = target
            found.append(value_of(policy.label, name, target, logged, rewards, unit, self.config, reference))
        learned = [policy.kind == "learned" for policy in self.config.policies]
        if any(learned):
            at = learned.index(True)
            gains = gains_of(self.config.policies[at], targets, logged, rewards, unit, self.config)
            found[at] = found[at].model_copy(update={"gains": gains})
        return found

    def _target(
        self,
        policy: Policy,
        name: str,
        table: pa.Table,
        logged: Logged,
        candidates: Candidates,
        predicted: Mapping[str, Floats],
    ) -> Floats:
        if policy.kind == "learned":
            return _learned(_wired(self.policy, policy), name, table, candidates, self.action)
        if policy.kind == "fixed":
            action = policy.action
            if action is None:
                known = _wired(self.policy, policy).contract.best_fixed
                if name not in known:
                    raise BadInputError(
                        f"the policy was learned from no row of {name!r}: learn it from a log that has some"
                    )
                action = known[name]
            return _fixed(action, name, candidates, logged, self.action)
        if policy.kind == "greedy":
            return policies.greedy(predicted["ranker"])
        if policy.temperature is not None:
            return policies.softmax(predicted["ranker"], policy.temperature)
        return policies.uniform(logged.reward.size, len(candidates.items))

    def _predicted(self, name: str, table: pa.Table, candidates: Candidates, logged: Logged) -> dict[str, Floats]:
        """Return the reward models that are asked for, and the ranker's predictions when a policy needs them."""
        found = {}
        ranked = any(policy.kind in ("greedy", "softmax") for policy in self.config.policies)
        if self.model is not None and (ranked or "ranker" in self.rewards):

            def say(line: str) -> None:
                self.progress(f"{name}: {line}")

            found["ranker"] = predict(self.model, table, candidates, next(iter(self.reward)), self.config.context, say)
        if "rates" in self.rewards:
            found["rates"] = cross_fitted_rates(logged, len(candidates.items), self.config.seed)
        return found

    def _reference(self, policy: Policy, name: str, table: pa.Table, candidates: Candidates) -> Reference | None:
        if policy.log is None:
            return None
        if self.reference is None:
            raise BadInputError(
                f"policy {policy.label!r} is one of a reference log: wire reference, or remove the policy"
            )
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
        positives=_earning(logged.reward),
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


def gains_of(
    policy: Policy,
    targets: Mapping[Policy, Floats],
    logged: Logged,
    rewards: Mapping[str, Floats],
    unit: Integers,
    config: Config,
) -> tuple[Gain, ...]:
    """Return how much more a policy is worth than the log and than each fixed policy, by every doubly robust estimate.

    Differences are of the same rows and resamples, so that a gain is shown only where its interval lies above 0. Over a
    policy that no row with a reward speaks of there is no interval: its value is a guess of the reward model.

    Args:
        policy: the one that may gain.
        targets: by policy ``[n, K]`` probabilities.
        logged: the rows.
        rewards: by reward model ``[n, K]`` predicted rewards.
        unit: ``[n]``, equal for rows that the bootstrap draws together.
        config: clipping and resampling.
    """

    def terms(one: Policy, predicted: Floats) -> Floats:
        weight = estimators.weights(targets[one], logged)
        used = weight if config.clip is None else np.minimum(weight, config.clip)
        return estimators.doubly_robust(targets[one], used, logged, predicted).above

    silent = {
        one.label
        for one, target in targets.items()
        if not estimators.ips(estimators.weights(target, logged), logged).above.any()
    }
    ratios, named = {}, {}
    for name, predicted in rewards.items():
        own = terms(policy, predicted)
        others = {one.label: terms(one, predicted) for one in targets if one.kind == "fixed"}
        for over, other in {THE_LOG: logged.reward, **others}.items():
            key = f"{name} {over}"
            ratios[key], named[key] = Ratio(own - other, np.ones_like(own)), (over, f"dr ({name})")
    found = _intervals(ratios, unit, config)
    gains = []
    for key, (over, by) in named.items():
        unknown = bool({policy.label, over} & silent)
        gains.append(Gain(over=over, by=by, difference=Interval(value=found[key].value) if unknown else found[key]))
    return tuple(gains)


def verdicts(value: PolicyValue) -> list[str]:
    """Return in one line per comparison whether a learned policy is shown to earn more; only an interval says so."""
    lines = []
    for gain in value.gains:
        low, high = gain.difference.low, gain.difference.high
        if low is None or high is None:
            said = "nothing is shown without an interval"
        elif low > 0:
            said = "a gain"
        else:
            said = "a loss" if high < 0 else "no gain is shown"
        lines.append(f"{value.policy} in {value.group} over {gain.over}, {gain.by}: {shown(gain.difference)}: {said}")
    return lines


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


def _wired(policy: LearnedPolicy | None, asked: Policy) -> LearnedPolicy:
    if policy is None:
        raise BadInputError(f"policy {asked.label!r} is taken from a learned one: wire policy, or remove it")
    return policy


def _learned(policy: LearnedPolicy, group: str, table: pa.Table, candidates: Candidates, action: str) -> Floats:
    """Return the chances of a learned policy over the candidates of the judged log, float64 ``[n, K]``.

    Raises:
        BadInputError: it may do what the judged log never does, or reads what the rows do not have.
    """
    contract = policy.contract
    actions = pa.array(contract.actions).cast(candidates.items.type)
    places = pc.index_in(actions, value_set=candidates.items)
    found = policy.chances(table)
    target = np.zeros((table.num_rows, len(candidates.items)))
    for at in contract.allowed[group]:
        if not places[at].is_valid:
            raise BadInputError(
                f"the policy may choose {action} {contract.actions[at]!r} in {group!r}, which the judged log "
                "never does: judge it by a log that chooses every action"
            )
        target[:, places[at].as_py()] = found[:, at]
    return target


def _fixed(action: int | str, group: str, candidates: Candidates, logged: Logged, column: str) -> Floats:
    """Return the chances of one action, always, float64 ``[n, K]``."""
    names = candidates.items.to_pylist()
    if action not in names:
        raise BadInputError(
            f"{column} {action!r} is never chosen in {group!r} of the log{did_you_mean(str(action), map(str, names))}: "
            "fix an action of the log"
        )
    target = np.zeros((logged.reward.size, len(names)))
    target[:, names.index(action)] = 1.0
    return target


def _earning(reward: Floats) -> int:
    """Return how many rows have a label, or more than the mean of a reward that is none."""
    label = bool(np.isin(reward, (0.0, 1.0)).all())
    return int((reward > (0.0 if label else reward.mean())).sum())


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
