"""Do the command, the report, the gate, the calibration and the memory all speak of the answer that is served?"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from components.data.training_set import read_raw
from components.memory.refresh_error_memory.component import replayed
from components.memory.refresh_error_memory.config import Config
from components.platform.artifacts import OnnxModel, TrainingSet
from components.platform.settings import Settings
from components.platform.store.publish import open_store
from components.platform.store.records import ArtifactRef
from components.release.promote_model.rows import score_both
from features.declaration import Within
from features.ground.errors import BadInputError
from pipelines.cli.score import write_scores
from registry.memory.error_memory import Memory
from registry.memory.prequential import Replay, slot_bounds
from registry.metrics import log_loss
from registry.serving.answers.answer import answer
from registry.serving.answers.by_block import BLOCK
from registry.serving.incoming import domain_codes
from registry.serving.model.contract import RegisteredVersion
from registry.serving.model.served_model import HIDDEN, ServedModel
from registry.serving.scores.value import EXPECTED_VALUE
from tests.exports import write_model
from tests.known_graphs import KnownGraphs
from tests.stages import run_stage
from tests.trained import publish
from tests.worlds import write_training_set

VALUE = {"25_34": 100.0, "35_plus": 10.0, "under_25": 1.0}
CALIBRATION = {"value": VALUE, "min_rows": 50, "min_positives": 5}
Arrays = dict[str, np.ndarray[Any, Any]]


@dataclass(frozen=True)
class Shop:
    """A calibrated model with values and an enabled memory, and what each step makes of the test rows."""

    settings: Settings
    given: ArtifactRef
    """The model before it was calibrated."""
    rows_of: ArtifactRef
    """The training set."""
    folder: Path
    dataset: Path
    model: ServedModel
    memory: Memory
    replay: Replay
    predictions: pa.Table
    """What the evaluation judged."""
    rows: pa.Table
    graph: Arrays
    base: Arrays
    tasks: Arrays
    expected_value: np.ndarray[Any, Any]


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory, graphs: KnownGraphs) -> Shop:
    home = tmp_path_factory.mktemp("shop")
    settings = Settings.at(home / "home")
    dataset = write_training_set(home / "dataset", rows=3000)
    (home / "model").mkdir()
    write_model(home / "model", dataset, "esmm", 20, graphs)
    given, rows_of = publish(settings, OnnxModel, home / "model"), publish(settings, TrainingSet, dataset)
    made = run_stage(settings, "calibrate_ranker", CALIBRATION, model=given, dataset=rows_of).outputs["onnx_model"]
    report = run_stage(settings, "evaluate_ranker", {"bootstrap": 0}, model=made, dataset=rows_of).outputs["report"]
    store = open_store(settings)
    folder = store.fetch(made.load())
    model = ServedModel.open(folder, "cpu")
    memory, replay = remembered(dataset, model)

    rows = read_raw(dataset, "test")
    outputs = model.run(model.encoder.encode(model.rows(rows)))
    graph = {task: outputs[task].astype(np.float64) for task in model.contract.tasks}
    calibration, declaration = model.calibration, model.contract.schema_.declaration
    assert calibration is not None
    base = calibration.apply(graph, declaration, domain_codes(rows["age_band"], calibration.domains))
    tasks = memory.compensate(base, outputs[HIDDEN], rows)
    worth = np.array([VALUE[band] for band in rows["age_band"].to_pylist()])
    return Shop(
        settings=settings,
        given=given,
        rows_of=rows_of,
        folder=folder,
        dataset=dataset,
        model=model,
        memory=memory,
        replay=replay,
        predictions=pq.read_table(store.fetch(report.load()) / "predictions.parquet"),
        rows=rows,
        graph=graph,
        base=base,
        tasks=tasks,
        expected_value=tasks["love"] * worth,
    )


def remembered(dataset: Path, champion: ServedModel) -> tuple[Memory, Replay]:
    """Replay the champion's stream and switch every task on, whether that helps or not."""
    version = RegisteredVersion(
        model="shop", version=1, digest="d", model_uri="", ranker_digest="r", report_digest="",
        created_at=datetime(2024, 1, 1, tzinfo=UTC),
    )  # fmt: skip
    context: Any = SimpleNamespace(local=lambda one: one, progress=lambda text: None, scratch=dataset.parent)
    inputs: Any = SimpleNamespace(dataset=dataset)
    memory, replay = replayed(
        inputs, Config(model="shop", arrays=16, bits=6, slots=4, lambdas=(0.5,)), context, version, champion
    )
    on = {name: task.model_copy(update={"enabled": True}) for name, task in memory.header.tasks.items()}
    return replace(memory, header=memory.header.model_copy(update={"tasks": on})), replay


