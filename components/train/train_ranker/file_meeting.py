"""How do the workers of a group find each other? Through a file that only they can read.

PyTorch's own meeting place is a server that listens on all interfaces and asks nobody for anything: whoever reaches its
port reads and writes what the workers tell each other. The folder of a training, which every worker must see anyway,
holds a file instead; the file system must know locks, as local ones, NFS and cluster file systems do.
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
        folder: where the file goes: made so that only this user may enter it, and seen by every worker.
    """

    def __init__(self, backend: str, folder: Path) -> None:
        super().__init__(backend=backend)
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o700)
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
