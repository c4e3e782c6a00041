"""What does a cluster need that lives for one run on one machine? Ray and its workers, and nobody who serves others.

Ray starts a dashboard, a log reader and an autoscaler beside every head, and Ray Train an actor each that hands out
datasets, asks the autoscaler for machines and frees the slots of controllers that died. Each is a Python process that
takes a second or three to start, and here none of them has anything to do: rows come from files, the machine is all
there is, and `components.platform.process_tree` ends everything together.
"""

from __future__ import annotations

from typing import Any

import ray
from ray._private.node import Node
from ray.train.v2._internal.callbacks import DatasetsCallback
from ray.train.v2._internal.callbacks.placement_group_callback import PlacementGroupCleanerCallback
from ray.train.v2._internal.execution.scaling_policy import FixedScalingPolicy
from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer


def start(**options: Any) -> None:
    """Start the cluster in this process, which starts no other; `options` are those of `ray.init`."""
    for server in ("start_monitor", "start_log_monitor", "start_api_server"):
        setattr(Node, server, lambda *_, **__: None)
    ray.init(address="local", include_dashboard=False, _node_ip_address="127.0.0.1", **options)


class LoneTrainer(DataParallelTrainer):
    """Ray Train on such a cluster."""

    def _create_default_callbacks(self) -> list[Any]:
        idle = (DatasetsCallback, PlacementGroupCleanerCallback)
        return [callback for callback in super()._create_default_callbacks() if not isinstance(callback, idle)]

    def _initialize_and_run_controller(self, **parts: Any) -> Any:
        return super()._initialize_and_run_controller(**parts | {"scaling_policy": _AsAsked(self.scaling_config)})


class _AsAsked(FixedScalingPolicy):
    """So many workers as asked, of a machine that cannot grow."""

    def _send_resource_request(self) -> None:
        pass

    _maybe_send_resource_request = _cancel_resource_request = _send_resource_request
