"""How are a question and its answer written? Open Inference Protocol V2 (KServe) in JSON, strictly read; no I/O here.

A question is about the candidates of one request. Every tensor is called like a raw column of the model and has the
shape ``[1]`` or ``[1, L]``, which holds for all candidates, or ``[N]`` or ``[N, L]``. ``null`` in the data is missing,
an extension of the protocol, which has no nulls.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec

from features.ground.errors import BadInputError

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

Value = str | int | float | bool | None
INTEGERS = ("INT64", "INT32", "INT16", "INT8", "UINT64", "UINT32", "UINT16", "UINT8")
FRACTIONS = ("FP64", "FP32")
DATATYPES = {
    "int32": INTEGERS, "int64": INTEGERS, "float32": (*FRACTIONS, *INTEGERS), "float64": (*FRACTIONS, *INTEGERS),
    "string": ("BYTES",), "bool": ("BOOL",), "unix_timestamp": ("BYTES", "INT64"),
}  # fmt: skip
"""By Feast dtype of a column, or of the elements of its lists, which datatypes it takes; the first is its own."""
_PLAIN: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(INTEGERS, (int,)), **dict.fromkeys(FRACTIONS, (float, int)), "BYTES": (str,), "BOOL": (bool,),
}  # fmt: skip
MOST_TENSORS = 256
LONGEST_LIST = 1024
LONGEST_TEXT = 1024
MOST_EXCLUDED = 100_000
MOST_REASONS = 20


class RefusedError(Exception):
    """A question that gets no answer, with the status of HTTP that says why."""

    def __init__(self, status: int, sentence: str, retry_after: float | None = None) -> None:
        """Take the status, one sentence, and after how many seconds it is worth to ask again."""
        super().__init__(sentence)
        self.status, self.retry_after = status, retry_after


@dataclass(frozen=True)
class Tensor:
    """One column of a question, row by row."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    data: tuple[Value, ...]
    """Values in row-major order, as many as the shape says."""
    lengths: tuple[int, ...] | None = None
    """Of lists: how many values each row really has; all ``L`` when None."""


@dataclass(frozen=True)
class Question:
    """What is asked about the candidates of one request."""

    tensors: Mapping[str, Tensor]
    id: str = ""
    timeout: float | None = None
    """Seconds after which the answer is of no use; None leaves it to the server."""
    outputs: tuple[str, ...] = ()
    """Outputs that are wanted; empty for all."""
    retrieve: int | None = None
    """How many candidates the service should find, instead of those that a question names."""
    exclude: tuple[Value, ...] = ()
    """Items that it should not find."""
    exclude_seen: bool = False
    """Whether to leave out what the user's histories hold."""
    reasons: int = 0
    """How many reasons each answer should come with."""


@dataclass(frozen=True)
class Reply:
    """What a model answers."""

    model: str
    version: str
    outputs: Mapping[str, np.ndarray[Any, Any]]
    """By name: ``[N]`` float64, int32, or int64 and texts of ids, in the candidates' order."""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    id: str = ""


class _Input(msgspec.Struct):
    name: str
    shape: list[int]
    datatype: str
    data: list[Any]
    parameters: dict[str, Any] = {}  # msgspec copies it


class _Output(msgspec.Struct):
    name: str
    parameters: dict[str, Any] = {}


class _Body(msgspec.Struct):
    inputs: list[_Input]
    id: str = ""
    parameters: dict[str, Any] = {}
    outputs: list[_Output] = []


_DECODER = msgspec.json.Decoder(_Body)


def parse(body: bytes) -> Question:
    """Return the question that the body of an ``infer`` call holds.

    Raises:
        RefusedError: 400, it is not one; the sentence says where.
    """
    try:
        read = _DECODER.decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise RefusedError(400, f"the body is no V2 request ({_short(error)}): send JSON with inputs") from None
    if len(read.inputs) > MOST_TENSORS:
        raise RefusedError(400, f"the request has {len(read.inputs)} inputs: send at most {MOST_TENSORS}")
    tensors: dict[str, Tensor] = {}
    for one in read.inputs:
        if one.name in tensors:
            raise RefusedError(400, f"input {_name(one.name)} comes twice: send it once")
        tensors[one.name] = _tensor(one)
    timeout = read.parameters.get("timeout_ms")
    if timeout is not None and (type(timeout) not in (int, float) or not 0 < timeout < 1e9):
        raise RefusedError(400, "timeout_ms must be a number of milliseconds above 0")
    if len(read.id) > LONGEST_TEXT:
        raise RefusedError(400, f"id has {len(read.id)} characters: send at most {LONGEST_TEXT}")
    return Question(
        tensors=tensors,
        id=read.id,
        timeout=None if timeout is None else timeout / 1000,
        outputs=tuple(output.name for output in read.outputs[:MOST_TENSORS]),
        reasons=_reasons(read.parameters.get("reasons", 0)),
        **_retrieval(read.parameters),
    )


