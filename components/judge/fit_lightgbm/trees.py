"""How are boosted trees fitted to one task? Early stopping on validation, every seed named."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from components.judge.fit_lightgbm.columns import Columns
from components.judge.fit_lightgbm.config import Config
from components.platform.errors import BadInputError, MissingError

Floats = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True)
class Fitted:
    """One task's trees and their answers."""

    text: str
    trees: int
    """Trees kept."""
    leaves: int
    """Leaves of all trees kept."""
    scores: dict[str, Floats]
    """By split, float64 ``[rows]`` probabilities."""


def settings_of(config: Config) -> dict[str, Any]:
    """Return LightGBM's parameters."""
    return {
        "objective": "binary", "num_leaves": config.leaves, "learning_rate": config.learning_rate,
        "min_data_in_leaf": config.min_rows_in_leaf, "lambda_l2": config.l2,
        "feature_fraction": config.feature_fraction, "bagging_fraction": config.bagging_fraction, "bagging_freq": 1,
        "seed": config.seed, "data_random_seed": config.seed, "bagging_seed": config.seed,
        "feature_fraction_seed": config.seed,
        "deterministic": True, "force_row_wise": True, "num_threads": config.threads, "verbosity": -1,
    }  # fmt: skip


def fit(
    columns: Columns,
    labels: dict[str, Floats],
    weights: dict[str, Floats | None],
    spaces: dict[str, Any],
    config: Config,
    task: str,
) -> Fitted:
    """Fit one task on the rows of its space and score every row of every split.

    Args:
        columns: what trees see.
        labels: by split, ``[rows]``, 0 or 1.
        weights: by split, ``[rows]``; None counts every row once.
        spaces: by split, bool ``[rows]``: the rows that the task is defined on.
        config: sizes.
        task: its name, for errors.

    Raises:
        MissingError: LightGBM is not installed.
        BadInputError: the rows to train or to validate on hold one class.
    """
    try:
        import lightgbm
    except ImportError:
        raise MissingError(
            "LightGBM is not installed: run `pip install --constraint constraints.txt '.[results]'`"
        ) from None
    for split in ("train", "validation"):
        seen = np.unique(labels[split][spaces[split]])
        if seen.size < 2:
            raise BadInputError(f"task {task!r} has one class in the {split} split: widen the window or drop the task")
    sets = {
        split: lightgbm.Dataset(
            columns.values[split][spaces[split]],
            labels[split][spaces[split]],
            weight=None if (weight := weights[split]) is None else weight[spaces[split]],
            feature_name=list(columns.names),
            categorical_feature=list(columns.categories),
            free_raw_data=True,
        )
        for split in ("train", "validation")
    }
    model = lightgbm.train(
        settings_of(config),
        sets["train"],
        config.rounds,
        valid_sets=[sets["validation"]],
        callbacks=[lightgbm.early_stopping(config.patience, verbose=False)],
    )
    kept = model.best_iteration or model.current_iteration()
    trees = model.dump_model(num_iteration=kept)["tree_info"]
    return Fitted(
        text=model.model_to_string(num_iteration=kept),
        trees=len(trees),
        leaves=sum(tree["num_leaves"] for tree in trees),
        scores={
            split: np.asarray(model.predict(values, num_iteration=kept), dtype=np.float64)
            for split, values in columns.values.items()
        },
    )
