"""Does the online store still hold what a cached result wrote there? If not, the stage runs again."""

from __future__ import annotations

from components.materialize_features.config import Config, Outputs
from components.materialize_features.marker import outdated_views, read_markers
from components.materialize_features.sentences import one_sentence
from components.settings import Settings
from components.store import open_store
from features.service import ServiceSnapshot
from features.store import embedded_online_store, online_identity, views_without_values


def online_store_is_current(outputs: Outputs, config: Config, settings: Settings) -> str | None:
    """Return why the online store needs these feature tables written again, or None."""
    if not config.online:
        return None
    database = embedded_online_store(settings.feast)
    if database is not None and not database.exists():
        return f"the online store {database} is gone"
    markers = read_markers(settings.feast, online_identity(settings.feast))
    own = markers.get(config.feature_service)
    same = own is not None and own.digest == outputs.feature_tables.digest
    if same and database is not None:
        return None
    local = open_store(settings).fetch(outputs.feature_tables)
    snapshot = ServiceSnapshot.model_validate_json((local / "service.json").read_text(encoding="utf-8"))
    if database is None:
        # The marker is a file of ours; a server may have lost its values, or the configuration name another one.
        with one_sentence(online_identity(settings.feast)):
            lost = views_without_values(settings.feast, local, snapshot)
        if lost:
            return f"the online store holds no values of {', '.join(lost)}"
        if same:
            return None
    newer = markers and all(
        view not in outdated_views(markers, snapshot.views, snapshot.window) for view in snapshot.views
    )
    if newer:
        return None
    return f"the online store does not hold service {config.feature_service!r} of {snapshot.window}"
