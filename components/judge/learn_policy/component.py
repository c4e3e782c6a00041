"""How does `learn_policy` run? Logged rows → network → the pass with the best lower bound → graph, contract, page."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from components.judge.learn_policy.config import Config, Inputs, Outputs
from components.platform.artifacts import Policy
from components.platform.contract import RunContext

if TYPE_CHECKING:
    from components.judge.learn_policy.learner import Learned
    from components.judge.learn_policy.report import Choice, Learning
    from components.judge.learn_policy.rows import Log
    from components.judge.policy_files import Floats, LearnedPolicy, PolicyContract


def run(inputs: Inputs, config: Config, context: RunContext) -> Outputs:
    """Learn the policy from the training rows, choose the pass by the validation rows, and leave the test rows alone.

    Raises:
        BadInputError: the rows cannot teach a policy; see `rows.read_log`.
    """
    from components.judge.learn_policy.learner import best_fixed, learn
    from components.judge.learn_policy.page import draw, render
    from components.judge.learn_policy.report import Learning, Pass
    from components.judge.learn_policy.rows import read_log
    from components.judge.policy_files import CONTRACT, GRAPH, LearnedPolicy, PolicyContract, reward_name, write_graph
    from features.encoding.files import copy_encoder

    dataset = context.local(inputs.dataset)
    log = read_log(dataset, config)
    context.progress(f"{log.train.rows:,} rows, {len(log.actions)} actions in {len(log.groups)} groups")
    learned = learn(log, config, context.progress)
    names: list[int | str] = log.actions.to_pylist()
    fixed = {group: names[place] for group, place in best_fixed(log).items()}
    contract = PolicyContract(
        action=config.action,
        actions=cast("tuple[int, ...] | tuple[str, ...]", tuple(names)),
        candidates_per=config.candidates_per,
        allowed={
            group: tuple(int(place) for place in row.nonzero()[0])
            for group, row in zip(log.groups, log.allowed, strict=True)
        },
        features=log.features,
        temperature=config.temperature,
        floor=config.floor,
        reward=config.reward,
        objective=config.objective,
        clip=config.clip,
        least_logged=float(log.train.propensity.min()),
        best_fixed=fixed,
        dataset_digest=inputs.dataset.digest,
        learned_from=log.first,
        learned_until=log.last,
    )
    draft = context.draft("policy")
    (draft / CONTRACT).write_text(contract.model_dump_json(indent=2), encoding="utf-8")
    copy_encoder(dataset, draft)
    write_graph(draft / GRAPH, log.features, learned.weights, config.temperature, config.floor)
    chances = _asked(LearnedPolicy.open(draft), log)  # what is published can be opened
    report = Learning(
        dataset_digest=inputs.dataset.digest,
        action=config.action,
        reward=reward_name(config.reward),
        features=tuple(field.name for field in log.features),
        objective=config.objective,
        floor=config.floor,
        temperature=config.temperature,
        train_rows=log.train.rows,
        validation_rows=log.validation.rows,
        units=config.unit,
        least_logged=contract.least_logged,
        logged=learned.logged,
        passes=tuple(Pass(epoch=one.epoch, value=one.value, low=one.low) for one in learned.steps),
        best=learned.best,
        reward_passes=learned.reward_epochs,
        choices=tuple(_choices(log, contract, chances)),
        best_fixed={group: str(action) for group, action in fixed.items()},
    )
    lines = _remarks(report, learned)
    (draft / "report.json").write_text(report.model_dump_json(indent=2), encoding="utf-8")
    curve = draw(context.scratch / "curve.png", report)
    page = render(report, f"{config.action} in {context.pipeline}", lines, curve)
    (draft / Policy.page.file).write_text(page, encoding="utf-8")
    kept = learned.steps[learned.best]
    context.note(
        f"{report.reward} on validation rows: {kept.value:.5f}, at least {kept.low:.5f}, after pass {learned.best}; "
        f"the log earned {learned.logged:.5f}"
    )
    for line in lines:
        context.note(line)
    return Outputs(policy=Policy(uri=str(draft)))


def _asked(policy: LearnedPolicy, log: Log) -> Floats:
    """Return the graph's chances on the validation rows, float64 ``[n, A]``."""
    import numpy as np

    from components.judge.policy_files import ALLOWED, CHANCE

    mask = log.allowed[log.validation.group].astype(np.float64)
    (found,) = policy.session.run([CHANCE], {**log.validation.inputs, ALLOWED: mask})
    return np.asarray(found, dtype=np.float64)


def _choices(log: Log, contract: PolicyContract, chances: Floats) -> list[Choice]:
    import numpy as np

    from components.judge.learn_policy.report import Choice

    found, rows = [], log.validation
    for place, group in enumerate(log.groups):
        inside = rows.group == place
        count = max(1, int(inside.sum()))
        for action in contract.allowed[group]:
            own = inside & (rows.chosen == action)
            found.append(
                Choice(
                    group=group,
                    action=str(contract.actions[action]),
                    logged=int(own.sum()) / count,
                    policy=float(chances[inside, action].sum()) / count,
                    reward=float(np.mean(rows.reward[own])) if own.any() else 0.0,
                )
            )
    return found


def _remarks(report: Learning, learned: Learned) -> list[str]:
    lines = []
    if learned.best == 0 and len(report.passes) > 1:
        lines.append("no pass had a better lower bound than the uniform policy, which was kept: the rows teach nothing")
    if learned.steps[learned.best].low <= learned.logged:
        lines.append("on the validation rows the policy is not shown to earn more than the log did")
    return lines
