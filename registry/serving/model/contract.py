"""What does a served model promise? Inputs and their axes, outputs, roles and the parity proof that travel with it.

Rows share the axis ``batch``. Ordered histories of the same declared length share an axis, because rankers may
read them in parallel (items and their ratings): ``history``, or ``history_<length>`` where lengths
differ. The events of one stream, their attributes and their times, share ``events_<times>``. A bag has nothing
to be parallel to and has its own axis: ``bag_<field>``. The axis of a vector is its width, a number.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from functools import cached_property
from typing import Literal

from pydantic import AwareDatetime, Field

from features.declaration import FieldSpec, Frozen, Name, RankerSchema

BATCH = "batch"
HISTORY = "history"
BAG = "bag"
EVENTS = "events"
Precision = Literal["float32", "float16"]
"""Numbers that a graph computes with inside; its inputs and outputs are float32 and int64."""


class ModelContract(Frozen):
    """Everything a caller of `model.onnx` must know."""

    ranker: str
    """Registered name of the ranker."""
    ranker_digest: str
    """Digest of the `Ranker` artifact the graph was exported from; also the identity that an error memory is tied
    to."""
    schema_: RankerSchema = Field(alias="schema")
    """Roles, fields, base rates, domains and training window."""
    tasks: tuple[Name, ...]
    """Output names that are probabilities, entire-space feedback first, then conditionals."""
    hidden: int
    """Width of the output `hidden`."""
    hidden_mean: tuple[float, ...]
    """Mean of `hidden` over (at most 10,000 rows of) the training split."""
    opset: int
    """ONNX opset."""

    @property
    def fields(self) -> tuple[FieldSpec, ...]:
        """Graph inputs."""
        return self.schema_.fields

    @cached_property
    def sequence_axes(self) -> dict[str, tuple[FieldSpec, ...]]:
        """The fields that lie on each dynamic axis after ``batch``; found once, for every question asks."""
        return sequence_axes(self.fields)


class ParityCase(Frozen):
    """One comparison of torch and onnxruntime."""

    batch: int
    history: int
    output: str
    max_abs_difference: float


class ParityReport(Frozen):
    """Whether the graph answers as the trained module does."""

    passed: bool
    tolerance: float
    provider: str
    precision: Precision = Field("float32", exclude_if=lambda precision: precision == "float32")
    """What the graph computes in; left out where that is float32."""
    cases: tuple[ParityCase, ...]


class RegisteredVersion(Frozen):
    """A version in the registry, by name, number and content."""

    model: str
    """Any name that MLflow allows: others register models in the same MLflow."""
    version: int
    digest: str
    """Digest of the `OnnxModel` artifact, empty when somebody else registered the version."""
    model_uri: str
    ranker_digest: str
    report_digest: str
    created_at: AwareDatetime


def axes_of(fields: Iterable[FieldSpec], once: Collection[str] = ()) -> dict[str, tuple[str | int, ...]]:
    """Return the axes of each graph input, in the fields' order: one for a value per row, two for several.

    Fields in `once` come in one row, whatever the number of rows of the others.
    """
    fields = tuple(fields)
    untimed = [f for f in fields if f.kind == "sequence" and not f.pooled and f.timed_by is None]
    lengths = {field.length for field in untimed}

    def second(field: FieldSpec) -> tuple[str | int, ...]:
        if not field.wide:
            return ()
        if field.kind in ("vector", "numeric"):
            return (field.length,)
        if field.kind == "elapsed" or field.timed_by is not None:
            return (f"{EVENTS}_{field.timed_by or field.name}",)
        if field.pooled:
            return (f"{BAG}_{field.name}",)
        return (HISTORY if len(lengths) == 1 else f"{HISTORY}_{field.length}",)

    return {field.name: (1 if field.name in once else BATCH, *second(field)) for field in fields}


def sequence_axes(fields: Iterable[FieldSpec]) -> dict[str, tuple[FieldSpec, ...]]:
    """Return the fields that lie on each dynamic axis after ``batch``."""
    fields = tuple(fields)
    axes: dict[str, tuple[FieldSpec, ...]] = {}
    all_names = axes_of(fields)
    for field in fields:
        names = all_names[field.name]
        if len(names) == 2 and isinstance(names[1], str):
            axes[names[1]] = (*axes.get(names[1], ()), field)
    return axes
