"""What does `validate_data` take and give? A table in, the rows that honour its contract out."""

from __future__ import annotations

from typing import Literal

from components.artifacts import DataDocs, EventsTable, QuarantinedRows, ValidatedEvents
from components.contract import ComponentConfig, ComponentSpec, Ports
from features.declaration import Frozen, Name


class Config(ComponentConfig):
    """Which suite of expectations the table must meet."""

    suite: Name
    """Name of a suite: `features/expectations/<suite>.yaml`."""


class Inputs(Ports):
    """The table to check."""

    table: EventsTable


class Outputs(Ports):
    """Rows that passed, rows sent aside, and the page that says why."""

    table: ValidatedEvents
    quarantine: QuarantinedRows
    docs: DataDocs


class ExpectationResult(Frozen):
    """One expectation's outcome."""

    expectation: str
    column: str | None
    arguments: dict[str, str]
    action: Literal["fail", "warn", "quarantine"]
    passed: bool
    checked: int
    broken: int
    examples: tuple[str, ...] = ()


class SuiteResult(Frozen):
    """All outcomes of one suite over one table."""

    suite: str
    rows: int
    kept: int
    passed: bool
    expectations: tuple[ExpectationResult, ...]


COMPONENT = ComponentSpec(
    name="validate_data",
    version="1",
    summary="Check a table against a Great Expectations suite; stop on a broken contract, quarantine single rows.",
    config=Config,
    inputs=Inputs,
    outputs=Outputs,
    entrypoint="components.validate_data.component:run",
    sources=("features.expectations",),
)
