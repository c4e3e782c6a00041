"""Does the component value a ranker's policy by a log, and refuse what cannot be valued?"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from components.data.training_set import SPLITS, EncodedSplit, write_encoded
from components.judge.export_onnx.graph import OPSET, export_graph
from components.judge.simulate_policy.component import run
from components.judge.simulate_policy.config import Config, Inputs
from components.judge.simulate_policy.report import PolicyValue, Simulation
from components.platform.artifacts import EventsTable, OnnxModel, TrainingSet
from components.platform.contract import RunContext
from components.platform.errors import BadInputError
from components.platform.settings import Settings
from components.train.ranker_files import load_ranker
from features.declaration import Declaration, RankerSchema, Window
from features.encoding.encoder import Encoder
from features.encoding.files import write_encoder
from registry.serving.model.contract import ModelContract
from tests.trained import write_ranker

START = datetime(2024, 1, 1, tzinfo=UTC)
ROWS, USERS, ITEMS = 6000, 50, 5
CHANCE = np.array([[0.05, 0.10, 0.15, 0.20, 0.60], [0.60, 0.20, 0.15, 0.10, 0.05]])
"""Chance of a click by campaign and item: the best item of one campaign is the worst of the other."""
DTYPES = {"user_id": "int64", "item_id": "string", "campaign": "string", "price": "float64", "position": "int64"}
SIDES: dict[str, Literal["user", "item"]] = {"user_id": "user", "item_id": "item", "price": "item"}
TIME = pa.timestamp("us", "UTC")


def draw(seed: int, chances: np.ndarray[Any, Any], policy: str) -> pa.Table:
    """Return a log of a policy that shows each item with the same chances in both campaigns."""
    rng = np.random.default_rng(seed)
    campaign = rng.integers(0, 2, ROWS)
    item = rng.choice(ITEMS, ROWS, p=chances)
    click = rng.random(ROWS) < CHANCE[campaign, item]
    names = np.array(["men", "women"])[campaign]
    return pa.table(
        {
            "row_id": pa.array(np.arange(ROWS)),
            "user_id": pa.array(rng.integers(0, USERS, ROWS)),
            "item_id": pa.array([f"{name}/{i}" for name, i in zip(names, item, strict=True)]),
            "event_timestamp": pa.array([START + timedelta(seconds=i) for i in range(ROWS)], TIME),
            "campaign": pa.array(names),
            "policy": pa.array([policy] * ROWS),
            "price": pa.array(item * 1.5),
            "position": pa.array(rng.integers(1, 4, ROWS)),
            "propensity": pa.array(chances[item]),
            "click": pa.array(click.astype(np.int8)),
        }
    )


LOGGED = np.array([0.3, 0.25, 0.2, 0.15, 0.1])
OTHER = np.array([0.05, 0.1, 0.1, 0.25, 0.5])
POLICIES: list[dict[str, Any]] = [{"kind": "greedy"}, {"kind": "uniform"}, {"kind": "logged", "log": "other"}]
GIVEN: dict[str, Any] = {
    "policies": POLICIES, "candidates_per": "campaign", "slot": "position", "context": ["position"], "unit": "row",
    "bootstrap": 200, "provider": "cpu",
}  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set, a model that was trained on it, and the log of another policy; read-only."""
    root = tmp_path_factory.mktemp("bandit")
    table = draw(0, LOGGED, "mine")
    cuts = (0, ROWS // 2, ROWS // 2 + 200, ROWS)
    parts = {name: table.slice(a, b - a) for name, a, b in zip(SPLITS, cuts[:-1], cuts[1:], strict=True)}
    encoder = Encoder.fit(parts["train"], DTYPES)
    schema = RankerSchema(
        declaration=Declaration(feedback=("click",), domain="campaign"),
        fields=encoder.fields,
        base_rates={"click": float(np.mean(parts["train"]["click"].to_numpy()))},
        domains=("men", "women"),
        sides=SIDES,
        rows=parts["train"].num_rows,
    )
    (root / "dataset" / "raw").mkdir(parents=True)
    for name, part in parts.items():
        pq.write_table(part.drop_columns(["policy"]), root / "dataset" / "raw" / f"{name}.parquet")
        zeros = np.zeros(part.num_rows, dtype=np.int64)
        labels = {"click": part["click"].to_numpy().astype(np.float32)}
        split = EncodedSplit(features=encoder.encode(part), labels=labels, domain=zeros, user=zeros)
        write_encoded(root / "dataset" / "encoded" / f"{name}.arrow", split)
    (root / "dataset" / "schema.json").write_text(schema.model_dump_json())
    write_encoder(encoder, root / "dataset")
    model = write_ranker(root / "model", root / "dataset", "lr", steps=150)
    export_graph(load_ranker(model), schema, ("click",), model / "model.onnx")
    hidden = len(schema.fields)
    contract = ModelContract(
        ranker="lr", ranker_digest="r", schema=schema, tasks=("click",), hidden=hidden,
        hidden_mean=tuple(np.zeros(hidden)), opset=OPSET,
    )  # fmt: skip
    (model / "contract.json").write_text(contract.model_dump_json(by_alias=True))
    (root / "reference").mkdir()
    pq.write_table(draw(1, OTHER, "other"), root / "reference" / "events.parquet")
    return root


Simulate = Callable[..., Simulation]


@pytest.fixture
def simulate(made: Path, tmp_path: Path) -> Simulate:
    """Run the component over `made`, or over another root."""

    def go(root: Path = made, **config: Any) -> Simulation:
        context = RunContext(
            settings=Settings.at(tmp_path / "home"), pipeline="p", stage="simulate", run_id="r",
            window=Window(start=START, end=START + timedelta(days=1)),
            scratch=tmp_path / f"scratch{len(list(tmp_path.iterdir()))}", kept=tmp_path / "kept", key="k",
            fetch=lambda artifact: Path(artifact.uri), read_annotations=lambda artifact: {},
        )  # fmt: skip
        inputs = Inputs(
            model=OnnxModel(uri=str(root / "model")),
            dataset=TrainingSet(uri=str(root / "dataset")),
            reference=EventsTable(uri=str(root / "reference")),
        )
        folder = Path(run(inputs, Config.model_validate(GIVEN | config), context).report.uri)
        page = (folder / "report.html").read_text()
        assert len(list((folder / "plots").iterdir())) == page.count("<img")
        return Simulation.model_validate_json((folder / "report.json").read_bytes())

    return go


def value(report: Simulation, group: str, policy: str) -> PolicyValue:
    return next(v for v in report.values if (v.group, v.policy) == (group, policy))


TRUE = {"greedy": 0.60, "uniform": float(CHANCE[0].mean())}


def test_policies_get_their_true_value_in_every_group(simulate: Simulate) -> None:
    report = simulate()
    assert report.rows == ROWS // 2 - 200
    for group, chances in zip(("men", "women"), CHANCE, strict=True):
        truth = TRUE | {"logged: other": float(OTHER @ chances)}
        for policy, true in truth.items():
            found = value(report, group, policy)
            assert found.candidates == ITEMS
            for name in ("ips", "snips", "dr (ranker)", "dr (rates)"):
                low, high = found.estimates[name].low, found.estimates[name].high
                assert low is not None and high is not None
                width = high - low
                assert low - 0.25 * width <= true <= high + 0.25 * width, (group, policy, name)
        known = value(report, group, "logged: other")
        assert known.on_policy is not None and known.on_policy.value is not None
        assert known.on_policy.value == pytest.approx(truth["logged: other"], abs=0.05)
        assert value(report, group, "greedy").on_policy is None
        assert value(report, group, "greedy").effective_rows < value(report, group, "uniform").effective_rows


def test_all_rows_are_for_what_does_not_use_the_ranker(simulate: Simulate) -> None:
    report = simulate(rows="all", policies=[{"kind": "logged", "log": "other"}], rewards=["rates"])
    assert report.rows == ROWS and not report.held_out
    assert set(value(report, "men", "logged: other").estimates) == {"ips", "snips", "direct (rates)", "dr (rates)"}


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"rows": "all", "rewards": ["rates"]}, "rows that the ranker was trained on, so greedy needs held_out"),
        ({"rows": "all", "policies": [{"kind": "uniform"}]}, "so rewards: ranker needs held_out"),
        ({"policies": [{"kind": "softmax"}]}, "a softmax policy needs 'temperature'"),
        ({"policies": [{"kind": "greedy", "log": "x"}]}, "a greedy policy has no 'log'"),
        ({"policies": [{"kind": "greedy"}, {"kind": "greedy"}]}, "policy 'greedy' is named twice"),
    ],
)
def test_a_config_that_flatters_or_contradicts_itself_is_refused(config: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Config.model_validate(GIVEN | config)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"propensity": "chance"}, "the data set has no column 'chance'.*name it in carry or context"),
        ({"slot": "place"}, "the data set has no column 'place'"),
        ({"policy_column": "algorithm"}, "the reference log has no column 'algorithm'"),
        ({"policies": [{"kind": "logged", "log": "others"}]}, "no policy 'others'.*did you mean 'other'"),
        ({"context": []}, "feature 'position' of the ranker describes neither the user nor the item"),
        ({"feedback": "buy"}, "feedback 'buy' is not one of the ranker's: click"),
    ],
)
def test_what_the_rows_do_not_hold_is_one_sentence(simulate: Simulate, config: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInputError, match=message) as raised:
        simulate(**config)
    assert "\n" not in str(raised.value)


