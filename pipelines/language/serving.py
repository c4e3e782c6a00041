"""Is the file of a service right? Everything wrong with it is told at once, with its place, or its config comes out."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from components.platform.errors import MissingError, did_you_mean
from pipelines.language.load import names_file, pipeline_files, read
from pipelines.language.params import texts
from pipelines.language.problems import Finding, PipelineError
from pipelines.language.profile_spec import REFERENCE
from pipelines.language.rules.draft import Draft, judge
from registry.serving.wire.config import ServingConfig

SECRETS = (("listen", "token"), ("log", "hash_key"))
"""Keys whose values are fetched from where they point."""
FOLDER = "serving"
"""Folder of the files of services in a folder of pipelines."""


def serving_files() -> dict[str, Path]:
    """Return the file of every service by name; one of this tree hides an own one of the same name."""
    return pipeline_files(FOLDER)


def serving_file(name: str) -> Path:
    """Return the file of a service given by name or as a YAML file.

    Raises:
        MissingError: there is no service of this name; the message holds the nearest one.
    """
    path = Path(name) if names_file(name) else serving_files().get(name)
    if path is None or not path.is_file():
        raise MissingError(f"no service {name!r}{did_you_mean(name, serving_files())}")
    return path


def load_serving(path: Path) -> ServingConfig:
    """Return the checked config of a service.

    Raises:
        MissingError: there is no such file.
        PipelineError: it is wrong; the error holds every problem.
    """
    document = read(path, alone=True)
    stand_ins = {"name": "unnamed", "model": "unnamed"}
    draft, findings = judge(document, ServingConfig, stand_ins, Draft[ServingConfig], _RULES)
    problems = document.problems(findings)
    if problems or draft is None:
        raise PipelineError(problems)
    return draft.spec


def _named_like_its_file(draft: Draft[ServingConfig]) -> Iterator[Finding]:
    """A service is asked for by the name of its file."""
    return draft.misnamed("service")


def _references_are_of_secrets(draft: Draft[ServingConfig]) -> Iterator[Finding]:
    """Nothing but secrets is fetched from elsewhere."""
    for where, text in texts(draft.written):
        if "${" in text and where != ("description",) and not (where in SECRETS and REFERENCE.fullmatch(text)):
            fetched = " and ".join(".".join(map(str, place)) for place in SECRETS)
            yield Finding(where, f"a reference is not replaced here: only {fetched} are fetched, write the value")


def _challengers_are_others(draft: Draft[ServingConfig]) -> Iterator[Finding]:
    """What is compared with the version that answers is another one, and somewhere its answers are kept."""
    followed = draft.spec.follow.alias
    for name in ("shadow", "canary"):
        part = getattr(draft.spec, name)
        if part is not None and part.alias == followed:
            where = (name, "alias") if "alias" in draft.block(name) else (name,)
            yield Finding(
                where, f"the {name} is {followed!r}, which answers already: name the alias of another version"
            )
    if draft.spec.shadow is not None and draft.at("log") is None:
        yield Finding(("shadow",), "what a shadow says is kept in the log alone: give the service a log")


_RULES = (_named_like_its_file, _references_are_of_secrets, _challengers_are_others)
