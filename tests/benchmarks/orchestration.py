"""What does Rankmill add to what Airflow takes anyway: when a DAG file is parsed, and per stage of a run?"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tests.benchmarks.contract import Benchmark, Report, Series, table_of
from tests.benchmarks.lab import ROOT, Lab

OURS, BARE, ALONE = "rankmill", "Airflow by hand", "component without Airflow"
FEW, MANY = 2, 8
RUN = [sys.executable, "-c", "from pipelines.cli.main import main; main()"]


def run(lab: Lab) -> Report:
    """Parse every pipeline beside a plain DAG of as many tasks; run short and long chains of stages that do nothing."""
    parsing: dict[str, dict[str, list[float]]] = {OURS: {}, BARE: {}}
    for number in range(lab.rounds(3)):
        lab.say(f"parsing, round {number + 1}")
        cost = lab.child(parse_all, home=str(lab.work / "parse"))
        assert cost is not None, "parsing took too long"
        for case, (ours, bare) in cost.value.items():
            parsing[OURS].setdefault(case, []).append(ours * 1000)
            parsing[BARE].setdefault(case, []).append(bare * 1000)
    cases = tuple(next(iter(parsing.values())))
    parse = Series(
        title="Parsing one DAG file", unit="ms", better="lower", axis="pipeline", cases=cases,
        samples=table_of(parsing, cases),
    )  # fmt: skip
    stages = _stages(lab)
    return Report(series=(parse, stages))


def parse_all(home: str) -> Iterator[None]:
    """Build every pipeline's DAG and its plain twin, each in a fork as Airflow's parser does; seconds by pipeline."""
    os.environ["AIRFLOW_HOME"] = home
    from pipelines.language.check import load_plan
    from pipelines.language.load import pipeline_file, pipeline_names
    from pipelines.run.airflow_dag import build_dag

    names = sorted(pipeline_names())
    counts = {name: _forked(lambda name=name: float(len(load_plan(pipeline_file(name)).stages)))[1] for name in names}
    yield
    found = {}
    for name in names:
        ours = _forked(lambda name=name: build_dag(pipeline_file(name)))[0]
        bare = _forked(lambda name=name: plain_dag(int(counts[name])))[0]
        found[f"{name}, {int(counts[name])} tasks"] = (ours, bare)
    yield
    return found


def _forked(work: Callable[[], Any]) -> tuple[float, float]:
    """Return the seconds of a call in a fork of this process, and its value where that is a number."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            start = time.perf_counter()
            value = work()
            seconds = time.perf_counter() - start
            number = value if isinstance(value, float) else 0.0
            os.write(writer, f"{seconds} {number}".encode())
        finally:
            os._exit(0)
    os.close(writer)
    os.waitpid(child, 0)
    text = os.read(reader, 100).decode()
    os.close(reader)
    assert text, "the fork failed; its message stands above"
    seconds, number = map(float, text.split())
    return seconds, number


def plain_dag(tasks: int) -> Any:
    """Return a DAG of as many tasks in a chain, written with Airflow's own decorators."""
    from airflow.sdk import DAG, task

    with DAG("plain", schedule=None) as dag:
        before = None
        for number in range(tasks):

            @task(task_id=f"task_{number}", retries=2)
            def work() -> int:
                return 1

            now = work()
            if before is not None:
                before >> now
            before = now
    return dag


