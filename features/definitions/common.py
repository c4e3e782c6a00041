"""What do the definitions of every data set share? Sources, lifetimes, and the fields a recipe gives by itself."""

from __future__ import annotations

from datetime import timedelta

from feast import Entity, Field, FileSource, ValueType
from feast.types import Array, Float32, Float64, Int64, String

from features.definitions.recipe import Activity, Count, Decay, Distinct, Last, Part, Rate, Since, Sum

# One meaning of TTL: a row older than this at the impression counts as missing, offline and online.
# Whole days only, because the offline store rejects mixed units; zero means that it never expires.
NEVER = timedelta(0)

# Tags carry the default encoding: the keys of `features.declaration.FieldEncoding`, and `role: auxiliary`
# for a feature that the ranker does not see unless the pipeline includes it by name.
COUNT = {"kind": "bin", "buckets": "32"}
AUXILIARY = {"role": "auxiliary"}

user = Entity(
    name="user", join_keys=["user_id"], value_type=ValueType.INT64, description="A person who is shown items."
)


def source(name: str, description: str) -> FileSource:
    """Return the source of a view: the file `<name>.parquet` that its recipe fills."""
    return FileSource(
        name=name,
        path=f"{name}.parquet",
        timestamp_field="event_timestamp",
        created_timestamp_column="created_timestamp",
        description=description,
    )


def activity_fields(recipe: Activity, *, binned: bool = False) -> list[Field]:
    """Return the fields that an activity has whatever it lists: its count, its parts and the gap.

    Args:
        recipe: what they are made by.
        binned: whether rates are binned as everything else is, so that a missing one has a row of its own: for keys
            of which most are new.
    """
    return [
        Field(name=recipe.count, dtype=Int64, tags=COUNT, description="Since the window's start."),
        *(
            Field(
                name=recipe.name(part),
                dtype={"int64": Int64, "float32": Float32, "float64": Float64}[recipe.dtype(part)],
                tags={} if isinstance(part, Rate) and not binned else COUNT,
                description=_described(part),
            )
            for part in recipe.parts
        ),
        Field(name=recipe.gap, dtype=Float64, tags=COUNT, description="Between the last two timestamps."),
    ]


def _described(part: Part) -> str:
    if isinstance(part, Since):
        return f"Seconds from the last event with {part.name or part.where} to the newest one."
    if isinstance(part, Sum) and part.days is not None:
        return f"Sum in the {part.days} days up to the newest event."
    what = {
        Rate: f"Smoothed towards {part.prior:g}" if isinstance(part, Rate) else "",
        Sum: "Sum",
        Count: "How many",
        Distinct: "How many different values",
    }[type(part)]
    return f"{what}{_while(part.over)}."


def _while(over: Last | Decay | None) -> str:
    if over is None:
        return ""
    return f", over the last {over.span}" if isinstance(over, Last) else f", halved every {over.span}"


def times_field(name: str, length: int) -> Field:
    """Return the field with the times of a history, which other fields are `timed_by`."""
    return Field(
        name=name,
        dtype=Array(Int64),
        tags=AUXILIARY | {"kind": "elapsed", "length": str(length)},
        description="When the listed events happened, int64 µs since 1970 UTC.",
    )


def listed_field(
    name: str, length: int, timed_by: str, *, text: bool = False, shares: str = "", auxiliary: bool = True
) -> Field:
    """Return a field with one attribute of the newest events, most recent first.

    Args:
        name: feature.
        length: longest history kept.
        timed_by: the feature of `times_field`.
        text: whether the attribute is a word rather than a whole number.
        shares: feature whose vocabulary it uses; its own when left out.
        auxiliary: whether the ranker sees it only when the pipeline includes it by name.
    """
    tags = {"kind": "sequence", "length": str(length), "timed_by": timed_by}
    return Field(
        name=name,
        dtype=Array(String) if text else Array(Int64),
        tags=tags | ({"shares": shares} if shares else {}) | (AUXILIARY if auxiliary else {}),
        description="Newest events, most recent first.",
    )
