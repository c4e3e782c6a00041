"""Does a search that its budget cut short go on? It does where the pipeline gives it more time."""

from __future__ import annotations

from components.platform.settings import Settings
from components.platform.store.publish import open_store
from components.train.tune_ranker.config import Config, Outputs
from components.train.tuned import read_tuning
from features.ground.durations import written


def goes_on(outputs: Outputs, config: Config, settings: Settings) -> str | None:
    """Return why a result that was made in less time than there is now does not hold, or None."""
    found = read_tuning(open_store(settings).fetch(outputs.tuned))
    if found.budget is None or not found.cut_short:
        return None
    if config.budget is not None and config.budget.total_seconds() <= found.budget:
        return None
    now = "no limit" if config.budget is None else written(config.budget)
    return f"its budget ended it after {found.trials} of {found.wanted} trials, and now there is {now}"