def _stages(lab: Lab) -> Series:
    """Return the time of one more stage: a long chain less a short one, over the stages between."""
    info = lab.work / "probe-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: probe\nVersion: 1\n")
    (info / "entry_points.txt").write_text(
        "[rankmill.components]\nwrite_words = tests.integration.airflow.probe:WRITE\n"
    )
    few, many = (1, 2) if lab.quick else (FEW, MANY)
    case = "one more stage that writes a word"
    found: dict[str, dict[str, list[float]]] = {who: {case: []} for who in (OURS, BARE, ALONE)}

    def pipeline(stages: int, number: int) -> float:
        name = f"chain_{stages}_{number}"
        lines = "".join(
            f"  s{at}: {{uses: write_words, with: {{text: '{stages} {number} {at}'}}"
            + (f", after: [s{at - 1}]}}\n" if at else "}\n")
            for at in range(stages)
        )
        file = lab.work / f"{name}.yaml"
        file.write_text(f"name: {name}\nwindow: {{days: 7, end: '2026-01-08'}}\nstages:\n{lines}", encoding="utf-8")
        path = os.pathsep.join([str(ROOT), str(lab.work)])
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("AIRFLOW", "RANKMILL"))}
        start = time.perf_counter()
        done = subprocess.run(
            [*RUN, "run", str(file)], cwd=lab.work, capture_output=True, text=True, check=False, timeout=300,
            env=kept | {"RANKMILL_HOME": str(lab.work / "home"), "PYTHONPATH": path},
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return time.perf_counter() - start

    def plain(stages: int, _: int) -> float:
        cost = lab.child(run_plain, home=str(lab.work / "plain"), stages=stages)
        assert cost is not None
        return cost.seconds

    def alone(stages: int, number: int) -> float:
        cost = lab.child(run_alone, folder=str(lab.work), stages=stages, number=number)
        assert cost is not None
        return cost.seconds

    pipeline(1, 99)  # makes the home with its databases
    for number in range(lab.rounds(2)):
        for who, way in ((OURS, pipeline), (BARE, plain), (ALONE, alone)):
            lab.say(f"stages, round {number + 1}: {who}")
            short, long = way(few, number), way(many, number)
            found[who][case].append((long - short) / (many - few))
    return Series(
        title="Time of a stage", unit="s", better="lower", axis="", cases=(case,), samples=table_of(found, (case,))
    )


def run_plain(home: str, stages: int) -> Iterator[None]:
    """Run the plain DAG in this process with `dag.test()`, as `rankmill run` does with its own."""
    dags = Path(home) / "dags"
    dags.mkdir(parents=True, exist_ok=True)
    # `dag.test` wants its DAG in the DAG folder.
    text = "# Airflow DAG\nfrom tests.benchmarks.orchestration import plain_dag\n"
    (dags / "plain.py").write_text(f"{text}dag = plain_dag({stages})\n", encoding="utf-8")
    os.environ |= {
        "AIRFLOW_HOME": home, "AIRFLOW__CORE__DAGS_FOLDER": str(dags), "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__LOGGING__LOGGING_LEVEL": "ERROR",
    }  # fmt: skip
    subprocess.run([sys.executable, "-m", "airflow", "db", "migrate"], check=True, capture_output=True)
    dag = plain_dag(stages)
    yield
    dag.test()
    yield


def run_alone(folder: str, stages: int, number: int) -> Iterator[None]:
    """Execute the same stages one after the other in this process, without Airflow and without children."""
    sys.path.append(folder)  # where the component is offered
    from components.platform.catalog import catalog
    from components.platform.execute import StageRequest, execute
    from components.platform.settings import Settings
    from features.declaration import Window

    assert "write_words" in catalog()
    settings = Settings.at(Path(folder) / "alone")
    window = Window.model_validate({"start": "2026-01-01T00:00:00Z", "end": "2026-01-08T00:00:00Z"})
    yield
    for at in range(stages):
        config = {"text": f"{number} {stages} {at}"}
        execute(StageRequest(component="write_words", config=config, window=window), settings)
    yield


BENCHMARK = Benchmark(
    title="Orchestration",
    question="What do DAG files cost Airflow's parser, and what does a stage cost beside its own work?",
    run=run,
    order=80,
    notes=(
        "Files are parsed in forks of a process that has imported Airflow, as Airflow's parser does. A stage's time "
        f"is that of a chain of {MANY} less that of a chain of {FEW}, over the stages between. A stage of Rankmill "
        "runs in a child process of its own, which imports what it needs and can be killed with everything that it "
        "started; it looks into the store, publishes what it made under a digest, and leaves a record. The plain "
        "Airflow task returns a number in the process of the DAG.",
    ),
)
