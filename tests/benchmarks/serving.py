"""What does one question cost the processor, beside servers that fetch no features, learn nothing and keep no log?"""

from __future__ import annotations

import contextlib
import os
import random
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components.platform.errors import BadInputError
from tests.benchmarks.contract import Benchmark, Goal, Report, Series, table_of
from tests.benchmarks.lab import ROOT, Lab
from tests.benchmarks.serving_peers import ADDRESSES, BENTOML, FASTAPI, MLSERVER

MODEL = "movielens_ranker"
OURS, SHADOWED, BARE = "rankmill", "rankmill, half of it asked of a shadow too", "FastAPI + onnxruntime"
SHARE = 0.5
"""Share of the questions that a second version is asked too."""
WHO = {BARE: FASTAPI, "BentoML": BENTOML, "MLServer": MLSERVER}
COUNTS = (1, 100, 1_000)
GOALS = {1: 4.0, 100: 6.0, 1_000: 20.0}
"""Milliseconds of the processor per question, by candidates."""
WARM_UP = 15
RANKMILL = (sys.executable, "-c", "from pipelines.cli.main import main; main()")
PATIENCE = 180.0
SERVING = """name: {name}
model: {model}
listen: {{host: 127.0.0.1, port: {port}, workers: 1}}
limits: {{timeout: 30s}}
features: {{timeout: 10s}}
log: {{share: 1.0, hidden: true, segment: 60s}}
{more}"""


@dataclass(frozen=True)
class Server:
    """A server that answers."""

    process: subprocess.Popen[bytes]
    address: str

    def cpu_seconds(self) -> float:
        """Return what it and every process that it started have used so far."""
        import psutil

        root = psutil.Process(self.process.pid)
        total = 0.0
        for one in (root, *root.children(recursive=True)):
            with contextlib.suppress(psutil.Error):
                total += sum(one.cpu_times()[:2])
        return total


def run(lab: Lab) -> Report:
    """Train, promote and serve a model, and ask every server the same questions, in turns."""
    import httpx

    home = lab.work / "home"
    for pipeline in ("movielens_daily", "movielens_memory"):
        lab.say(f"running {pipeline}")
        _rankmill(home, "run", pipeline)
    model = _files_of(home)
    asked = {count: _questions(home, count, 3 if lab.quick else 200 if count < 1_000 else 60) for count in COUNTS}
    found: dict[str, dict[str, list[float]]] = {who: {} for who in (OURS, SHADOWED, *WHO)}
    absent: dict[str, str] = {}
    cases = [f"{count:,}" for count in COUNTS]
    with contextlib.ExitStack() as stack:
        servers = {OURS: stack.enter_context(_ours(lab, home))}
        shadow = f"shadow: {{alias: challenger, share: {SHARE}}}\n"
        servers[SHADOWED] = stack.enter_context(_ours(lab, home, "shadowed", shadow))
        for who, server in WHO.items():
            python = _python(server)
            if python is None:
                absent |= {f"{who} @ {case}": "not installed: `make bench` makes its environment" for case in cases}
                continue
            servers[who] = stack.enter_context(_peer(lab, server, python, model))
        client = stack.enter_context(httpx.Client(timeout=60))
        for number in range(lab.rounds(3)):
            for count, case in zip(COUNTS, cases, strict=True):
                for who in list(servers)[:: 1 if number % 2 == 0 else -1]:
                    lab.say(f"round {number + 1}, {case} candidates: {who}")
                    bodies = asked[count][0 if who in (OURS, SHADOWED) else 2 if WHO[who] == BENTOML else 1]
                    cost = _cost(client, servers[who], bodies)
                    found[who].setdefault(case, []).append(cost)
    series = Series(
        title="Processor time of a question", unit="ms", better="lower", axis="candidates", cases=tuple(cases),
        samples=table_of(found, cases), absent=absent,
    )  # fmt: skip
    return Report(series=(series,), goals=tuple(_goals(series)), charts=(series.title,))


