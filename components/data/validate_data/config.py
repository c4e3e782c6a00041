"""What does `validate_data` take and give? A table in, the rows that honour its contract out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import AfterValidator, PlainSerializer

from components.platform.artifacts import DataDocs, EventsTable, QuarantinedRows, ValidatedEvents
from components.platform.columns import Columns, Flow
from components.platform.contract import ComponentConfig, ComponentSpec, Ports
from components.platform.paths import Beside, content_name
from features import suites
from features.declaration import Frozen
from features.ground.errors import did_you_mean


def _known(suite: str) -> str:
    known = suites.names()
    if not suite.endswith(suites.SUFFIX) and suite not in known:
        raise ValueError(f"no suite {suite!r}{did_you_mean(suite, known)}")
    return suite


def _in_a_key(suite: str) -> str:
    """Return what stands for a suite in a cache key; a shipped one is part of the component's source."""
    return content_name(suite) if suite.endswith(suites.SUFFIX) else suite


SuiteName = Annotated[
    str,
    Beside(strict=True, suffix=suites.SUFFIX),
    AfterValidator(_known),
    PlainSerializer(_in_a_key, return_type=str, when_used="json"),
]
"""Name of a suite, or a file that holds one below the pipeline's folder."""


class Config(ComponentConfig):
    """Which suite of expectations the table must meet."""

    suite: SuiteName
    """Name of a suite in `features/expectations/`, or a file of your own below the pipeline's folder, such as
    `expectations/shop_events.yaml`."""


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
    """Snake name."""
    column: str | None
    """Column or columns it is about; None for the whole table."""
    arguments: dict[str, str]
    """Everything else it was asked, as text."""
    action: Literal["fail", "warn", "quarantine"]
    """What happens when it is broken."""
    passed: bool
    """Whether it holds."""
    checked: int
    """Rows it was checked on."""
    broken: int
    """Rows that break it; 0 for an expectation about a figure of the whole column or table."""
    examples: tuple[str, ...] = ()
    """Up to five broken rows, ``row 17: 9``."""
    observed: str = ""
    """The figure it found, where it is about a figure."""
    problem: str = ""
    """Why it could not be checked at all; empty when it could."""
    why: str = ""
    """The suite's reason for it."""
    line: int = 0
    """Its line in the suite."""

    @property
    def label(self) -> str:
        """Name and columns in one word, as in the `broken` column of quarantined rows."""
        return f"{self.expectation}({self.column})" if self.column else self.expectation


class SuiteResult(Frozen):
    """All outcomes of one suite over one table."""

    suite: str
    """Name of the suite."""
    rows: int
    """Rows of the table."""
    kept: int
    """Rows that were not sent aside."""
    max_quarantined: float
    """Largest share of rows that may be sent aside."""
    passed: bool
    """Whether the contract holds."""
    expectations: tuple[ExpectationResult, ...]
    """Outcomes in the order of the suite."""


def _gives(config: Config, inputs: Mapping[str, Columns]) -> Mapping[str, Columns]:
    return {"table": inputs["table"]} if "table" in inputs else {}


COMPONENT = ComponentSpec(
    name="validate_data",
    version="4",
    summary="Check a table against a Great Expectations suite; stop on a broken contract, quarantine single rows.",
    config=Config,
    inputs=Inputs,
    outputs=Outputs,
    flow=Flow(gives=_gives),
    entrypoint="components.data.validate_data.component:run",
    sources=("features.expectations",),
)
