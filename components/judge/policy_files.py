"""What lies in a learned policy, and with which chance does it choose each action? A contract and one small graph."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pydantic import AwareDatetime

from components.platform.errors import BadInputError, did_you_mean
from features.declaration import FieldSpec, Frozen, Name
from features.encoding.encoder import Encoder

if TYPE_CHECKING:
    import onnx
    import onnxruntime

CONTRACT, GRAPH = "contract.json", "policy.onnx"
ALLOWED, CHANCE = "allowed", "chance"
"""Names of the graph's mask of actions and of its output."""
OPSET, IR_VERSION = 20, 10
EVERY_ROW = "every row"
"""Group of the rows where all rows have the same actions."""

Floats = NDArray[np.float64]
Inputs = Mapping[str, NDArray[Any]]
"""By feature: int64 ``[n]`` indices, or float32 ``[n]`` or ``[n, width]``."""


class PolicyContract(Frozen):
    """What a policy reads, what it may do, and how sure it is to leave support for the next log."""

    action: Name
    """Column of the action in the log it was learned from."""
    actions: tuple[int, ...] | tuple[str, ...]
    """Actions, ascending, in the order of the graph's output."""
    candidates_per: Name | None
    """Column whose values have actions of their own, or None."""
    allowed: dict[str, tuple[int, ...]]
    """By value of that column (`EVERY_ROW` without one) the places in `actions` of what may be done there."""
    features: tuple[FieldSpec, ...]
    """Inputs of the graph beside the mask."""
    temperature: float
    """Scores are divided by it."""
    floor: float
    """Share of the choices that is uniform over what may be done: every action keeps a known chance."""
    reward: dict[Name, float]
    """What was maximised: a weight per column of the log."""
    objective: Literal["dr", "snips", "ips"]
    clip: float | None
    """Largest weight of a row in learning."""
    least_logged: float
    """Smallest propensity of the rows it was learned from: what the log hardly tried, the policy cannot know."""
    best_fixed: dict[str, int | str]
    """By group the one action that was worth most on average in the rows it was learned from."""
    dataset_digest: str
    """Training set whose train and validation rows it was learned from."""
    learned_from: AwareDatetime
    """Time of the earliest of these rows."""
    learned_until: AwareDatetime
    """Time of the latest."""

    @property
    def reward_name(self) -> str:
        """The reward in words, such as ``click`` or ``1 engaged + 0.3 revenue``."""
        return reward_name(self.reward)


def reward_name(reward: Mapping[str, float]) -> str:
    """Return a weighted reward in words."""
    if list(reward.values()) == [1.0]:
        return next(iter(reward))
    parts = [f"{weight:g} {name}" for name, weight in reward.items()]
    return " + ".join(parts).replace("+ -", "- ")


def reward_of(table: pa.Table, reward: Mapping[str, float]) -> Floats:
    """Return float64 ``[rows]``, the weighted sum of columns of a log.

    Raises:
        BadInputError: a column holds no number somewhere.
    """
    total = np.zeros(table.num_rows)
    for name, weight in reward.items():
        column = table[name]
        numbers = pa.types.is_integer(column.type) or pa.types.is_floating(column.type) or column.type == pa.bool_()
        if not numbers:
            raise BadInputError(f"reward {name!r} is {column.type}, not a number: name a label or a carried number")
        values = np.asarray(column.cast(pa.float64()).to_numpy(), dtype=np.float64)
        if not np.isfinite(values).all():
            count = int((~np.isfinite(values)).sum())
            raise BadInputError(f"reward {name!r} has no number in {count:,} rows: fill or drop them at ingestion")
        total += weight * values
    return total


@dataclass(frozen=True)
class Weights:
    """Two layers over the features: scores = relu(Σ rows of tables + Σ numbers · weights + bias) · out + out_bias."""

    tables: dict[str, Floats]
    """By categorical feature ``[size, H]``."""
    numbers: dict[str, Floats]
    """By feature of numbers ``[width, H]``."""
    bias: Floats
    """``[H]``."""
    out: Floats
    """``[H, A]``."""
    out_bias: Floats
    """``[A]``."""


def features_of(encoder: Encoder, table: pa.Table, features: tuple[FieldSpec, ...]) -> dict[str, NDArray[Any]]:
    """Return what a policy reads of raw rows: int64 ``[n]``, or float32 ``[n]`` or ``[n, width]``, by feature."""
    wanted = {field.name for field in features}
    some = Encoder(tuple(f for f in encoder.fitted if f.name in wanted), encoder.vocabularies)
    made = some.encode(table)
    return {field.name: made[field.name].astype(np.int64 if field.embedded else np.float32) for field in features}


def groups_in(table: pa.Table, column: str | None) -> pa.Array:
    """Return the group of each row as text, `EVERY_ROW` without a column."""
    if column is None:
        return pa.array([EVERY_ROW]).take(pa.array(np.zeros(table.num_rows, dtype=np.int64)))
    return table[column].cast(pa.string()).combine_chunks()


