"""Does the page say first what a reader must know, with names as they are, and the same bytes for the same report?"""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from components.judge.watch_drift.page import write_report
from components.judge.watch_drift.report import Bins, Cell, Report, settled
from features.declaration import Window
from tests.unit.components.judge.watch_drift.streams import START, day

WINDOW = Window(start=START, end=START + timedelta(days=3))
BINS = Bins(names=("a", "$x$"), before=(0.5, 0.5), now=(0.9, 0.1))
TRAFFIC = Cell(check="traffic", of="rows", rows=9, now=9.0, before=9.0, change=0.0, limit=0.3, chance=1.0)
FEW = Cell(check="score", of="click", rows=9, limit=0.02, reason="9 rows, 1,000 are needed")
MOVED = Cell(
    check="moved", of="<b>price</b>", rows=9, now=0.2, distance=0.4, change=0.2, limit=0.02, chance=1e-9, bins=BINS
)
STILL = Cell(check="level", of="click", rows=9, now=0.1, before=0.1, change=0.0, limit=0.1, chance=1.0)


def page(folder: Path, *cells: Cell) -> str:
    folder.mkdir()
    report = Report(
        model="shop", version=3, digest="d", rows_digest="r", baseline_rows=9, baseline_users=2, baseline_window=WINDOW,
        every="1d", false_alarms=0.01, days=settled([day(0, (STILL,)), day(1, cells)], 0.01),
    )  # fmt: skip
    write_report(folder, report)
    return (folder / "drift.html").read_text(encoding="utf-8").partition("</style>")[2]


@pytest.mark.parametrize(
    ("cells", "state"),
    [((TRAFFIC, STILL), "quiet"), ((TRAFFIC, FEW), "not judged"), ((MOVED, STILL), "alarm"), ((), "not judged")],
)
def test_the_title_is_the_answer(tmp_path: Path, cells: tuple[Cell, ...], state: str) -> None:
    text = page(tmp_path / "page", *cells)
    assert f">{state}</b></h1>" in text
    assert ("Nothing could be told of this day but its traffic" in text) == (state == "not judged")


def test_names_are_texts_and_equal_reports_equal_bytes(tmp_path: Path) -> None:
    one, other = (page(tmp_path / name, MOVED, STILL, TRAFFIC) for name in ("one", "other"))
    assert one == other and "&lt;b&gt;price&lt;/b&gt;" in one and "<b>price" not in one
    assert {path.name for path in (tmp_path / "one" / "plots").iterdir()} == {"strip.png", "fields.png"}
