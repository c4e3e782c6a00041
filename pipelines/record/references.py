"""What refers to artifacts? Registered versions and memories; pinned, live and last successful runs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from components.platform.errors import MissingError
from components.platform.settings import Settings
from components.platform.store.collect import References
from pipelines.record.runs import RecordedRun, recorded_runs

if TYPE_CHECKING:
    from registry.versions.memory_pointer import MemoryPointer


def references(settings: Settings) -> References:
    """Return everything that must stay in the store whatever its age.

    A registered version keeps its own model and its error memory; one behind an alias keeps all that
    it was made from as well.

    Raises:
        RankmillError: the registry cannot be read; then nothing may be deleted.
    """
    uris = {ref.uri for run in kept_runs(settings) for result in run.results for ref in result.outputs.values()}
    digests: set[str] = set()
    roots: set[str] = set()
    for version_digests, aliased, pointer in _versions(settings):
        (roots if aliased else digests).update(version_digests)
        if pointer is not None:
            uris.add(pointer.uri)
            digests.add(pointer.digest)
    return References(frozenset(uris), frozenset(digests), frozenset(roots))


def kept_runs(settings: Settings) -> Iterator[RecordedRun]:
    """Yield the runs whose artifacts stay: pinned ones, live ones, and the last successful one of each pipeline."""
    served: set[str] = set()
    for run in recorded_runs(settings):
        last = run.state == "success" and run.start.pipeline not in served
        if last:
            served.add(run.start.pipeline)
        if last or run.pinned or run.state == "running":
            yield run


def _versions(settings: Settings) -> Iterator[tuple[set[str], bool, MemoryPointer | None]]:
    from registry.versions.client import Registry
    from registry.versions.memory_pointer import pointer_in

    registry = Registry(settings.tracking_uri, settings.mlflow_artifacts)
    try:
        models = registry.models()
    except MissingError:  # nothing was ever registered
        return
    for model in models:
        for listed in registry.versions(model):
            version = listed.version
            digests = {version.digest, version.ranker_digest, version.report_digest} - {""}
            yield digests, bool(listed.aliases), pointer_in(listed.tags)
