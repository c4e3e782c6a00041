"""How does a test run one stage on artifacts that it published? In a month of 2024, with the cache on or off."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from components.execute import StageRequest, StageResult, execute
from components.settings import Settings
from components.store import ArtifactRef
from features.declaration import Window

WINDOW = Window(start=datetime(2024, 1, 1, tzinfo=UTC), end=datetime(2024, 2, 1, tzinfo=UTC))


def run_stage(
    settings: Settings, component: str, config: dict[str, Any], cache: bool = True, **inputs: ArtifactRef
) -> StageResult:
    """Run a component as the stage of its name in the pipeline `shop`."""
    request = StageRequest(
        component=component,
        config=config,
        inputs=inputs,
        window=WINDOW,
        pipeline="shop",
        stage=component,
        cache="all" if cache else "off",
    )
    return execute(request, settings=settings)
