"""What does the online store hold, and who put it there? One small file per service, written last."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from pydantic import AwareDatetime, ValidationError

from features.declaration import Frozen, Name, Window
from features.errors import BadInputError
from features.files import write_durably


class OnlineMarker(Frozen):
    """The last finished write of a service into the online store.

    Attributes:
        service: feature service.
        digest: digest of the `FeatureTables` that the values come from.
        window: impressions that they were computed from.
        views: feature views written.
        online: identity of the online store, see `features.store.online_identity`.
        finished_at: when the write ended.
        definitions: name of the file that defines the service; empty for `features/definitions/`.
    """

    service: Name
    digest: str
    window: Window
    views: tuple[str, ...]
    online: str
    finished_at: AwareDatetime
    definitions: str = ""


def folder(feast: Path) -> Path:
    """Return the folder of the markers."""
    return feast / "materialized"


def write_marker(feast: Path, marker: OnlineMarker) -> None:
    """Replace the marker of a service atomically."""
    write_durably(folder(feast) / f"{marker.service}.json", marker.model_dump_json(indent=2))


def read_markers(feast: Path, online: str) -> dict[str, OnlineMarker]:
    """Return the markers of one online store by service; one that cannot be read counts as absent."""
    found = {}
    for path in sorted(folder(feast).glob("*.json")):
        try:
            marker = OnlineMarker.model_validate_json(path.read_text(encoding="utf-8"))
        except ValidationError:
            continue
        if marker.online == online:
            found[marker.service] = marker
    return found


def refuse_foreign_views(markers: dict[str, OnlineMarker], views: tuple[str, ...], definitions: str) -> None:
    """Check that no view was written by another file's definitions, which would give one name two meanings.

    Raises:
        BadInputError: one was.
    """
    for marker in markers.values():
        shared = sorted({*marker.views} & {*views})
        if shared and marker.definitions != definitions:
            raise BadInputError(
                f"feature view {shared[0]!r} of {definitions or 'features/definitions/'} is in the online store by "
                f"{marker.definitions or 'features/definitions/'} (service {marker.service!r}): rename one of the two"
            )


def newest_end(markers: dict[str, OnlineMarker], view: str) -> datetime | None:
    """Return the end of the latest window that a view holds values of, whichever service wrote them."""
    return max((marker.window.end for marker in markers.values() if view in marker.views), default=None)


def outdated_views(markers: dict[str, OnlineMarker], views: tuple[str, ...], window: Window) -> list[str]:
    """Return the views that this window may write: those without values of a later window."""
    ends = {view: newest_end(markers, view) for view in views}
    return [view for view, end in ends.items() if end is None or end <= window.end]
