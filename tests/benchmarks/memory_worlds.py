"""Where does an error memory pay? Two worlds that move: a log whose rate rises, and news whose items live for hours.

`python -m tests.benchmarks.memory_worlds bank news` prints the tables of the results page. The bank's log is
`bank_marketing/bank-additional.zip` below RANKMILL_DATA (UCI, bank marketing).
"""

from __future__ import annotations

import csv
import io
import os
import sys
import tempfile
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from components.data.training_set import SPLITS, EncodedSplit, read_encoded, read_schema, write_encoded
from components.memory.study_error_memory.report import VARIANTS, StudyReport
from components.platform.artifacts import Ranker, TrainingSet
from components.platform.execute import StageRequest, execute
from components.platform.settings import Settings
from components.platform.store.publish import open_store
from components.rankers.build import build_ranker
from components.rankers.config import RankerConfig
from components.train.ranker_files import CONFIG, WEIGHTS, write_weights
from features.declaration import Declaration, FieldEncoding, RankerSchema, Window
from features.encoding.encoder import Encoder
from features.encoding.files import copy_encoder, write_encoder
from registry.metrics import auc, log_loss
from tests.trained import publish

START = datetime(2024, 1, 1, tzinfo=UTC)
TASK = "click"
ECONOMY = ("emp.var.rate", "cons.price.idx", "cons.conf.idx", "euribor3m", "nr.employed")
WORDS = {"base": "base", "memory": "+ memory", "incremental": "+ incremental training", "both": "both"}
EPOCHS, BATCH, RATE = 12, 512, 0.001


@dataclass(frozen=True)
class Rows:
    """A log in order of time."""

    table: pa.Table
    """`row_id`, `user_id`, `item_id`, `event_timestamp`, features, and the label `TASK`."""
    dtypes: Mapping[str, str]
    """Features with their Feast dtypes."""
    cuts: tuple[int, int]
    """First row of validation, and of test."""
    encode: Mapping[str, FieldEncoding] = field(default_factory=dict)
    truth: np.ndarray[Any, Any] | None = None
    """float64 ``[rows]``, the true rates, where they are known."""


@dataclass(frozen=True)
class World:
    """A log and the studies that are made of it."""

    rows: Callable[[], Rows]
    studies: Mapping[str, Mapping[str, Any]]
    """By what is printed: options of `study_error_memory`."""


