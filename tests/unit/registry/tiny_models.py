"""Which model answers like the truth, and costs nothing? A few ONNX nodes over the synthetic training set."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from components.data.training_set import EncodedSplit, read_encoded, read_schema
from features.declaration import RankerSchema
from features.encoding.files import copy_encoder
from registry.serving.model.contract import ModelContract, ParityCase, ParityReport, axes_of

OPSET = 20


def write_model(directory: Path, dataset: Path, quality: float = 1.0, seed: int = 0, parity: bool = True) -> Path:
    """Write the files of an `OnnxModel`: P(like) and P(love | like) from user and item log-odds.

    Args:
        directory: folder to create.
        dataset: a `TrainingSet` directory; its training split gives the log-odds.
        quality: weight of the true log-odds; the rest is noise of the same size.
        seed: seed of the noise.
        parity: what `parity.json` says.
    """
    directory.mkdir(parents=True)
    schema = read_schema(dataset)
    train = read_encoded(dataset, "train", schema)
    rng = np.random.default_rng(seed)
    nodes, weights = [], {}
    likes = train.labels["like"] > 0
    rows = {"like": np.ones_like(likes), "love_given_like": likes}
    for task, label in (("like", "like"), ("love_given_like", "love")):
        terms = []
        for field in ("user_id", "item_id"):
            table = _log_odds(train, field, label, rows[task], schema)
            table = quality * table + (1 - quality) * rng.normal(0, max(table.std(), 1e-3), table.shape)
            name = f"{task}_{field}"
            weights[name] = table.astype(np.float32)
            nodes.append(helper.make_node("Gather", [name, field], [f"{name}_row"]))
            terms.append(f"{name}_row")
        rate = float(train.labels[label][rows[task]].mean())
        weights[f"{task}_bias"] = np.array(np.log(rate / (1 - rate)), dtype=np.float32)
        nodes.append(helper.make_node("Sum", [*terms, f"{task}_bias"], [f"{task}_logit"]))
        nodes.append(helper.make_node("Sigmoid", [f"{task}_logit"], [task]))
    nodes.append(helper.make_node("Mul", ["like", "love_given_like"], ["love"]))
    weights["column"] = np.array([1], dtype=np.int64)
    for task in ("like", "love_given_like"):
        nodes.append(helper.make_node("Unsqueeze", [f"{task}_logit", "column"], [f"{task}_column"]))
    nodes.append(helper.make_node("Concat", ["like_column", "love_given_like_column"], ["hidden"], axis=1))
    _save(directory / "model.onnx", schema, nodes, weights)
    contract = ModelContract(
        ranker="tiny",
        ranker_digest=f"ranker-{quality}-{seed}",
        schema=schema,
        tasks=("like", "love", "love_given_like"),
        hidden=2,
        hidden_mean=(0.0, 0.0),
        opset=OPSET,
    )
    case = ParityCase(batch=7, history=1, output="like", max_abs_difference=1e-7 if parity else 0.2)
    report = ParityReport(passed=parity, tolerance=1e-5, provider="cpu", cases=(case,))
    (directory / "contract.json").write_text(contract.model_dump_json(by_alias=True))
    (directory / "schema.json").write_text(schema.model_dump_json())
    copy_encoder(dataset, directory)
    (directory / "parity.json").write_text(report.model_dump_json())
    return directory


def _log_odds(train: EncodedSplit, field: str, label: str, rows: np.ndarray, schema: RankerSchema) -> np.ndarray:
    size = next(f.size for f in schema.fields if f.name == field)
    index, y = train.padded()[field][rows], train.labels[label][rows]
    rate = y.mean()
    positives = np.bincount(index, weights=y, minlength=size) + 2 * rate
    shown = np.bincount(index, minlength=size) + 2.0
    odds = positives / (shown - positives)
    return np.log(odds) - np.log(rate / (1 - rate))


def _save(path: Path, schema: RankerSchema, nodes: list, weights: dict[str, np.ndarray]) -> None:
    axes = axes_of(schema.fields)
    inputs = [
        helper.make_tensor_value_info(
            f.name, TensorProto.INT64 if f.embedded else TensorProto.FLOAT, list(axes[f.name])
        )
        for f in schema.fields
    ]
    outputs = [
        helper.make_tensor_value_info(t, TensorProto.FLOAT, ["batch"]) for t in ("like", "love", "love_given_like")
    ]
    outputs.append(helper.make_tensor_value_info("hidden", TensorProto.FLOAT, ["batch", 2]))
    constants = [numpy_helper.from_array(value, name) for name, value in weights.items()]
    graph = helper.make_graph(nodes, "tiny", inputs, outputs, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=10)
    onnx.checker.check_model(model)
    onnx.save(model, str(path))
