"""What does `ingest_table` make of files that were damaged? Seeded mutations, and a second reader to compare with."""

from __future__ import annotations

import csv
import io
import random
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from components.ingest.ingest_table.component import read_events
from components.ingest.ingest_table.config import Config
from components.ingest.ingest_table.reading.files import sources
from components.platform.errors import RankmillError
from features.declaration import Window

WINDOW = Window(start=datetime(2026, 1, 1, tzinfo=UTC), end=datetime(2026, 2, 1, tzinfo=UTC))
COLUMNS = ("uid", "article", "shown_at", "clicked", "price", "tags", "note")
CONFIG: dict[str, Any] = {
    "user": "uid",
    "item": {"column": "article", "type": "int64"},
    "timestamp": "shown_at",
    "feedback": {"click": "clicked"},
    "columns": {"price": "float64", "tags": "array<string>", "note": "string"},
    "duplicates": "keep",
    "null_values": [],
}
_ROWS = 60
_CODECS = ("none", "snappy", "zstd", "gzip")


@dataclass(frozen=True)
class Outcome:
    """What came of a file.

    Attributes:
        file: where it lies.
        sentence: the error, or None when it was read.
        users: published ids, sorted.
        notes: published texts, sorted, empty where they are missing.
    """

    file: Path
    sentence: str | None
    users: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def write(folder: Path, number: int) -> Path:
    """Write the damaged file `number` and return it; the same number gives the same bytes."""
    draw = random.Random(number)
    rows = _rows(draw)
    if number % 2:
        path = folder / f"{number}.csv"
        path.write_bytes(_damaged_text(draw, _text(rows)))
        return path
    path = folder / f"{number}.parquet"
    frame = pl.DataFrame({name: [row[index] for row in rows] for index, name in enumerate(COLUMNS)})
    typed = frame.with_columns(pl.col("article").cast(pl.Int64), pl.col("clicked").cast(pl.Int8))
    sink = io.BytesIO()
    pq.write_table(
        typed.to_arrow(compat_level=pl.CompatLevel.oldest()), sink, compression=draw.choice(_CODECS),
        use_dictionary=draw.random() < 0.5, data_page_size=256, write_page_index=draw.random() < 0.3,
        data_page_version=draw.choice(("1.0", "2.0")),
    )  # fmt: skip
    path.write_bytes(_damaged_bytes(draw, sink.getvalue()))
    return path


def ingested(path: Path, scratch: Path) -> Outcome:
    """Return what `ingest_table` makes of a file; what is no error of ours passes through."""
    config = Config.model_validate(CONFIG | {"files": str(path)})
    try:
        frame, _ = read_events(sources(config, scratch), config, WINDOW, scratch, lambda line: None)
    except RankmillError as error:
        return Outcome(path, str(error))
    notes = frame.rows["note"].fill_null("").sort().to_list()
    return Outcome(path, None, tuple(frame.rows["user_id"].sort().to_list()), tuple(notes))


def complaint(outcome: Outcome) -> str | None:
    """Return what is wrong with an outcome: a sentence that is none or names no file, or values that are not there."""
    if outcome.sentence is not None:
        told = outcome.sentence
        one = "\n" not in told and "Traceback" not in told and len(told) < 1000
        return None if one and outcome.file.name in told else f"{outcome.file.name}: no good sentence: {told!r}"
    expected = _read_by_another(outcome.file)
    if expected is not None and (outcome.users, outcome.notes) != expected:
        return f"{outcome.file.name}: read {outcome.users[:3]}… {outcome.notes[:3]}…, expected {expected[0][:3]}…"
    return None


def _rows(draw: random.Random) -> list[tuple[str, ...]]:
    notes = ("plain", 'say "hi"', "a, b", "5\u2033 disk", "", "\u00fcber", "x" * 40)
    return [
        (f"u{draw.randrange(20)}", str(draw.randrange(50)), f"2026-01-{draw.randrange(1, 29):02d} 10:{n % 60:02d}:00",
         str(draw.randrange(2)), str(round(draw.random(), 3)), "a|b", draw.choice(notes))
        for n in range(_ROWS)
    ]  # fmt: skip


def _text(rows: list[tuple[str, ...]]) -> bytes:
    sink = io.StringIO()
    csv.writer(sink, lineterminator="\n").writerows([COLUMNS, *rows])
    return sink.getvalue().encode()


def _damaged_text(draw: random.Random, text: bytes) -> bytes:
    at = draw.randrange(len(text))
    kind = draw.randrange(9)
    if kind == 0:
        return _flipped(draw, text, 0, len(text))
    if kind == 1:
        return text[:at]
    if kind == 2:
        header, body = text.split(b"\n", 1)
        names = header.split(b",")
        draw.shuffle(names)
        return b",".join(names) + b"\n" + body
    if kind == 3:
        return text[:at] + text[at + draw.randrange(1, 200) :]
    if kind == 4:
        return text[:at] + text[draw.randrange(len(text)) :]
    for _ in range(draw.randrange(1, 4)):
        at = draw.randrange(len(text))
        text = (
            text[:at]
            + draw.choice((b'"', b"\n", b"\0", b"\r", b",", b'""', b'\n"', b"\xff", b"\xef\xbb\xbf"))
            + text[at:]
        )
    return text


def _damaged_bytes(draw: random.Random, data: bytes) -> bytes:
    footer = int.from_bytes(data[-8:-4], "little")
    kind = draw.randrange(5)
    if kind == 0:
        return data[: draw.randrange(len(data))]
    if kind == 1:
        return _flipped(draw, data, len(data) - 8 - footer, len(data))
    if kind == 2:
        at = draw.randrange(len(data))
        return data[:at] + bytes(draw.randrange(256) for _ in range(draw.randrange(1, 9))) + data[at:]
    return _flipped(draw, data, 4, len(data) - 8 - footer)


def _flipped(draw: random.Random, data: bytes, start: int, stop: int) -> bytes:
    changed = bytearray(data)
    for _ in range(draw.choice((1, 1, 2, 4, 16))):
        changed[draw.randrange(start, stop)] ^= 1 << draw.randrange(8)
    return bytes(changed)


def _read_by_another(path: Path) -> tuple[tuple[str, ...], tuple[str, ...]] | None:
    """Return ids and texts as another reader finds them in rows of the window, or None when it fails."""
    if path.suffix == ".csv":
        lines = csv.reader(io.StringIO(path.read_bytes().decode("utf-8-sig"), newline=""))
        header, *rows = [line for line in lines if line]
        found = [dict(zip(header, row, strict=True)) for row in rows]
    else:
        try:
            found = pq.read_table(path, columns=list(COLUMNS)).to_pylist()
        except (pa.ArrowException, OSError, UnicodeDecodeError):
            return None
    inside = [row for row in found if row["shown_at"].strip().startswith("2026-01")]
    users = tuple(sorted(row["uid"].strip() for row in inside))
    return users, tuple(sorted((row["note"] or "").strip() for row in inside))