def _reasons(count: Any) -> int:
    if type(count) is not int or not 0 <= count <= MOST_REASONS:
        raise RefusedError(400, f"reasons must be a whole number from 0 to {MOST_REASONS}")
    return int(count)


def _retrieval(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a question says of the candidates that it wants to be found."""
    said = {name: parameters[name] for name in ("retrieve", "exclude", "exclude_seen") if name in parameters}
    if not said:
        return {}
    count, exclude, seen = said.get("retrieve"), said.get("exclude", []), said.get("exclude_seen", False)
    if type(count) is not int or not 1 <= count < 2**31:
        raise RefusedError(400, "retrieve must be how many candidates to find, a whole number above 0")
    if not isinstance(exclude, list) or len(exclude) > MOST_EXCLUDED or {*map(type, exclude)} - {int, str}:
        raise RefusedError(400, f"exclude must be a list of at most {MOST_EXCLUDED:,} ids of items")
    if type(seen) is not bool:
        raise RefusedError(400, "exclude_seen must be true or false")
    return {"retrieve": count, "exclude": tuple(exclude), "exclude_seen": seen}


def _tensor(one: _Input) -> Tensor:
    name, shape = _name(one.name), tuple(one.shape)
    if one.datatype not in _PLAIN:
        raise RefusedError(400, f"input {name} has datatype {one.datatype[:20]!r}: use one of {', '.join(_PLAIN)}")
    if len(shape) not in (1, 2) or min(shape) < 0:
        raise RefusedError(400, f"input {name} has the shape {list(shape)[:4]}: use [N], or [N, L] of lists")
    if len(shape) == 2 and shape[1] > LONGEST_LIST:
        raise RefusedError(400, f"input {name} has lists of {shape[1]} values: send at most {LONGEST_LIST}")
    data = one.data
    if len(shape) == 2 and data and isinstance(data[0], list):
        if any(not isinstance(row, list) or len(row) != shape[1] for row in data):
            raise RefusedError(400, f"input {name} has the shape {list(shape)} and rows of other lengths")
        data = [value for row in data for value in row]
    size = shape[0] * (shape[1] if len(shape) == 2 else 1)
    if len(data) != size:
        raise RefusedError(400, f"input {name} has the shape {list(shape)} and {len(data)} values: send {size}")
    # `true` is an int for Python and none for a model.
    strange = {*map(type, data)} - {type(None), *_PLAIN[one.datatype]}
    if strange:
        kind = sorted(found.__name__ for found in strange)[0]
        raise RefusedError(400, f"input {name} is {one.datatype} and holds a value of another type ({kind})")
    if one.datatype == "BYTES" and max((len(text) for text in data if text is not None), default=0) > LONGEST_TEXT:
        raise RefusedError(400, f"input {name} holds a text of more than {LONGEST_TEXT} characters")
    return Tensor(one.name, one.datatype, shape, tuple(data), _lengths(one, name, shape))


def _lengths(one: _Input, name: str, shape: tuple[int, ...]) -> tuple[int, ...] | None:
    lengths = one.parameters.get("lengths")
    if lengths is None:
        return None
    if len(shape) != 2 or not isinstance(lengths, list) or len(lengths) != shape[0]:
        raise RefusedError(400, f"lengths of input {name} must be a list with one number per row of lists")
    if any(type(length) is not int or not 0 <= length <= shape[1] for length in lengths):
        raise RefusedError(400, f"lengths of input {name} must be whole numbers from 0 to {shape[1]}")
    return tuple(lengths)


def column(tensor: Tensor, dtype: str, rows: int) -> pa.Array:
    """Return a tensor as a raw column, of as many rows as it has.

    Args:
        tensor: of one row, which holds for all, or of `rows` rows.
        dtype: Feast dtype of the column.
        rows: number of candidates.

    Raises:
        RefusedError: 400, the column takes no such values.
    """
    import numpy as np
    import pyarrow as pa

    name, listed = _name(tensor.name), dtype.startswith("array<")
    element = dtype[6:-1] if listed else dtype
    takes = DATATYPES.get(element, ())
    if tensor.datatype not in takes:
        raise RefusedError(
            400,
            f"input {name} is {tensor.datatype}, and the model reads {dtype}: send {takes[0] if takes else 'nothing'}",
        )
    if listed != (len(tensor.shape) == 2):
        raise RefusedError(
            400, f"input {name} has the shape {list(tensor.shape)}: send {'[N, L]' if listed else '[N]'}"
        )
    if tensor.shape[0] not in (1, rows):
        raise RefusedError(400, f"input {name} has {tensor.shape[0]} rows for {rows} candidates: send 1 or {rows}")
    values = _values(tensor, element, name)
    if listed:
        width = tensor.shape[1]
        lengths = np.array(tensor.lengths or [width] * tensor.shape[0], dtype=np.int64)
        starts = np.arange(tensor.shape[0], dtype=np.int64) * width
        kept = np.concatenate([np.arange(s, s + n) for s, n in zip(starts, lengths, strict=True)] or [starts])
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
        values = pa.ListArray.from_arrays(pa.array(offsets), values.take(pa.array(kept.astype(np.int64))))
    return values


def _values(tensor: Tensor, element: str, name: str) -> pa.Array:
    import pyarrow as pa

    from features.joins.store import arrow_type

    kind = arrow_type(element)
    try:
        if element == "unix_timestamp" and tensor.datatype == "BYTES":
            texts = pa.array(tensor.data, pa.string())
            try:
                return texts.cast(kind)
            except pa.ArrowInvalid:
                return texts.cast(pa.timestamp("us")).cast(kind)
        return pa.array(tensor.data, kind)
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError) as error:
        raise RefusedError(400, f"input {name} cannot be read as {element} ({_short(error)})") from None


def question_body(question: Question) -> bytes:
    """Return the body of an ``infer`` call; `parse` gives the question back."""
    parameters: dict[str, Any] = {} if question.timeout is None else {"timeout_ms": question.timeout * 1000}
    if question.retrieve is not None:
        parameters["retrieve"] = question.retrieve
    if question.exclude:
        parameters["exclude"] = question.exclude
    if question.exclude_seen:
        parameters["exclude_seen"] = True
    if question.reasons:
        parameters["reasons"] = question.reasons
    return msgspec.json.encode(
        {
            "id": question.id,
            "parameters": parameters,
            "inputs": [
                {"name": t.name, "shape": t.shape, "datatype": t.datatype, "data": t.data}
                | ({"parameters": {"lengths": t.lengths}} if t.lengths is not None else {})
                for t in question.tensors.values()
            ],
            "outputs": [{"name": name} for name in question.outputs],
        }
    )


def reply_body(reply: Reply) -> bytes:
    """Return the body of an answer; floats are written so that reading them gives the same bits."""
    return msgspec.json.encode(
        {
            "id": reply.id,
            "model_name": reply.model,
            "model_version": reply.version,
            "parameters": reply.parameters,
            "outputs": [
                {"name": name, "datatype": _datatype(values), "shape": list(values.shape), "data": values.tolist()}
                for name, values in reply.outputs.items()
            ],
        }
    )


def read_reply(body: bytes) -> Reply:
    """Return the answer that a server sent.

    Raises:
        BadInputError: it is none.
    """
    import numpy as np

    try:
        read = msgspec.json.decode(body)
        outputs = {one["name"]: np.array(one["data"]) for one in read["outputs"]}
        return Reply(read["model_name"], read["model_version"], outputs, read.get("parameters", {}), read.get("id", ""))
    except (msgspec.DecodeError, KeyError, TypeError) as error:
        raise BadInputError(f"what the server sent is no V2 answer ({_short(error)}): check its address") from None


def datatype_of(dtype: str) -> str:
    """Return the datatype of the protocol that a column of a Feast dtype is announced with."""
    element = dtype[6:-1] if dtype.startswith("array<") else dtype
    return {"int32": "INT32", "float32": "FP32"}.get(element, DATATYPES.get(element, ("BYTES",))[0])


def _datatype(values: np.ndarray[Any, Any]) -> str:
    return {"f": "FP64", "U": "BYTES", "O": "BYTES"}.get(values.dtype.kind, f"INT{8 * values.dtype.itemsize}")


def _name(name: str) -> str:
    return repr(name if len(name) <= 80 else name[:80] + "…")


def _short(error: Exception) -> str:
    said = " ".join(str(error).split())
    return (said or type(error).__name__)[:160]
