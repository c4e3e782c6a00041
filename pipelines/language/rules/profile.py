"""Does a profile make sense, keep its secrets out of the file, and have what a pipeline asks for?"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from features.ground.yaml_text import KeyPath, quoted
from pipelines.language.document import shown
from pipelines.language.hiding import PASSWORD
from pipelines.language.params import references, texts
from pipelines.language.problems import Finding
from pipelines.language.profile_spec import PATHS, REFERENCE, SECRETS, VARIABLES, ProfileSpec
from pipelines.language.rules.draft import Draft, PipelineDraft

SECRET_NAME = re.compile(r"SECRET|PASSWORD|PASSWD|TOKEN|CREDENTIAL|PRIVATE|(^|_)KEY(_ID)?$")
"""Names of variables whose values are no business of a file."""
OVERLAID = ("device", "provider", "workers")
"""Keys of a `with:` block that a profile gives where the pipeline does not."""

ProfileRule = Callable[[Draft[ProfileSpec]], Iterator[Finding]]


def overlay(profile: ProfileSpec) -> dict[str, Any]:
    """Return what a profile gives to stages that have the key and do not set it."""
    given = {"device": profile.device, "provider": profile.provider, "workers": profile.resources.workers}
    return {key: value for key, value in given.items() if value is not None}


def named_like_its_file(draft: Draft[ProfileSpec]) -> Iterator[Finding]:
    """A profile is asked for by the name of its file."""
    return draft.misnamed("profile")


def secrets_are_references(draft: Draft[ProfileSpec]) -> Iterator[Finding]:
    """No password stands in the file."""
    for where, text in texts(draft.written):
        if REFERENCE.fullmatch(text):
            continue
        if PASSWORD.search(text):
            yield Finding(where, "a password stands in the file: write ${env:NAME} or ${connection:ID} as the value")
        elif where in SECRETS or (where[:1] == ("environment",) and SECRET_NAME.search(str(where[-1]))):
            yield Finding(where, f"{where[-1]} is a secret: write ${{env:NAME}} or ${{connection:ID}} as the value")


def references_are_whole(draft: Draft[ProfileSpec]) -> Iterator[Finding]:
    """A reference stands alone and is of a kind that can be fetched."""
    for where, text in texts(draft.written):
        if "${" in text and where != ("description",) and not REFERENCE.fullmatch(text):
            message = f"{quoted(text)} is not replaced: write ${{env:NAME}} or ${{connection:ID}} as the whole value"
            yield Finding(where, message)


def paths_are_absolute(draft: Draft[ProfileSpec]) -> Iterator[Finding]:
    """A folder means the same wherever a command is started."""
    for where in PATHS:
        value = draft.at(*where)
        if isinstance(value, str) and "${" not in value and not value.startswith("/"):
            yield Finding(where, f"{where[-1]} is {quoted(value)}: write an absolute path")


def variables_with_a_key_are_set_by_it(draft: Draft[ProfileSpec]) -> Iterator[Finding]:
    """What has a key of its own is not set twice."""
    keys = {variable: ".".join(map(str, where)) for where, variable in VARIABLES.items()}
    for name in draft.spec.environment:
        if name in keys:
            yield Finding(("environment", name), f"{name} has a key of its own: write {keys[name]}: instead", "key")


def it_has_the_gpus_that_it_asks_for(draft: Draft[ProfileSpec]) -> Iterator[Finding]:
    """`cuda` needs a GPU, and training one per worker."""
    profile = draft.spec
    gpus = profile.resources.gpus
    for key in ("device", "provider"):
        if getattr(profile, key) == "cuda" and gpus == 0:
            yield Finding(
                (key,), f"{key} is cuda, but the profile has no GPU: give resources.gpus or write {key}: auto"
            )
    workers = profile.resources.workers
    if profile.device == "cuda" and workers is not None and 0 < gpus < workers:
        message = f"{workers} workers need a GPU each, but the profile has {gpus}: raise gpus or lower workers"
        yield Finding(("resources", "workers"), message)


PROFILE_RULES: tuple[ProfileRule, ...] = (
    named_like_its_file,
    secrets_are_references,
    references_are_whole,
    paths_are_absolute,
    variables_with_a_key_are_set_by_it,
    it_has_the_gpus_that_it_asks_for,
)
"""Every rule about a profile alone."""


def gpus_are_there(draft: PipelineDraft) -> Iterator[Finding]:
    """A stage asks for a GPU only where the profile in use has one, and training for one per worker."""
    if draft.profile is None:
        return
    profile, file = draft.profile.spec, shown(draft.profile.path)
    gpus = profile.resources.gpus
    for name, stage, component in draft.stages():
        here: KeyPath = ("stages", name, "with")
        written = draft.with_block(name)
        asked = {key: value for key, value in overlay(profile).items() if key in component.config.model_fields}
        asked |= {key: written[key] for key in OVERLAID if key in written}
        for key in ("device", "provider"):
            if written.get(key) == "cuda" and gpus == 0:
                param = references(stage.with_).get((key,))
                via = f" (the default of param {quoted(param)})" if param else ""
                yield Finding(
                    (*here, key),
                    f"{key} is cuda{via}, but profile {quoted(profile.name)} has no GPU: write {key}: auto here, "
                    f"or resources.gpus in {file}",
                )
        workers = asked.get("workers")
        workers = workers.get("min", 1) if isinstance(workers, Mapping) else workers  # with fewer it does not start
        if asked.get("device") == "cuda" and isinstance(workers, int) and 0 < gpus < workers:
            where = (*here, next((key for key in ("workers", "device") if key in written), "device"))
            yield Finding(
                where if len(where) > 3 and where[-1] in written else ("stages", name),
                f"{workers} workers need a GPU each, but profile {quoted(profile.name)} has {gpus}: lower workers "
                f"here, or raise resources.gpus in {file}",
            )
