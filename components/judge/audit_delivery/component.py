"""Is each ad shown to people like those who were eligible? Group by group, against what chance alone would do."""

from __future__ import annotations

from components.judge.audit_delivery.config import MOST_GROUPS, Config, Inputs, Outputs, read_by_the_ranker
from components.platform.artifacts import DeliveryReport
from components.platform.contract import RunContext
from components.platform.errors import BadInputError, no_columns


def run(inputs: Inputs, config: Config, context: RunContext) -> Outputs:
    """Measure, and report.

    Raises:
        BadInputError: a column is missing, a person is of two groups, the ranker reads the group, or no ad can be
            judged.
    """
    import pyarrow.parquet as pq

    from components.data.training_set import read_schema
    from components.judge.audit_delivery.measure import audited
    from components.judge.audit_delivery.page import draw, render

    if inputs.dataset is not None:
        fields = {field.name for field in read_schema(context.local(inputs.dataset)).fields}
        if config.group in fields:
            raise BadInputError(read_by_the_ranker(config.group))
    path = context.local(inputs.table) / "events.parquet"
    present = pq.read_schema(path).names
    if absent := [name for name in config.named.values() if name not in present]:
        raise BadInputError(f"the table has {no_columns(absent, present)}: name another, or publish it")
    table = pq.read_table(path, columns=list(config.named.values()))
    report = audited(table, config, inputs.table.digest, MOST_GROUPS)
    draft = context.draft("report")
    (draft / "report.json").write_text(report.model_dump_json(indent=2), encoding="utf-8")
    (draft / DeliveryReport.page.file).write_text(
        render(report, draw(report, context.scratch / "ads.png")), encoding="utf-8"
    )
    over = [ad for ad in report.ads if ad.state == "over"]
    context.note(
        f"{len(over)} of {len(report.ads)} {report.ad}s are more than {report.at_most:g} from those eligible by "
        f"{report.group}; {report.above} above their chance level, {report.by_chance:.1f} would be by chance"
    )
    for ad in over[:3]:
        context.note(f"{ad.name}: variance {ad.variance.value:.3f}, chance level {ad.limit:.3f}, {ad.people:,} people")
    for line in report.remarks:
        context.note(line)
    return Outputs(report=DeliveryReport(uri=str(draft)))
