"""How does `attribute_conversions` run? Rows → the served answer with and without each channel's events → page."""

from __future__ import annotations

from typing import TYPE_CHECKING

from components.data.training_set import read_raw
from components.judge.attribute_conversions.config import Config, Inputs, Outputs
from components.platform.artifacts import AttributionReport
from components.platform.contract import RunContext
from components.platform.errors import BadInputError, did_you_mean

if TYPE_CHECKING:
    from pathlib import Path

    import pyarrow as pa

    from components.judge.attribute_conversions.report import Attribution


def run(inputs: Inputs, config: Config, context: RunContext) -> Outputs:
    """Judge the model, leave each channel's events out, and report.

    Raises:
        BadInputError: the feedback or attribute is none of the model's, conversions are too few, or the model does not
            know who converts.
        MissingError: the requested provider did not load.
    """
    from components.judge.attribute_conversions.credit import effects, stream_of, touches_of
    from components.judge.attribute_conversions.measure import Judged, channels_of, remarks, stability_of, together_of
    from components.judge.attribute_conversions.page import draw, render
    from components.judge.attribute_conversions.report import Attribution
    from registry.metrics import auc
    from registry.serving.model.served_model import ServedModel

    models = [ServedModel.open(context.local(one), config.provider) for one in (inputs.model, inputs.again) if one]
    declaration = models[0].contract.schema_.declaration
    feedback = config.feedback or declaration.feedback[-1]
    if feedback not in declaration.feedback:
        raise BadInputError(
            f"feedback {feedback!r} is none of the ranker's{did_you_mean(feedback, declaration.feedback)}"
        )
    table, of_split = _rows(context.local(inputs.dataset), feedback, config)
    label = table[feedback].to_numpy().astype("float64")
    judged: list[Judged] = []
    for model in models:
        stream = stream_of(model, config.attribute, config.channels)
        context.progress(f"{len(stream.channels)} channels, {table.num_rows:,} rows")
        touches = touches_of(model, table, stream)
        found = effects(model, table, feedback, stream, touches)
        quality = auc(label, found.whole) or 0.5
        if quality < config.min_auc:
            which = "model" if not judged else "second model"
            raise BadInputError(
                f"the {which}'s AUC of {feedback!r} is {quality:.3f} on these rows, below {config.min_auc:g}, and one "
                "that does not know who converts knows no reason: train on, or lower min_auc knowingly"
            )
        judged.append(Judged(label, table[declaration.user].to_numpy(), stream, touches, found, quality))
    channels = channels_of(judged[0], judged[1] if inputs.again else None, config)
    report = Attribution(
        model_digest=inputs.model.digest,
        dataset_digest=inputs.dataset.digest,
        again_digest=inputs.again.digest if inputs.again else None,
        feedback=feedback,
        attribute=config.attribute,
        split=config.split,
        rows=table.num_rows,
        rows_of_split=of_split,
        conversions=int(label.sum()),
        predicted=float(judged[0].found.whole.sum()),
        auc=judged[0].auc,
        min_auc=config.min_auc,
        together=together_of(judged[0], config),
        confidence=config.confidence,
        resamples=config.bootstrap,
        stability=stability_of(channels),
        channels=channels,
        remarks=remarks(judged[0], channels),
    )
    draft = context.draft("report")
    (draft / "report.json").write_text(report.model_dump_json(indent=2), encoding="utf-8")
    name = f"{models[0].contract.ranker} in {context.pipeline}"
    (draft / AttributionReport.page.file).write_text(
        render(report, name, draw(report, context.scratch / "channels.png")), encoding="utf-8"
    )
    for line in (*_headlines(report), *report.remarks):
        context.note(line)
    return Outputs(report=AttributionReport(uri=str(draft)))


def _rows(dataset: Path, feedback: str, config: Config) -> tuple[pa.Table, int]:
    """Return the rows that are looked at, and how many their split has.

    Raises:
        BadInputError: conversions are too few.
    """
    import numpy as np
    import pyarrow.compute as pc

    table = read_raw(dataset, config.split, shared=True)
    whole = table.num_rows
    if whole > config.at_most_rows:
        drawn = np.random.default_rng(config.seed).choice(whole, config.at_most_rows, replace=False)
        table = table.take(np.sort(drawn))
    conversions = int(pc.sum(table[feedback]).as_py() or 0)
    if conversions < config.min_conversions:
        raise BadInputError(
            f"{conversions} rows of the {config.split} split have {feedback!r}, fewer than {config.min_conversions}, "
            "so that no channel can be told from chance: widen the split or its window"
        )
    return table, whole


def _headlines(report: Attribution) -> tuple[str, ...]:
    """Return the lines of a run's notes."""
    told = [f"{one.name} {one.effect.value or 0.0:+.1%}" for one in report.channels]
    agreed = "" if report.stability is None else f"; rank correlation with the second model {report.stability:.2f}"
    return (
        f"{report.feedback} without the events of {report.attribute}: {', '.join(told[:5])}"
        f"{' …' if len(told) > 5 else ''}; all at once {report.together.value or 0.0:+.1%}{agreed}",
    )
