"""Who may move the champion here? What the profile in use says, read from the environment as every place is.

A guard against mistakes, not against whoever holds the keys of MLflow: its own UI and API ask nobody here.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from typing import Annotated, TypeVar

from pydantic import AfterValidator, Field, TypeAdapter, ValidationError, WithJsonSchema

from features.declaration import Frozen, Name
from features.ground.errors import BadInputError, RankmillError

CHAMPION_VARIABLE = "RANKMILL_PROTECT_CHAMPION"
"""JSON of a `Movers`: who may move the champion; not set, everybody may."""
GROUPS_VARIABLE = "RANKMILL_GROUPS"
"""JSON: people by the name of their group."""
PIPELINE = "pipeline:"
"""What an actor begins with who is a pipeline."""
_PERSON = r"^[^\s,:\x00-\x1f]{1,200}$"


def _person(value: str) -> str:
    if not re.fullmatch(_PERSON, value):
        raise ValueError("must be the name that a person logs in with, or a group: no spaces, commas and colons")
    return value


Person = Annotated[str, AfterValidator(_person), WithJsonSchema({"type": "string", "pattern": _PERSON})]
"""Name that a person logs in with, or of a group of people."""
Groups = dict[Name, Annotated[tuple[Person, ...], Field(min_length=1)]]
Said = TypeVar("Said")


class NotAllowedError(RankmillError):
    """Whoever asks may not move the alias."""

    exit_code = 77  # EX_NOPERM


class Movers(Frozen):
    """Who may move an alias."""

    pipelines: tuple[Name, ...] = ()
    """Pipelines that may, by name; no other one."""
    people: tuple[Person, ...] = ()
    """People or groups that may by hand; nobody else."""


class Protection(Frozen):
    """Who may move the champion, and which people a group is."""

    champion: Movers | None = None
    """None lets everybody."""
    groups: Groups = Field(default_factory=dict)

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] | None = None) -> Protection:
        """Return what the variables of a profile say.

        Raises:
            BadInputError: one of them cannot be read; nothing is moved then.
        """
        env = os.environ if environ is None else environ
        return cls(
            champion=_read(TypeAdapter(Movers | None), env, CHAMPION_VARIABLE, "null"),
            groups=_read(TypeAdapter(Groups), env, GROUPS_VARIABLE, "{}"),
        )

    def people(self, names: Iterable[str]) -> tuple[str, ...]:
        """Return people by name, each group replaced by those in it, each once."""
        return tuple(dict.fromkeys(one for name in names for one in self.groups.get(name, (name,))))

    def refusal(self, actor: str, model: str) -> str | None:
        """Return in a sentence why somebody may not move the champion of a model, or None."""
        if self.champion is None:
            return None
        pipeline = actor.removeprefix(PIPELINE) if actor.startswith(PIPELINE) else None
        if pipeline is not None:
            if pipeline in self.champion.pipelines:
                return None
            may = f"pipelines that may: {', '.join(self.champion.pipelines) or 'none'}"
            return f"the profile protects the champion of {model} from pipeline {pipeline} ({may})"
        if actor in self.people(self.champion.people):
            return None
        may = f"people who may: {', '.join(self.champion.people) or 'nobody'}"
        return f"the profile protects the champion of {model} from {actor} ({may})"

    def check(self, actor: str, model: str) -> None:
        """Make sure that somebody may move the champion of a model.

        Raises:
            NotAllowedError: they may not.
        """
        if refusal := self.refusal(actor, model):
            raise NotAllowedError(f"{refusal}: ask one of them, or name {actor} under protect.champion of the profile")


def _read(kind: TypeAdapter[Said], env: Mapping[str, str], variable: str, default: str) -> Said:
    try:
        return kind.validate_json(env.get(variable) or default)
    except ValidationError:
        raise BadInputError(
            f"{variable} cannot be read, so nobody may move the champion: write protect and groups into the profile"
        ) from None
