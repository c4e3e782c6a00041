"""Does a table honour its contract, and where do the rows that do not go?"""

from __future__ import annotations

import logging
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from components.data.validate_data.config import Config, Inputs, Outputs, SuiteResult
from components.platform.artifacts import DataDocs, QuarantinedRows, ValidatedEvents
from components.platform.contract import RunContext
from components.platform.errors import ContractViolationError
from features import suites
from features.declaration import Window

if TYPE_CHECKING:
    import pyarrow as pa

    from components.data.validate_data.gx_adapter import Finding

log = logging.getLogger("rankmill")


def run(inputs: Inputs, config: Config, context: RunContext) -> Outputs:
    """Check the table, set the rows aside that the suite quarantines, and publish the rest.

    Raises:
        ContractViolationError: a rule with `action: fail` is broken, or too many rows are quarantined.
        BadInputError: the suite says something that cannot be checked.
    """
    import pyarrow.parquet as pq

    from components.data.validate_data.outcome import violation

    suite = suites.find(config.suite)
    source = context.local(inputs.table)
    table = pq.read_table(source / "events.parquet")
    window = Window.model_validate_json((source / "window.json").read_text(encoding="utf-8"))
    context.progress(f"checking {len(suite.contract.expectations)} expectations on {table.num_rows:,} rows")
    result, kept, aside = check_table(table, suite, window, now=datetime.now(UTC))
    _tell(result, context)
    if line := whole_requests(aside):
        context.note(line)
    if not result.passed:
        page = context.kept / DataDocs.page.file
        _write_docs(context.kept, result, suite, table)
        raise ContractViolationError(f"stage {context.stage!r}: {violation(result, suite, page)}")
    return Outputs(
        table=ValidatedEvents(uri=str(_write_kept(context.draft("table"), source, kept, aside))),
        quarantine=QuarantinedRows(uri=str(_write_rows(context.draft("quarantine"), "rows.parquet", aside))),
        docs=DataDocs(uri=str(_write_docs(context.draft("docs"), result, suite, table))),
    )


def check_table(
    table: pa.Table, suite: suites.Suite, window: Window, now: datetime
) -> tuple[SuiteResult, pa.Table, pa.Table]:
    """Apply a suite: first its quarantine rules on every row, then the others on the rows that are kept.

    Returns:
        The result, the rows that are kept, and the rows set aside with their column `broken`.

    Raises:
        BadInputError: a rule names no expectation, or arguments that its expectation does not take.
    """
    import numpy as np

    from components.data.validate_data.gx_adapter import check
    from components.data.validate_data.outcome import broken_rows, conclude, set_aside

    moments = {"window.start": window.start, "window.end": window.end, "now": now}
    rules = suite.contract.expectations
    parting = [rule for rule in rules if rule.action == "quarantine"]
    judging = [rule for rule in rules if rule.action != "quarantine"]
    parted = check(table, np.arange(table.num_rows), suite, parting, moments)
    broken = broken_rows(table, parted)
    kept, aside = set_aside(table, broken, parted)
    judged = check(kept, np.nonzero(~broken.any(axis=1))[0], suite, judging, moments)
    waiting: dict[bool, list[Finding]] = {True: parted[::-1], False: judged[::-1]}
    findings = [waiting[rule.action == "quarantine"].pop() for rule in rules]
    return conclude(suite, table, kept.num_rows, findings), kept, aside


def _tell(result: SuiteResult, context: RunContext) -> None:
    from components.data.validate_data.outcome import warning

    warned = [one for one in result.expectations if one.action == "warn" and not one.passed]
    met = sum(one.passed for one in result.expectations)
    context.note(
        f"{result.kept:,} of {result.rows:,} rows kept, {result.rows - result.kept:,} quarantined; "
        f"{met} of {len(result.expectations)} expectations met"
    )
    for one in warned:
        context.note(warning(one))


def whole_requests(aside: pa.Table) -> str | None:
    """Return a line about the rows that went aside with their request, or None without any."""
    import pyarrow.compute as pc

    from components.data.validate_data.outcome import REQUEST, SHOWN_WITH

    lists = aside["broken"]
    along = aside.filter(pc.equal(pc.list_element(lists, 0), SHOWN_WITH)) if aside.num_rows else aside
    if not along.num_rows:
        return None
    requests = pc.count_distinct(along[REQUEST]).as_py()
    return f"{requests:,} requests went aside whole, with {along.num_rows:,} rows that break no rule"


def _write_kept(directory: Path, source: Path, kept: pa.Table, aside: pa.Table) -> Path:
    """Write the events artifact again, further logs as they are; the same bytes when every row is kept."""
    for file in sorted(source.iterdir()):
        if file.name != "events.parquet" and file.suffix in (".json", ".parquet"):
            shutil.copyfile(file, directory / file.name)
    if aside.num_rows == 0:
        shutil.copyfile(source / "events.parquet", directory / "events.parquet")
        return directory
    return _write_rows(directory, "events.parquet", kept)


def _write_rows(directory: Path, name: str, rows: pa.Table) -> Path:
    import pyarrow.parquet as pq

    pq.write_table(rows, directory / name, compression="zstd", version="2.6")
    return directory


def _write_docs(directory: Path, result: SuiteResult, suite: suites.Suite, table: pa.Table) -> Path:
    from components.data.validate_data.page import render
    from components.data.validate_data.profile import profile

    directory.mkdir(parents=True, exist_ok=True)
    (directory / "result.json").write_text(result.model_dump_json(indent=2), encoding="utf-8")
    (directory / DataDocs.page.file).write_text(
        render(result, suite.contract.description, profile(table)), encoding="utf-8"
    )
    return directory
