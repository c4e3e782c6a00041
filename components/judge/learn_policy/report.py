"""What does a learned policy report? How its value went on the validation rows, and what it chooses there."""

from __future__ import annotations

from features.declaration import Frozen


class Pass(Frozen):
    """The policy after one pass over the training rows, on the validation rows."""

    epoch: int
    value: float
    """Doubly robust value."""
    low: float
    """One-sided lower bound of 95 %, by which the pass to keep is chosen."""


class Choice(Frozen):
    """One action in one group of the validation rows."""

    group: str
    action: str
    logged: float
    """Share of the rows in which the log chose it."""
    policy: float
    """Mean chance that the policy gives it."""
    reward: float
    """Mean reward of the rows in which the log chose it; 0 without any."""


class Learning(Frozen):
    """The whole report."""

    dataset_digest: str
    action: str
    reward: str
    """In words."""
    features: tuple[str, ...]
    objective: str
    floor: float
    temperature: float
    train_rows: int
    validation_rows: int
    units: str
    least_logged: float
    logged: float
    """Mean reward of the validation rows: what the log's policy earned."""
    passes: tuple[Pass, ...]
    best: int
    """Pass that was kept; 0 is the uniform policy."""
    reward_passes: int
    """Passes of the reward model."""
    choices: tuple[Choice, ...]
    best_fixed: dict[str, str]
    """By group the one action worth most on the rows that were learned from and chosen by."""
