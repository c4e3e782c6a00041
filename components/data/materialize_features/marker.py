"""What does the online store hold, and who put it there? One small file per service, written last."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Literal

from pydantic import AwareDatetime, Field, ValidationError

from features.declaration import Frozen, Name, Window
from features.ground.errors import BadInputError
from features.ground.files import write_durably


class OnlineMarker(Frozen):
    """The last finished write of a service into the online store."""

    service: Name
    """Feature service."""
    digest: str
    """Digest of the `FeatureTables` that the values come from."""
    window: Window
    """Impressions that they were computed from."""
    views: tuple[str, ...]
    """Feature views that hold the values of these tables."""
    values: dict[str, str] = Field(default_factory=dict)
    """sha256 of the table behind each of them, with the events of its histories. A view that lacks it is written again:
    one whose tables are being computed, or that an earlier release wrote."""
    online: str
    """Identity of the online store, see `features.joins.store.online_identity`."""
    finished_at: AwareDatetime
    """When the write ended."""
    definitions: str = ""
    """Name of the file that defines the service; empty for `features/definitions/`."""


def folder(feast: Path) -> Path:
    """Return the folder of the markers."""
    return feast / "materialized"


def write_marker(feast: Path, marker: OnlineMarker) -> None:
    """Replace the marker of a service atomically."""
    write_durably(_file(feast, marker.service), marker.model_dump_json(indent=2))


def _file(feast: Path, service: str) -> Path:
    return folder(feast) / f"{service}.json"


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


def distrust(feast: Path, markers: Iterable[OnlineMarker], views: Collection[str]) -> None:
    """Forget which values some views hold, though not of which window: they are written again, whoever asks."""
    for marker in markers:
        values = {view: digest for view, digest in marker.values.items() if view not in views}
        if values != marker.values:
            write_marker(feast, marker.model_copy(update={"values": values}))


def delete_markers(feast: Path, markers: Iterable[OnlineMarker]) -> None:
    """Delete the markers of an online store that is gone."""
    for marker in markers:
        _file(feast, marker.service).unlink(missing_ok=True)


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


def standing(
    markers: dict[str, OnlineMarker], view: str, values: str, window: Window
) -> Literal["held", "later", "outdated"]:
    """Return how a view in the online store stands to a table of a window; `values` is the sha256 of the table.

    Returns:
        `later`: it holds values of a later window, whichever service wrote them; `held`: it holds these values;
        `outdated`: it holds older ones, other ones or none.
    """
    writers = [marker for marker in markers.values() if view in marker.views]
    if not writers:
        return "outdated"
    if max(marker.window.end for marker in writers) > window.end:
        return "later"
    # Services share views: what counts is who wrote this one last.
    last = max(writers, key=lambda marker: marker.finished_at)
    return "held" if last.values.get(view) == values else "outdated"
