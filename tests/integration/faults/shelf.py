"""A registry that outlives a killed process: versions by number, aliases in an SQLite file as MLflow keeps them."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

from components.platform.contract import ComponentSpec, RunContext
from registry.champion.ledger import Ledger
from registry.champion.promotion import Promotions, Request
from registry.serving.model.contract import ParityCase, ParityReport, RegisteredVersion
from tests.example_component import CountConfig, CountOutputs, Numbers, SumInputs

MODEL = "toy"


class Shelf:
    """The part of `Registry` that promotions use."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.tracking_uri = f"sqlite:///{file}"

    def _ask(self, statement: str, *values: object) -> list[tuple[int]]:
        with closing(sqlite3.connect(self.file)) as database, database:
            database.execute("create table if not exists aliases (alias text primary key, version integer)")
            return list(database.execute(statement, values))

    def version(self, model: str, which: int) -> RegisteredVersion:
        return RegisteredVersion(
            model=model, version=which, digest=f"d{which}", model_uri="", ranker_digest="r", report_digest="e",
            created_at=datetime(2026, 1, 1, tzinfo=UTC),
        )  # fmt: skip

    def alias(self, model: str, alias: str) -> RegisteredVersion | None:
        found = self._ask("select version from aliases where alias = ?", alias)
        return self.version(model, found[0][0]) if found else None

    def set_alias(self, model: str, alias: str, version: int) -> None:
        self._ask("insert or replace into aliases values (?, ?)", alias, version)

    def download(self, model: str, which: int, to: Path) -> Path:
        to.mkdir()
        case = ParityCase(batch=1, history=0, output="like", max_abs_difference=0.0)
        report = ParityReport(passed=True, tolerance=1e-5, provider="cpu", cases=(case,))
        (to / "parity.json").write_text(report.model_dump_json())
        return to


def promotions(home: Path) -> Promotions:
    """Return the real promotions over the shelf of a home."""
    return Promotions(Shelf(home / "shelf.db"), Ledger((home / "ledger").as_uri()))  # type: ignore[arg-type]  # stands in for MLflow


def promote(inputs: SumInputs, config: CountConfig, context: RunContext) -> CountOutputs:
    """Make version `count` the champion, as `promote_model` does."""
    moves = promotions(context.settings.home)
    present = moves.champion(MODEL)
    moves.promote(MODEL, config.count, Request("pipeline:toy", "test"), decided_on=present)
    draft = context.draft("numbers")
    (draft / "champion.txt").write_text(str(config.count))
    (draft / "numbers.txt").write_bytes((context.local(inputs.numbers) / "numbers.txt").read_bytes())
    return CountOutputs(numbers=Numbers(uri=str(draft)))


PROMOTE = ComponentSpec(
    name="promote_numbers",
    version="1",
    summary="Make a version the champion.",
    config=CountConfig,
    inputs=SumInputs,
    outputs=CountOutputs,
    entrypoint="tests.integration.faults.shelf:promote",
    cacheable=False,
)
