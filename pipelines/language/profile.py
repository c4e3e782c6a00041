"""Which place does a run belong to? A profile: a file that sets where the engines live, and what a run has there.

A profile is the written form of the environment variables that `components.platform.settings` reads: to use
it means to set them for this process and its children. Its values win over the environment's, so that
a run never writes to a place that a forgotten variable names.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Mapping, MutableMapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from components.platform.errors import BadInputError, MissingError, did_you_mean
from features.ground.yaml_text import KeyPath
from pipelines.language.document import Document, shown
from pipelines.language.hiding import PASSWORD, remember, without_passwords
from pipelines.language.load import names_file, pipeline_files, read
from pipelines.language.problems import Finding, PipelineError, Problem
from pipelines.language.profile_spec import PATHS, PLACES, REFERENCE, SECRETS, VARIABLES, ProfileSpec
from pipelines.language.rules.draft import Draft, judge
from pipelines.language.rules.profile import PROFILE_RULES, SECRET_NAME

ACTIVE = "RANKMILL_PROFILE"
"""Environment variable with the name, or the file, of the profile in use."""
FOLDER = "profiles"
"""Folder of profile files, beside the pipelines of this tree and beside your own."""
_ENTRY = re.compile(r"([A-Za-z0-9_]+)[\"']?\s*:\s*[\"']?(\S+)")
Fetch = Callable[[str], str | None]
"""Gives the URI of an Airflow connection, or None where there is none of this id."""


@dataclass(frozen=True)
class Profile(Draft[ProfileSpec]):
    """A checked profile; references unresolved."""

    document: Document

    @property
    def variables(self) -> dict[str, tuple[KeyPath, str]]:
        """Variables that it sets: key path in the file, and value as written."""
        keyed = {
            variable: (where, value if isinstance(value, str) else json.dumps(value))
            for where, variable in VARIABLES.items()
            if (value := self.at(*where)) is not None
        }
        return keyed | {name: (("environment", name), value) for name, value in self.spec.environment.items()}


def profile_files() -> dict[str, Path]:
    """Return every profile file by name; one of this tree hides an own one of the same name."""
    return pipeline_files(FOLDER)


def profile_file(name: str) -> Path:
    """Return the file of a profile given by name or as a YAML file.

    Raises:
        MissingError: there is no profile of this name.
    """
    if names_file(name):
        return Path(name)
    files = profile_files()
    if name not in files:
        raise MissingError(f"no profile {name!r}{did_you_mean(name, files)}")
    return files[name]


def load_profile(path: Path) -> Profile:
    """Return the checked profile of a file.

    Raises:
        MissingError: there is no such file.
        PipelineError: it is wrong; the error holds every problem, and no secret that stands in the file.
    """
    document = read(path, alone=True)
    profile, findings = judge(
        document, ProfileSpec, {"name": "unnamed"}, partial(Profile, document=document), PROFILE_RULES
    )
    problems = document.problems(replace(finding, message=_discreet(finding)) for finding in findings)
    if problems or profile is None:
        raise PipelineError(_safe(problems))
    return profile


def active_profile(name: str | None = None) -> Profile | None:
    """Return the profile that is asked for, else the one in use, or None.

    Raises:
        MissingError: there is none of that name, or of the one in ``RANKMILL_PROFILE``.
        PipelineError: its file is wrong.
    """
    name = name or os.environ.get(ACTIVE)
    return load_profile(profile_file(name)) if name else None


def use_profile(
    name: str | None, environ: MutableMapping[str, str] | None = None, fetch: Fetch | None = None
) -> Profile | None:
    """Set the variables of a profile for this process and its children.

    Args:
        name: name or file; None takes the one that ``RANKMILL_PROFILE`` names.
        environ: environment to read references from and to write to; this process' when None.
        fetch: where connections are looked up that no ``AIRFLOW_CONN_…`` variable holds.

    Returns:
        The profile, or None when none is in use.

    Raises:
        MissingError: there is no such profile.
        PipelineError: its file is wrong.
        BadInputError: there is nothing where a reference points, or a place holds a password; all of it at once.
    """
    env = os.environ if environ is None else environ
    name = name or env.get(ACTIVE)
    if not name:
        return None
    profile = load_profile(profile_file(name))
    values, wrong = {}, []
    for variable, (where, text) in profile.variables.items():
        try:
            values[variable] = _value(profile, where, text, env, fetch)
        except BadInputError as error:
            wrong.append(str(error))
    if wrong:
        raise BadInputError("\n".join(wrong))
    remember(
        values[variable]
        for variable, (where, text) in profile.variables.items()
        if where not in PLACES and REFERENCE.fullmatch(text)
    )
    env.update(values)
    env[ACTIVE] = name if name in profile_files() else str(profile.path.resolve())
    return profile


def _value(profile: Profile, where: KeyPath, text: str, env: Mapping[str, str], fetch: Fetch | None) -> str:
    """Return the value of a key, fetched where it is a reference."""
    value: str | None = text
    if match := REFERENCE.fullmatch(text):
        variable = match["name"] if match["kind"] == "env" else f"AIRFLOW_CONN_{match['name'].upper()}"
        value = env.get(variable)
        if not value and match["kind"] == "connection" and fetch is not None:
            value = fetch(match["name"])
        if not value:
            what = f"the environment variable {variable}"
            what = what if match["kind"] == "env" else f"the Airflow connection {match['name']!r} ({variable})"
            raise BadInputError(f"{_place(profile, where)}: profile {profile.spec.name!r} needs {what}: set it")
        if match["kind"] == "connection" and "://" not in value:
            raise BadInputError(
                f"{_place(profile, where)}: {variable} must hold a URI: write scheme://user:password@host"
            )
    if where in PLACES and PASSWORD.search(value or ""):
        raise BadInputError(
            f"{_place(profile, where)}: the value of {where[-1]} holds a password, and places stand in records: "
            "give the engine its keys in environment:"
        )
    if where in PATHS and not (value or "").startswith("/"):
        raise BadInputError(f"{_place(profile, where)}: the value of {where[-1]} is no absolute path: write one")
    return value or ""


def _place(profile: Profile, where: KeyPath) -> str:
    span = profile.document.span(where)
    return f"{shown(profile.path)}:{span.line}:{span.column}"


def _discreet(finding: Finding) -> str:
    """Return a finding's message without what may be a secret."""
    where: Any = finding.where
    named = len(where) > 1 and where[0] == "environment" and SECRET_NAME.search(str(where[1]))
    if (where in SECRETS or named) and finding.at == "value":
        return f"{where[1]} is a secret: write ${{env:NAME}} or ${{connection:ID}} as the value"
    return finding.message


def _safe(problems: list[Problem]) -> list[Problem]:
    """Show no line that may hold a secret."""
    return [
        replace(
            problem,
            source="" if _holds_a_secret(problem.source) else problem.source,
            message=without_passwords(problem.message),
        )
        for problem in problems
    ]


def _holds_a_secret(line: str) -> bool:
    named = any(SECRET_NAME.search(key.upper()) and not value.startswith("${") for key, value in _ENTRY.findall(line))
    return named or PASSWORD.search(line) is not None
