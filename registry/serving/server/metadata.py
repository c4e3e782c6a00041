"""What must a caller know of a model that is served? Inputs and who supplies them, outputs, versions beside it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from registry.serving.live.version import Live
from registry.serving.wire.protocol import datatype_of

if TYPE_CHECKING:
    from registry.serving.server.app import Service


def metadata(live: Live, service: Service) -> dict[str, Any]:
    """Return what a caller must know of a model: inputs, who supplies them, outputs, versions."""
    contract, reads = live.model.contract, live.reads
    names = sorted({*reads.needed, *(key for name in reads.needed if (c := reads.columns.get(name)) for key in c.keys)})
    inputs = []
    for name in names:
        column = reads.columns.get(name)
        dtype = column.dtype if column is not None else "string"
        item = column is None or column.view is None or service.lookup is None
        shape = [-1, -1] if dtype.startswith("array<") else [-1]
        supplied = {} if item or column is None else {"supplied_by": column.view}
        inputs.append({"name": name, "datatype": datatype_of(dtype), "shape": shape, "parameters": supplied})
    outputs = [
        {"name": name, "datatype": "INT32" if name == "rank" else "FP64", "shape": [-1]} for name in live.outputs
    ]
    fresh = live.features.freshness if live.features is not None else None
    return {
        "name": live.name,
        "versions": [str(live.pointed.version)],
        "platform": "rankmill_onnx",
        "inputs": inputs,
        "outputs": outputs,
        "parameters": {
            "role": live.alias,
            "user": contract.schema_.declaration.user,
            "item": contract.schema_.declaration.item,
            "time": contract.schema_.declaration.time,
            "digest": live.pointed.digest,
            "ranker": contract.ranker,
            "memory": live.pointed.memory if live.memory is not None else "",
            **({"exploration": live.pointed.bandit} if live.bandit is not None else {}),
            **({"explored_by": "draw"} if live.bandit is not None and live.draw is not None else {}),
            "features": live.features.service if live.features is not None and service.lookup is not None else "none",
            "freshness": str(fresh) if fresh is not None else "",
            **_challengers(service),
            "catalogue": len(service.catalogue.index.items) if service.catalogue and service.catalogue.index else 0,
        },
    }


def _challengers(service: Service) -> dict[str, Any]:
    """Return what is told of versions beside the one that answers."""
    told: dict[str, Any] = {}
    for name, part in (("shadow", service.shadow), ("canary", service.canary)):
        if part is not None:
            live = part.challenger.live
            version = str(live.pointed.version) if live is not None else ""
            told[name] = {"alias": part.options.alias, "version": version, "share": part.options.share}
    if service.canary is not None:
        told["canary"] |= {"share": service.canary.share, "stopped": service.canary.stopped}
    return told
