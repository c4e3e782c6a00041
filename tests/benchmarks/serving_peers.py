"""How would the same model be served with another server? The same steps from question to answer, and nothing else.

Run as ``python -m tests.benchmarks.serving_peers SERVER PORT MODEL FOLDER``: no features are fetched, nothing is
logged, no error memory corrects. BentoML and MLServer run in environments of their own, for neither resolves beside
the pins.
"""

from __future__ import annotations

import json
import os
import sys
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

FASTAPI, BENTOML, MLSERVER = "fastapi", "bentoml", "mlserver"
MODEL = "RANKMILL_BENCH_MODEL"
"""Environment variable with the folder of the model."""
ADDRESSES = {
    FASTAPI: "/v2/models/movielens_ranker/infer",
    BENTOML: "/infer",
    MLSERVER: "/v2/models/movielens_ranker/infer",
}


BENTO = """
import bentoml
from tests.benchmarks.serving_peers import answered, live


@bentoml.service(workers=1)
class Bench:
    def __init__(self) -> None:
        live()

    @bentoml.api
    def infer(self, inputs: list[dict]) -> dict:
        return {"outputs": answered(inputs)}
"""
"""What BentoML serves; only its environment can import it."""
MODEL_OF_MLSERVER = """
from mlserver import MLModel
from mlserver.types import InferenceResponse, ResponseOutput
from tests.benchmarks.serving_peers import answered, live


class Bench(MLModel):
    async def load(self) -> bool:
        live()
        return True

    async def predict(self, payload):
        inputs = [
            {
                "name": one.name,
                "shape": one.shape,
                "datatype": getattr(one.datatype, "value", one.datatype),
                "data": list(one.data),
                "parameters": {"lengths": getattr(one.parameters, "lengths", None)} if one.parameters else None,
            }
            for one in payload.inputs
        ]
        return InferenceResponse(model_name=self.name, outputs=[ResponseOutput(**one) for one in answered(inputs)])
"""
"""What MLServer serves."""


@cache
def live() -> Any:
    """Return the model, opened as the service opens it."""
    import pyarrow as pa

    from registry.serving.live.version import open_live
    from registry.serving.wire.pointed import Pointed

    pa.set_cpu_count(1)
    directory = Path(os.environ[MODEL])
    return open_live("movielens_ranker", "champion", Pointed(version=1, digest="d"), directory, None, "cpu")


@cache
def config() -> Any:
    from registry.serving.wire.config import ServingConfig

    return ServingConfig.model_validate({"name": "bench", "model": "movielens_ranker"})


def answered(inputs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the outputs of a V2 answer to the inputs of a V2 question."""
    from registry.serving.live.version import reply
    from registry.serving.wire.protocol import Question, Tensor

    tensors = {}
    for one in inputs:
        lengths = (one.get("parameters") or {}).get("lengths")
        shape, data = tuple(one["shape"]), tuple(one["data"])
        tensors[one["name"]] = Tensor(one["name"], one["datatype"], shape, data, tuple(lengths) if lengths else None)
    found = reply(live(), Question(tensors), None, config(), datetime.now(UTC)).reply
    return [
        {"name": name, "datatype": "FP64", "shape": list(values.shape), "data": values.tolist()}
        for name, values in found.outputs.items()
    ]


def fastapi_app() -> Any:
    """Return a bare FastAPI app."""
    from fastapi import FastAPI, Request
    from fastapi.concurrency import run_in_threadpool
    from fastapi.responses import JSONResponse

    app = FastAPI()
    live()

    async def infer(request: Request) -> JSONResponse:
        body = await request.json()
        return JSONResponse({"outputs": await run_in_threadpool(answered, body["inputs"])})

    infer.__annotations__["request"] = Request  # FastAPI looks it up in this module, which has none
    app.post(ADDRESSES[FASTAPI], response_model=None)(infer)
    return app


def serve_fastapi(port: int) -> None:
    import uvicorn

    uvicorn.run(fastapi_app(), host="127.0.0.1", port=port, access_log=False, log_level="warning", http="h11")


def serve_bentoml(port: int, folder: Path) -> None:
    (folder / "service.py").write_text(BENTO, encoding="utf-8")
    os.environ |= {"BENTOML_DO_NOT_TRACK": "True", "BENTOML_HOME": str(folder / "bento")}
    command = [sys.executable, "-m", "bentoml", "serve", "service:Bench", "--port", str(port), "--host", "127.0.0.1"]
    os.execv(sys.executable, [*command, "--working-dir", str(folder)])


def serve_mlserver(port: int, folder: Path) -> None:
    settings = {"host": "127.0.0.1", "http_port": port, "grpc_port": port + 1, "metrics_port": port + 2}
    settings |= {"parallel_workers": 0, "debug": False}
    model = {"name": "movielens_ranker", "implementation": "served.Bench"}
    (folder / "served.py").write_text(MODEL_OF_MLSERVER, encoding="utf-8")
    (folder / "settings.json").write_text(json.dumps(settings), encoding="utf-8")
    (folder / "model-settings.json").write_text(json.dumps(model), encoding="utf-8")
    os.environ["PYTHONPATH"] = os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")])
    os.execv(sys.executable, [sys.executable, "-c", "from mlserver.cli import main; main()", "start", str(folder)])


def main() -> None:
    server, port, model, folder = sys.argv[1:]
    os.environ[MODEL] = model
    os.environ["OMP_NUM_THREADS"] = "1"
    if server == FASTAPI:
        serve_fastapi(int(port))
    elif server == BENTOML:
        serve_bentoml(int(port), Path(folder))
    else:
        serve_mlserver(int(port), Path(folder))


if __name__ == "__main__":
    main()