def _goals(series: Series) -> Iterator[Goal]:
    for count, limit in GOALS.items():
        ours = series.median(OURS, f"{count:,}")
        text = f"{count:,} candidates: at most {limit:g} ms with features, error memory and log"
        yield Goal(text=text, measured=f"{ours:.1f} ms", met=ours is not None and ours <= limit)
    for who in (BARE, "BentoML", "MLServer"):
        ratios = [series.ratio(OURS, who, case) for case in series.cases]
        known = [ratio for ratio in ratios if ratio is not None]
        if known:
            text = f"no more than {who}, which has none of them"
            said = " / ".join(f"{ratio:.2f} ×" for ratio in known)
            yield Goal(text=text, measured=f"{said} at {' / '.join(series.cases)}", met=max(known) <= 1)
    yield from _shadow_goal(series)


def _shadow_goal(series: Series) -> Iterator[Goal]:
    most = 1 + 1.3 * SHARE
    ratios = [ratio for case in series.cases if (ratio := series.ratio(SHADOWED, OURS, case)) is not None]
    text = f"a shadow of {SHARE:.0%} of the questions: at most {most:.2f} × the cost without it"
    said = " / ".join(f"{ratio:.2f} ×" for ratio in ratios)
    yield Goal(text=text, measured=f"{said} at {' / '.join(series.cases)}", met=max(ratios) <= most)


def _cost(client: Any, server: Server, bodies: Sequence[bytes]) -> float:
    """Return milliseconds of the processor per question, of the server's processes."""
    for body in bodies[:WARM_UP]:
        _ask(client, server, body)
    before = server.cpu_seconds()
    for body in bodies:
        _ask(client, server, body)
    return (server.cpu_seconds() - before) / len(bodies) * 1000


def _ask(client: Any, server: Server, body: bytes) -> None:
    answer = client.post(server.address, content=body, headers={"Content-Type": "application/json"})
    if answer.status_code != 200:
        raise BadInputError(f"{server.address} answered {answer.status_code}: {answer.text[:300]}")


def _questions(home: Path, count: int, number: int) -> tuple[list[bytes], list[bytes], list[bytes]]:
    """Return questions by ids alone, the same with every raw value, and as BentoML wants them."""
    script = (
        "import sys; from tests.benchmarks.serving_questions import write; "
        f"write({str(home / 'asked')!r}, {count}, {number})"
    )
    subprocess.run([sys.executable, "-c", script], cwd=ROOT, env=_environment(home), check=True)
    kinds = []
    for kind in ("ids", "whole", "bento"):
        kinds.append([(home / "asked" / f"{kind}-{count}-{at}.json").read_bytes() for at in range(number)])
    return kinds[0], kinds[1], kinds[2]


@contextlib.contextmanager
def _ours(lab: Lab, home: Path, name: str = "bench", more: str = "") -> Iterator[Server]:
    port = _free_port()
    folder = lab.work / "serving"
    folder.mkdir(exist_ok=True)
    file = folder / f"{name}.yaml"
    file.write_text(SERVING.format(name=name, model=MODEL, port=port, more=more), encoding="utf-8")
    base = f"http://127.0.0.1:{port}"
    with _started([*RANKMILL, "serve", str(file)], _environment(home)) as process:
        _until(f"{base}/v2/health/ready", process)
        yield Server(process, f"{base}/v2/models/{MODEL}/infer")


@contextlib.contextmanager
def _peer(lab: Lab, server: str, python: Path, model: Path) -> Iterator[Server]:
    port = _free_port()
    folder = lab.work / server
    folder.mkdir()
    command = [str(python), "-m", "tests.benchmarks.serving_peers", server, str(port), str(model), str(folder)]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore"}
    base = f"http://127.0.0.1:{port}"
    with _started(command, environment) as process:
        ready = {FASTAPI: "/openapi.json", BENTOML: "/readyz", MLSERVER: f"/v2/models/{MODEL}/ready"}[server]
        _until(f"{base}{ready}", process)
        yield Server(process, f"{base}{ADDRESSES[server]}")


