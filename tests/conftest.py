"""What do all tests share? Real data, an own home for every engine, and small artifacts."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.known_graphs import KnownGraphs

ROOT = Path(__file__).resolve().parent.parent
IN_MEMORY = Path("/dev/shm")
"""Where Linux keeps files in memory; a disk makes a database wait for some milliseconds at every commit."""
ROOM = 4 * 2**30
"""Bytes that the files of a run and the clusters that it starts may need there."""
COUNTED = "counted"
"""Property of a test whose value is printed at the end."""


def pytest_configure() -> None:
    """Keep every engine away from the user's home and silent, before any of them is imported."""
    from components.platform.settings import quiet_engines
    from features.ground.quick_feast import quicken_feast

    quiet_engines()
    quicken_feast()
    # Feast's server makes Prometheus keep the counts of a process in files, those of all tests together.
    import prometheus_client.values  # noqa: F401

    os.environ.setdefault("MPLBACKEND", "Agg")
    # No test asserts a time: an example that a busy machine delays is not a counterexample.
    from hypothesis import settings

    settings.register_profile("rankmill", deadline=None)
    settings.load_profile("rankmill")
    if "PYTEST_DEBUG_TEMPROOT" not in os.environ and _has_room(IN_MEMORY):
        os.environ["PYTEST_DEBUG_TEMPROOT"] = str(IN_MEMORY)
    gc.disable()  # what is imported stays


def _has_room(folder: Path) -> bool:
    """Return whether temporary files may lie in a folder: it can be written, programs start there, it is large."""
    if not os.access(folder, os.W_OK):
        return False
    found = os.statvfs(folder)
    return not found.f_flag & os.ST_NOEXEC and found.f_bavail * found.f_frsize > ROOM


def pytest_collection_finish() -> None:
    """Do not look for garbage among the modules again and again: a tenth of the time of an export."""
    gc.enable()
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


def pytest_unconfigure() -> None:
    """Let the interpreter free everything at its end: engines report what is left as leaks."""
    gc.unfreeze()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what tests counted, wherever they ran: a worker's own output is not shown."""
    for report in terminalreporter.getreports("passed") + terminalreporter.getreports("failed"):
        for name, value in report.user_properties:
            if name == COUNTED:
                terminalreporter.write_line(f"{report.nodeid.rpartition('::')[2]}: {value}")


@pytest.fixture(scope="session")
def movielens_raw() -> Path:
    """Data folder that holds MovieLens-100K; fetched once by the product's own download code."""
    from components.ingest.download import ensure_files
    from components.ingest.wheels import SHIPPED
    from components.platform.settings import Settings

    data = Settings.from_environment().data
    ensure_files(SHIPPED["ml-100k"], data)
    return data


@pytest.fixture(scope="session")
def engines(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with the empty databases of Airflow and MLflow, which `tests.homes.ready` copies; read-only."""
    from tests.homes import prepared

    return prepared(tmp_path_factory)


@pytest.fixture(scope="session")
def training_set_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A synthetic `TrainingSet` directory of 4,000 rows; read-only."""
    from tests.once import once
    from tests.worlds import write_training_set

    return once(tmp_path_factory, "training-set", write_training_set)


@pytest.fixture(scope="session")
def graphs(tmp_path_factory: pytest.TempPathFactory) -> KnownGraphs:
    """Graphs that this run exported, for rankers that differ in weights only."""
    from tests.known_graphs import KnownGraphs
    from tests.once import shared_folder

    return KnownGraphs(shared_folder(tmp_path_factory) / "graphs")


@pytest.fixture(scope="session")
def model_of(
    training_set_dir: Path, tmp_path_factory: pytest.TempPathFactory, graphs: KnownGraphs
) -> Callable[[str], Path]:
    """Give a ranker of some steps on `training_set_dir` with its graph, as `ServedModel` opens it; read-only."""
    from tests.exports import write_model
    from tests.once import once

    def made(name: str) -> Path:
        steps = 60 if name == "lr" else 30
        return once(
            tmp_path_factory, f"model-{name}", lambda at: write_model(at, training_set_dir, name, steps, graphs)
        )

    return cache(made)
