"""How does `simulate_policy` run? Logged rows → candidates → policies and reward models → estimates, plots, page."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from components.data.training_set import SPLITS, read_raw, read_schema
from components.judge.simulate_policy.config import Config, Inputs, Outputs
from components.platform.artifacts import PolicyReport
from components.platform.contract import RunContext
from components.platform.errors import BadInputError
from features.declaration import Window

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pyarrow as pa

    from components.judge.policy_files import PolicyContract


def run(inputs: Inputs, config: Config, context: RunContext) -> Outputs:
    """Value the policies and report.

    Raises:
        BadInputError: a column is missing, a propensity is no chance, a policy shows what the log never does, or the
            ranker cannot be asked about other items.
        MissingError: the requested provider did not load.
    """
    import pyarrow.compute as pc

    from components.judge.policy_files import LearnedPolicy, reward_name
    from components.judge.simulate_policy.groups import groups_of, read_reference
    from components.judge.simulate_policy.judge import Judge, headline, remarks, verdicts
    from components.judge.simulate_policy.page import render
    from components.judge.simulate_policy.plots import draw
    from components.judge.simulate_policy.report import Simulation
    from registry.serving.model.served_model import ServedModel

    dataset = context.local(inputs.dataset)
    model = ServedModel.open(context.local(inputs.model), config.provider) if inputs.model else None
    policy = LearnedPolicy.open(context.local(inputs.policy), config.provider) if inputs.policy else None
    declaration = model.contract.schema_.declaration if model else read_schema(dataset).declaration
    if config.feedback is not None and config.feedback not in declaration.feedback:
        raise BadInputError(
            f"feedback {config.feedback!r} is not one of the ranker's: {', '.join(declaration.feedback)}"
        )
    action, reward = declaration.item, {config.feedback or declaration.feedback[0]: 1.0}
    if policy is not None:
        action = policy.contract.action
        reward = reward if config.feedback else policy.contract.reward
        config = with_its_groups(config, policy.contract)
    by_ranker = (
        action == declaration.item and [*reward.values()] == [1.0] and next(iter(reward)) in declaration.feedback
    )
    rewards = config.rewards or (("ranker", "rates") if model and by_ranker else ("rates",))
    check_ranker(config, rewards, wired=model is not None, fits=by_ranker)
    table, log = read_rows(dataset, config, (action, *reward))
    times = pc.min_max(table[declaration.time]).as_py()
    window = Window(start=times["min"], end=times["max"] + timedelta(microseconds=1))
    if policy is not None and policy.contract.dataset_digest != inputs.dataset.digest:
        check_unseen(policy.contract, window)
    reference = None
    if inputs.reference is not None:
        path = context.local(inputs.reference) / "events.parquet"
        reference = read_reference(path, config, declaration, action, reward, window)
    judge = Judge(
        model=model,
        policy=policy,
        config=config,
        declaration=declaration,
        action=action,
        reward=reward,
        rewards=tuple(rewards),
        reference=reference,
        progress=context.progress,
    )
    values = [value for group in groups_of(table, log, config.candidates_per) for value in judge.group(*group)]
    report = Simulation(
        model_digest=inputs.model.digest if inputs.model else "",
        dataset_digest=inputs.dataset.digest,
        reference_digest=inputs.reference.digest if inputs.reference else "",
        policy_digest=inputs.policy.digest if inputs.policy else "",
        reward=reward_name(reward),
        rows=table.num_rows,
        window=window,
        held_out=config.rows == "held_out",
        unit=config.unit,
        clip=config.clip,
        confidence=config.confidence,
        resamples=config.bootstrap,
        values=tuple(values),
    )
    lines = [line for value in values for line in (*verdicts(value), *remarks(value))]
    draft = context.draft("report")
    (draft / "report.json").write_text(report.model_dump_json(indent=2), encoding="utf-8")
    plots = draw(draft / "plots", report)
    name = f"{model.contract.ranker if model else action} in {context.pipeline}"
    (draft / PolicyReport.page.file).write_text(render(report, name, lines, plots), encoding="utf-8")
    for line in [*map(headline, values), *lines]:
        context.note(line)
    return Outputs(report=PolicyReport(uri=str(draft)))


def with_its_groups(config: Config, contract: PolicyContract) -> Config:
    """Return the config with the groups of a wired policy.

    Raises:
        BadInputError: the config names other ones.
    """
    if config.candidates_per not in (None, contract.candidates_per):
        raise BadInputError(
            f"candidates_per is {config.candidates_per!r}, but the policy was learned with "
            f"{contract.candidates_per!r}: leave it out"
        )
    return config.model_copy(update={"candidates_per": contract.candidates_per})


def check_ranker(config: Config, rewards: Sequence[str], *, wired: bool, fits: bool) -> None:
    """Check that whatever asks the ranker finds one that answers what is asked.

    Raises:
        BadInputError: no ranker is wired, or it predicts something else than the reward of the action.
    """
    asks = [policy.label for policy in config.policies if policy.kind in ("greedy", "softmax")]
    asks += ["rewards: ranker"] if "ranker" in rewards else []
    if asks and not wired:
        raise BadInputError(f"{asks[0]} asks a ranker and none is wired: wire model, or remove it")
    if asks and not fits:
        raise BadInputError(f"{asks[0]} asks a ranker, which knows a label of an item and not this reward: remove it")


def check_unseen(contract: PolicyContract, window: Window) -> None:
    """Check that rows of another training set than the one that a policy was learned from are not of its time.

    Raises:
        BadInputError: they are, so that it may have learned from them.
    """
    if window.start <= contract.learned_until and contract.learned_from < window.end:
        raise BadInputError(
            f"the judged rows lie in {window}, and the policy was learned from another training set that reaches from "
            f"{contract.learned_from:%Y-%m-%d %H:%M} to {contract.learned_until:%Y-%m-%d %H:%M}: judge it on the test "
            "split of its own training set, or on later rows"
        )


def read_rows(directory: Path, config: Config, also: Sequence[str] = ()) -> tuple[pa.Table, pa.Table]:
    """Return the judged rows of a training set with their propensities, and all rows of its log.

    `also` are columns that they must have beside those of the config.

    Raises:
        BadInputError: a column is missing, or a propensity is not in (0, 1].
    """
    import numpy as np
    import pyarrow as pa

    from components.judge.simulate_policy.estimators import check_propensities
    from components.judge.simulate_policy.groups import require

    splits = {name: read_raw(directory, name) for name in SPLITS}
    log = pa.concat_tables(splits.values())
    wanted = [config.propensity, *also, *filter(None, (config.candidates_per, config.slot))]
    require(wanted, log.column_names, "the data set", "name it in carry or context of build_training_set")
    judged = splits["test"] if config.rows == "held_out" else log
    propensity = np.asarray(judged[config.propensity].cast(pa.float64()).to_numpy(), dtype=np.float64)
    check_propensities(propensity, config.propensity)
    return judged, log
