"""Which vocabularies tell a ranker little? Values that training never held, amounts as categories; what to write."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from features.casts import INTEGERS
from features.declaration import PADDING, UNKNOWN
from features.encoding.encoder import Encoder
from features.encoding.fitted import FittedField
from features.encoding.slices import Slices

MANY = 0.5
"""A vocabulary with more values than this share of the training rows learns hardly anything about each of them."""
COUNTABLE = 100
"""Whole numbers of more values than this are rarely names of categories."""
_LISTED = 8
"""Fields of a note."""


def unknown_shares(encoder: Encoder, encoded: Mapping[str, np.ndarray[Any, Any] | Slices]) -> dict[str, float]:
    """Return by field with a vocabulary the share of its values that the training split never held.

    Of a history or a bag these are its events, of all rows together. Fields with `kind: hash` are left out: what they
    never held looks like something that they did.
    """
    return {f.name: Unknown.of(encoded[f.name]).share for f in encoder.fitted if encoder.with_vocabulary(f)}


@dataclass(frozen=True)
class Unknown:
    """How many values training never held, of how many: of rows or, in lists, of what is there."""

    unknown: int = 0
    total: int = 0

    @classmethod
    def of(cls, indices: np.ndarray[Any, Any] | Slices) -> Unknown:
        """Count the indices of some rows."""
        if isinstance(indices, np.ndarray):
            return cls(int((indices == UNKNOWN).sum()), indices.size)
        return cls(indices.count(indices.values == UNKNOWN), indices.count(indices.values != PADDING))

    def __add__(self, other: Unknown) -> Unknown:
        """Return the counts of both."""
        return Unknown(self.unknown + other.unknown, self.total + other.total)

    @property
    def share(self) -> float:
        """Share of unknown ones, 0 where there is nothing."""
        return self.unknown / self.total if self.total else 0.0


def unknown_notes(
    encoder: Encoder, rows: int, validation: Mapping[str, float], test: Mapping[str, float], ids: tuple[str, str]
) -> list[str]:
    """Return one line with the shares of both splits, and one per field whose values are nearly all different.

    `ids` are the columns of user and item, which are ids whatever their type.
    """
    shown = sorted((n for n in test if max(validation[n], test[n]) >= 0.005), key=lambda n: (-test[n], n))
    lines = []
    if shown:
        parts = ", ".join(f"{name} {validation[name]:.0%} / {test[name]:.0%}" for name in shown[:_LISTED])
        more = f" and {len(shown) - _LISTED} more fields" if len(shown) > _LISTED else ""
        lines.append(f"values that training never held (validation / test): {parts}{more}")
    for field in encoder.fitted:
        values = len(encoder.vocabularies.get(field.name, ()))
        if field.kind == "vocabulary" and field.table == field.name and values > MANY * rows:
            lines.append(
                f"{field.name}: {values:,} values in {rows:,} training rows, {test[field.name]:.0%} of the test rows "
                f"hold none of them: {_advice(field, ids)}"
            )
    return lines


def order_notes(encoder: Encoder, rows: int, chosen: Collection[str]) -> list[str]:
    """Return a line with the whole numbers that became categories, so that 10 is as far from 11 as from 999.

    `chosen` are ids, and features whose kind somebody wrote. Those that `unknown_notes` tells of are left out.
    """
    shared = [field.table for field in encoder.fitted]
    found = {
        field.name: values
        for field in encoder.fitted
        if field.kind == "vocabulary" and field.dtype in INTEGERS and field.name not in chosen
        if shared.count(field.name) == 1 and not field.name.endswith("_id")
        if COUNTABLE < (values := len(encoder.vocabularies[field.name])) <= MANY * rows
    }
    if not found:
        return []
    named = ", ".join(f"{name} ({values:,} values)" for name, values in found.items())
    return [
        f"whole numbers read as categories without an order: {named}; of an amount write "
        f"`encode: {{{next(iter(found))}: {{kind: number}}}}`, of an id kind: vocabulary"
    ]


def _advice(field: FittedField, ids: tuple[str, str]) -> str:
    if field.dtype in INTEGERS and field.name not in ids:
        return f"if it is an amount and no id, write `encode: {{{field.name}: {{kind: number}}}}` (or kind: bin)"
    return (
        f"gather its rare values with `encode: {{{field.name}: {{min_count: 3}}}}`, or leave it out with "
        f"`drop: [{field.name}]`"
    )
