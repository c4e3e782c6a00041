"""How does a test run an ingest component by itself? A context at a home of its own, and the table that comes out."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from components.ingest.ingest_table.component import read_events
from components.ingest.ingest_table.config import Config
from components.ingest.ingest_table.reading.files import sources
from components.platform.contract import NoInputs, RunContext
from components.platform.settings import Settings
from features.declaration import Window
from pipelines.language.load import pipeline_path, read


def with_of(pipeline: str, stage: str = "ingest") -> dict[str, Any]:
    """Return the `with:` block of a stage of a shipped pipeline."""
    block: dict[str, Any] = read(pipeline_path(pipeline)).value["stages"][stage]["with"]
    return block


MOVIELENS = with_of("movielens_daily")
"""How the shipped pipeline reads MovieLens-100K with `ingest_table`."""
ALWAYS = Window(start=datetime(1990, 1, 1, tzinfo=UTC), end=datetime(2030, 1, 1, tzinfo=UTC))


def context_at(home: Path, window: Window) -> RunContext:
    """Return a context whose settings, new scratch folder and kept files lie in `home`; it can fetch nothing."""

    def refuse(artifact: object) -> Path:
        raise AssertionError(artifact)

    return RunContext(
        settings=Settings.at(home),
        pipeline="p",
        stage="ingest",
        run_id="r",
        window=window,
        scratch=home / f"scratch-{len(list(home.glob('scratch-*')))}",
        kept=home / "kept",
        key="k",
        fetch=refuse,
        read_annotations=lambda artifact: {},
    )


def events_of(run: Callable[..., Any], config: Any, context: RunContext) -> pa.Table:
    """Run a component that starts a pipeline and return its events."""
    outputs = run(NoInputs(), config, context)
    return pq.read_table(Path(outputs.events.uri) / "events.parquet")


def events(
    data: Path, given: dict[str, Any], files: dict[str, str], scratch: Path | None = None, window: Window = ALWAYS
) -> tuple[pl.DataFrame, list[str]]:
    """Return what a pipeline's `ingest_table` makes of own files, by their names below `data`, in the place of the
    release's.
    """
    for name, text in files.items():
        (data / name).parent.mkdir(parents=True, exist_ok=True)
        (data / name).write_bytes(text.encode())
    config = Config.model_validate({key: value for key, value in given.items() if key != "source"})
    frame, notes = read_events(sources(config, data), config, window, scratch or data / "scratch", lambda line: None)
    return frame.whole(), notes
