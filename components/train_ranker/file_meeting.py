"""How do the workers of one machine find each other? Through a file that only they can read.

PyTorch's own meeting place is a server that listens on all interfaces and asks nobody for anything; on a cluster of
several machines there is no other.
"""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Any

import ray
from ray.train.backend import Backend
from ray.train.torch import TorchConfig
from ray.train.torch.config import _set_torch_distributed_env_vars, _setup_torch_process_group, _TorchBackend


class FileMeeting(TorchConfig):
    """Process groups whose workers meet through a file.

    Args:
        backend: ``gloo`` or ``nccl``.
        folder: where the file goes; only this user may enter it.
    """

    def __init__(self, backend: str, folder: Path) -> None:
        super().__init__(backend=backend)
        self.folder = folder

    @property
    def backend_cls(self) -> type[Backend]:
        """What Ray Train starts and stops a group with."""
        return _FileBackend


class _FileBackend(_TorchBackend):
    def on_start(self, worker_group: Any, backend_config: Any) -> None:
        worker_group.execute(_set_torch_distributed_env_vars)
        # A new name for each group: a file that a group left behind would confuse the next one.
        meeting = (backend_config.folder / f"meeting-{secrets.token_hex(8)}").as_uri()
        joining = [
            worker_group.execute_single_async(
                rank,
                _setup_torch_process_group,
                backend=backend_config.backend,
                world_rank=rank,
                world_size=len(worker_group),
                init_method=meeting,
                timeout_s=backend_config.timeout_s,
            )
            for rank in range(len(worker_group))
        ]
        ray.get(joining)
