"""How do a graph's answers become probabilities that hold in each product? A curve per stage and domain.

The stages of a funnel are calibrated, the first feedback and each conditional, and the deeper feedback
types are their products again: P(deep) ≤ P(shallow) holds whatever the curves are. Without a funnel each
feedback is a stage of its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field, ValidationError, model_validator

from features.declaration import Declaration, Frozen, Name, conditional_name
from features.ground.errors import BadInputError
from registry.serving.incoming import Codes
from registry.serving.scores.value import ValueTable

CALIBRATION = "calibration.json"
CLIP = 1e-7
"""Probabilities are kept this far from 0 and 1 before their logit is taken."""
Floats = np.ndarray[Any, np.dtype[np.float64]]
Method = Literal["platt", "isotonic", "none"]
Finite = Annotated[float, Field(allow_inf_nan=False)]


def logit(p: np.ndarray[Any, Any]) -> Floats:
    """Return log(p / (1 − p)), float64, of probabilities clipped to ``[1e-7, 1 − 1e-7]``."""
    clipped = np.clip(np.asarray(p, dtype=np.float64), CLIP, 1 - CLIP)
    return np.asarray(np.log(clipped) - np.log1p(-clipped), dtype=np.float64)


def sigmoid(x: Floats) -> Floats:
    """Return 1 / (1 + e^−x), float64, without overflow."""
    small = np.exp(-np.abs(x))
    return np.where(x >= 0, 1 / (1 + small), small / (1 + small))


class Identity(Frozen):
    """The graph's own answer: too few rows to know better."""

    kind: Literal["identity"] = "identity"

    def apply(self, p: Floats) -> Floats:
        """Return `p`."""
        return p


class Platt(Frozen):
    """σ(slope · logit + intercept) (Platt 1999)."""

    kind: Literal["platt"] = "platt"
    slope: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    """Above 0: a calibration never turns a ranking over."""
    intercept: Finite

    def apply(self, p: Floats) -> Floats:
        """Return calibrated probabilities ``[rows]``."""
        return sigmoid(self.slope * logit(p) + self.intercept)


class Isotonic(Frozen):
    """A rising line through knots, flat outside them (Zadrozny and Elkan 2002)."""

    kind: Literal["isotonic"] = "isotonic"
    logits: tuple[Finite, ...] = Field(min_length=1)
    probabilities: tuple[Annotated[float, Field(ge=0, le=1)], ...]

    @model_validator(mode="after")
    def _rises(self) -> Isotonic:
        if len(self.logits) != len(self.probabilities):
            raise ValueError("an isotonic curve needs one probability per logit")
        if any(b < a for values in (self.logits, self.probabilities) for a, b in pairwise(values)):
            raise ValueError("an isotonic curve must not fall")
        return self

    def apply(self, p: Floats) -> Floats:
        """Return calibrated probabilities ``[rows]``."""
        return np.asarray(np.interp(logit(p), self.logits, self.probabilities), dtype=np.float64)


Curve = Annotated[Identity | Platt | Isotonic, Field(discriminator="kind")]


class Stage(Frozen):
    """One calibrated output."""

    task: Name
    """Output of the graph."""
    pooled: Curve
    """Curve fitted on every row; used where a domain has none of its own, has no name or is new."""
    domains: dict[str, Curve] = Field(default_factory=dict)
    """Curve by domain value."""


class CalibrationCell(Frozen):
    """One task in one domain of one split, before and after; None where a figure is undefined."""

    split: Literal["validation", "test"]
    task: Name
    domain: str
    rows: int
    positives: int
    pcoc: tuple[float | None, float | None]
    ece: tuple[float | None, float | None]
    log_loss: tuple[float | None, float | None]


class Calibration(Frozen):
    """What `calibration.json` holds: the curves of one ranker, the value of a conversion, and the evidence."""

    ranker_digest: str
    """The ranker whose answers the curves were fitted on."""
    dataset_digest: str
    """The training set whose validation split they were fitted on."""
    method: Method
    """Kind of curve; ``none`` leaves every answer as it is."""
    stages: tuple[Stage, ...] = ()
    """Curves in the funnel's order; empty with ``none``."""
    value: ValueTable = ValueTable()
    """Present value per conversion."""
    cells: tuple[CalibrationCell, ...] = ()
    """How well it holds; reported, never read by scoring."""

    @property
    def domains(self) -> tuple[str, ...]:
        """Every domain that has a curve of its own, sorted."""
        return tuple(sorted({name for stage in self.stages for name in stage.domains}))

    def apply(self, tasks: Mapping[str, Floats], declaration: Declaration, codes: Codes) -> dict[str, Floats]:
        """Return the calibrated tasks, in the given order.

        Args:
            tasks: the graph's probabilities, float64 ``[rows]`` by task.
            declaration: feedback types and whether they form a funnel.
            codes: int64 ``[rows]``, place of each row's domain in `domains`, −1 for any other.
        """
        if not self.stages:
            return dict(tasks)
        curves = {stage.task: _applied(stage, self.domains, tasks[stage.task], codes) for stage in self.stages}
        answers = dict(tasks) | curves
        if declaration.funnel:
            for shallow, deep in pairwise(declaration.feedback):
                answers[deep] = answers[shallow] * answers[conditional_name(deep, shallow)]
        return answers


def stages_of(declaration: Declaration) -> tuple[Name, ...]:
    """Return the outputs that are calibrated: the rest of a funnel's tasks are their products."""
    feedback = declaration.feedback
    if not declaration.funnel:
        return feedback
    return (feedback[0], *(conditional_name(deep, shallow) for shallow, deep in pairwise(feedback)))


def read_calibration(
    directory: Path, ranker_digest: str, declaration: Declaration, model: str = ""
) -> Calibration | None:
    """Return the calibration of a model's folder, or None when it has none.

    Raises:
        BadInputError: the file cannot be read, or it belongs to another ranker or to other tasks.
    """
    path, again = directory / CALIBRATION, "run calibrate_ranker again"
    called = f"{CALIBRATION} of {model}" if model else str(path)
    if not path.is_file():
        return None
    try:
        found = Calibration.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise BadInputError(f"{called} cannot be read ({error.errors()[0]['msg']}): {again}") from error
    if found.ranker_digest != ranker_digest:
        raise BadInputError(
            f"{called} calibrates ranker {found.ranker_digest[:12]}, but the model holds {ranker_digest[:12]}: {again}"
        )
    stages = tuple(stage.task for stage in found.stages)
    if stages and stages != stages_of(declaration):
        raise BadInputError(
            f"{called} calibrates {', '.join(stages)}, but the model's stages are {', '.join(stages_of(declaration))}: "
            f"{again}"
        )
    return found


def _applied(stage: Stage, domains: Sequence[str], p: Floats, codes: Codes) -> Floats:
    """Return the stage's probabilities, each row through the curve of its domain."""
    calibrated = np.array(p, dtype=np.float64)
    order = np.argsort(codes, kind="stable")
    present, starts = np.unique(codes[order], return_index=True)
    for code, rows in zip(present.tolist(), np.split(order, starts[1:]), strict=False):
        curve = stage.domains.get(domains[code], stage.pooled) if code >= 0 else stage.pooled
        calibrated[rows] = curve.apply(calibrated[rows])
    return calibrated
