"""How does a graph compute in float16 and still answer? Products and tables are short, what needs more digits is not.

float16 has 11 bits, ends at 65,504 and begins at 6e-8. Three kinds of numbers of a ranker do not fit: seconds since an
event, squares of small vectors, and probabilities that are products of probabilities. So a value is short only where
it pays, between the first table or product that it comes from and the last product that it goes to. What is made of
raw inputs alone, squares and roots, the last layer of each answer and all that follows stay float32.

onnxruntime's own converter (`onnxruntime.transformers.float16`) shortens every value, hands one even from a float32
node to the next through float16, and so turns the seconds of `fintrec` into infinity.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, checker, helper, inliner, numpy_helper, shape_inference

from components.judge.export_onnx.graph import strip
from components.judge.export_onnx.tables import LARGEST, is_outside, shortened, without_tables, write_short
from components.platform.errors import BadInputError

PRODUCTS = frozenset({"Einsum", "Gemm", "MatMul"})
"""Where the time goes: a device with units for float16 computes them several times faster."""
TABLES = frozenset({"Gather", "GatherND"})
"""Reads of rows, which take half as long from half as many bytes."""
LONG = frozenset({"CumSum", "Exp", "Log", "Pow", "Range", "Reciprocal", "ReduceL2", "ReduceSumSquare", "Round", "Sqrt"})
"""What leaves the range of float16, is a whole number that decides, or is not computed in it on every device."""
MOVES = frozenset({"Concat", "Expand", "Reshape", "Slice", "Split", "Squeeze", "Transpose", "Unsqueeze"})
"""What gives the numbers that it takes."""
SHAPES = frozenset({"Shape", "Size"})
"""What asks how large a value is, and not what it holds."""


def write_halved(path: Path, ranker: str) -> None:
    """Replace the file of a graph by one that computes in float16; the same file gives the same bytes.

    Tables outside of it get files of their own, beside those that it read.

    Args:
        path: what `components.judge.export_onnx.graph.export_graph` wrote.
        ranker: what messages call it.

    Raises:
        BadInputError: it cannot be shortened.
    """
    try:
        model = halved(onnx.load(str(path), load_external_data=False))
    except BadInputError as error:
        raise BadInputError(f"ranker {ranker!r} cannot be exported in float16: {error}; leave precision out") from error
    strip(model)
    write_short(model, path.parent)
    path.write_bytes(model.SerializeToString(deterministic=True))


def halved(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a graph of the same inputs and outputs that computes in float16 between its first and last products.

    Raises:
        BadInputError: nothing in it would be float16, or it cannot be told what is.
    """
    source = inliner.inline_local_functions(model) if model.functions else model
    if any(attribute.HasField("g") or attribute.graphs for node in source.graph.node for attribute in node.attribute):
        raise BadInputError("the graph has a branch or a loop, whose values have no precision of their own")
    made = _Halving.of(source).made()
    try:
        checker.check_model(without_tables(made), full_check=True)
    except (checker.ValidationError, shape_inference.InferenceError) as error:
        raise BadInputError(f"the shortened graph is not sound: {str(error).strip().splitlines()[0]}") from error
    return made


