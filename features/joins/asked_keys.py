"""Which keys does an online question lack? A view is asked by all of its keys; where one is missing, nothing is known.

Feast finds nothing at all, without a word, where a column of keys is absent, and fails on a key that is missing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from feast.online_response import OnlineResponse
from feast.protos.feast.serving.ServingService_pb2 import FieldStatus
from feast.value_type import ValueType

from features.ground.errors import BadInputError, listed


@dataclass(frozen=True)
class AskedKeys:
    """The keys of a question, whole, and where they were not."""

    rows: Any
    """What Feast is asked for: as it came or, with gaps, by column, each gap filled with another key."""
    gaps: Mapping[str, Sequence[int]]
    """By column the rows without a key."""

    @classmethod
    def of(cls, rows: Any, views: Iterable[Any]) -> AskedKeys:
        """Return the keys that a question holds.

        Args:
            rows: a list of mappings by key, or a mapping of sequences, as Feast takes them.
            views: feature views that are asked for.

        Raises:
            BadInputError: no row has the key of a view.
        """
        if not rows:
            return cls(rows, {})
        given = rows[0].keys() if isinstance(rows, list) else rows.keys()
        gaps, fillers = {}, {}
        for view in views:
            keys = {column.name: column.dtype.to_value_type() for column in getattr(view, "entity_columns", ())}
            if absent := [name for name in sorted(keys) if name not in given and not given & {*view.entities}]:
                raise BadInputError(
                    f"feature view {view.name!r} is keyed by {listed(sorted(keys))}, and the rows asked about have no "
                    f"{listed(absent)}: add the column, with null where it is not known"
                )
            for name, kind in keys.items():
                if name not in given:  # given by the name of its entity
                    continue
                values = [row.get(name) for row in rows] if isinstance(rows, list) else rows[name]
                if isinstance(values, Sequence) and (
                    empty := [at for at, v in enumerate(values) if v is None or v != v]
                ):
                    gaps[name], fillers[name] = empty, "" if kind == ValueType.STRING else 0
        if not gaps:
            return cls(rows, {})
        columns = {name: [row.get(name) for row in rows] for name in given} if isinstance(rows, list) else dict(rows)
        for name, empty in gaps.items():
            columns[name] = list(columns[name])
            for at in empty:
                columns[name][at] = fillers[name]
        return cls(columns, gaps)

    def empty(self, answer: OnlineResponse, keys: Mapping[str, Iterable[str]]) -> None:
        """Turn what was found by a filled gap into nothing, with Feast's status for it.

        Args:
            answer: to the question.
            keys: by feature, as the answer names it, the keys of its view.
        """
        proto = answer.proto
        for name, vector in zip(proto.metadata.feature_names.val, proto.results, strict=True):
            for row in {row for key in keys.get(name, (name,)) for row in self.gaps.get(key, ())}:
                vector.values[row].Clear()
                vector.statuses[row] = FieldStatus.NOT_FOUND
