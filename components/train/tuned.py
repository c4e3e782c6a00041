"""What did tuning find, and how do its values come into a training? Read by who trains, written by `tune_ranker`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ValidationError

from components.platform.errors import BadInputError
from components.rankers.config import RankerConfig
from components.train.train_ranker.config import Config, Learning
from features.declaration import Frozen

FILE = "tuned.json"
ORIGIN = "origin.json"
"""File of a `Ranker` that was trained with what tuning found."""
TUNED = "tuned"
"""Annotation of such a ranker: the values that tuning chose, in words."""
Value = bool | int | float | str | None | tuple[int | float | str, ...]
"""What a knob may be set to: a number, a text, null, or a list such as widths of layers."""


class Repeats(Frozen):
    """One of the best trials, trained again with other seeds."""

    trial: int
    """Its number."""
    first: float
    """Its own validation value, which it was chosen by."""
    others: tuple[float, ...]
    """Values of the same knobs with other seeds; without those that failed."""
    mean: float | None
    """Mean of the others; None where none ended well."""


class Tuning(Frozen):
    """The result of a search over knobs."""

    ranker: str
    """Name of the ranker that was tuned."""
    metric: str
    """What trials were judged by on validation; larger or smaller is better as its name says."""
    search: Literal["random", "grid", "optuna"]
    seed: int
    space: dict[str, Any]
    """What was searched, as the pipeline has it."""
    dataset: str
    """Digest of the training set."""
    trials: int
    """How many were tried, repeats left out."""
    wanted: int
    """How many were asked for."""
    failed: int
    """How many of them ended without a value."""
    budget: float | None
    """Seconds after which no trial was to start, where that ended the search; else None."""
    winner: int
    """Number of the trial whose values these are."""
    values: dict[str, Value]
    """The values, by path of the knob."""
    epochs: int
    """Epoch that the winning trial kept."""
    value: float
    """Its validation value; the best of many, so it promises too much."""
    own: float | None
    """Value of trial 0, which has the knobs as the stage has them; None where that failed."""
    repeats: tuple[Repeats, ...]
    """The best trials with other seeds, the winner first; empty where that was not asked for."""
    mean: float | None
    """Mean over the winner's other seeds: what to expect on validation; None without repeats."""
    optimism: float | None
    """By how much the winner's own value is better than that mean, in the direction that is better."""

    @property
    def cut_short(self) -> bool:
        """Whether the budget ended the search before all trials were made."""
        return self.trials < self.wanted


class Origin(Frozen):
    """Which knobs of a ranker tuning chose; every other one is as the training stage had it."""

    tuned: str
    """Digest of the `Tuned`."""
    trial: int
    """Number of the trial that won."""
    values: dict[str, Value]
    """The values, by path of the knob."""


def read_tuning(folder: Path) -> Tuning:
    """Return what a local directory of a `Tuned` says."""
    return Tuning.model_validate_json((folder / FILE).read_text(encoding="utf-8"))


def told(values: Mapping[str, Value]) -> str:
    """Return values in words, e.g. ``learning_rate 0.003, ranker.hidden [64, 32]``."""
    return ", ".join(f"{path} {shown(value)}" for path, value in values.items())


def shown(value: Value) -> str:
    """Return a value as YAML writes it."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return f"[{', '.join(map(str, value))}]"
    return f"{value:g}" if isinstance(value, float) else str(value)


def block_of(config: Learning, ranker: RankerConfig) -> dict[str, Any]:
    """Return knobs and ranker as their `with:` block has them, without what was left out there."""
    written: dict[str, Any] = config.model_dump(mode="json", exclude_unset=True, include={*Learning.model_fields})
    block = ranker.model_dump(mode="json")
    return written | {"ranker": {k: v for k, v in block.items() if k == "name" or k in ranker.model_fields_set}}


def changed(block: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """Return a copy of a `with:` block with the values at their dotted paths."""
    made = json.loads(json.dumps(block))
    for path, value in values.items():
        *outer, key = path.split(".")
        inner = made
        for part in outer:
            inner = inner.setdefault(part, {})
        inner[key] = list(value) if isinstance(value, tuple) else value
    return made


def training_config(block: Mapping[str, Any]) -> Config:
    """Return the config that a `with:` block of `train_ranker` stands for, checked as strictly as a file.

    Raises:
        ValidationError: it is none.
    """
    return Config.model_validate_json(json.dumps(block), strict=True)


def joined_config(block: Mapping[str, Any], start: str, remedy: str) -> Config:
    """Return the config of a `with:` block into which the finds of another stage were put.

    Args:
        block: as `training_config` reads it.
        start: first words of the sentence where it is none.
        remedy: last words.

    Raises:
        BadInputError: what was found does not go together with the stage's own.
    """
    try:
        return training_config(block)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise BadInputError(f"{start}, {where}: {first['msg']}; {remedy}") from None


def value_at(config: BaseModel, path: str) -> Value:
    """Return the value of a knob."""
    value: Any = config
    for part in path.split("."):
        value = getattr(value, part)
    return value


def tuned_config(config: Config, found: Tuning) -> Config:
    """Return how a ranker is trained with the values that tuning found in place of the stage's own.

    Raises:
        BadInputError: they are those of another ranker, or do not go together with the stage's own knobs.
    """
    if found.ranker != config.ranker.name:
        raise BadInputError(
            f"tuned: the values are those of ranker {found.ranker!r}, and this stage trains {config.ranker.name!r}: "
            "give both stages the same ranker"
        )
    workers = config.model_dump(mode="json", exclude_unset=True, include={"workers"})
    return joined_config(
        changed(block_of(config, config.ranker) | workers, found.values),
        "tuned: the values found do not go together with the stage's own",
        "give this stage the ranker and the knobs of the stage that tuned",
    )
