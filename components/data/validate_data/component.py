"""Does a table honour its contract, and where do the rows that do not go?"""

from __future__ import annotations

import logging
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.data.validate_data.config import Config, Inputs, Outputs, SuiteResult
from components.platform.artifacts import DataDocs, QuarantinedRows, ValidatedEvents
from components.platform.contract import RunContext
from components.platform.errors import ContractViolationError
from features import suites
from features.declaration import Window

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

    from components.data.validate_data.gx_adapter import Finding
    from features.joins.stored_rows import StoredRows

log = logging.getLogger("rankmill")


def run(inputs: Inputs, config: Config, context: RunContext) -> Outputs:
    """Check the table, set the rows aside that the suite quarantines, and publish the rest.

    Raises:
        ContractViolationError: a rule with `action: fail` is broken, or too many rows are quarantined.
        BadInputError: the suite says something that cannot be checked.
    """
    from components.data.validate_data.outcome import violation

    suite = suites.find(config.suite)
    source = context.local(inputs.table)
    table = _rows(source / "events.parquet")
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


def _rows(path: Path) -> pa.Table | StoredRows:
    """Return the rows, or those that memory should not hold as they lie on disk."""
    import pyarrow.parquet as pq

    from features.joins.spill import Spilled, rows_at_once
    from features.joins.stored_rows import StoredRows

    if pq.read_metadata(path).num_rows <= rows_at_once():
        return pq.read_table(path)
    return StoredRows(Spilled(path).columns())


def check_table(
    table: pa.Table | StoredRows, suite: suites.Suite, window: Window, now: datetime
) -> tuple[SuiteResult, pa.Table | StoredRows, pa.Table]:
    """Apply a suite: first its quarantine rules on every row, then the others on the rows that are kept.

    Of rows that lie on disk each rule reads the columns that it names.

    Returns:
        The result, the rows that are kept, and the rows set aside with their column `broken`.

    Raises:
        BadInputError: a rule names no expectation, or arguments that its expectation does not take.
    """
    import numpy as np

    from components.data.validate_data.outcome import broken_rows, conclude, set_aside

    moments = {"window.start": window.start, "window.end": window.end, "now": now}
    rules = suite.contract.expectations
    parting = [rule for rule in rules if rule.action == "quarantine"]
    judging = [rule for rule in rules if rule.action != "quarantine"]
    parted = _checked(table, np.arange(table.num_rows), suite, parting, moments)
    broken = broken_rows(table, parted)
    kept, aside = set_aside(table, broken, parted)
    judged = _checked(kept, np.nonzero(~broken.any(axis=1))[0], suite, judging, moments)
    waiting: dict[bool, list[Finding]] = {True: parted[::-1], False: judged[::-1]}
    findings = [waiting[rule.action == "quarantine"].pop() for rule in rules]
    return conclude(suite, table, kept.num_rows, findings), kept, aside


def _checked(
    table: pa.Table | StoredRows,
    numbers: np.ndarray[Any, Any],
    suite: suites.Suite,
    rules: list[suites.Expectation],
    moments: dict[str, datetime],
) -> list[Finding]:
    import pyarrow as pa

    from components.data.validate_data.gx_adapter import check

    if isinstance(table, pa.Table):
        return check(table, numbers, suite, rules, moments)
    return [finding for rule in rules for finding in check(table, numbers, suite, [rule], moments)]


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


def _write_kept(directory: Path, source: Path, kept: pa.Table | StoredRows, aside: pa.Table) -> Path:
    """Write the events artifact again, further logs as they are; the same bytes when every row is kept."""
    import pyarrow as pa

    from features.joins.spill import BLOCK, Spill

    for file in sorted(source.iterdir()):
        if file.name != "events.parquet" and file.suffix in (".json", ".parquet"):
            shutil.copyfile(file, directory / file.name)
    if aside.num_rows == 0:
        shutil.copyfile(source / "events.parquet", directory / "events.parquet")
        return directory
    if isinstance(kept, pa.Table):
        return _write_rows(directory, "events.parquet", kept)
    spill = Spill(directory / "events.parquet", BLOCK, compression="zstd", version="2.6")
    for part in kept.pieces():
        spill.write(part, combine=False)
    spill.close()
    return directory


def _write_rows(directory: Path, name: str, rows: pa.Table) -> Path:
    import pyarrow.parquet as pq

    pq.write_table(rows, directory / name, compression="zstd", version="2.6")
    return directory


def _write_docs(directory: Path, result: SuiteResult, suite: suites.Suite, table: pa.Table | StoredRows) -> Path:
    from components.data.validate_data.page import render
    from components.data.validate_data.profile import profile

    directory.mkdir(parents=True, exist_ok=True)
    (directory / "result.json").write_text(result.model_dump_json(indent=2), encoding="utf-8")
    (directory / DataDocs.page.file).write_text(
        render(result, suite.contract.description, profile(table)), encoding="utf-8"
    )
    return directory
