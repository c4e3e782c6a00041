"""Does every benchmark run at its smallest size, and does the page say what was recorded?"""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from components.data.training_set import read_encoded, read_schema
from components.platform.errors import BadInputError
from features.encoding.files import read_encoder
from tests.benchmarks import page
from tests.benchmarks.__main__ import PEERS, benchmarks, main, measure
from tests.benchmarks.contract import Benchmark, Goal, Record, Report, Series, at_least, at_most
from tests.benchmarks.lab import ROOT, Lab
from tests.benchmarks.real_rows import padded, present, write_plain
from tests.worlds import write_training_set

SLOW = {
    "big_tables",
    "long_histories",
    "nights",
    "orchestration",
    "online_store",
    "point_in_time",
    "real_sets",
    "serving",
}
"""Those that start one process after the other; the others take seconds."""
KNOWN = benchmarks()


@pytest.mark.engine
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.long, pytest.mark.timeout(900)] * (name in SLOW)) for name in KNOWN]
)
def test_every_benchmark_runs(name: str) -> None:
    benchmark = KNOWN[name]
    record = measure(name, benchmark, quick=True, peers=PEERS if PEERS.exists() else None)
    assert Record.model_validate_json(record.model_dump_json()) == record
    assert benchmark.question.endswith("?")
    assert record.report.series
    for series in record.report.series:
        ours = next(iter(series.samples))
        for case in series.cases:
            assert series.median(ours, case) or f"{ours} @ {case}" in series.absent, "what is not measured is told"
        for who in series.samples:
            for case in series.cases:
                assert series.median(who, case) or f"{who} @ {case}" in series.absent or series.median(ours, case)
    assert set(record.report.charts) <= {series.title for series in record.report.series}


def test_the_page_is_what_the_records_say() -> None:
    assert page.check(KNOWN) == []
    assert {path.stem for path in page.RECORDS.glob("*.json")} <= set(KNOWN)


# --- the parts they share --------------------------------------------------------------------------


def two(ours: tuple[float, ...], theirs: tuple[float, ...]) -> Series:
    samples = {"ours": (ours,), "theirs": (theirs,)}
    return Series(title="Time", unit="s", better="lower", axis="rows", cases=("10",), samples=samples)


def test_a_ratio_is_the_median_within_rounds() -> None:
    """A minute in which everything is ten times as slow changes no ratio."""
    series = two((1.0, 10.0, 1.0), (2.0, 20.0, 2.2))
    assert series.ratio("theirs", "ours", "10") == 2.0
    assert series.median("ours", "10") == 1.0
    assert series.ratio("ours", "theirs", "10") == 0.5
    assert two((1.0,), ()).ratio("ours", "theirs", "10") is None


@pytest.mark.parametrize(("limit", "most", "least"), [(0.4, False, True), (0.5, True, True), (0.6, True, False)])
def test_goals_are_met_at_their_limit(limit: float, most: bool, least: bool) -> None:
    series = two((1.0, 1.0), (2.0, 2.0))
    assert at_most(series, "ours", "theirs", "10", limit, "").met is most
    assert at_least(series, "ours", "theirs", "10", limit, "").met is least
    assert not at_most(two((1.0,), ()), "ours", "theirs", "10", 9.0, "").met
    assert not at_least(two((1.0,), ()), "ours", "theirs", "10", 0.1, "").met