@dataclass(frozen=True)
class LearnedPolicy:
    """A policy that is open to be asked."""

    contract: PolicyContract
    encoder: Encoder
    session: onnxruntime.InferenceSession

    @classmethod
    def open(cls, folder: Path, provider: Literal["auto", "cpu", "cuda"] = "cpu") -> LearnedPolicy:
        """Open the folder of a `Policy`.

        Raises:
            BadInputError: a file of it cannot be read.
            MissingError: a file is missing, or the provider did not load.
        """
        from features.encoding.files import read_encoder
        from registry.serving.model.session import open_session

        contract = PolicyContract.model_validate_json((folder / CONTRACT).read_text(encoding="utf-8"))
        again = "learn the policy again"
        return cls(contract, read_encoder(folder, "the policy", again), open_session(folder / GRAPH, provider))

    def chances(self, table: pa.Table) -> Floats:
        """Return the chance of every action in every row, float64 ``[n, A]``; those of a row sum to 1.

        Args:
            table: raw rows with the policy's features and, where it has one, the column `candidates_per`.

        Raises:
            BadInputError: a column is missing, or a row belongs to a group that learning never saw.
        """
        contract = self.contract
        named = [field.name for field in contract.features] + [n for n in (contract.candidates_per,) if n is not None]
        if absent := [name for name in named if name not in table.column_names]:
            raise BadInputError(f"rows have no column {absent[0]!r}, which the policy reads: give it its features")
        mask = allowed_mask(contract, groups_in(table, contract.candidates_per))
        feed = features_of(self.encoder, table, contract.features)
        (found,) = self.session.run([CHANCE], {**feed, ALLOWED: mask})
        return np.asarray(found, dtype=np.float64)


def allowed_mask(contract: PolicyContract, groups: pa.Array) -> Floats:
    """Return float64 ``[n, A]``, 1 for what may be done in the group of a row.

    Raises:
        BadInputError: a group that learning never saw.
    """
    names = list(contract.allowed)
    table = np.zeros((len(names), len(contract.actions)))
    for row, name in enumerate(names):
        table[row, list(contract.allowed[name])] = 1.0
    at = pc.index_in(groups, value_set=pa.array(names, pa.string()))
    if at.null_count:
        strange = str(groups.filter(pc.is_null(at))[0].as_py())
        raise BadInputError(
            f"{contract.candidates_per} {strange!r} has no actions in the policy{did_you_mean(strange, names)}: learn "
            "it from a log that shows them"
        )
    return table[np.asarray(at.to_numpy(zero_copy_only=False), dtype=np.int64)]


def write_graph(
    path: Path, features: tuple[FieldSpec, ...], weights: Weights, temperature: float, floor: float
) -> None:
    """Write the policy as one ONNX file in float64: features and mask in, chances of the actions out.

    Equal scores give exactly equal chances, so that a policy that learned nothing is `uniform` to the bit.
    """
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    nodes: list[onnx.NodeProto] = []
    constants: dict[str, NDArray[Any]] = {"bias": weights.bias, "out": weights.out, "out_bias": weights.out_bias}
    inputs = []

    def node(kind: str, given: list[str], made: str, **attributes: int) -> str:
        nodes.append(helper.make_node(kind, given, [made], name=made, **attributes))
        return made

    hidden = "bias"
    for field in features:
        if field.embedded:
            inputs.append(helper.make_tensor_value_info(field.name, TensorProto.INT64, ["batch"]))
            constants[f"{field.name}__rows"] = weights.tables[field.name]
            part = node("Gather", [f"{field.name}__rows", field.name], f"{field.name}__part", axis=0)
        else:
            shape = ["batch", field.length] if field.wide else ["batch"]
            inputs.append(helper.make_tensor_value_info(field.name, TensorProto.FLOAT, shape))
            constants[f"{field.name}__weight"] = weights.numbers[field.name]
            number = node("Cast", [field.name], f"{field.name}__number", to=TensorProto.DOUBLE)
            if not field.wide:
                constants["__column"] = np.array([1], dtype=np.int64)
                number = node("Unsqueeze", [number, "__column"], f"{field.name}__row")
            part = node("MatMul", [number, f"{field.name}__weight"], f"{field.name}__part")
        hidden = node("Add", [hidden, part], f"{field.name}__sum")
    node("Relu", [hidden], "active")
    node("MatMul", ["active", "out"], "weighted")
    node("Add", ["weighted", "out_bias"], "raw")
    constants |= {"temperature": np.array(temperature), "floor": np.array(floor), "rest": np.array(1.0 - floor)}
    constants |= {"never": np.array(-np.inf), "zero": np.array(0.0), "__actions": np.array([1], dtype=np.int64)}
    node("Div", ["raw", "temperature"], "score")
    node("Greater", [ALLOWED, "zero"], "may")
    node("Where", ["may", "score", "never"], "masked")
    node("Softmax", ["masked"], "softmax", axis=1)
    node("ReduceSum", [ALLOWED, "__actions"], "count", keepdims=1)
    node("Div", [ALLOWED, "count"], "uniform")
    node("Mul", ["softmax", "rest"], "chosen")
    node("Mul", ["uniform", "floor"], "explored")
    node("Add", ["chosen", "explored"], CHANCE)
    actions = int(weights.out.shape[1])
    inputs.append(helper.make_tensor_value_info(ALLOWED, TensorProto.DOUBLE, ["batch", actions]))
    graph = helper.make_graph(
        nodes,
        "policy",
        inputs,
        [helper.make_tensor_value_info(CHANCE, TensorProto.DOUBLE, ["batch", actions])],
        [numpy_helper.from_array(np.asarray(values), name) for name, values in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], producer_name="rankmill")
    model.ir_version = IR_VERSION
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString(deterministic=True))
