"""Is the page made from records alone, the same bytes each time, and is the committed one up to date?"""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from components.platform.errors import BadInputError, MissingError
from features.declaration import JudgeBy
from pipelines.compare.record import Data, Measured, Record, Row, Tried, merged, read_record
from pipelines.compare.results import DOCS, keep, pages, publish, record_path

GOLDEN = Path(__file__).resolve().parents[3] / "golden" / "comparison"
FILE = """
name: shop_sides
title: Shop
labels: like = bought
pipeline: shop
dataset: dataset
against: lightgbm
with: {epochs: 2}
entries:
  lightgbm: {baseline: lightgbm, note: the peer}
  lr: {ranker: {name: lr}, grid: [{with: {learning_rate: 0.01}}, {with: {learning_rate: 0.1}}]}
  dnn: {ranker: {name: dnn}}
references:
  - {task: like, metric: auc, value: 0.7765, source: a paper of somebody}
notes: Read with care.
"""


def runs(auc: float, **facts: Any) -> tuple[Measured, ...]:
    return tuple(
        Measured(
            seed=seed,
            key=f"k{seed}",
            test={
                "like": {"auc": auc + 0.001 * seed, "gauc": 0.6, "log_loss": 0.5, "pcoc": 1.0},
                "love": {"auc": None, "gauc": None, "log_loss": 0.4, "pcoc": 0.9},
            },
            validation={"like": auc},
            **facts,
        )
        for seed in (0, 1, 2)
    )


@pytest.fixture
def record() -> Record:
    trained = {"epoch": 3, "epochs": 5, "epoch_seconds": 1.25, "embedding": 12_345, "dense": 678}
    rates = {"like": 0.5, "love": 0.2}
    return Record(
        name="shop_sides",
        data=Data(
            feedback=("like", "love"), tasks=("like", "love"), split="random, 8:1:1", unseen_users=0.25, fields=7,
            rows={"train": 8000, "validation": 1000, "test": 1000},
            rates={name: rates for name in ("train", "validation", "test")},
        ),
        rows={
            "lightgbm": Row(config={"leaves": 63}, runs=runs(0.70, fit_seconds=12.0, leaves=630), machine="box"),
            "lr": Row(
                config={"ranker": {"name": "lr"}, "learning_rate": 0.1}, machine="box", runs=runs(0.72, **trained),
                tried=(
                    Tried(change={"learning_rate": 0.01}, score=0.70), Tried(change={"learning_rate": 0.1}, score=0.71)
                ),
            ),
        },
    )  # fmt: skip


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    file = tmp_path / "pipelines" / "comparisons" / "shop_sides.yaml"
    file.parent.mkdir(parents=True)
    shutil.copy(GOLDEN / "shop.yaml", file.parent.parent / "shop.yaml")
    file.write_text(FILE)
    return {"shop_sides": file}


def test_the_page_says_what_was_measured(record: Record, files: dict[str, Path], tmp_path: Path) -> None:
    keep(tmp_path, record)
    (tmp_path / "results" / "notes.md").write_text("Hand-written.\n")
    (tmp_path / "results" / "policy.md").write_text("## Something else\n")
    written = publish(tmp_path, files)
    page = written[0].read_text()
    assert page.index("Hand-written.") < page.index("## Shop") < page.index("## Something else")
    # 12,345 embedding and 678 dense numbers; .72, .721, .722 have mean .721 and standard deviation .001
    assert (
        "| `lr` | 12,345 + 678 | 1.25 | **.7210** ± .0010 | .6000 ± .0000 | .5000 ± .0000 | 1.00 ± 0.00 | .7200" in page
    )
    assert "| `lightgbm` | 630 leaves | 12 in all | .7010 ± .0010 |" in page
    love = page.partition("### `love`")[2]
    assert re.search(r"\| `lr` \| 12,345 \+ 678 \| 1\.25 \| — \| — \| \.4000", love)
    assert "Not measured yet: `dnn`." in page
    assert "Published: AUC .7765: a paper of somebody" in page
    assert "{learning_rate: 0.1}`: mean validation AUC .7100, chosen" in page
    assert "{learning_rate: 0.01}`: mean validation AUC .7000\n" in page
    assert "* Machine: box." in page and "* `lightgbm`: the peer" in page and "Read with care." in page
    assert [path.name for path in written[1:]] == ["results-shop_sides.svg"]
    assert "(images/results-shop_sides.svg)" in page