def assert_bits(found: Any, wanted: Any) -> None:
    np.testing.assert_array_equal(np.asarray(found), np.asarray(wanted))


def test_every_step_changes_the_answer(shop: Shop) -> None:
    """Without this, a caller that leaves a step out would be seen by nothing below."""
    for before, after in ((shop.graph, shop.base), (shop.base, shop.tasks)):
        assert all(np.abs(before[task] - after[task]).max() > 1e-4 for task in ("like", "love"))
    assert len({round(float(ratio), 6) for ratio in shop.expected_value / shop.tasks["love"]}) == len(VALUE)


@pytest.mark.parametrize("chunk", [100, 8192])
def test_one_function_takes_all_steps(shop: Shop, chunk: int) -> None:
    found = answer(shop.model, shop.rows, memory=shop.memory, value=shop.model.value, chunk=chunk)
    assert tuple(found.tasks) == tuple(found.base) == shop.model.contract.tasks
    assert found.expected_value is not None
    # The graph's own floats differ in the last bits between batches of different sizes.
    check = assert_bits if chunk > shop.rows.num_rows else lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6)
    for task in shop.tasks:
        check(found.base[task], shop.base[task])
        check(found.tasks[task], shop.tasks[task])
    np.testing.assert_allclose(found.expected_value, shop.expected_value, atol=1e-4)
    assert answer(shop.model, shop.rows).expected_value is None


@pytest.mark.parametrize("rows", [300, 0])
def test_the_command_writes_what_is_served(shop: Shop, tmp_path: Path, rows: int) -> None:
    part = shop.rows.slice(0, rows)
    pq.write_table(part, tmp_path / "rows.parquet")
    assert shop.rows.num_rows == 300
    written = write_scores(shop.model, shop.memory, shop.model.value, tmp_path / "rows.parquet", tmp_path / "out")
    scores = pq.read_table(tmp_path / "out")
    assert written.rows == scores.num_rows == rows
    for task, values in shop.tasks.items():
        assert_bits(scores[task], values[:rows])
    assert_bits(scores[EXPECTED_VALUE], shop.expected_value[:rows])
    write_scores(shop.model, None, shop.model.value, tmp_path / "rows.parquet", tmp_path / "out")
    assert_bits(pq.read_table(tmp_path / "out")["like"], shop.base["like"][:rows])


def test_the_report_is_of_the_served_answer_before_the_version_has_a_memory(shop: Shop) -> None:
    for task, values in shop.base.items():
        assert_bits(shop.predictions[f"predicted_{task}"], values)


def test_the_gate_compares_two_served_answers_without_memories(shop: Shop) -> None:
    pair, _ = score_both(shop.dataset, shop.folder, shop.folder, "shop v1", "cpu")
    assert pair.champion is not None
    for task, values in shop.base.items():
        assert_bits(pair.challenger[task], values)
        assert_bits(pair.champion[task], values)


