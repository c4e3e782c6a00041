"""Which encoding does a feature get, whose vocabulary does it use, and does what YAML says of it fit its dtype?"""

from __future__ import annotations

from collections.abc import Mapping

from features.casts import FLOATS, INTEGERS
from features.declaration import ORDERED, FieldEncoding
from features.encoding.fitted import LISTS, NUMBERS, Kind
from features.ground.errors import BadInputError


def kind_of(name: str, dtype: str, option: FieldEncoding | None) -> Kind:
    """Return a feature's kind: what `option` says or its dtype's default; raise BadInputError where it does not fit."""
    array = dtype.startswith("array<")
    default: Kind | None = None
    if array and dtype[6:-1] in (*INTEGERS, "string"):
        default = "sequence"
    elif array and dtype[6:-1] in FLOATS:
        default = "vector"
    elif dtype in INTEGERS or dtype == "string":
        default = "vocabulary"
    elif dtype in FLOATS:
        default = "number"
    if default is None:
        raise BadInputError(f"feature {name!r} has dtype {dtype!r}, which has no encoding: drop it or change its dtype")
    kind = option.kind if option is not None and option.kind is not None else default
    real = array and dtype[6:-1] in FLOATS
    fits = array == (kind in LISTS) and not (kind in NUMBERS and dtype == "string")
    if option is not None and option.order == "oldest_first" and kind not in ORDERED:
        raise BadInputError(f"encode: {name!r} is {dtype}, of which order says nothing: leave it out")
    if not fits or real != (kind == "vector") or (kind == "elapsed" and dtype != "array<int64>"):
        raise BadInputError(f"encode: {name!r} is {dtype} and cannot be encoded as {kind!r}")
    if kind == "vocabulary" and dtype in FLOATS:
        raise BadInputError(f"encode: {name!r} is {dtype} and has no vocabulary: use 'number' or 'bin'")
    return kind


def owner_of(name: str, plans: Mapping[str, Kind], overrides: Mapping[str, FieldEncoding]) -> str | None:
    """Return the feature whose vocabulary or hash a feature uses, None for numbers, times and vectors."""
    if plans[name] in (*NUMBERS, "elapsed", "vector"):
        return None
    owner = overrides[name].shares if name in overrides else None
    if owner is None:
        return name
    if plans.get(owner) not in ("vocabulary", "hash"):
        raise BadInputError(f"encode: {name!r} shares {owner!r}, which is not a feature with a vocabulary or hash")
    return owner


def check_times(plans: Mapping[str, Kind], overrides: Mapping[str, FieldEncoding]) -> None:
    """Check that every history with times names a feature that holds times, of the same length."""
    for name in plans:
        option = overrides.get(name)
        if option is None or option.timed_by is None:
            continue
        times = option.timed_by
        if plans[name] != "sequence" or plans.get(times) != "elapsed":
            raise BadInputError(
                f"encode: {name!r} is timed by {times!r}: timed_by goes from a sequence to a feature encoded as "
                "'elapsed'; name one or leave it out"
            )
        if (other := overrides[times].length) != option.length:
            raise BadInputError(
                f"encode: {name!r} keeps {option.length} events and its times {times!r} keep {other}: give both "
                "the same length"
            )
        if (order := overrides[times].order) != option.order:
            raise BadInputError(
                f"encode: {name!r} is read {option.order} and its times {times!r} {order}: give both the same order"
            )
