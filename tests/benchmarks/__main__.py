"""How are benchmarks run? `python -m tests.benchmarks [NAME…]`: measured, recorded under docs/benchmarks, rendered."""

from __future__ import annotations

import argparse
import importlib
import os
import pkgutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

from components.platform.settings import quiet_engines
from pipelines.compare.record import describe_machine
from tests.benchmarks import __path__ as here
from tests.benchmarks.contract import Benchmark, Record
from tests.benchmarks.lab import ROOT, Lab, commit
from tests.benchmarks.page import PAGE, RECORDS, check, render

PEERS = ROOT / ".bench-venv" / "bin" / "python"
LIBRARIES = ("feast", "polars", "duckdb", "torch", "onnxruntime-gpu", "faiss-cpu", "scikit-learn", "apache-airflow")


def benchmarks() -> dict[str, Benchmark]:
    """Return every benchmark of this folder by name, in the order of the page."""
    found = {}
    for module in pkgutil.iter_modules(here):
        if not module.name.startswith(("test_", "__")):
            benchmark = getattr(importlib.import_module(f"tests.benchmarks.{module.name}"), "BENCHMARK", None)
            if benchmark is not None:
                found[module.name] = benchmark
    return dict(sorted(found.items(), key=lambda pair: (pair[1].order, pair[0])))


def measure(name: str, benchmark: Benchmark, *, quick: bool, peers: Path | None, against: Path | None = None) -> Record:
    """Run one benchmark in a folder of its own."""

    def say(line: str) -> None:
        sys.stdout.write(f"{name}: {line}\n")
        sys.stdout.flush()

    start = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix=f"rankmill-{name}-") as work:
        report = benchmark.run(Lab(quick=quick, work=Path(work), peers=peers, say=say, against=against))
    return Record(
        name=name,
        machine=describe_machine(),
        versions={library: version(library) for library in LIBRARIES},
        seconds=round(time.perf_counter() - start, 1),
        report=report,
    )


def compared(record: Record, against: Path) -> Iterator[str]:
    """Yield how ours stands to what another checkout's own benchmark of the same name measures."""
    command = [sys.executable, "-m", "tests.benchmarks", record.name]
    subprocess.run(command, cwd=against, env=os.environ | {"PYTHONPATH": str(against)}, check=True)
    file = against / RECORDS.relative_to(ROOT) / f"{record.name}.json"
    before = Record.model_validate_json(file.read_text(encoding="utf-8"))
    known = {series.title: series for series in before.report.series}
    for series in record.report.series:
        there, who = known.get(series.title), next(iter(series.samples))
        if there is None or who not in there.samples:
            continue
        for case in (case for case in series.cases if case in there.cases):
            ours, theirs = series.median(who, case), there.median(who, case)
            if ours and theirs:
                ratio = f"{ours / theirs:.2f} × commit {commit(against)}"
                yield f"{series.title}, {case}: {ours:.4g} {series.unit}, {ratio}"


def main(arguments: list[str] | None = None) -> int:
    """Measure what was named, everything when nothing was, and write the page again."""
    known = benchmarks()
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(known)}")
    parser.add_argument("--quick", action="store_true", help="smallest sizes, one round; nothing is recorded")
    parser.add_argument(
        "--against", type=Path, metavar="PATH", help="a worktree of another commit: measure it beside this one"
    )
    parser.add_argument("--render", action="store_true", help="write the page from what is recorded; measure nothing")
    parser.add_argument("--check", action="store_true", help="fail when the page is not what the records say")
    chosen = parser.parse_args(arguments)
    if unknown := sorted(set(chosen.names) - set(known)):
        parser.error(f"no benchmark {', '.join(unknown)}; there are {', '.join(known)}")
    if chosen.against and not (chosen.against / "tests" / "benchmarks").is_dir():
        parser.error(f"{chosen.against} has no tests/benchmarks: name a worktree of another commit")
    if chosen.check:
        stale = check(known)
        sys.stdout.write("".join(f"{path} is not what docs/benchmarks/ says: run with --render\n" for path in stale))
        return 1 if stale else 0
    quiet_engines()
    peers = PEERS if PEERS.exists() else None
    for name in () if chosen.render else chosen.names or known:
        against = chosen.against.resolve() if chosen.against else None
        record = measure(name, known[name], quick=chosen.quick, peers=peers, against=against)
        for goal in record.report.goals:
            sys.stdout.write(f"{name}: {'met' if goal.met else 'NOT MET'}: {goal.text}: {goal.measured}\n")
        sys.stdout.write(f"{name}: {record.seconds:.0f} s\n")
        if against and not (chosen.quick or known[name].compares):
            sys.stdout.writelines(f"{name}: {line}\n" for line in compared(record, against))
        if not chosen.quick:
            RECORDS.mkdir(parents=True, exist_ok=True)
            (RECORDS / f"{name}.json").write_text(record.model_dump_json(indent=1) + "\n", encoding="utf-8")
    if not chosen.quick:
        for path, text in render(known).items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        sys.stdout.write(f"{PAGE.relative_to(ROOT)} written\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