@contextlib.contextmanager
def _started(command: Sequence[str], environment: Mapping[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    import psutil

    process = subprocess.Popen(
        command, cwd=ROOT, env=dict(environment), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        yield process
    finally:
        with contextlib.suppress(psutil.Error):
            tree = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
            for one in tree:
                with contextlib.suppress(psutil.Error):
                    one.kill()
        process.wait(10)


def _until(address: str, process: subprocess.Popen[bytes]) -> None:
    import httpx

    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise BadInputError(f"the server of {address} ended with status {process.returncode}")
        with contextlib.suppress(httpx.HTTPError):
            if httpx.get(address, timeout=5).status_code == 200:
                return
        time.sleep(0.2)
    raise BadInputError(f"{address} is not ready after {PATIENCE:.0f} s")


def _files_of(home: Path) -> Path:
    """Return the files of the champion, and register them once more: what a shadow is asked."""
    script = (
        "from pathlib import Path; from components.platform.settings import Settings; "
        "from registry.versions.client import Registry; s = Settings.from_environment(); "
        "r = Registry(s.tracking_uri, s.mlflow_artifacts); "
        f"f = r.download({MODEL!r}, r.alias({MODEL!r}, 'champion').version, Path({str(home / 'model')!r})); "
        "(f / 'MLmodel').unlink(); "  # MLflow's description, which it writes anew
        f"again = r.register(f, {MODEL!r}, digest='0' * 64, ranker_digest='0' * 64, report_digest='0' * 64); "
        f"r.set_alias({MODEL!r}, 'challenger', again.version)"
    )
    subprocess.run([sys.executable, "-c", script], cwd=ROOT, env=_environment(home), check=True)
    return home / "model"


def _rankmill(home: Path, *words: str) -> None:
    command = [*RANKMILL, *words]
    done = subprocess.run(command, cwd=ROOT, env=_environment(home), capture_output=True, text=True, check=False)
    if done.returncode:
        raise BadInputError(f"rankmill {' '.join(words)} failed: {(done.stderr or done.stdout).strip()[-300:]}")


def _environment(home: Path) -> dict[str, str]:
    return os.environ | {"RANKMILL_HOME": str(home), "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore"}


def _python(server: str) -> Path | None:
    if server == FASTAPI:
        return Path(sys.executable)
    python = ROOT / f".bench-venv-{server}" / "bin" / "python"
    return python if python.exists() else None


def _free_port() -> int:
    """Return a free port with two free ones after it, which MLServer takes too."""
    while True:
        port = random.randint(20_000, 50_000)
        with contextlib.ExitStack() as stack:
            try:
                for near in range(port, port + 3):
                    stack.enter_context(socket.socket()).bind(("127.0.0.1", near))
            except OSError:
                continue
        return port


BENCHMARK = Benchmark(
    title="Answering a question over HTTP",
    question="What does a question cost the processor, from bytes to bytes, beside other servers?",
    run=run,
    order=55,
    notes=(
        "The champion of `movielens_daily` with its graph of a request and, for Rankmill, the error memory of "
        "`movielens_memory`; one process each, one thread in onnxruntime, questions one after the other over a "
        "connection that stays open. Processor time of all processes of a server, so that a busy machine hurts none.",
        "Rankmill is asked by ids: it fetches the user's features and keeps those of items, corrects by the error "
        "memory and logs every row. The others get every raw value in the question and run the same function from "
        "raw values to probabilities; they fetch nothing, remember nothing and log nothing.",
        "The shadow has the champion's content under another number: what a second version of its size costs.",
        "BentoML and MLServer do not resolve beside the project's pins and run in environments of their own.",
    ),
)
