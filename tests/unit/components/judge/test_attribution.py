"""Is credit given to what caused, and none to what is only met by those who convert anyway?"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from components.data.training_set import SPLITS, EncodedSplit, write_encoded
from components.judge.attribute_conversions.config import COMPONENT, Config
from components.judge.attribute_conversions.report import Attribution, Channel
from components.platform.columns import Column, Columns
from components.platform.errors import BadInputError
from components.testing.component import ComponentKit
from features.declaration import Declaration, FieldEncoding, RankerSchema
from features.encoding.encoder import Encoder
from features.encoding.files import write_encoder
from tests.exports import write_model
from tests.known_graphs import KnownGraphs

CHANNELS = ("display", "mail", "video", "search", "social")
WORTH = np.array([2.4, 1.6, 0.8, 0.0, 0.0])
"""What each event adds to the log-odds; a row's events are averaged."""
START = datetime(2026, 1, 1, tzinfo=UTC)
ROWS = 12_000


def journeys() -> tuple[pa.Table, np.ndarray[Any, Any]]:
    """Return rows whose intent leads to search, which does nothing, and the true effect of each channel per row.

    Nobody meets social.
    """
    rng = np.random.default_rng(0)
    intent = rng.random(ROWS) < 0.3
    length = rng.integers(0, 3, ROWS)
    others = rng.choice(3, size=(ROWS, 2), p=[0.4, 0.35, 0.25])
    chosen = np.where(rng.random((ROWS, 2)) < np.where(intent, 0.85, 0.1)[:, None], 3, others)
    base = -2.8 + 2.6 * intent

    def odds(left: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        return 1 / (1 + np.exp(-(base + (WORTH[chosen] * left).sum(axis=1) / np.maximum(left.sum(axis=1), 1))))

    there = np.arange(2) < length[:, None]
    true = odds(there)
    lost = np.stack([true - odds(there & (chosen != place)) for place in range(len(CHANNELS))])
    times = [START + timedelta(minutes=10 * row) for row in range(ROWS)]
    micros = int(START.timestamp()) * 1_000_000 + 600_000_000 * np.arange(ROWS)
    table = pa.table(
        {
            "row_id": pa.array(np.arange(ROWS)),
            "user_id": pa.array(rng.integers(0, 3000, ROWS)),
            "item_id": pa.array(np.ones(ROWS, dtype=np.int64)),
            "event_timestamp": pa.array(times, pa.timestamp("us", "UTC")),
            "intent": pa.array(np.where(intent, "buys", "looks")),
            "recent_channels": [[CHANNELS[c] for c in row[:n]] for row, n in zip(chosen, length, strict=True)],
            "recent_times": [
                [int(m) - 1_000_000 * (k + 1) for k in range(n)] for m, n in zip(micros, length, strict=True)
            ],
            "order": pa.array((rng.random(ROWS) < true).astype(np.int8)),
        }
    )
    return table, lost


def write_journeys(folder: Path, confounder: bool) -> None:
    """Write the world as a training set whose ranker reads the intent, or not."""
    table, _ = journeys()
    dtypes = {"recent_channels": "array<string>", "recent_times": "array<int64>"}
    dtypes |= {"intent": "string"} if confounder else {"item_id": "int64"}
    encode = {
        "recent_channels": FieldEncoding(kind="sequence", length=2, timed_by="recent_times"),
        "recent_times": FieldEncoding(kind="elapsed", length=2),
    }
    cuts = (0, 6000, 6500, ROWS)
    parts = {name: table.slice(a, b - a) for name, a, b in zip(SPLITS, cuts[:-1], cuts[1:], strict=True)}
    encoder = Encoder.fit(parts["train"], dtypes, encode)
    schema = RankerSchema(
        declaration=Declaration(feedback=("order",)),
        fields=encoder.fields,
        base_rates={"order": float(np.mean(parts["train"]["order"].to_numpy()))},
        rows=6000,
    )
    (folder / "raw").mkdir(parents=True)
    for name, part in parts.items():
        pq.write_table(part, folder / "raw" / f"{name}.parquet")
        split = EncodedSplit(
            features=encoder.encode_slices(part),
            labels={"order": part["order"].to_numpy().astype(np.float32)},
            domain=np.zeros(part.num_rows, dtype=np.int64),
            user=part["user_id"].to_numpy(),
        )
        write_encoded(folder / "encoded" / f"{name}.arrow", split)
    (folder / "schema.json").write_text(schema.model_dump_json())
    write_encoder(encoder, folder)


@pytest.fixture(scope="module")
def worlds(tmp_path_factory: pytest.TempPathFactory, graphs: KnownGraphs) -> Callable[[bool, int], tuple[Path, Path]]:
    """Give a training set and a logistic regression of it, with or without the confounder, by seed; read-only."""
    home = tmp_path_factory.mktemp("journeys")

    @cache
    def dataset(confounder: bool) -> Path:
        write_journeys(home / f"set_{confounder}", confounder)
        return home / f"set_{confounder}"

    @cache
    def made(confounder: bool, seed: int) -> tuple[Path, Path]:
        model = home / f"model_{confounder}_{seed}"
        write_model(model, dataset(confounder), "lr", 400 if seed < 9 else 0, graphs, seed)
        return dataset(confounder), model

    return made


class TestAttributeConversions(ComponentKit):
    component = COMPONENT
    confounder, seeds = True, (0, 1)

    @pytest.fixture(autouse=True)
    def _worlds(self, worlds: Callable[[bool, int], tuple[Path, Path]]) -> None:
        self.worlds = worlds

    def example(self, folders: Mapping[str, Path]) -> Mapping[str, Any]:
        for port, seed in zip(("model", "again"), self.seeds, strict=True):
            dataset, model = self.worlds(self.confounder, seed)
            shutil.copytree(model, folders[port], dirs_exist_ok=True)
        shutil.copytree(dataset, folders["dataset"], dirs_exist_ok=True)
        return {"attribute": "recent_channels", "bootstrap": 50}

    def report(self, home: Path, **changed: Any) -> dict[str, Channel]:
        folder = self.run(home, **changed).outputs["report"]
        self.found = Attribution.model_validate_json((folder / "report.json").read_text())
        self.page = (folder / "report.html").read_text()
        return {channel.name: channel for channel in self.found.channels}

    def test_effects_are_those_of_the_world_and_touches_are_not(self, tmp_path: Path) -> None:
        """The control reads no intent, and gives its credit to search, as touches and last touches do."""
        found = self.report(tmp_path / "a")
        table, lost = journeys()
        label = table["order"].to_numpy()[6500:]
        for place, name in enumerate(CHANNELS[:4]):
            effect = found[name].effect
            assert effect.value == pytest.approx(lost[place, 6500:].sum() / label.sum(), abs=0.03), name
            assert effect.low is not None and effect.low <= (effect.value or 0) <= (effect.high or 0)
        assert (found["search"].share or 0) < 0.1 < 0.3 < min(found["search"].last, found["search"].touches)
        assert [channel.name for channel in self.found.channels[:3]] == ["display", "mail", "video"]
        assert self.found.stability == 1.0 and found["mail"].again == pytest.approx(
            found["mail"].effect.value, abs=0.03
        )
        assert "Touches are no effects" in self.page and "social" not in self.page
        self.confounder = False
        blind = self.report(tmp_path / "b", min_auc=0.55)
        assert (blind["search"].share or 0) > 0.2

    def test_an_absent_channel_has_exactly_no_effect(self, tmp_path: Path) -> None:
        """Training knew mail, and no row of the test has any; rounding must not give it one."""
        dataset, model = self.worlds(True, 0)
        shutil.copytree(dataset, tmp_path / "set")
        rows = pq.read_table(dataset / "raw" / "test.parquet")
        none = [[one if one != "mail" else "display" for one in row] for row in rows["recent_channels"].to_pylist()]
        rows = rows.set_column(rows.schema.get_field_index("recent_channels"), "recent_channels", pa.array(none))
        from components.judge.attribute_conversions.credit import effects, stream_of, touches_of
        from registry.serving.model.served_model import ServedModel

        opened = ServedModel.open(model, "cpu")
        stream = stream_of(opened, "recent_channels", ())
        found = effects(opened, rows, "order", stream, touches_of(opened, rows, stream))
        assert not found.lost["mail"].any() and not found.logit["mail"].any() and found.lost["display"].any()

    def test_named_channels_have_lines_and_the_others_one_together(self, tmp_path: Path) -> None:
        found = self.report(tmp_path, channels=["mail"], at_most_rows=3000)
        assert {*found} == {"mail", "any other"} and (self.found.rows, self.found.rows_of_split) == (3000, 5500)

    def test_what_cannot_be_is_a_sentence(self, tmp_path: Path) -> None:
        with pytest.raises(
            BadInputError, match=r"'recent_chanels' is no attribute .* \(did you mean 'recent_channels'"
        ):
            self.run(tmp_path / "a", attribute="recent_chanels")
        with pytest.raises(BadInputError, match=r"never had the value 'male'.* \(did you mean 'mail'"):
            self.run(tmp_path / "b", channels=["male"])
        with pytest.raises(BadInputError, match=r"rows of the test split have 'order', fewer than 9000"):
            self.run(tmp_path / "c", min_conversions=9000)
        with pytest.raises(BadInputError, match="feedback 'orders' is none of the ranker's"):
            self.run(tmp_path / "d", feedback="orders")
        self.seeds = (0, 9)
        with pytest.raises(BadInputError, match=r"the second model's AUC of 'order' is 0.500 on these rows, below 0.6"):
            self.run(tmp_path / "e")


def test_validate_knows_the_columns() -> None:
    known = {"recent_channels": Column("array<string>"), "age": Column("int64"), "order": Column("int8", "feedback")}
    known["kept"] = Column("array<string>", auxiliary=True)
    dataset = Columns(known, tasks=("order",))
    asked = [
        ({"attribute": "recent_chanels", "feedback": "orders"}, [("attribute",), ("feedback",)]),
        ({"attribute": "age"}, [("attribute",)]),
        ({"attribute": "kept"}, [("attribute",)]),
        ({"attribute": "recent_channels", "feedback": "order"}, []),
    ]
    for config, where in asked:
        faults = [*COMPONENT.flow.asks(Config.model_validate(config), {"dataset": dataset})]
        assert [fault.where for fault in faults] == where
    assert [*COMPONENT.flow.asks(Config(attribute="x"), {})] == []
    json.dumps(Config.model_json_schema())