def test_the_calibration_is_measured_on_the_graph_and_on_the_served_answer(shop: Shop) -> None:
    assert shop.model.calibration is not None
    label = shop.rows["like"].to_numpy().astype(np.float64)
    [cell] = [
        cell for cell in shop.model.calibration.cells if (cell.split, cell.task, cell.domain) == ("test", "like", "all")
    ]
    assert cell.log_loss == (log_loss(label, shop.graph["like"]), log_loss(label, shop.base["like"]))


def test_a_memory_learns_the_errors_of_calibrated_answers(shop: Shop) -> None:
    """Before the first slot is written, a replay gives the base answer."""
    stream = shop.rows.sort_by([("event_timestamp", "ascending"), ("row_id", "ascending")])
    (start, end), *_ = slot_bounds(stream["event_timestamp"].cast(pa.int64()).to_numpy(), 4)
    base = answer(shop.model, stream).base
    for task in ("like", "love"):
        assert_bits(shop.replay.compensated[task][start:end], base[task][start:end])
        assert not np.array_equal(shop.replay.compensated[task][end:], base[task][end:])


def test_how_many_rows_are_read_at_once_changes_nothing(
    shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Calibration, report, what the gate compares, golden rows and memory are those of all rows at once, to the bit."""
    assert answer.__kwdefaults__ is not None
    assert BLOCK % answer.__kwdefaults__["chunk"] == 0, "the graph's floats may differ between batches of other rows"
    scored = 32
    monkeypatch.setitem(answer.__kwdefaults__, "chunk", scored)
    found = []
    for rows in (1 << 20, scored):
        monkeypatch.setattr("registry.serving.answers.by_block.BLOCK", rows)
        monkeypatch.setattr("registry.serving.model.served_model.CHUNK", rows)
        monkeypatch.setattr("registry.memory.prequential.AT_ONCE", rows)
        given = {"dataset": shop.rows_of, "cache": False}
        model = run_stage(shop.settings, "calibrate_ranker", CALIBRATION, model=shop.given, **given).outputs
        report = run_stage(
            shop.settings, "evaluate_ranker", {"bootstrap": 3}, model=model["onnx_model"], **given
        ).outputs
        pair, _ = score_both(shop.dataset, shop.folder, shop.folder, "shop v1", "cpu")
        memory, replay = remembered(shop.dataset, shop.model)
        memory.save(tmp_path)
        answers = [*pair.challenger.values(), *replay.compensated.values()]
        found.append(
            (
                model["onnx_model"].digest,
                report["report"].digest,
                [values.tobytes() for values in answers],
                replay.slots,
                [path.read_bytes() for path in sorted(tmp_path.iterdir())],
            )
        )
    assert found[0] == found[1]


def test_a_memory_whose_key_is_missing_is_one_sentence(shop: Shop) -> None:
    rows = shop.rows.drop_columns(["user_id"])
    hidden = np.zeros((rows.num_rows, shop.model.contract.hidden))
    with pytest.raises(BadInputError, match="no column 'user_id', which the error memory needs"):
        shop.memory.compensate(shop.base, hidden, rows)


def requests(shop: Shop) -> tuple[ServedModel, pa.Table]:
    """Return the model as if it had been trained on rows with requests, and such rows, those of a request apart."""
    schema = shop.model.contract.schema_
    declaration = schema.declaration.model_copy(update={"request": "session"})
    contract = shop.model.contract.model_copy(
        update={"schema_": schema.model_copy(update={"declaration": declaration})}
    )
    sessions = pa.array([None if row == 7 else f"s{row % 40}" for row in range(shop.rows.num_rows)])
    return replace(shop.model, contract=contract, label="model shop v3"), shop.rows.append_column("session", sessions)


def test_scores_of_requests_have_ranks_and_equal_ones_go_by_item(shop: Shop, tmp_path: Path) -> None:
    model, rows = requests(shop)
    # Every row twice, the second as an item that nobody knows: equal answers but for the two of them.
    odd = pa.concat_tables([rows, rows])
    ids = pa.array([10**9 + row % 7 for row in range(odd.num_rows)], odd["item_id"].type)
    odd = odd.set_column(odd.column_names.index("item_id"), "item_id", ids)
    pq.write_table(odd, tmp_path / "rows.parquet")
    # Requests lie in several parts.
    write_scores(model, shop.memory, model.value, tmp_path / "rows.parquet", tmp_path / "out", block=64)
    scores = pq.read_table(tmp_path / "out")
    assert scores.column_names[:4] == ["row_id", "session", "user_id", "item_id"]
    found = scores.to_pylist()
    assert {row["session"] for row in found if row["rank"] is None} == {None}
    ties = 0
    for session in {row["session"] for row in found} - {None}:
        own = [row for row in found if row["session"] == session]
        wanted = sorted(own, key=lambda row: (-row[EXPECTED_VALUE], row["item_id"]))
        assert [row["rank"] for row in wanted] == list(range(1, len(own) + 1))
        ties += len(own) - len({row[EXPECTED_VALUE] for row in own})
    assert ties > 100


def test_every_missing_column_is_named_at_once(shop: Shop, tmp_path: Path) -> None:
    model, rows = requests(shop)
    absent = ["genres", "age_band", "user_id", "item_id", "session"]
    pq.write_table(rows.drop_columns(absent), tmp_path / "rows.parquet")
    with pytest.raises(BadInputError) as told:
        write_scores(model, shop.memory, model.value, tmp_path / "rows.parquet", tmp_path / "out")
    assert all(f"'{name}'" in str(told.value) for name in absent)
    # What is no feature says what it is for.
    fields = [f for f in model.encoder.fitted if f.name not in ("age_band", "user_id")]
    model = replace(model, encoder=replace(model.encoder, fitted=tuple(fields)))
    key = shop.memory.header.key.model_copy(update={"kind": "hidden_user"})
    memory = replace(shop.memory, header=shop.memory.header.model_copy(update={"key": key}))
    with pytest.raises(BadInputError) as told:
        answer(model, rows.drop_columns(["genres", "age_band", "user_id"]), memory=memory, value=model.value)
    assert str(told.value) == (
        "rows have no column 'genres', 'age_band' (calibration), 'user_id' (error memory: --no-memory scores without "
        "it), which model shop v3 needs: add them"
    )
    assert not (tmp_path / "out").exists()


def test_a_feature_of_a_request_is_made_of_all_its_rows_wherever_they_lie(shop: Shop, tmp_path: Path) -> None:
    model, rows = requests(shop)
    schema = model.contract.schema_
    within = {"popularity": Within(of="price", take="gap")}
    declaration = schema.declaration.model_copy(update={"within": within})
    contract = model.contract.model_copy(update={"schema_": schema.model_copy(update={"declaration": declaration})})
    model = replace(model, contract=contract)
    rows = rows.drop_columns(["popularity"]).append_column("price", pa.array(np.arange(300.0) ** 1.5))
    pq.write_table(rows, tmp_path / "rows.parquet")
    write_scores(model, None, model.value, tmp_path / "rows.parquet", tmp_path / "whole")
    write_scores(model, None, model.value, tmp_path / "rows.parquet", tmp_path / "out", block=64)
    found, wanted = (pq.read_table(tmp_path / name)["like"].to_numpy() for name in ("out", "whole"))
    np.testing.assert_allclose(found, wanted, atol=1e-6)
    assert np.abs(answer(model, rows.slice(0, 64)).tasks["like"] - wanted[:64]).max() > 1e-3, "they hang on each other"
    pq.write_table(rows.drop_columns(["price", "genres", "session"]), tmp_path / "rows.parquet")
    with pytest.raises(BadInputError) as told:
        write_scores(model, None, model.value, tmp_path / "rows.parquet", tmp_path / "out")
    assert str(told.value).startswith(
        "rows have no column 'session' (request), 'genres', 'price' ('popularity' is made of it), which model shop v3"
    )
