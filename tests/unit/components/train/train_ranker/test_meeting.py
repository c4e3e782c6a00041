"""Do the workers of a group meet where nobody else can listen in?"""

from __future__ import annotations

import ipaddress
import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from components.train.train_ranker.config import Config
from components.train.train_ranker.file_meeting import FileMeeting
from components.train.train_ranker.job import TrainingJob
from components.train.train_ranker.ray_launch import _meeting
from tests.local_servers import free_port

WORKER = """
import sys
from datetime import timedelta
import torch.distributed as group
rank = int(sys.argv[1])
for method in sys.argv[2:]:
    group.init_process_group("gloo", init_method=method, rank=rank, world_size=2, timeout=timedelta(seconds=60))
    group.barrier()
    print("met", flush=True)
    sys.stdin.readline()
    group.destroy_process_group()
"""


@pytest.mark.parametrize("cluster", [None, "http://head:8265", "ray://head:10001"])
def test_only_the_user_may_enter_the_meeting(tmp_path: Path, cluster: str | None) -> None:
    config = Config.model_validate({"ranker": {"name": "lr"}})
    job = TrainingJob(
        name="x", dataset=tmp_path, directory=tmp_path / "training", config=config, ray_address=cluster,
        ray_temp=tmp_path / "local",
    )  # fmt: skip
    meeting = _meeting(job, "gloo")
    assert isinstance(meeting, FileMeeting)
    assert meeting.folder.stat().st_mode & 0o777 == 0o700
    # Workers of other machines see the training's folder, and nothing else of this one's.
    assert meeting.folder.is_relative_to(tmp_path / ("training" if cluster else "local"))


@pytest.mark.engine
def test_a_file_opens_no_port_to_everybody_as_pytorchs_server_does(tmp_path: Path) -> None:
    """The server listens everywhere, whatever address it is given; once that changes, the file is not needed."""
    methods = {"file": (tmp_path / "meeting").as_uri(), "server": f"tcp://127.0.0.1:{free_port()}"}
    variables = os.environ | {"GLOO_SOCKET_IFNAME": "lo", "TORCH_CPP_LOG_LEVEL": "ERROR"}
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", WORKER, str(rank), *methods.values()], env=variables, stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, text=True,
        )
        for rank in range(2)
    ]  # fmt: skip
    try:
        for by in methods:
            assert [worker.stdout.readline() for worker in workers if worker.stdout] == ["met\n"] * 2
            time.sleep(0.2)
            sockets = [one for worker in workers for one in psutil.Process(worker.pid).net_connections("inet")]
            listening = {ipaddress.ip_address(one.laddr.ip) for one in sockets if one.status == psutil.CONN_LISTEN}
            assert any(not address.is_loopback for address in listening) == (by == "server"), (by, listening)
            for worker in workers:
                assert worker.stdin is not None
                worker.stdin.write("\n")
                worker.stdin.flush()
    finally:
        for worker in workers:
            worker.communicate("", timeout=30)
