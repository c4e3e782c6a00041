"""Does the online store still hold what a cached result wrote there? If not, the stage runs again."""

from __future__ import annotations

from components.materialize_features.config import Config, Outputs
from components.materialize_features.marker import outdated_views, read_markers
from components.settings import Settings
from components.store import open_store
from features.service import ServiceSnapshot
from features.store import embedded_online_store, online_identity


def online_store_is_current(outputs: Outputs, config: Config, settings: Settings) -> str | None:
    """Return why the online store needs these feature tables written again, or None."""
    if not config.online:
        return None
    database = embedded_online_store(settings.feast)
    if database is not None and not database.exists():
        return f"the online store {database} is gone"
    markers = read_markers(settings.feast, online_identity(settings.feast))
    own = markers.get(config.feature_service)
    if own is not None and own.digest == outputs.feature_tables.digest:
        return None
    local = open_store(settings).fetch(outputs.feature_tables)
    snapshot = ServiceSnapshot.model_validate_json((local / "service.json").read_text(encoding="utf-8"))
    newer = markers and all(
        view not in outdated_views(markers, snapshot.views, snapshot.window) for view in snapshot.views
    )
    if newer:
        return None
    return f"the online store does not hold service {config.feature_service!r} of {snapshot.window}"