Change = Callable[[dict[str, list[Any]]], None]


def edited(made: Path, to: Path, file: str, change: Change) -> Path:
    """Return a copy of the root with one file changed."""
    shutil.copytree(made, to)
    path = to / file
    columns = pq.read_table(path)
    values = columns.to_pydict()
    change(values)
    pq.write_table(pa.table(values, schema=columns.schema), path)
    return to


def _set(column: str, new: Any) -> Change:
    def change(values: dict[str, list[Any]]) -> None:
        values[column][0] = new

    return change


@pytest.mark.parametrize(
    ("file", "column", "new", "message"),
    [
        ("dataset/raw/test.parquet", "propensity", 0.0, r"1 of 2,800 propensities in column 'propensity' are not in"),
        ("dataset/raw/test.parquet", "propensity", 1.5, "such as 1.5: what was shown had such a chance"),
        ("dataset/raw/test.parquet", "propensity", None, "such as nan"),
        ("dataset/raw/train.parquet", "price", -1.0, "feature 'price' of item 'w?o?men/.' changes within the log"),
    ],
)
def test_damaged_rows_are_refused(
    simulate: Simulate, made: Path, tmp_path: Path, file: str, column: str, new: float | None, message: str
) -> None:
    with pytest.raises(BadInputError, match=message):
        simulate(edited(made, tmp_path / "root", file, _set(column, new)))


