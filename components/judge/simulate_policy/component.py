"""How does `simulate_policy` run? Logged rows → candidates → policies and reward models → estimates, plots, page."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from components.data.training_set import SPLITS, read_raw
from components.judge.simulate_policy.config import Config, Inputs, Outputs
from components.platform.artifacts import PolicyReport
from components.platform.contract import RunContext
from components.platform.errors import BadInputError
from features.declaration import Window

if TYPE_CHECKING:
    import pyarrow as pa


def run(inputs: Inputs, config: Config, context: RunContext) -> Outputs:
    """Value the policies and report.

    Raises:
        BadInputError: a column is missing, a propensity is no chance, a policy shows what the log never does, or the
            ranker cannot be asked about other items.
        MissingError: the requested provider did not load.
    """
    import pyarrow.compute as pc

    from components.judge.simulate_policy.groups import groups_of, read_reference
    from components.judge.simulate_policy.judge import Judge, headline, remarks
    from components.judge.simulate_policy.page import render
    from components.judge.simulate_policy.plots import draw
    from components.judge.simulate_policy.report import Simulation
    from registry.serving.served_model import ServedModel

    model = ServedModel.open(context.local(inputs.model), config.provider)
    declaration = model.contract.schema_.declaration
    reward = config.feedback or declaration.feedback[0]
    if reward not in declaration.feedback:
        raise BadInputError(f"feedback {reward!r} is not one of the ranker's: {', '.join(declaration.feedback)}")
    table, log = read_rows(context.local(inputs.dataset), config)
    times = pc.min_max(table[declaration.time]).as_py()
    window = Window(start=times["min"], end=times["max"] + timedelta(microseconds=1))
    reference = read_reference(context.local(inputs.reference) / "events.parquet", config, declaration, reward, window)
    judge = Judge(model=model, config=config, reward=reward, reference=reference, progress=context.progress)
    values = [value for group in groups_of(table, log, config.candidates_per) for value in judge.group(*group)]
    report = Simulation(
        model_digest=inputs.model.digest,
        dataset_digest=inputs.dataset.digest,
        reference_digest=inputs.reference.digest,
        reward=reward,
        rows=table.num_rows,
        window=window,
        held_out=config.rows == "held_out",
        unit=config.unit,
        clip=config.clip,
        confidence=config.confidence,
        resamples=config.bootstrap,
        values=tuple(values),
    )
    lines = [line for value in values for line in remarks(value)]
    draft = context.draft("report")
    (draft / "report.json").write_text(report.model_dump_json(indent=2), encoding="utf-8")
    plots = draw(draft / "plots", report)
    name = f"{model.contract.ranker} in {context.pipeline}"
    (draft / PolicyReport.page.file).write_text(render(report, name, lines, plots), encoding="utf-8")
    for line in [*map(headline, values), *lines]:
        context.note(line)
    return Outputs(report=PolicyReport(uri=str(draft)))


def read_rows(directory: Path, config: Config) -> tuple[pa.Table, pa.Table]:
    """Return the judged rows of a training set with their propensities, and all rows of its log.

    Raises:
        BadInputError: a column is missing, or a propensity is not in (0, 1].
    """
    import numpy as np
    import pyarrow as pa

    from components.judge.simulate_policy.estimators import check_propensities
    from components.judge.simulate_policy.groups import require

    splits = {name: read_raw(directory, name) for name in SPLITS}
    log = pa.concat_tables(splits.values())
    wanted = [config.propensity, *filter(None, (config.candidates_per, config.slot))]
    require(wanted, log.column_names, "the data set", "name it in carry or context of build_training_set")
    judged = splits["test"] if config.rows == "held_out" else log
    propensity = np.asarray(judged[config.propensity].cast(pa.float64()).to_numpy(), dtype=np.float64)
    check_propensities(propensity, config.propensity)
    return judged, log
