"""How much does a nightly pipeline leave in the store, night after night, and how much of it stays?"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from components.platform.errors import BadInputError
from components.platform.settings import Settings
from tests.benchmarks.contract import Benchmark, Goal, Report, Series
from tests.benchmarks.lab import ROOT, Lab
from tests.benchmarks.night_stages import DAYS, VERSIONS
from tests.homes import data_folder

NIGHTS, OTHERS = int(os.environ.get("NIGHTS", "30")), 3
"""Nights of this checkout; and of another one, which grows alike every night."""
OURS = "this store"
MIB = 2**20


def run(lab: Lab) -> Report:
    """Run the nights, those of another checkout too."""
    count = 2 if lab.quick else NIGHTS
    found = {OURS: _nights(lab, ROOT, count)}
    if lab.against:
        found[lab.other] = _nights(lab, lab.against, min(count, OTHERS))
    cases = tuple(f"{night + 1}" for night in range(count))

    def series(title: str, key: str) -> Series:
        samples = {
            who: tuple((each[night][key] / MIB,) if night < len(each) - 1 else () for night in range(count))
            for who, each in found.items()
        }
        return Series(title=title, unit="MiB", better="lower", axis="night", cases=cases, samples=samples)

    return Report(
        series=(
            series("Left by a night", "left"),
            series("In the store when the night has been cleaned up", "stays"),
        ),
        goals=_goals(found[OURS], count),
        facts=tuple(_fact(who, each) for who, each in found.items()),
    )


def _nights(lab: Lab, checkout: Path, count: int) -> list[dict[str, float]]:
    folder = lab.work / checkout.name
    folder.mkdir()
    data = data_folder("ml-100k") or Settings.from_environment().data
    asked = {"folder": str(folder), "data": str(data), "count": count}
    environment = os.environ | {
        "PYTHONPATH": str(checkout),
        "RANKMILL_HOME": str(folder / "home"),
        "PYTHONWARNINGS": "ignore",
    }
    command = [sys.executable, "-P", str(Path(__file__).with_name("night_stages.py")), json.dumps(asked)]
    done = subprocess.run(command, cwd=checkout, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise BadInputError(f"the nights failed: {(done.stderr.strip() or 'no message')[-800:]}")
    return [json.loads(line.removeprefix("NIGHT ")) for line in done.stdout.splitlines() if line.startswith("NIGHT ")]


def _fact(who: str, each: list[dict[str, float]]) -> str:
    *nights, end = each
    left = sum(night["left"] for night in nights) / MIB
    return (
        f"{who}: {len(nights)} nights left {left:,.1f} MiB, {left / len(nights):.1f} a night; "
        f"{nights[-1]['stays'] / MIB:,.1f} MiB stay; {end['whole']:.0f} kept versions have their whole ranker."
    )


def _goals(each: list[dict[str, float]], count: int) -> tuple[Goal, ...]:
    if count <= VERSIONS + DAYS:
        return ()
    stays = [night["stays"] / MIB for night in each[:-1]]
    settled = stays[VERSIONS + DAYS - 1 :]
    return (
        Goal(
            text=f"{VERSIONS} versions and {DAYS} days kept: the store stops growing after {VERSIONS + DAYS} nights",
            measured=f"{settled[0]:.1f} MiB then, {settled[-1]:.1f} after {count}",
            met=settled[-1] <= 1.05 * settled[0],
        ),
        Goal(
            text="every kept version has its whole ranker, so a rollback to it is continued",
            measured=f"{each[-1]['whole']:.0f} of {VERSIONS} rankers whole",
            met=each[-1]["whole"] == VERSIONS,
        ),
    )


BENCHMARK = Benchmark(
    title="A store, night after night",
    question="How much does a nightly pipeline leave in the store, and how much of it stays?",
    run=run,
    notes=(
        "`movielens_continued`, window of 120 days, the last night's ending with MovieLens-100K: the stages that write "
        "rows and rankers (`ingest`, `contract`, `features`, `dataset`, `champion`, `train`), in one process, training "
        "cut to one step an epoch. Exporting, evaluation and MLflow, whose files do not grow with the window, are left "
        f"out. Every night's ranker becomes the champion; after each night the store is cleaned as `rankmill gc` does "
        f"with `keep: {{days: {DAYS}, versions: {VERSIONS}}}`, a night counting as a day. A file of several names "
        "counts once. `NIGHTS=5` runs fewer.",
        "Rows go after two nights, so the store grows by a ranker a night, 4.6 MiB with its optimiser's values, until "
        "as many versions stay as were asked for. What a night leaves still follows its window: counts and rates since "
        "its first day differ every night, so the files of two nights have little in common.",
    ),
    order=18,
    compares=True,
)
