"""Does the challenger serve as well as the champion? Rows of the log → both versions' answers → gate → page."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from components.judge.compare_served.config import Config, Inputs, Outputs
from components.platform.artifacts import ServedComparison
from components.platform.contract import RunContext
from components.platform.errors import BadInputError

if TYPE_CHECKING:
    from components.judge.compare_served.rows import Compared
    from registry.gate.verdict import Judgement
    from registry.serving.model.contract import ModelContract


def run(inputs: Inputs, config: Config, context: RunContext) -> Outputs:
    """Compare, and write the verdict.

    Raises:
        MissingError: no row of the log compares two versions, or the registry has not the challenger.
        BadInputError: the rows are of no log, lack a column, or are of other files than the registry's.
    """
    import pyarrow.parquet as pq

    from components.ingest.ingest_served.answers import read_answers
    from components.judge.compare_served.rows import of_canary, of_shadow
    from components.pages.verdict import render
    from registry.gate.decide import concluded
    from registry.gate.verdict import Verdict

    folder = context.local(inputs.rows)
    answers = read_answers(folder)
    if answers is None:
        raise BadInputError("the rows are of no service's log: wire rows of ingest_served")
    rows = pq.read_table(folder / "raw" / "rows.parquet")
    compared = (of_shadow if config.by == "shadow" else of_canary)(rows, answers)
    new, old = compared.challenger, compared.champion
    count = f"{compared.rows.num_rows:,} of {rows.num_rows:,} rows"
    context.progress(f"{count} compare {config.model} v{new.version} with v{old.version}")
    verdict = concluded(
        Verdict(
            model=config.model,
            challenger=new.version,
            champion=old.version,
            answer="passed",
            reason="",
            judgements=_judged(compared, config, _contract(compared, config, context)),
            rows=compared.rows.num_rows,
            dataset_digest=inputs.rows.digest,
            decided_at=datetime.now(UTC),
            rule=config.gate.rule,
            served=config.by,
        )
    )
    draft = context.draft("comparison")
    (draft / "verdict.json").write_text(verdict.model_dump_json(indent=2), encoding="utf-8")
    (draft / ServedComparison.page.file).write_text(render(verdict), encoding="utf-8")
    context.note(f"v{new.version} as {config.by} of v{old.version}: {verdict.answer}; {verdict.reason}")
    context.note(f"{verdict.rows:,} rows compared, {compared.others:,} of the window compare nothing")
    for warning in verdict.warnings:
        context.note(warning)
    return Outputs(comparison=ServedComparison(uri=str(draft)))


def _judged(compared: Compared, config: Config, contract: ModelContract) -> tuple[Judgement, ...]:
    from components.judge.compare_served.rows import arms_of, pair_of
    from registry.gate.arms import RateMargins, judge_arms
    from registry.gate.decide import judge

    roles = contract.schema_.declaration
    if config.by == "shadow":
        return judge(pair_of(compared, roles, contract.tasks, config.answers), config.gate)
    margins = RateMargins(config.rate_margin, config.domain_rate_margin)
    return judge_arms(*arms_of(compared, roles, config.answers), config.gate, margins, roles.judge_by)


def _contract(compared: Compared, config: Config, context: RunContext) -> ModelContract:
    """Return what the challenger declares, of the files that answered."""
    from registry.serving.model.contract import ModelContract
    from registry.versions.client import Registry

    registry = Registry(context.settings.tracking_uri, context.settings.mlflow_artifacts)
    for side in (compared.challenger, compared.champion):
        found = registry.version(config.model, side.version)
        if found.digest != side.digest:
            raise BadInputError(
                f"{config.model} v{side.version} of the log (digest {side.digest[:12]}) is not the version of this "
                f"registry (digest {found.digest[:12] or 'none'}): compare rows that its own service logged"
            )
    folder: Path = registry.download(config.model, compared.challenger.version, context.scratch / "challenger")
    return ModelContract.model_validate_json((folder / "contract.json").read_bytes())