@dataclass
class _Halving:
    """One graph, and the nodes of its shortened form so far."""

    model: onnx.ModelProto
    kinds: dict[str, int]
    """By value its element type."""
    weights: dict[str, TensorProto]
    """By name the float32 initialisers and constants."""
    outputs: frozenset[str]
    """Values that the graph gives."""
    nodes: list[NodeProto] = field(default_factory=list)
    """Nodes that were made, in an order in which they can run."""
    short: set[str] = field(default_factory=set)
    """Names of values that are float16 now."""
    casts: dict[tuple[str, int], str] = field(default_factory=dict)
    """By value and type what holds the value in that type."""
    shortened: dict[str, TensorProto] = field(default_factory=dict)
    """Weights in float16, by their new names."""
    masks: set[str] = field(default_factory=set)
    """Names of values that are 0 or 1, which any precision holds."""

    @classmethod
    def of(cls, model: onnx.ModelProto) -> _Halving:
        """Return what is known of a graph before anything is made."""
        graph = shape_inference.infer_shapes(model).graph
        kinds = {v.name: v.type.tensor_type.elem_type for v in (*graph.input, *graph.output, *graph.value_info)}
        kinds |= {weight.name: weight.data_type for weight in model.graph.initializer}
        weights = {w.name: w for w in model.graph.initializer if w.data_type == TensorProto.FLOAT}
        for node in model.graph.node:
            value = _constant(node)
            if value is not None:
                weights[node.output[0]] = value
                kinds[node.output[0]] = value.data_type
        return cls(model, kinds, weights, frozenset(value.name for value in graph.output))

    def made(self) -> onnx.ModelProto:
        """Return the shortened model."""
        graph = self.model.graph
        for node, ahead in zip(graph.node, _leads_to_product(graph), strict=True):
            if _constant(node) is None:
                self._add(node, ahead and self._pays(node))
        if not self.short:
            raise BadInputError("no product or table of it would be float16")
        for name in sorted(self.outputs & self.short):
            self._cast(name, TensorProto.FLOAT)
        made = onnx.ModelProto()
        made.CopyFrom(self.model)
        del made.functions[:], made.graph.node[:], made.graph.initializer[:], made.graph.value_info[:]
        made.graph.node.extend(_needed(self.nodes, self.outputs))
        used = {name for node in made.graph.node for name in node.input}
        others = (w for w in graph.initializer if w.data_type != TensorProto.FLOAT)
        kept = {w.name: w for w in others} | self.weights | self.shortened
        made.graph.initializer.extend(weight for name, weight in kept.items() if name in used | self.outputs)
        return made

    def _pays(self, node: NodeProto) -> bool:
        """Return whether a node that leads to a product should be short."""
        if node.op_type in PRODUCTS:
            return True
        if node.op_type in TABLES and node.input[0] in self.weights:
            return True
        squares = node.op_type == "Mul" and node.input[0] == node.input[1]
        return node.op_type not in LONG and not squares and any(name in self.short for name in node.input)

    def _add(self, node: NodeProto, short: bool) -> None:
        """Make one node, after the casts that it needs."""
        kind = TensorProto.FLOAT16 if short else TensorProto.FLOAT
        new = NodeProto()
        new.CopyFrom(node)
        as_it_is = node.op_type in SHAPES
        new.input[:] = [
            self._cast(name, kind) if self._is_float(name) and not as_it_is else self._place(name)
            for name in node.input
        ]
        floats = [name for name in node.output if self._is_float(name)]
        if self._gives_masks(node):
            self.masks.update(floats)
        if short:
            self.short.update(floats)
            for attribute in new.attribute:
                if node.op_type == "Cast" and attribute.name == "to" and floats:
                    attribute.i = TensorProto.FLOAT16
        new.output[:] = [self._place(name) for name in node.output]
        self.nodes.append(new)

    def _gives_masks(self, node: NodeProto) -> bool:
        """Return whether a node makes 0 and 1 of a bool, or moves them."""
        if node.op_type == "Cast":
            return self.kinds.get(node.input[0]) == TensorProto.BOOL
        moved = [name for name in node.input if self._is_float(name)]
        return node.op_type in MOVES and bool(moved) and all(name in self.masks for name in moved)

    def _is_float(self, name: str) -> bool:
        """Return whether a value was float32; the place of an input that is left out has no name and no type.

        Raises:
            BadInputError: nobody knows.
        """
        if not name:
            return False
        if name not in self.kinds:
            raise BadInputError(f"the type of its value {name!r} is not known")
        return self.kinds[name] == TensorProto.FLOAT

    def _place(self, name: str) -> str:
        """Return the name that a value has now: an output's own is kept for its float32 form."""
        return f"{name}_float16" if name in self.short and name in self.outputs else name

    def _cast(self, name: str, kind: int) -> str:
        """Return the name of a float value in a type, after making what brings it there."""
        if name in self.weights:
            return name if kind == TensorProto.FLOAT else self._shortened(name)
        if (name in self.short) == (kind == TensorProto.FLOAT16):
            return self._place(name)
        if (name, kind) not in self.casts:
            if kind == TensorProto.FLOAT:
                given, made = self._place(name), name if name in self.outputs else f"{name}_float32"
            else:
                given, made = name if name in self.masks else self._clipped(name), f"{name}_float16"
            self.nodes.append(helper.make_node("Cast", [given], [made], name=f"{made}_cast", to=kind))
            self.casts[name, kind] = made
        return self.casts[name, kind]

    def _clipped(self, name: str) -> str:
        """Return the name of a float32 value whose numbers float16 holds, so that none becomes infinite."""
        ends = []
        for end, value in (("least", -LARGEST), ("most", LARGEST)):
            self.weights.setdefault(f"float16_{end}", numpy_helper.from_array(np.float32(value), f"float16_{end}"))
            ends.append(f"float16_{end}")
        self.nodes.append(helper.make_node("Clip", [name, *ends], [f"{name}_clipped"], name=f"{name}_clip"))
        return f"{name}_clipped"

    def _shortened(self, name: str) -> str:
        """Return the name of a weight in float16; what is too large for it is the largest that there is."""
        new = f"{name}_float16"
        if new not in self.shortened and is_outside(self.weights[name]):
            self.shortened[new] = shortened(self.weights[name], new)
        elif new not in self.shortened:
            values = np.clip(numpy_helper.to_array(self.weights[name]), -LARGEST, LARGEST)
            self.shortened[new] = numpy_helper.from_array(values.astype(np.float16), new)
        return new


def _constant(node: NodeProto) -> TensorProto | None:
    """Return the float32 value of a constant, as a weight of its name."""
    if node.op_type != "Constant" or node.domain:
        return None
    [attribute] = node.attribute
    if attribute.name == "value" and attribute.t.data_type == TensorProto.FLOAT:
        return numpy_helper.from_array(numpy_helper.to_array(attribute.t), node.output[0])
    if attribute.name in ("value_float", "value_floats"):
        value = np.float32(attribute.f) if attribute.name == "value_float" else np.array(attribute.floats, np.float32)
        return numpy_helper.from_array(value, node.output[0])
    return None


def _leads_to_product(graph: onnx.GraphProto) -> list[bool]:
    """Return by node whether what it gives goes to a product, at once or later."""
    leading: set[str] = set()
    found = []
    for node in reversed(graph.node):
        found.append(any(name in leading for name in node.output))
        if (found[-1] or node.op_type in PRODUCTS) and node.op_type not in SHAPES:
            leading.update(node.input)
    return found[::-1]


def _needed(nodes: list[NodeProto], outputs: frozenset[str]) -> Iterator[NodeProto]:
    """Yield the nodes that an output depends on."""
    needed = set(outputs)
    kept = []
    for node in reversed(nodes):
        if any(name in needed for name in node.output if name):
            needed.update(node.input)
            kept.append(node)
    yield from reversed(kept)
