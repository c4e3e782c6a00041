"""How is a graph opened on the provider that was asked for, and never on another one in silence?

onnxruntime lists CUDA as available on machines without a GPU and falls back to the CPU when CUDA does
not load. Only the providers of the open session tell the truth.
"""

from __future__ import annotations

import contextlib
import io
import mmap
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from features.ground.errors import BadInputError, MissingError
from features.ground.plain_names import is_plain

if TYPE_CHECKING:
    import onnxruntime

Provider = Literal["auto", "cpu", "cuda"]

_CPU = "CPUExecutionProvider"
_CUDA = "CUDAExecutionProvider"
_CUDA_OPTIONS = {"use_tf32": "0"}
"""TF32 keeps 10 bits of the mantissa, far too few for a parity of 1e-5."""
_WARNING, _FATAL = 2, 4
_logging = threading.Lock()
_LOCATION = b"location"
"""What a graph calls the file of a weight that lies outside of it."""


def open_session(
    path: Path, provider: Provider = "auto", threads: int | None = None, called: str = ""
) -> onnxruntime.InferenceSession:
    """Open an ONNX file for inference.

    `auto` takes CUDA where it loads and the CPU elsewhere; `provider_name` tells which. `threads` are those of one
    operator.

    Raises:
        MissingError: the file does not exist, or `provider` is ``cuda`` and CUDA did not load.
        BadInputError: the file is no readable ONNX graph, or names a file that does not lie beside it.
    """
    import onnxruntime

    if not path.is_file():
        raise MissingError(f"no ONNX file at {path}: export the ranker first")
    _check_outside(path, called or str(path))
    options = onnxruntime.SessionOptions()
    if threads is not None:
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
    providers: list[Any] = [_CPU] if provider == "cpu" else [(_CUDA, _CUDA_OPTIONS), _CPU]
    try:
        with _quiet_fallback(provider != "cpu"):
            session = onnxruntime.InferenceSession(str(path), options, providers=providers)
    except Exception as error:  # onnxruntime's own exceptions share no base class below Exception
        first = str(error).strip().splitlines()[0].replace(str(path), path.name)
        raise BadInputError(
            f"{called or path} is not a readable ONNX graph ({first}): export the ranker again"
        ) from error
    if provider == "cuda" and provider_name(session) != "cuda":
        raise MissingError(
            f"provider 'cuda' was asked for and {', '.join(session.get_providers())} loaded: install a GPU driver with "
            "CUDA 13 and cuDNN 9, or set provider to 'cpu' or 'auto'"
        )
    return session


def outside(path: Path) -> dict[str, str]:
    """Return the files that a graph reads, as it names them, and a weight that lies in each; only the graph is opened.

    Raises:
        BadInputError: the file is no readable ONNX graph.
    """
    with path.open("rb") as file:
        if not path.stat().st_size:
            return {}
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as graph:
            if graph.find(_LOCATION) < 0:  # a protobuf holds texts as they are: nothing lies elsewhere
                return {}
    import onnx
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

    try:
        model = onnx.load(str(path), load_external_data=False)
    except DecodeError as error:
        raise BadInputError(f"{path} is not a readable ONNX graph ({error}): export the ranker again") from error
    return {
        entry.value: tensor.name
        for tensor in _tensors(model, onnx.TensorProto)
        for entry in tensor.external_data
        if entry.key == _LOCATION.decode()
    }


def _tensors(message: Any, kind: type[Any]) -> Iterator[Any]:
    """Yield the tensors of a graph, wherever they stand in it."""
    if isinstance(message, kind):
        yield message
        return
    for field, value in message.ListFields():
        if field.message_type is not None:
            for part in value if field.is_repeated else [value]:
                yield from _tensors(part, kind)


def _check_outside(path: Path, called: str) -> None:
    """Check that the weights of a graph lie in it or in files beside it.

    Raises:
        BadInputError: one lies elsewhere, or its file is missing.
    """
    for place, name in outside(path).items():
        if not is_plain(place) or "/" in place or (path.parent / place).is_symlink():
            raise BadInputError(
                f"{called} keeps {name!r} in {place!r}, which is no file of its own folder: export the ranker again"
            )
        if not (path.parent / place).is_file():
            raise BadInputError(f"{called} keeps {name!r} in {place}, which is missing: export the ranker again")


def provider_name(session: onnxruntime.InferenceSession) -> Literal["cpu", "cuda"]:
    """Return the provider that the session runs on first."""
    return "cuda" if session.get_providers()[0] == _CUDA else "cpu"


def outputs_of(
    session: onnxruntime.InferenceSession, names: Sequence[str], feed: Mapping[str, np.ndarray[Any, Any]]
) -> list[np.ndarray[Any, np.dtype[np.float32]]]:
    """Return some outputs of a graph, float32, in the order of `names`.

    On CUDA an input is copied once, from its array to the device, and an output once, from the device into the array
    that is returned; `run` would take outputs through memory of its own.

    Args:
        session: of a graph whose outputs are as long as some axis of its inputs.
        names: which outputs.
        feed: by input its array.
    """
    if provider_name(session) == "cpu":
        found: list[np.ndarray[Any, np.dtype[np.float32]]] = session.run(list(names), dict(feed))
        return found
    return bound_outputs(session, names, feed)


def bound_outputs(
    session: onnxruntime.InferenceSession, names: Sequence[str], feed: Mapping[str, np.ndarray[Any, Any]]
) -> list[np.ndarray[Any, np.dtype[np.float32]]]:
    """Return what `outputs_of` returns, on any provider, from memory that is bound to the graph."""
    binding = session.io_binding()
    sizes: dict[str | int, int] = {}
    for port in session.get_inputs():
        values = np.ascontiguousarray(feed[port.name])
        binding.bind_cpu_input(port.name, values)
        sizes |= dict(zip(port.shape, values.shape, strict=True))
    shapes = {port.name: [sizes.get(axis, axis) for axis in port.shape] for port in session.get_outputs()}
    answers = [np.empty(shapes[name], dtype=np.float32) for name in names]
    for name, answer in zip(names, answers, strict=True):
        binding.bind_output(name, "cpu", 0, np.float32, answer.shape, answer.ctypes.data)
    session.run_with_iobinding(binding)
    return answers


@contextlib.contextmanager
def _quiet_fallback(wants_cuda: bool) -> Iterator[None]:
    """Load the CUDA libraries that lie beside Python, and keep a failed attempt off the terminal.

    The failure is no secret: it shows in the session's providers, which the caller checks.
    """
    import onnxruntime

    if not wants_cuda:
        yield
        return
    # The severity is the process's; the lock keeps one thread from restoring it under another.
    with _logging:
        onnxruntime.set_default_logger_severity(_FATAL)
        try:
            with contextlib.redirect_stdout(io.StringIO()):
                onnxruntime.preload_dlls()
            yield
        finally:
            onnxruntime.set_default_logger_severity(_WARNING)
