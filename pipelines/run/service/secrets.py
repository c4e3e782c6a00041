"""Which secrets does a service's file refer to, and what do they hold on this machine?"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

from components.platform.errors import BadInputError
from pipelines.language.profile_spec import REFERENCE
from registry.serving.wire.config import ServingConfig

if TYPE_CHECKING:
    from registry.serving.log.served_rows import Hashes


def resolved_token(config: ServingConfig) -> str | None:
    """Return the token that a config refers to; raise BadInputError where nothing is where it points."""
    return _secret(config, config.listen.token, "token")


def log_hashes(config: ServingConfig) -> Hashes | None:
    """Return which columns the log keeps as hashes; raise BadInputError where their secret is not there."""
    from registry.serving.log.served_rows import Hashes

    if config.log is None or not config.log.hash:
        return None
    return Hashes(config.log.hash, (_secret(config, config.log.hash_key, "hash_key") or "").encode())


def secret_variables(config: ServingConfig) -> tuple[str, ...]:
    """Return the environment variables that a config's references name."""
    references = (config.listen.token, config.log.hash_key if config.log is not None else None)
    return tuple(_variable(match) for text in references if text and (match := REFERENCE.fullmatch(text)))


def _secret(config: ServingConfig, reference: str | None, what: str) -> str | None:
    match = REFERENCE.fullmatch(reference) if reference else None
    if match is None:
        return None
    variable = _variable(match)
    value = os.environ.get(variable, "")
    if match["kind"] == "connection" and value:
        from urllib.parse import unquote, urlparse

        value = unquote(urlparse(value).password or "")
    if not value:
        raise BadInputError(f"service {config.name!r} needs its {what} in the environment variable {variable}: set it")
    return value


def _variable(match: re.Match[str]) -> str:
    return match["name"] if match["kind"] == "env" else f"AIRFLOW_CONN_{match['name'].upper()}"
