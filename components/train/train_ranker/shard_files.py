"""How do the shards of a table reach the disk and come back? A file per worker while training, one for all at the end.

A checkpoint of sharded tables holds a file per worker with its rows and what the optimiser knows of them. Row r of W
workers lies in the file of worker r mod W, so any other number of workers finds there what it holds, block by block.
The weights that are kept are the one file that a single worker would write, byte by byte: rows travel to worker 0 some
thousand at a time, and it holds no more of them than that.
"""

from __future__ import annotations

import json
import math
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from components.rankers.distributed import gathered_at_first, gathered_texts
from components.rankers.embedding.shards import Shard
from components.train.train_ranker.checkpoints import Position, complete, partial_of, shard_name, write_tensors

if TYPE_CHECKING:
    from torch import nn

_NUMBERS_AT_ONCE = 2**18
"""Numbers of a table that are read or sent together."""
_COPIED_AT_ONCE = 2**20
"""Bytes of another tensor that are copied together."""
_WRITTEN = "sha256:"


def save_sharded(
    directory: Path, position: Position, tensors: dict[str, Tensor], rows: dict[str, Tensor], keep: int, shard: Shard
) -> str | None:
    """Write a checkpoint of which each worker writes its rows; all workers have to call it at the same time.

    As with `checkpoints.save`, one that cannot be written does not end training.

    Args:
        directory: the training's.
        position: where training is.
        tensors: what all workers hold alike; worker 0 writes it.
        rows: by name, ``[held, ...]``, what this worker alone holds.
        keep: how many checkpoints stay.
        shard: which worker this is.

    Returns:
        None, or on worker 0 one sentence that says why there is no checkpoint.

    Raises:
        RetryableError: another worker is gone.
    """
    partial = partial_of(directory, f"{position.epoch}-{position.step}")
    try:
        partial.mkdir(parents=True, exist_ok=True)
        said = _WRITTEN + write_tensors(partial / shard_name(shard.rank, shard.world), rows)
    except (OSError, SafetensorError) as error:
        said = f"worker {shard.rank + 1} of {shard.world}: {error}"
    device = next(iter(rows.values())).device if rows else torch.device("cpu")
    answers = gathered_texts(said, device)
    if shard.rank > 0:
        return None
    failed = next((answer for answer in answers if not answer.startswith(_WRITTEN)), "")
    shards = tuple(answer.removeprefix(_WRITTEN) for answer in answers)
    return complete(directory, partial, position.model_copy(update={"shards": shards}), tensors, keep, failed)


def load_rows(checkpoint: Path, shards: int, rows: Mapping[str, Tensor], shard: Shard) -> None:
    """Fill what one worker holds, in place, from a checkpoint of any number of workers.

    Args:
        checkpoint: its folder.
        shards: how many workers wrote it.
        rows: by name, ``[held, ...]``.
        shard: which worker this is now.
    """
    for rank in range(shards):
        if (rank - shard.rank) % math.gcd(shards, shard.world):
            continue  # no row lies with both
        written = Shard(rank, shards)
        with safe_open(str(checkpoint / shard_name(rank, shards)), framework="pt") as file:
            for name, kept in rows.items():
                values = file.get_slice(name)
                count, width = values.get_shape()[0], math.prod(values.get_shape()[1:])
                for first, end in _blocks(count, width):
                    numbers = written.numbers(first, end)
                    mine = shard.holds(numbers)
                    kept[shard.places(numbers[mine]).to(kept.device)] = values[first:end][mine].to(kept.device)


def write_sharded_weights(path: Path, ranker: nn.Module, table: str, rows: int, shard: Shard) -> None:
    """Replace `path` as `write_weights` does, where each worker holds rows of one table; all workers have to call it.

    Args:
        path: the file, which worker 0 writes.
        ranker: what is written.
        table: name of the sharded table in its state.
        rows: V, of the whole table.
        shard: which worker this is.

    Raises:
        RetryableError: another worker is gone.
    """
    state = {name: value.detach() for name, value in ranker.state_dict().items()}
    held = state.pop(table)
    if shard.rank > 0:
        for _ in _whole(held, rows, shard):
            pass
        return
    frame, partial = (path.with_name(f".{path.name}.{uuid.uuid4().hex}") for _ in range(2))
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        plain = {name: value.cpu().contiguous() for name, value in state.items()}
        save_file(plain | {table: held.new_zeros(0, held.shape[1], device="cpu")}, str(frame))
        with frame.open("rb") as source, partial.open("wb") as target:
            for name, size in _head(source, target, table, rows):
                if name == table:
                    for block in _whole(held, rows, shard):
                        target.write(block.numpy().tobytes())
                else:
                    _copy(source, target, size)
        partial.replace(path)
    finally:
        frame.unlink(missing_ok=True)
        partial.unlink(missing_ok=True)


def _head(source: BinaryIO, target: BinaryIO, table: str, rows: int) -> list[tuple[str, int]]:
    """Write the head of a safetensors file in which a table that had no row has so many.

    Returns:
        The tensors in the order of their data, each with its bytes; `source` stands where theirs begin.
    """
    head = json.loads(source.read(int.from_bytes(source.read(8), "little")))
    sizes: list[tuple[str, int]] = []
    start = 0
    for name, told in head.items():
        begin, end = told["data_offsets"]
        size = end - begin
        if name == table:
            told["shape"][0] = rows
            size = rows * told["shape"][1] * torch.float32.itemsize
        told["data_offsets"] = [start, start + size]
        sizes.append((name, size))
        start += size
    text = json.dumps(head, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    target.write(len(text).to_bytes(8, "little") + text)
    return sizes


def _copy(source: BinaryIO, target: BinaryIO, size: int) -> None:
    while size > 0:
        part = source.read(min(size, _COPIED_AT_ONCE))
        target.write(part)
        size -= len(part)


def _whole(held: Tensor, rows: int, shard: Shard) -> Iterator[Tensor]:
    """Yield the rows of a sharded table in their order, float32 ``[n, d]`` on the CPU; on worker 0 alone."""
    each = max(1, _NUMBERS_AT_ONCE // (held.shape[1] * shard.world))
    for first in range(0, -(-rows // shard.world), each):
        left = rows - first * shard.world
        size = min(each, -(-left // shard.world))
        mine = held[first : first + size]
        if len(mine) < size:  # this worker has no row among the last of each
            mine = torch.cat([mine, mine.new_zeros(1, mine.shape[1])])
        if parts := gathered_at_first(mine):
            yield torch.stack(parts, dim=1).flatten(0, 1)[:left].cpu().contiguous()


def _blocks(rows: int, width: int) -> Iterator[tuple[int, int]]:
    each = max(1, _NUMBERS_AT_ONCE // max(width, 1))
    for first in range(0, rows, each):
        yield first, min(first + each, rows)
