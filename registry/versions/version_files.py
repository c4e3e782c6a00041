"""Where do the files of a registered version lie, and is that a place that may be opened?

A version says where its files are, and whoever may write to MLflow may say anything: a chain of drivers such as
``zip://x::http://…``, a folder of this machine, a server inside the network. Only what lies below the configured
roots is opened, after ``models:/`` and ``runs:/`` have been followed to where they lead.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import unquote, urlparse

from features.ground.errors import BadInputError
from features.ground.plain_names import is_plain
from features.ground.remote_files import name_below
from registry.versions.database import shown, sqlite_file

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

_HOPS = 5
"""So many URIs of MLflow's own may lead to one another."""
_SERVED = "mlflow-artifacts:/"
"""Files that the tracking server itself hands out; with a host it would be any server."""


def location(client: MlflowClient, version: ModelVersion, tracking_uri: str, artifact_root: str | None) -> str:
    """Return the URI of a version's files, which lies below a root that this installation trusts.

    Raises:
        BadInputError: it lies elsewhere; nothing was opened.
    """
    uri = client.get_model_version_download_uri(version.name, str(version.version))
    for _ in range(_HOPS):
        following = _followed(client, uri)
        if following is None:
            break
        uri = following
    roots = roots_of(tracking_uri, artifact_root)
    served = tracking_uri.startswith(("http:", "https:")) and _is_served(uri)
    if served or any(name_below(root, uri) is not None for root in roots):
        return uri
    scheme = urlparse(uri).scheme or "file"
    places = ", ".join([*map(without_secrets, roots), *([_SERVED] if tracking_uri.startswith("http") else [])])
    raise BadInputError(
        f"files of {version.name} v{version.version} are not opened: their {scheme}: URI {without_secrets(uri)!r} "
        f"lies outside the configured roots ({places or 'none'}); register the model again, or set "
        f"RANKMILL_MLFLOW_ARTIFACTS to the place that MLflow keeps files in"
    )


def _followed(client: MlflowClient, uri: str) -> str | None:
    """Return where a URI of MLflow's own leads, or None where it is a place already or leads nowhere."""
    scheme, _, rest = uri.partition(":/")
    first, _, more = rest.partition("/")
    if scheme == "models" and first.startswith("m-"):
        place = str(client.get_logged_model(first).artifact_location)
    elif scheme == "models" and more.partition("/")[0].isdecimal():
        number, _, more = more.partition("/")
        place = client.get_model_version_download_uri(first, number)
    elif scheme == "runs" and first:
        place = str(client.get_run(first).info.artifact_uri)
    else:
        return None
    return f"{place.rstrip('/')}/{more}" if more else place


def _is_served(uri: str) -> bool:
    return uri.startswith(_SERVED) and is_plain(unquote(uri.removeprefix(_SERVED)))


def roots_of(tracking_uri: str, artifact_root: str | None) -> list[str]:
    """Return the configured folder, and the one beside an SQLite file, which holds files of runs of no experiment."""
    file = sqlite_file(tracking_uri)
    beside = [(file.parent / "artifacts").as_uri()] if file is not None else []
    return list(dict.fromkeys([*([artifact_root] if artifact_root else []), *beside]))


def without_secrets(uri: str) -> str:
    """Return a URI as messages show it: no user, password or signed query, and not of any length."""
    plain = shown(uri.partition("?")[0])
    return plain if len(plain) <= 200 else f"{plain[:200]}…"