def test_competitors_take_turns_and_each_goes_first_once() -> None:
    calls: list[str] = []
    ways = {"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}
    found = Lab(quick=False, work=Path()).alternate(ways, 2)
    assert calls == ["a", "b", "a", "b", "b", "a"]
    assert [len(times) for times in found.values()] == [2, 2]


def thinks(seconds: float, mib: int) -> Iterator[None]:
    """Take memory and time before the measured part, then again within it."""
    before = bytearray(200 * 2**20)
    before[::4096] = b"x" * len(before[::4096])
    del before
    yield
    time.sleep(seconds)
    held = bytearray(mib * 2**20)
    held[::4096] = b"x" * len(held[::4096])
    yield
    return len(held)


def fails() -> Iterator[None]:
    yield
    raise ValueError("no such thing")


def test_a_child_is_charged_for_the_measured_part_alone(tmp_path: Path) -> None:
    cost = Lab(quick=True, work=tmp_path).child(thinks, seconds=0.05, mib=50)
    assert cost is not None
    assert cost.value == 50 * 2**20
    assert cost.seconds >= 0.05
    assert 45 < cost.mib < 120, "200 MiB were held before, and are not counted"
    assert Lab(quick=True, work=tmp_path).child(thinks, limit_seconds=0.01, seconds=0.0, mib=0) is None


def test_a_child_that_fails_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match=r"test_benchmarks.fails failed: ValueError: no such thing"):
        Lab(quick=True, work=tmp_path).child(fails)
    with pytest.raises(BadInputError, match="needs the benchmark environment: run `make bench`"):
        Lab(quick=True, work=tmp_path).child(fails, peer=True)
    with pytest.raises(BadInputError, match="failed"):
        Lab(quick=True, work=tmp_path, peers=Path(sys.executable)).child(("tests.benchmarks.nothing", "run"), peer=True)


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A page and records of its own, below a root of its own."""
    for name, path in (("RECORDS", "benchmarks"), ("PAGE", "BENCHMARKS.md"), ("IMAGES", "images")):
        monkeypatch.setattr(page, name, tmp_path / "docs" / path)
    monkeypatch.setattr(page, "ROOT", tmp_path)
    (tmp_path / "docs" / "benchmarks").mkdir(parents=True)
    return tmp_path


def test_a_page_shows_medians_ratios_goals_and_what_is_absent(elsewhere: Path) -> None:
    samples = {"ours": ((1.0, 3.0, 1.2), (1500.0,)), "theirs": ((2.0, 6.0, 2.4), ())}
    series = Series(
        title="Time", unit="s", better="lower", axis="rows", cases=("10", "1,000"), samples=samples,
        absent={"theirs @ 1,000": "stopped after 60 s"},
    )  # fmt: skip
    goals = (
        Goal(text="half the time", measured="0.50 ×", met=True),
        Goal(text="a tenth", measured="0.50 ×", met=False),
    )
    report = Report(series=(series,), goals=goals, facts=("Answers are equal.",), charts=("Time",))
    record = Record(name="fast", machine="a machine", versions={"torch": "2"}, seconds=9.0, report=report)
    (page.RECORDS / "fast.json").write_text(record.model_dump_json())
    fast = Benchmark(title="Fast", question="How fast?", run=lambda _: report, notes=("Because.",))
    known = {"fast": fast, "later": fast}
    files = page.render(known)
    text = files[page.PAGE]
    assert "| 10 | 1.2 | 2.4 (2 ×) |" in text
    assert "| 1,000 | 1,500 | stopped after 60 s |" in text
    assert "| Fast: half the time | 0.50 × | met |" in text
    assert "| Fast: a tenth | 0.50 × | **not met** |" in text
    assert "Not measured yet: `later`." in text
    assert "* Answers are equal." in text
    picture = page.IMAGES / "bench-fast-1.svg"
    assert "![Time](images/bench-fast-1.svg)" in text
    assert files[picture].startswith("<?xml")
    assert page.render(known) == files, "equal records make equal bytes"
    assert page.check(known) == ["docs/BENCHMARKS.md", "docs/images/bench-fast-1.svg"]


def test_another_checkout_trains_on_the_same_rows(tmp_path: Path) -> None:
    source = write_training_set(tmp_path / "set", 300)
    plain = write_plain(source, tmp_path / "plain")
    both = [(read_schema(folder), folder) for folder in (source, plain)]
    assert {field["kind"] for field in json.loads((plain / "schema.json").read_text())["fields"]} >= {"vector"}
    ours, theirs = (padded(read_encoded(folder, "train", schema), schema) for schema, folder in both)
    assert list(ours) == list(theirs)
    assert all((ours[name].reshape(theirs[name].shape) == theirs[name]).all() for name in ours)
    assert read_encoder(plain).fields == read_encoder(source).fields


def test_an_unknown_benchmark_is_refused_before_anything_runs(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["no_such_benchmark"])
    assert "no benchmark no_such_benchmark; there are" in capsys.readouterr().err


def test_peers_are_pinned() -> None:
    lines = (ROOT / "tests" / "benchmarks" / "peers.txt").read_text().splitlines()
    peers = [line for line in lines if line and not line.startswith("#")]
    assert peers, "no peer is named"
    assert [peer for peer in peers if not re.match(r"[\w.\[\]-]+==[\d.]+", peer)] == []


def test_ids_of_a_row_are_counted_as_if_they_were_padded(tmp_path: Path) -> None:
    folder = write_training_set(tmp_path / "data", rows=400)
    schema = read_schema(folder)
    split = read_encoded(folder, "train", schema)
    arrays = padded(split, schema)
    ids = [arrays[field.name] for field in schema.fields if field.embedded]
    there, cells = (sum(each) / split.rows for each in ([(v != 0).sum() for v in ids], [v.size for v in ids]))
    assert present(split, schema) == (there, cells)
    assert there < cells, "some of it is padding"
