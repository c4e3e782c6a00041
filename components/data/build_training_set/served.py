"""Where do the columns of a training set come from? What its `features.json` tells a server."""

from __future__ import annotations

from collections.abc import Mapping

from components.platform.store.records import sha256_json
from features.services.served import Freshness, ServedColumn, ServedFeatures
from features.services.service import ServiceSnapshot


def served_features(
    snapshot: ServiceSnapshot, joined: Mapping[str, str], given: Mapping[str, str], freshness: Freshness | None
) -> ServedFeatures:
    """Return where the columns of a training set come from.

    Args:
        snapshot: the service, as its tables were computed.
        joined: joined features and their Feast dtypes.
        given: other columns of the impression that are known when it is asked about, and their dtypes.
        freshness: how the features were joined.
    """
    sources = {source.view: source for source in snapshot.sources}
    views = {feature.name: feature.view for feature in snapshot.features}
    told = {name: dtype for name, dtype in (snapshot.keys | dict(given)).items() if name not in joined}
    columns = [ServedColumn(name=name, dtype=dtype) for name, dtype in told.items()]
    for name, dtype in joined.items():
        source = sources[views[name]]
        columns.append(
            ServedColumn(
                name=name, dtype=dtype, view=source.view, keys=tuple(sorted(source.keys)), ttl_days=source.ttl_days
            )
        )
    return ServedFeatures(
        service=snapshot.service,
        definitions=digest_of(snapshot),
        freshness=freshness,
        columns=tuple(sorted(columns, key=lambda column: column.name)),
    )


def digest_of(snapshot: ServiceSnapshot) -> str:
    """Return the sha256 of what a service's definitions say: features, views, keys and TTLs."""
    return sha256_json(snapshot.model_dump(mode="json", include={"service", "features", "sources"}))