def test_a_page_is_ordered_by_what_its_training_set_says_and_says_so(
    record: Record, files: dict[str, Path], tmp_path: Path
) -> None:
    def order(by: JudgeBy, **better: float) -> str:
        rows = {
            name: row.model_copy(
                update={
                    "runs": tuple(
                        run.model_copy(update={"test": {"like": run.test["like"] | {by: better[name]}}})
                        for run in row.runs
                    )
                }
            )
            for name, row in record.rows.items()
        }
        judged = record.model_copy(update={"data": record.data.model_copy(update={"judge_by": by}), "rows": rows})
        keep(tmp_path, judged)
        return publish(tmp_path, files)[0].read_text()

    page = order("mrr", lightgbm=0.4, lr=0.3)
    assert page.index("| `lightgbm` |") < page.index("| `lr` |")
    assert "* Judged by MRR: on validation, mean over the feedback, it chose epochs and configs" in page
    assert "validation MRR" in page and "validation AUC" not in page and "![MRR of each entry" in page
    page = order("log_loss", lightgbm=0.6, lr=0.5)
    assert page.index("| `lr` |") < page.index("| `lightgbm` |"), "less is better"
    assert "{learning_rate: 0.01}`: mean validation log-loss .7000, chosen" in page


def test_the_same_records_make_the_same_bytes(record: Record, files: dict[str, Path], tmp_path: Path) -> None:
    keep(tmp_path, record)
    first = {path: path.read_bytes() for path in publish(tmp_path, files)}
    text = record_path(tmp_path, "shop_sides").read_bytes()
    keep(tmp_path, read_record(record_path(tmp_path, "shop_sides")))
    assert record_path(tmp_path, "shop_sides").read_bytes() == text
    assert {path: path.read_bytes() for path in publish(tmp_path, files)} == first
    picture = first[tmp_path / "images" / "results-shop_sides.svg"].decode()
    assert "<dc:date>" not in picture
    other = record.model_copy(update={"rows": {"lr": record.rows["lr"]}})
    record_path(tmp_path, "shop_sides").write_text(other.model_dump_json())
    assert publish(tmp_path, files)[1].read_text() != picture


def test_entries_that_differ_by_a_number_are_drawn_over_it(
    record: Record, files: dict[str, Path], tmp_path: Path
) -> None:
    keep(tmp_path, record)
    text = files["shop_sides"].read_text()
    lines = "{plain: {1: lr, 2: dnn}, tree: {1: lightgbm, 2: lr}}, speed: true"
    files["shop_sides"].write_text(f"{text}curves: {{over: trees & more, lines: {lines}}}\n")
    page, _, curves = publish(tmp_path, files)
    assert curves.name == "results-shop_sides-curves.svg" and publish(tmp_path, files)[2] == curves
    assert f"![AUC over trees &amp; more](images/{curves.name})" in page.read_text()
    drawn = curves.read_bytes()
    assert publish(tmp_path, files)[2].read_bytes() == drawn
    files["shop_sides"].write_text(f"{text}curves: {{over: trees, lines: {{plain: {{1: lr, 2: lightgbm}}}}}}\n")
    assert publish(tmp_path, files)[2].read_bytes() != drawn


def test_rows_that_were_not_measured_again_stay_while_the_data_is_the_same(record: Record) -> None:
    again = record.model_copy(update={"rows": {"lr": record.rows["lightgbm"]}})
    assert merged(record, again).rows == {"lightgbm": record.rows["lightgbm"], "lr": record.rows["lightgbm"]}
    assert merged(None, again) == again
    other = again.model_copy(update={"data": record.data.model_copy(update={"split": "by time"})})
    assert merged(record, other) == other, "rows of another split must not stand beside these"


def test_a_record_that_is_none_is_told(record: Record, tmp_path: Path) -> None:
    with pytest.raises(MissingError, match="run `rankmill compare shop` first"):
        read_record(tmp_path / "shop.json")
    path = record_path(tmp_path, "shop")
    path.parent.mkdir()
    path.write_text("{}")
    with pytest.raises(BadInputError, match="is not a record of a comparison"):
        read_record(path)


def test_the_committed_page_is_what_its_records_say() -> None:
    page, pictures = pages(DOCS)
    assert (DOCS / "RESULTS.md").read_text(encoding="utf-8") == page, "run `rankmill compare --render`"
    for path, text in pictures.items():
        assert path.read_text(encoding="utf-8") == text, "run `rankmill compare --render`"
