"""How do the workers of a group find each other? Through a file that only they can read.

PyTorch's own meeting place is a server that listens on all interfaces and asks nobody for anything: whoever reaches its
port reads and writes what the workers tell each other. The folder of a training, which every worker must see anyway,
holds a file instead; the file system must know locks, as local ones, NFS and cluster file systems do.
"""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import ray
from ray.train.backend import Backend, BackendConfig

TIMEOUT_SECONDS = 1800
"""How long a worker waits for the others, as PyTorch does."""
GOODBYE_SECONDS = 30
"""How long a group may take to part."""


class FileMeeting(BackendConfig):
    """Process groups of PyTorch whose workers meet through a file; only they load PyTorch.

    Args:
        backend: ``gloo`` or ``nccl``.
        folder: where the file goes: made so that only this user may enter it, and seen by every worker.
    """

    def __init__(self, backend: str, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o700)
        self.backend, self.folder = backend, folder

    @property
    def backend_cls(self) -> type[Backend]:
        """What Ray Train starts and stops a group with."""
        return _FileBackend

    @property
    def train_func_context(self) -> Callable[[], contextlib.AbstractContextManager[None]]:
        """What the loop runs in."""
        return _on_its_device


class _FileBackend(Backend):
    share_cuda_visible_devices = True

    def on_start(self, worker_group: Any, backend_config: Any) -> None:
        # A new name for each group: a file that a group left behind would confuse the next one.
        meeting = (backend_config.folder / f"meeting-{secrets.token_hex(8)}").as_uri()
        joining = [
            worker_group.execute_single_async(rank, _join, backend_config.backend, rank, len(worker_group), meeting)
            for rank in range(len(worker_group))
        ]
        ray.get(joining)

    def on_shutdown(self, worker_group: Any, backend_config: Any) -> None:
        with contextlib.suppress(ray.exceptions.GetTimeoutError):
            ray.get(worker_group.execute_async(_part), timeout=GOODBYE_SECONDS)


# What workers run: Ray Train's own steps, which load PyTorch.


def _join(backend: str, rank: int, world: int, meeting: str) -> None:
    from ray.train.torch.config import _set_torch_distributed_env_vars, _setup_torch_process_group

    _set_torch_distributed_env_vars()
    _setup_torch_process_group(backend, rank, world, meeting, TIMEOUT_SECONDS)


def _part() -> None:
    from ray.train.torch.config import _shutdown_torch

    _shutdown_torch(destroy_process_group=True)


@contextlib.contextmanager
def _on_its_device() -> Iterator[None]:
    from ray.train.torch.config import TorchConfigContextManager

    with TorchConfigContextManager():
        yield
