"""What does a log with known chances and a known truth look like? Training sets that policies are learned from."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from components.data.training_set import SPLITS
from features.declaration import Declaration, FieldEncoding, RankerSchema
from features.encoding.encoder import Encoder
from features.encoding.files import write_encoder

START = datetime(2024, 1, 1, tzinfo=UTC)
GROUPS, PLACES, LOADS = 4, 5, 4
LOGGED = np.array([0.1, 0.2, 0.5, 0.2])
"""Chance of each load in the log, whatever the context."""
DTYPES = {"user_id": "int64", "group": "string", "place": "int64"}


def worth() -> NDArray[np.float64]:
    """Return the mean reward ``[groups, places, loads]``: revenue that rises ever less, minus what ads annoy."""
    load = np.arange(LOADS)
    revenue = 0.3 + 0.35 * np.sqrt(load)
    annoyance = np.array([0.03, 0.1, 0.22, 0.4])[:, None] * (0.5 + 0.25 * np.arange(PLACES))[None, :]
    return revenue[None, None, :] - annoyance[:, :, None] * load[None, None, :] ** 1.2 / 1.5


def ad_loads(rows: int, seed: int, shift: float = 0.0) -> pa.Table:
    """Return a log of ad loads: 4 groups of users × 5 places in the session × 4 loads, rewards with noise of .5."""
    rng = np.random.default_rng(seed)
    user = rng.integers(0, rows // 4, rows)
    group, place = user % GROUPS, rng.integers(0, PLACES, rows)
    load = rng.choice(LOADS, rows, p=LOGGED)
    reward = worth()[group, place, load] + rng.normal(0, 0.5, rows) + shift
    return pa.table(
        {
            "row_id": pa.array(np.arange(rows)),
            "user_id": pa.array(user),
            "item_id": pa.array([f"load{value}" for value in load]),
            "event_timestamp": pa.array([START + timedelta(seconds=i) for i in range(rows)], pa.timestamp("us", "UTC")),
            "group": pa.array([f"g{value}" for value in group]),
            "place": pa.array(place),
            "ad_load": pa.array(load),
            "propensity": pa.array(LOGGED[load]),
            "earned": pa.array(reward),
            "click": pa.array((reward > 0.5).astype(np.int8)),
        }
    )


def value_of(chances: NDArray[np.float64], table: pa.Table) -> float:
    """Return the true mean reward of a policy in the contexts of a log.

    Args:
        chances: ``[rows, loads]``.
        table: of `ad_loads`.
    """
    group = np.array([int(name[1:]) for name in table["group"].to_pylist()])
    place = table["place"].to_numpy()
    return float((chances * worth()[group, place]).sum(axis=1).mean())


def write_dataset(
    root: Path,
    table: pa.Table,
    shares: tuple[float, float] = (0.5, 0.2),
    dtypes: dict[str, str] = DTYPES,
    encode: dict[str, FieldEncoding] | None = None,
    **roles: Any,
) -> Path:
    """Write the raw splits, the encoder and the schema of a training set, and return its folder."""
    cuts = (0, *(int(sum(shares[:n]) * table.num_rows) for n in (1, 2)), table.num_rows)
    parts = {name: table.slice(a, b - a) for name, a, b in zip(SPLITS, cuts[:-1], cuts[1:], strict=True)}
    encoder = Encoder.fit(parts["train"], dtypes, encode or {})
    schema = RankerSchema(
        declaration=Declaration(**{"feedback": ("click",), **roles}),
        fields=encoder.fields,
        base_rates={"click": 0.5},
        rows=parts["train"].num_rows,
    )
    (root / "raw").mkdir(parents=True)
    for name, part in parts.items():
        pq.write_table(part, root / "raw" / f"{name}.parquet")
    (root / "schema.json").write_text(schema.model_dump_json())
    write_encoder(encoder, root)
    return root
