"""What does a small training set with a known truth look like? Seeded worlds that need no engine."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from components.data.build_training_set.config import SplitPart, SplitReport
from components.data.training_set import SPLITS, EncodedSplit, write_encoded
from features.declaration import Declaration, FieldEncoding, RankerSchema, Window
from features.encoding.encoder import Encoder
from features.encoding.files import write_encoder

BANDS = ("25_34", "35_plus", "under_25")
GENRES = ("action", "comedy", "drama", "horror", "western")
START = datetime(2024, 1, 1, tzinfo=UTC)
DTYPES = {
    "user_id": "int64",
    "item_id": "int64",
    "age_band": "string",
    "genres": "array<string>",
    "recent_items": "array<int64>",
    "recent_likes": "array<int64>",
    "recent_times": "array<int64>",
    "popularity": "float64",
    "taste": "array<float32>",
}
SIDES: dict[str, Literal["user", "item"]] = {
    "genres": "item",
    "item_id": "item",
    "popularity": "item",
    "recent_items": "user",
    "recent_likes": "user",
    "recent_times": "user",
    "taste": "user",
    "user_id": "user",
}
ENCODE = {
    "genres": FieldEncoding(kind="bag", length=5),
    "recent_items": FieldEncoding(kind="sequence", shares="item_id", length=8, timed_by="recent_times"),
    "recent_likes": FieldEncoding(kind="sequence", length=8, timed_by="recent_times"),
    "recent_times": FieldEncoding(kind="elapsed", length=8),
    "taste": FieldEncoding(kind="vector", length=3),
}


@dataclass(frozen=True)
class World:
    """Rows with the probabilities they were drawn from."""

    table: pa.Table
    like: np.ndarray[Any, Any]
    love_given_like: np.ndarray[Any, Any]


def make_world(rows: int = 4000, seed: int = 0, users: int = 200, items: int = 80) -> World:
    """Return impressions whose labels follow a logistic truth in user, item, domain and one number."""
    rng = np.random.default_rng(seed)
    user = rng.integers(1, users + 1, rows)
    item = rng.zipf(1.3, rows) % items + 1
    user_taste, item_taste = rng.normal(0, 1, users + 1), rng.normal(0, 1, items + 1)
    band = user % 3
    popularity = rng.normal(3, 2, rows)
    score = user_taste[user] * 0.8 + item_taste[item] + 0.5 * (band - 1) + 0.3 * (popularity - 3) / 2
    like = 1 / (1 + np.exp(-score))
    love_given_like = 1 / (1 + np.exp(-(item_taste[item] - 1)))
    liked = rng.random(rows) < like
    loved = liked & (rng.random(rows) < love_given_like)
    seconds = np.sort(rng.integers(0, 30 * 86_400, rows))
    genres = [[GENRES[i % 5], GENRES[(i // 5) % 5]] if i % 7 else [] for i in item]
    micros = int(START.timestamp()) * 1_000_000 + seconds * 1_000_000
    recent: list[list[tuple[int, int, int]]] = []
    seen: dict[int, list[tuple[int, int, int]]] = {}
    for u, *event in zip(user.tolist(), item.tolist(), liked.astype(int).tolist(), micros.tolist(), strict=True):
        recent.append(list(reversed(seen.get(u, [])[-8:])))
        seen.setdefault(u, []).append((event[0], event[1], event[2]))
    listed = [pa.array([[event[k] for event in row] for row in recent], pa.list_(pa.int64())) for k in range(3)]
    taste = np.stack([np.cos(user), np.sin(user), np.cos(2 * user)], axis=1).tolist()
    table = pa.table(
        {
            "row_id": pa.array(np.arange(rows), pa.int64()),
            "user_id": pa.array(user, pa.int64()),
            "item_id": pa.array(item, pa.int64()),
            "event_timestamp": pa.array(
                [START + timedelta(seconds=int(s)) for s in seconds], pa.timestamp("us", "UTC")
            ),
            "age_band": pa.array([BANDS[b] for b in band], pa.string()),
            "genres": pa.array(genres, pa.list_(pa.string())),
            "recent_items": listed[0],
            "recent_likes": listed[1],
            "recent_times": listed[2],
            "taste": pa.array(taste, pa.list_(pa.float32())),
            "popularity": pa.array(popularity, pa.float64()),
            "like": pa.array(liked.astype(np.int8)),
            "love": pa.array(loved.astype(np.int8)),
        }
    )
    return World(table=table, like=like, love_given_like=love_given_like)


def write_training_set(
    directory: Path, rows: int = 4000, seed: int = 0, world: World | None = None, **sizes: int
) -> Path:
    """Write a complete `TrainingSet` directory, split 8:1:1 by time, and return it."""
    table = (world or make_world(rows, seed, **sizes)).table
    rows = table.num_rows
    cuts = (0, int(rows * 0.8), int(rows * 0.9), rows)
    parts = {name: table.slice(a, b - a) for name, a, b in zip(SPLITS, cuts[:-1], cuts[1:], strict=True)}
    encoder = Encoder.fit(parts["train"], DTYPES, ENCODE)
    declaration = Declaration(feedback=("like", "love"), domain="age_band")
    schema = RankerSchema(
        declaration=declaration,
        fields=encoder.fields,
        base_rates={name: float(np.mean(parts["train"][name].to_numpy())) for name in declaration.feedback},
        domains=BANDS,
        sides=SIDES,
        rows=parts["train"].num_rows,
        trained_from=parts["train"]["event_timestamp"][0].as_py(),
        trained_until=parts["test"]["event_timestamp"][0].as_py(),
    )
    (directory / "raw").mkdir(parents=True, exist_ok=True)
    for name, part in parts.items():
        pq.write_table(part, directory / "raw" / f"{name}.parquet")
        split = EncodedSplit(
            features=encoder.encode_slices(part),
            labels={label: part[label].to_numpy().astype(np.float32) for label in declaration.feedback},
            domain=np.array([BANDS.index(band) for band in part["age_band"].to_pylist()], dtype=np.int64),
            user=part["user_id"].to_numpy().astype(np.int64),
        )
        write_encoded(directory / "encoded" / f"{name}.arrow", split)
    (directory / "schema.json").write_text(schema.model_dump_json(indent=2))
    write_encoder(encoder, directory)
    report = SplitReport(rows_in=rows, rows_out=rows, missing={}, **{name: _part(part) for name, part in parts.items()})
    (directory / "report.json").write_text(report.model_dump_json(indent=2))
    return directory


def _part(part: pa.Table) -> SplitPart:
    times = part["event_timestamp"].to_pylist()
    return SplitPart(
        rows=part.num_rows,
        window=Window(start=times[0], end=times[-1] + timedelta(microseconds=1)),
        rates={name: float(np.mean(part[name].to_numpy())) for name in ("like", "love")},
        users=len(set(part["user_id"].to_pylist())),
        unseen_users=0.0,
        unseen_items=0.0,
    )
