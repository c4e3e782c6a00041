"""What do the stages of one night after the other write into a checkout's store, today's or an earlier one?

Run as ``python -P night_stages.py JSON`` with ``PYTHONPATH`` at the checkout and its root as the working directory. It
imports none of this package's modules, which an earlier checkout lacks. Training is one step in this process, and the
registry is an object here: of a night's bytes they change none.
"""

from __future__ import annotations

import importlib
import json
import os
import shutil
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

LAST = datetime(1998, 4, 23, tzinfo=UTC)
"""End of the last night's window, which holds the last rating."""
WINDOW = timedelta(days=120)
STAGES = ("ingest", "contract", "features", "dataset", "champion", "train")
VERSIONS, DAYS = 10, 2
"""What stays at the end of a night, as a profile says it."""
# An editable installation answers for every module of the project that the checkout lacks, with today's.
sys.meta_path = [finder for finder in sys.meta_path if not getattr(finder, "__module__", "").startswith("__editable__")]


@dataclass
class Champions:
    """Every night's ranker is registered and becomes champion."""

    digests: list[str] = field(default_factory=list)

    def alias(self, model: str, alias: str) -> Any:
        return self.version(model, len(self.digests)) if self.digests else None

    def version(self, model: str, number: int) -> Any:
        from registry.serving.model.contract import RegisteredVersion

        return RegisteredVersion(
            model=model, version=number, digest=f"model {number}", model_uri="", report_digest="",
            ranker_digest=self.digests[number - 1], created_at="2026-01-01T00:00:00Z",
        )  # fmt: skip

    def versions(self, model: str) -> tuple[Any, ...]:
        from registry.versions.client import ListedVersion

        return tuple(
            ListedVersion(version=self.version(model, number), aliases=(), tags={}, run_id="")
            for number in range(1, len(self.digests) + 1)
        )


def train_here(job: Any, *_: object) -> list[Any]:
    """Train in this process."""
    from components.train.train_ranker.job import read_progress
    from components.train.train_ranker.loop import Replica, train

    train(job, Replica())
    (job.directory / "curves.png").write_bytes(b"")
    return [line.report for line in read_progress(job.directory)]


def on_disk(folder: Path) -> int:
    """Return the bytes of the files below a folder, those of several names once."""
    found = {
        (status.st_ino, status.st_size) for path in folder.rglob("*") if (status := path.lstat()) and path.is_file()
    }
    return sum(size for _, size in found)


def cleaned(store: Any, champions: Champions, since: datetime) -> None:
    """Do what `rankmill gc` does to the store."""
    from components.platform.store import collect

    *others, champion = champions.digests
    keep = collect.References(frozenset(), frozenset(others[-VERSIONS + 1 :]), frozenset({champion}))
    for stage in collect.unused(store, collect.inventory(store), keep, since):
        if hasattr(collect, "remove"):
            collect.remove(store, stage, since)
        else:
            store.remove_unused(*stage.place, since=since)
    if hasattr(store, "remove_unused_contents"):
        store.remove_unused_contents()


def nights(folder: str, data: str, count: int) -> Iterator[dict[str, float]]:
    """Yield what each night left and what of it stays, and prove at the end that every kept ranker is whole."""
    from components.platform.settings import Settings
    from components.platform.store.publish import open_store
    from components.train.take_champion.component import find_ranker
    from features.declaration import Window
    from pipelines.language.check import load_plan

    stages = importlib.import_module("tests.stages")
    champions = Champions()
    training = importlib.import_module("components.train.continue_ranker.component")
    taking = importlib.import_module("components.train.take_champion.component")
    training.run_job = train_here  # type: ignore[attr-defined]
    taking.initialise, taking.Registry = (lambda *_: None), (lambda *_: champions)  # type: ignore[attr-defined]
    settings = replace(Settings.at(Path(folder) / "home"), data=Path(data))
    shutil.copytree(
        "pipelines", Path(folder) / "pipelines", ignore=lambda _, names: [n for n in names if n.endswith(".py")]
    )
    file = Path(folder) / "pipelines" / "movielens_continued.yaml"
    text = file.read_text(encoding="utf-8").replace("default: 2", "default: 1")  # one pass
    text = text.replace("learning_rate: 0.0002", "learning_rate: 0.0002\n      batch_size: 100000")
    file.write_text(text, encoding="utf-8")
    plan = load_plan(file)
    store, began, seen = open_store(settings), [], 0
    for night in range(count):
        window = Window(
            start=LAST - WINDOW - timedelta(days=count - 1 - night), end=LAST - timedelta(days=count - 1 - night)
        )
        began.append(datetime.now(UTC))
        start, before = time.perf_counter(), on_disk(Path(settings.home) / "artifacts")
        done: dict[str, Any] = {}
        for stage in STAGES:
            done[stage] = stages.run_planned(plan, stage, done, settings, window)
        champions.digests.append(done["train"].outputs["ranker"].digest)
        full = on_disk(Path(settings.home) / "artifacts")
        cleaned(store, champions, began[max(0, night - DAYS + 1)])
        after = on_disk(Path(settings.home) / "artifacts")
        yield {"left": full - before, "stays": after, "seconds": time.perf_counter() - start}
    for digest in champions.digests[-VERSIONS:]:
        ranker = find_ranker(store, digest)
        assert ranker is not None, "a kept version lost its ranker"
        store.fetch(ranker)
        seen += 1
    yield {"whole": seen}


if __name__ == "__main__":
    for found in nights(**json.loads(sys.argv[1])):
        sys.stdout.write(f"\nNIGHT {json.dumps(found)}\n")
        sys.stdout.flush()
    os._exit(0)