def bank(economy: bool = False) -> Rows:
    """Return the calls of a bank in the order in which they were made; the rate rises from 2.8 to 46 %.

    A customer is called once, so users are groups of job, marriage and education; the length of the call is left out.
    With the columns of the economy, which move as the rate does, a model is asked for what it has never seen.
    """
    path = Path(os.environ["RANKMILL_DATA"]) / "bank_marketing" / "bank-additional.zip"
    with zipfile.ZipFile(path) as archive, archive.open("bank-additional/bank-additional-full.csv") as stream:
        read = list(csv.DictReader(io.TextIOWrapper(stream), delimiter=";"))
    count, left_out = len(read), {"duration", "y", *(() if economy else ECONOMY)}
    columns: dict[str, pa.Array] = {}
    for name in (one for one in read[0] if one not in left_out):
        values = [row[name] for row in read]
        try:
            columns[name.replace(".", "_")] = pa.array([float(value) for value in values])
        except ValueError:
            columns[name.replace(".", "_")] = pa.array(values)
    dtypes = {name: "string" if pa.types.is_string(values.type) else "float64" for name, values in columns.items()}
    groups = ["/".join(row[name] for name in ("job", "marital", "education")) for row in read]
    table = pa.table(
        {
            "row_id": np.arange(count),
            "user_id": pa.array(groups),
            "item_id": pa.array([row["contact"] for row in read]),
            "event_timestamp": _moments(np.arange(count) * 60.0),
            **columns,
            TASK: pa.array([row["y"] == "yes" for row in read]).cast(pa.int8()),
        }
    )
    return Rows(table, {"user_id": "string", **dtypes}, (count * 5 // 10, count * 6 // 10))


def news(days: int = 6, an_hour: int = 560, new_an_hour: int = 8, users: int = 400, seed: int = 0) -> Rows:
    """Return impressions of items that are shown for some hours; what an item is worth is not among the features.

    Users like topics, which a ranker learns; items differ in quality, which it can only have of items that it has seen.
    """
    rng = np.random.default_rng(seed)
    hours, rows = days * 24, days * 24 * an_hour
    born = np.sort(rng.uniform(-24, hours, new_an_hour * (hours + 24)))
    topic, quality = rng.integers(0, 6, len(born)), rng.normal(0, 0.8, len(born))
    taste = rng.normal(0, 1, (users, 6))
    time = np.sort(rng.uniform(0, hours, rows))
    item = np.empty(rows, dtype=np.int64)
    for at in range(rows):
        alive = np.arange(np.searchsorted(born, time[at] - 24), np.searchsorted(born, time[at]))
        chance = np.exp(-(time[at] - born[alive]) / 4)
        item[at] = rng.choice(alive, p=chance / chance.sum())
    user, age = rng.integers(0, users, rows), time - born[item]
    truth = 1 / (1 + np.exp(2.2 - quality[item] - 0.6 * taste[user, topic[item]] + 0.05 * age))
    table = pa.table(
        {
            "row_id": np.arange(rows),
            "user_id": user,
            "item_id": item,
            "event_timestamp": _moments(time * 3600),
            "topic": pa.array([f"t{one}" for one in topic[item]]),
            "age": age,
            "hour": np.floor(time % 24),
            TASK: (rng.random(rows) < truth).astype(np.int8),
        }
    )
    dtypes = {"user_id": "int64", "item_id": "int64", "topic": "string", "age": "float64", "hour": "float64"}
    cuts = int(np.searchsorted(time, hours - 48)), int(np.searchsorted(time, hours - 24))
    # An item that training never saw has a row of its own, so that incremental training can learn it.
    encode = {"item_id": FieldEncoding(kind="hash", buckets=20_000)}
    return Rows(table, dtypes, cuts, encode, truth)


def _moments(seconds: np.ndarray[Any, Any]) -> pa.Array:
    micros = int(START.timestamp()) * 1_000_000 + (seconds * 1_000_000).astype(np.int64)
    return pa.array(micros).cast(pa.timestamp("us", "UTC"))


CHOSEN = {
    "temperature": [0.5, 1.0],
    "decay": [1.0, 0.95, 0.8],
    "learning_rates": [0.0001, 0.0003, 0.001, 0.003, 0.01],
    "bootstrap": 100,
}
"""What validation chooses from, besides the bits."""
BITS = {"kind": "sketch", "arrays": 64, "bits": [6, 8, 10]}
BY_ITEM = {"key": "embedding", "user_weight": 0.0, "store": BITS, **CHOSEN}
"""Items and their topics make a key: the same item is nearest."""
CALLS = {"slots": 20, "key": "hidden", "store": BITS, **CHOSEN}
WORLDS = {
    "bank": World(bank, {"bank, 20 slots of 824 calls": CALLS}),
    "economy": World(lambda: bank(economy=True), {"the same, with the columns of the economy": CALLS}),
    "news": World(
        news,
        {
            "news, learned every hour": {"slots": 24, **BY_ITEM},
            "news, learned every 10 minutes": {"slots": 144, **BY_ITEM},
            "news, every 10 minutes, key hidden_user": {"slots": 144, "store": BITS, **CHOSEN},
        },
    ),
}


def write_set(directory: Path, rows: Rows) -> Path:
    """Write a `TrainingSet` of a log, and return its folder."""
    edges = (0, *rows.cuts, rows.table.num_rows)
    parts = {name: rows.table.slice(edges[at], edges[at + 1] - edges[at]) for at, name in enumerate(SPLITS)}
    encoder = Encoder.fit(parts["train"], dict(rows.dtypes), dict(rows.encode))
    schema = RankerSchema(
        declaration=Declaration(feedback=(TASK,)),
        fields=encoder.fields,
        base_rates={TASK: float(np.mean(parts["train"][TASK].to_numpy()))},
        rows=parts["train"].num_rows,
        trained_until=parts["validation"]["event_timestamp"][0].as_py(),
    )
    (directory / "raw").mkdir(parents=True)
    for name, part in parts.items():
        pq.write_table(part, directory / "raw" / f"{name}.parquet")
        users = part["user_id"].combine_chunks().dictionary_encode().indices.to_numpy()
        split = EncodedSplit(
            features=encoder.encode_slices(part),
            labels={TASK: part[TASK].to_numpy().astype(np.float32)},
            domain=np.zeros(part.num_rows, dtype=np.int64),
            user=users.astype(np.int64),
        )
        write_encoded(directory / "encoded" / f"{name}.arrow", split)
    (directory / "schema.json").write_text(schema.model_dump_json())
    write_encoder(encoder, directory)
    return directory


def train(directory: Path, dataset: Path, seed: int) -> Path:
    """Write a DNN that was trained to the pass with the least log-loss on validation, and return its folder."""
    schema = read_schema(dataset)
    config = RankerConfig.of(name="dnn", hidden=(64, 32), embedding_width=8, dropout=0.2)
    torch.manual_seed(seed)
    ranker = build_ranker(config, schema)
    splits = {name: read_encoded(dataset, name, schema) for name in ("train", "validation")}

    def batch(name: str, at: np.ndarray[Any, Any]) -> dict[str, torch.Tensor]:
        return {one: torch.from_numpy(values) for one, values in splits[name].padded(at).items()}

    optimiser = torch.optim.Adam(ranker.parameters(), lr=RATE)
    best, kept = np.inf, {name: value.clone() for name, value in ranker.state_dict().items()}
    for _ in range(EPOCHS):
        ranker.train()
        for at in torch.randperm(splits["train"].rows).split(BATCH):
            labels = {TASK: torch.from_numpy(splits["train"].labels[TASK][at.numpy()])}
            optimiser.zero_grad()
            loss: Any = ranker.loss(ranker(batch("train", at.numpy())), labels)
            loss.backward()
            optimiser.step()
        ranker.eval()
        with torch.inference_mode():
            said = ranker(batch("validation", np.arange(splits["validation"].rows)))[TASK].numpy()
        found = log_loss(splits["validation"].labels[TASK], said.astype(np.float64)) or np.inf
        if found < best:
            best, kept = found, {name: value.clone() for name, value in ranker.state_dict().items()}
    ranker.load_state_dict(kept)
    directory.mkdir()
    write_weights(directory / WEIGHTS, ranker)
    (directory / CONFIG).write_text(config.model_dump_json())
    (directory / "schema.json").write_bytes((dataset / "schema.json").read_bytes())
    copy_encoder(dataset, directory)
    return directory


def studied(world: World, folder: Path, seed: int = 0) -> list[str]:
    """Return the table of a world, as lines of Markdown."""
    rows = world.rows()
    settings = Settings.at(folder / "home")
    dataset = write_set(folder / "set", rows)
    inputs = {
        "ranker": publish(settings, Ranker, train(folder / "ranker", dataset, seed)),
        "dataset": publish(settings, TrainingSet, dataset),
    }
    window = Window(start=START, end=START + timedelta(days=60))
    lines = ["| world | variant | AUC | GAUC | GAUC in slot | log-loss | PCOC |", "|---|---|---|---|---|---|---|"]
    for title, options in world.studies.items():
        request = StageRequest(
            component="study_error_memory", config=dict(options), inputs=inputs, window=window, cache="off"
        )
        done = execute(request, settings).outputs["study"]
        report = StudyReport.model_validate_json((open_store(settings).fetch(done.load()) / "report.json").read_text())
        for variant in VARIANTS:
            found = report.tasks[TASK][variant].metrics
            figures = [f"{found[name] or 0:.4f}" for name in ("auc", "gauc", "gauc_in_slot", "log_loss", "pcoc")]
            lines.append(f"| {title if variant == 'base' else ''} | {WORDS[variant]} | {' | '.join(figures)} |")
        for variant, choice in report.choices.items():
            sys.stderr.write(f"{title}, {variant}: {choice.memory}, helps on validation: {choice.helps}; ")
            sys.stderr.write(
                f"λ at the end {report.slots[-1].tasks[TASK].weights.get(variant)}; rate {report.learning_rate}\n"
            )
    if rows.truth is not None:
        late = slice(rows.cuts[1], None)
        labels = rows.table[TASK].to_numpy()[late]
        said = f"{auc(labels, rows.truth[late]):.4f} | | | {log_loss(labels, rows.truth[late]):.4f} | |"
        lines.append(f"| the true rates | | {said}")
    return lines


def main(names: list[str]) -> None:
    """Print the tables of the worlds that are named, all by default."""
    for name in names or [*WORLDS]:
        with tempfile.TemporaryDirectory() as folder:
            sys.stdout.write("\n".join(studied(WORLDS[name], Path(folder))) + "\n\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1:])