def test_a_policy_that_shows_what_the_log_never_does_is_refused(simulate: Simulate, made: Path, tmp_path: Path) -> None:
    def rename(values: dict[str, list[Any]]) -> None:
        values["item_id"] = ["men/new" if item == "men/4" else item for item in values["item_id"]]

    root = edited(made, tmp_path / "root", "reference/events.parquet", rename)
    with pytest.raises(
        BadInputError, match=r"'other' shows 1 items in 'men' that the judged log never shows \('men/new'\)"
    ):
        simulate(root)


def test_shuffled_propensities_are_noticed(simulate: Simulate, made: Path, tmp_path: Path) -> None:
    def shuffle(values: dict[str, list[Any]]) -> None:
        values["propensity"] = np.random.default_rng(0).permutation(values["propensity"]).tolist()

    root = edited(made, tmp_path / "root", "dataset/raw/test.parquet", shuffle)
    right, wrong = (value(report, "men", "logged: other") for report in (simulate(), simulate(root)))
    assert right.covers("ips") is True and wrong.covers("ips") is False
    # A shuffled propensity says nothing about the item: E[w] = Σ log(a)·policy(a) · E[1/p].
    expected = float(LOGGED @ OTHER) * ITEMS
    assert wrong.mean_weight.value == pytest.approx(expected, abs=0.05)
    assert wrong.mean_weight.high is not None and wrong.mean_weight.high < 1


def test_the_same_run_gives_the_same_report(simulate: Simulate) -> None:
    assert json.loads(simulate().model_dump_json()) == json.loads(simulate().model_dump_json())
