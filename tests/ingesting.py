"""How does a test run an ingest component by itself? A context at a home of its own, and the table that comes out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from components.platform.contract import NoInputs, RunContext
from components.platform.settings import ROOT, Settings
from features.declaration import Window

MOVIELENS: dict[str, Any] = yaml.safe_load((ROOT / "pipelines" / "movielens_daily.yaml").read_text())["stages"][
    "ingest"
]["with"]
"""How the shipped pipeline reads MovieLens-100K with `ingest_table`."""


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
