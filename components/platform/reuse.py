"""Which earlier result may a stage take instead of running? One answer for the plan and for the run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from components.platform.cache import RUN, SOURCE, CacheMode, cache_key, without
from components.platform.contract import ComponentSpec
from components.platform.records import StageRecord
from components.platform.store import Store

Start = Literal["cache", "anew", "taken"]
"""How a stage of a run comes to its result: `cache`: from the store where its cache mode finds it there, else by
running; `anew`: by running, whatever the store has; `taken`: from the store only, as it was last made."""


def looks_back(spec: ComponentSpec, mode: CacheMode, start: Start) -> bool:
    """Return whether a stage may take an earlier result at all."""
    return start == "taken" or (start == "cache" and spec.cacheable and mode != "off")


def earlier_result(
    store: Store, spec: ComponentSpec, parts: Mapping[str, str], mode: CacheMode, start: Start
) -> StageRecord | None:
    """Return the newest earlier result that a stage may take, or None.

    Args:
        store: the artifact store.
        spec: the component.
        parts: named parts of the stage's key, without `RUN`.
        mode: the stage's cache mode.
        start: `cache`, or `taken`: then a result counts too that never took anything from the store itself.
    """
    if not looks_back(spec, mode, start):
        return None
    exact = store.find(spec.name, cache_key(parts)) if spec.cacheable and mode != "off" else None
    if exact is not None or (mode == "all" and spec.cacheable):
        return exact
    ignored = (SOURCE,) if mode == "inputs" else ()
    wanted = without(parts, *ignored)
    for record in store.records(spec.name):
        made = without(record.explanation, *ignored)
        if start == "taken":
            made.pop(RUN, None)
        if made == wanted:
            return record
    return None
