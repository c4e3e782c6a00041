"""How good is a boosted tree on the same rows? LightGBM on the raw splits of a published TrainingSet.

LightGBM is a peer to compare with, not a part of the project: install it into an environment of its own
(`pip install lightgbm polars scikit-learn`) and run

    python tests/benchmarks/lightgbm_baseline.py <folder of a training_set artifact>

It sees the same features of the same rows as the ranker. A list becomes its length and its newest value.
63 leaves, learning rate .05, early stopping on validation; test rows are scored once.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

import lightgbm as lgb
import numpy as np
import polars as pl
from sklearn.metrics import log_loss, roc_auc_score

SPLITS = ("train", "validation", "test")
FEW = 1024
"""A whole number or word with at most so many values is a category; with more it is a number or its frequency."""
SETTINGS = {
    "objective": "binary", "num_leaves": 63, "learning_rate": 0.05, "min_data_in_leaf": 50,
    "feature_fraction": 0.8, "bagging_fraction": 0.8, "bagging_freq": 1, "seed": 0, "deterministic": True,
    "verbosity": -1, "num_threads": 1,  # threads of LightGBM wait busily: on a shared machine more are far slower
}  # fmt: skip


def flat(frame: pl.DataFrame) -> pl.DataFrame:
    """Replace lists by their length and first element."""
    lists = [name for name, dtype in frame.schema.items() if isinstance(dtype, pl.List)]
    return frame.with_columns(
        *(pl.col(name).list.len().alias(f"{name}_length") for name in lists),
        *(pl.col(name).list.first().alias(f"{name}_first") for name in lists),
    ).drop(lists)


def table(
    frame: pl.DataFrame, train: pl.DataFrame, names: list[str], vocabulary: set[str]
) -> tuple[np.ndarray, list[int]]:
    """Return a float64 matrix with the columns `names`, and the positions of categories.

    Categories are the training split's values; more frequent ones have smaller codes.
    """
    columns, categories = [], []
    for place, name in enumerate(names):
        column = frame[name]
        counts = train[name].drop_nulls().value_counts(sort=True) if name in vocabulary else None
        if counts is None:
            columns.append(column.cast(pl.Float64, strict=False).to_numpy())
            continue
        if len(counts) <= FEW:
            codes = counts.with_row_index("code").select(name, "code")
            categories.append(place)
        else:  # a tree cannot split thousands of values well: it gets how often the value was seen
            codes = counts.select(name, pl.col("count").alias("code"))
        found = frame.select(name).join(codes, on=name, how="left", maintain_order="left")["code"]
        columns.append(found.cast(pl.Float64).to_numpy())
    return np.column_stack(columns), categories


def main() -> None:
    """Train one model per feedback and print its test metrics."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("training_set", type=Path)
    parser.add_argument("--rounds", type=int, default=2000)
    chosen = parser.parse_args()
    schema = json.loads((chosen.training_set / "schema.json").read_text())
    encoder = json.loads((chosen.training_set / "encoder.json").read_text())
    fields = {field["name"]: field for field in encoder["fitted"]}
    frames = {name: flat(pl.read_parquet(chosen.training_set / "raw" / f"{name}.parquet")) for name in SPLITS}
    lists = {f"{name}_{what}" for name in fields for what in ("length", "first")}
    names = sorted(name for name in frames["train"].columns if name in fields or name in lists)
    vocabulary = {name for name in names if fields.get(name, {"kind": ""})["kind"] in ("vocabulary", "hash")}
    vocabulary |= {name for name in names if name.endswith("_first") and name not in fields}
    inputs = {name: table(frame, frames["train"], names, vocabulary) for name, frame in frames.items()}
    for label in schema["declaration"]["feedback"]:
        started = time.monotonic()
        categories = inputs["train"][1]
        sets = {
            name: lgb.Dataset(inputs[name][0], frames[name][label].to_numpy(), categorical_feature=categories)
            for name in ("train", "validation")
        }
        model = lgb.train(
            SETTINGS, sets["train"], chosen.rounds, valid_sets=[sets["validation"]],
            callbacks=[lgb.early_stopping(50, verbose=False)],
        )  # fmt: skip
        for name in ("validation", "test"):
            truth, score = frames[name][label].to_numpy(), model.predict(inputs[name][0])
            area, loss = roc_auc_score(truth, score), log_loss(truth, score)
            sys.stdout.write(
                f"{label:>10} {name:>10}  AUC {area:.4f}  log-loss {loss:.4f}  "
                f"({model.best_iteration} trees, {len(truth):,} rows, {time.monotonic() - started:.1f} s)\n"
            )


if __name__ == "__main__":
    main()
