"""What refers to artifacts? Registered versions and memories; pinned, live and last successful runs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from components.platform.settings import Settings
from components.platform.store.collect import References
from pipelines.record.runs import RecordedRun, recorded_runs

if TYPE_CHECKING:
    from registry.versions.client import ListedVersion


def references(settings: Settings, versions: Iterable[ListedVersion]) -> References:
    """Return everything that must stay in the store whatever its age.

    A registered version keeps its own model and its error memory; one behind an alias keeps all that
    it was made from as well.

    Args:
        settings: where runs are recorded.
        versions: the registered versions that stay.
    """
    from registry.versions.memory_pointer import pointer_in

    uris = {ref.uri for run in kept_runs(settings) for result in run.results for ref in result.outputs.values()}
    digests: set[str] = set()
    roots: set[str] = set()
    for listed in versions:
        version, pointer = listed.version, pointer_in(listed.tags)
        (roots if listed.aliases else digests).update(
            {version.digest, version.ranker_digest, version.report_digest} - {""}
        )
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
