"""How does a ranker become an ONNX file whose inputs, outputs and axes have names and whose bytes repeat?"""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from components.judge.export_onnx.tables import Tables
from components.platform.errors import BadInputError
from components.rankers.tasks import HIDDEN
from features.declaration import FieldSpec, RankerSchema
from registry.serving.model.contract import axes_of

if TYPE_CHECKING:
    import onnx

OPSET = 20
LARGEST = 2_000_000_000
"""Bytes of weights that a graph itself can hold: protobuf ends at 2 GiB."""
_SMALLEST = 3
"""Size of an axis in the sample; 0 and 1 would be taken for constants."""
_operators: dict[int, Any] = {}
"""By opset, the exporter's table of what each operator becomes."""


class NamedGraph(nn.Module):
    """A ranker with positional inputs and outputs, as graphs have them; logits stay inside."""

    def __init__(self, ranker: nn.Module, inputs: Sequence[str], tasks: Sequence[str]) -> None:
        super().__init__()
        self.ranker = ranker
        self.inputs = tuple(inputs)
        self.outputs = (*tasks, HIDDEN)

    def forward(self, *arrays: Tensor) -> tuple[Tensor, ...]:
        """Return float32 probabilities ``[B]`` in the order of `tasks`, then ``hidden`` ``[B, H]``."""
        answers = self.ranker(dict(zip(self.inputs, arrays, strict=True)))
        return tuple(answers[name].to(torch.float32) for name in self.outputs)


def export_graph(
    ranker: nn.Module,
    schema: RankerSchema,
    tasks: Sequence[str],
    path: Path,
    once: Collection[str] = (),
    tables: Tables | None = None,
) -> None:
    """Write a ranker as one ONNX file, large tables beside it.

    The same weights give the same bytes on every machine: the exporter's stack traces, which hold file paths, are
    removed. Inputs in `once` come in one row, see `registry.serving.model.contract.axes_of`. Graphs of one ranker that
    get the same `tables` share their files.

    Raises:
        BadInputError: the weights that are no tables do not fit into a graph.
    """
    tables = Tables.of(ranker) if tables is None else tables
    weights = {id(t): t for t in (*ranker.parameters(), *ranker.buffers())}  # modules may share one
    size = sum(t.nbytes for t in weights.values()) - tables.size
    if size > LARGEST:
        raise BadInputError(
            f"the ranker's weights take {size / 2**30:.1f} GiB beside its tables and a graph holds 2 at most: "
            "make its layers narrower"
        )
    names = [field.name for field in schema.fields]
    axes = axes_of(schema.fields, once)
    wrapper = NamedGraph(ranker, names, tasks).eval()
    try:
        with _quiet(), _operators_kept(), torch.no_grad():
            program = torch.onnx.export(
                wrapper,
                tuple(_samples(schema.fields, axes)),
                input_names=names,
                output_names=[*tasks, HIDDEN],
                opset_version=OPSET,
                dynamo=True,
                external_data=False,
                dynamic_shapes=(tuple(_dynamic(axes[name]) for name in names),),
                verbose=False,
            )
    except torch.onnx.OnnxExporterError as error:
        cause = str(error.__cause__ or error).strip().splitlines()[0]
        raise BadInputError(
            f"ranker {type(ranker).__name__!r} cannot be exported with dynamic {', '.join(sorted(_names(axes)))}: "
            f"{cause}; change its forward"
        ) from error
    if program is None:  # only the legacy exporter returns nothing
        raise AssertionError("torch.onnx.export returned no program")
    tables.take_from(program.model.graph, path.parent)
    model = program.model_proto
    strip(model)
    path.write_bytes(model.SerializeToString(deterministic=True))


def strip(model: onnx.ModelProto) -> None:
    """Remove in place what describes the exporting machine and changes no answer."""
    # "2.13.0+cpu" would tell machines apart.
    model.producer_version = model.producer_version.partition("+")[0]
    for owner in (model, model.graph, *model.functions):
        del owner.metadata_props[:]
        owner.doc_string = ""
    # Shapes of inner values are the exporter's guesses; a consumer infers them again.
    del model.graph.value_info[:]
    inner = [node for function in model.functions for node in function.node]
    for part in (*model.graph.input, *model.graph.output, *model.graph.initializer, *model.graph.node, *inner):
        del part.metadata_props[:]
        part.doc_string = ""


def _dynamic(axes: tuple[str | int, ...]) -> dict[int, str]:
    return {place: axis for place, axis in enumerate(axes) if isinstance(axis, str)}


def _names(axes: dict[str, tuple[str | int, ...]]) -> set[str]:
    return {axis for names in axes.values() for axis in names if isinstance(axis, str)}


def _samples(fields: Sequence[FieldSpec], axes: dict[str, tuple[str | int, ...]]) -> Iterator[Tensor]:
    """Yield one small input per field, each dynamic axis with a size of its own."""
    sizes: dict[str, int] = {}
    for field in fields:
        shape = [
            axis if isinstance(axis, int) else sizes.setdefault(axis, _SMALLEST + len(sizes))
            for axis in axes[field.name]
        ]
        yield torch.zeros(shape, dtype=torch.int64 if field.embedded else torch.float32)


@contextlib.contextmanager
def _operators_kept() -> Iterator[None]:
    """Let the exporter make its table of operators once in a process; for each graph anew, that is half of the work.

    Only here: others may add operators of their own to the table that they get.
    """
    try:
        from torch.onnx._internal.exporter._registration import ONNXRegistry

        made = ONNXRegistry.__dict__["from_torchlib"]
    except (ImportError, KeyError):  # another version, which takes the time it takes
        yield
        return

    def kept(opset_version: int = OPSET) -> Any:
        if opset_version not in _operators:
            _operators[opset_version] = made.__get__(None, ONNXRegistry)(opset_version=opset_version)
        return _operators[opset_version]

    ONNXRegistry.from_torchlib = staticmethod(kept)  # type: ignore[method-assign]
    try:
        yield
    finally:
        ONNXRegistry.from_torchlib = made  # type: ignore[method-assign]


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter's progress and advice off the terminal; its errors are exceptions."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "torch.export", "onnxscript", "onnx_ir")]
    before = [logger.level for logger in loggers]
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for logger, level in zip(loggers, before, strict=True):
                logger.setLevel(level)
