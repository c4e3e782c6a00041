"""Can today's ranker start from the predecessor's weights? Only if the same number means the same thing in both."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Self

from components.data.training_set import read_schema
from components.rankers.config import RankerConfig
from features.declaration import Declaration, RankerSchema
from features.encoding.encoder import Encoder
from features.encoding.files import read_encoder
from features.encoding.fitted import FittedField


@dataclass(frozen=True)
class Described:
    """A ranker without its weights."""

    config: RankerConfig
    schema: RankerSchema
    encoder: Encoder

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Return what the files of a `Ranker` say."""
        from components.train.ranker_files import CONFIG

        return cls(
            RankerConfig.model_validate_json((folder / CONFIG).read_text(encoding="utf-8")),
            read_schema(folder),
            read_encoder(folder),
        )


def unlike(before: Described, today: Described) -> str | None:
    """Return one clause that says why the predecessor's weights are of no use today, or None when they are."""
    old, new = before.config.model_dump(), today.config.model_dump()
    if before.config.name != today.config.name:
        return f"its ranker is {before.config.name!r}"
    if changed := sorted(key for key in {*old, *new} if old.get(key) != new.get(key)):
        return f"its ranker has another {', '.join(changed)}"
    if _roles(before) != _roles(today):
        return "it was trained with other roles or feedback"
    theirs, ours = ({field.name: field for field in made.encoder.fitted} for made in (before, today))
    if missing := sorted({*theirs} ^ {*ours}):
        return f"it has other features: {', '.join(missing)} on one side only"
    if unread := sorted(name for name in ours if theirs[name].content_by != ours[name].content_by):
        then, now = (side[unread[0]].content_by or "nobody" for side in (theirs, ours))
        return f"its vectors of {', '.join(unread)} were made by {then}, today's by {now}"
    if other := sorted(name for name in ours if _means(theirs[name]) != _means(ours[name])):
        return f"it encodes {', '.join(other)} in another way"
    if before.schema.sides != today.schema.sides:
        return "its features describe another side, user or item"
    if new.get("domain", "none") != "none" and (added := sorted(_domains(today) - _domains(before))):
        return f"it has no weights for domain {', '.join(added)}"
    return None


def domain_tables(schema: RankerSchema) -> tuple[str, ...]:
    """Return the table of the domain, whose values may have weights of their own, if it has one."""
    return tuple(f.table for f in schema.fields if f.name == schema.declaration.domain and f.table)


def _roles(made: Described) -> Declaration:
    """Return the roles that weights depend on: neither who is judged apart nor by which metric."""
    return made.schema.declaration.model_copy(update={"group": None, "judge_by": "auc"})


def _means(field: FittedField) -> FittedField:
    """Return how a field is encoded, without the numbers that today's training takes over."""
    return field.model_copy(update={"mean": 0.0, "scale": 1.0, "edges": (), "scores": (), "misses": False})


def _domains(made: Described) -> set[str]:
    tables = domain_tables(made.schema)
    return {str(value) for table in tables for value in made.encoder.vocabularies.get(table, ())}
