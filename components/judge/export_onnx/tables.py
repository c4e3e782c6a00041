"""Where do large tables lie? Each in a file beside the graph, which onnxruntime maps into memory.

A graph is one protobuf, which ends at 2 GiB and is read as a whole. ONNX lets a weight lie in another file of the same
folder, its "external data": the graph then says in which file, where in it, and how many bytes. The file here is a
safetensors file of one tensor, so that any reader of that format opens it too, and the numbers begin at a page. Nothing
of it is read before a row is asked for, and all processes that open it share what was read; so do the graph of rows and
the graph of a request, which name the same file.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, external_data_helper
from torch import Tensor, nn

from registry.serving.model.session import outside

if TYPE_CHECKING:
    from collections.abc import Iterable

    from onnxscript import ir

ABOVE = 64 * 2**20
"""Bytes of all weights together that a graph holds itself; of a ranker with more, the large ones lie outside."""
LEAST = 2**20
"""Bytes of a weight that is worth a file."""
PAGE = 4096
"""Where in its file a table begins; what lies before is the header."""
SUFFIX = ".safetensors"
SHORT = ".float16"
"""What the name of a table in float16 ends with."""
LARGEST = float(np.finfo(np.float16).max)
_CHUNK = 2**24
"""Numbers that are shortened at a time."""
_FORMATS = {torch.float32: "F32", torch.float16: "F16", torch.int64: "I64", torch.int32: "I32", torch.int8: "I8"}
"""What safetensors calls the types of tables."""


@dataclass(frozen=True)
class Tables:
    """The weights of a ranker that do not lie in its graphs."""

    weights: dict[str, Tensor]
    """By the name that the ranker has for it."""
    written: set[Path] = field(default_factory=set)
    """Files that hold them by now."""

    @classmethod
    def of(cls, ranker: nn.Module) -> Tables:
        """Return the large weights of a ranker; none where all of its weights take little."""
        named = {name: weight.detach() for name, weight in (*ranker.named_parameters(), *ranker.named_buffers())}
        if sum(weight.nbytes for weight in named.values()) <= ABOVE:
            return cls({})
        return cls(
            {
                name: weight
                for name, weight in named.items()
                if weight.nbytes >= LEAST and weight.is_contiguous() and weight.dtype in _FORMATS
            }
        )

    @property
    def size(self) -> int:
        """Bytes of all of them."""
        return sum(weight.nbytes for weight in self.weights.values())

    def take_from(self, graph: ir.Graph, folder: Path) -> None:
        """Let a graph that was exported and not yet written name files of `folder` instead of holding the tables.

        A table is written once, whatever the graph calls it and however many graphs hold it: the exporter hands on the
        ranker's own memory, by which it is known again.
        """
        from onnxscript import ir

        names = {_place(weight): name for name, weight in self.weights.items()}
        for initializer in graph.initializers.values():
            held: Any = initializer.const_value
            raw = getattr(held, "raw", None)
            if not isinstance(raw, Tensor) or (name := names.get(_place(raw))) is None:
                continue
            path = folder / f"{name}{SUFFIX}"
            if path not in self.written:
                numbers = self.weights[name].cpu().numpy()
                write_table(path, name, _FORMATS[raw.dtype], numbers.shape, [numbers])
                self.written.add(path)
            initializer.const_value = ir.ExternalTensor(
                path.name, PAGE, held.nbytes, held.dtype, shape=held.shape, name=initializer.name, base_dir=folder
            )


def _place(weight: Tensor) -> tuple[int, tuple[int, ...], torch.dtype]:
    return weight.data_ptr(), tuple(weight.shape), weight.dtype


def write_table(
    path: Path, name: str, kind: str, shape: tuple[int, ...], parts: Iterable[np.ndarray[Any, Any]]
) -> None:
    """Write a safetensors file of one tensor whose numbers begin at `PAGE`; the same tensor gives the same bytes.

    Args:
        path: a file that is there is replaced, and stays what it was for those who have it open.
        name: of the tensor.
        kind: type as safetensors calls it, such as ``F32``.
        shape: of the tensor.
        parts: its numbers in their order, contiguous and little-endian.
    """
    bits = int("".join(filter(str.isdigit, kind)))
    size = int(np.prod(shape)) * bits // 8
    header = json.dumps({name: {"dtype": kind, "shape": [*shape], "data_offsets": [0, size]}}).encode()
    path.unlink(missing_ok=True)
    with path.open("wb") as file:
        # The length of the header, which may end in spaces.
        file.write((PAGE - 8).to_bytes(8, "little") + header.ljust(PAGE - 8))
        for part in parts:
            file.write(part.reshape(-1).view(np.uint8).data)


def is_outside(weight: TensorProto) -> bool:
    """Return whether a weight of a graph lies in another file."""
    return external_data_helper.uses_external_data(weight)


def shortened(weight: TensorProto, name: str) -> TensorProto:
    """Return what a graph says of a float32 table that lies outside when it reads it in float16; see `write_short`."""
    said = {entry.key: entry.value for entry in weight.external_data}
    new = TensorProto(name=name, data_type=TensorProto.FLOAT16, dims=weight.dims, data_location=TensorProto.EXTERNAL)
    said["location"] = f"{said['location'].removesuffix(SUFFIX)}{SHORT}{SUFFIX}"
    said["length"] = str(int(said["length"]) // 2)
    for key, value in said.items():
        new.external_data.add(key=key, value=value)
    return new


def write_short(model: onnx.ModelProto, folder: Path) -> None:
    """Write the tables that a graph reads in float16, from those in float32 that lie in the same folder.

    What is too large for float16 becomes the largest that there is. A table that another graph of the folder has
    brought there is left as it is.
    """
    for weight in model.graph.initializer:
        if not is_outside(weight):
            continue
        said = {entry.key: entry.value for entry in weight.external_data}
        name = said["location"].removesuffix(SUFFIX)
        if not name.endswith(SHORT):
            continue
        name = name.removesuffix(SHORT)
        long, short = folder / f"{name}{SUFFIX}", folder / f"{name}{SHORT}{SUFFIX}"
        if short.exists() and short.stat().st_mtime_ns >= long.stat().st_mtime_ns:
            continue
        shape = tuple(weight.dims)
        write_table(short, name, "F16", shape, _halves(np.memmap(long, np.float32, "r", PAGE, shape)))


def _halves(table: np.ndarray[Any, Any]) -> Iterator[np.ndarray[Any, Any]]:
    """Yield a table in float16, some rows at a time."""
    numbers = table.reshape(-1)
    for start in range(0, len(numbers), _CHUNK):
        yield np.clip(numbers[start : start + _CHUNK], -LARGEST, LARGEST).astype(np.float16)


def remove_unread(folder: Path) -> None:
    """Delete the tables that no graph of a folder reads: those in float32, of graphs that read them in float16."""
    read = {place for graph in folder.glob("*.onnx") for place in outside(graph)}
    for table in folder.glob(f"*{SUFFIX}"):
        if table.name not in read:
            table.unlink()


def without_tables(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a graph whose outside tables are inputs, which is as sound, for a checker that would look for files."""
    others = [weight for weight in model.graph.initializer if is_outside(weight)]
    if not others:
        return model
    alike = onnx.ModelProto()
    alike.CopyFrom(model)
    kept = [weight for weight in model.graph.initializer if not is_outside(weight)]
    del alike.graph.initializer[:]
    alike.graph.initializer.extend(kept)
    alike.graph.input.extend(onnx.helper.make_tensor_value_info(w.name, w.data_type, w.dims) for w in others)
    return alike
