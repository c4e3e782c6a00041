"""Does a page grey what few rows tell, and does a component's result depend on the template of its page?"""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from components.judge.evaluate_ranker.page import render
from components.pages.document import FEW, is_few
from components.platform.catalog import component
from components.platform.sources import modules_of, source_files
from registry.evaluation import ALL, Cell, Evaluation, Interval

NOW = datetime(2026, 1, 1, tzinfo=UTC)
SOME = Interval(value=0.7, low=0.6, high=0.8)


def cell(domain: str, rows: int, positives: int) -> Cell:
    metrics = dict.fromkeys(("auc", "gauc", "log_loss", "normalised_entropy", "ece", "pcoc"), SOME)
    return Cell(task="like", domain=domain, space="every impression", rows=rows, positives=positives, metrics=metrics)


def page(*cells: Cell) -> str:
    report = Evaluation(
        model_digest="m", dataset_digest="d", split="test", rows=900, window_start=NOW, window_end=NOW, confidence=0.95,
        resamples=10, provider="cpu", tasks=("like",), domains=("rare",), cells=cells, calibration=(),
    )  # fmt: skip
    return render(report, "ranker", (), ()).partition("</style>")[2]


@pytest.mark.parametrize(("rows", "positives"), [(500, FEW - 1), (500, 500 - FEW + 1), (3, 1)])
def test_figures_of_few_rows_of_one_label_are_grey_with_a_note(rows: int, positives: int) -> None:
    found = page(cell(ALL, 900, 300), cell("rare", rows, positives))
    assert found.count('<td class="few">') == 6 and f"Grey: fewer than {FEW} rows" in found
    assert found.index("rare") < found.index('class="few"'), "only the row of the rare domain"


def test_nothing_is_grey_where_rows_suffice() -> None:
    assert not is_few(cell("rare", 2 * FEW, FEW))
    assert "few" not in page(cell(ALL, 900, 300), cell("rare", 2 * FEW, FEW))


def test_a_wide_table_scrolls_in_its_box() -> None:
    found = page(cell(ALL, 900, 300))
    assert found.count("<table") == found.count('<div class="scroll"><table')


@pytest.mark.parametrize("name", ["validate_data", "evaluate_ranker", "study_error_memory"])
def test_a_result_depends_on_the_template_of_its_page_and_on_the_document(name: str) -> None:
    spec = component(name)
    folder = spec.entrypoint.partition(":")[0].rpartition(".")[0].replace(".", "/")
    assert {f"{folder}/page.html.j2", "components/pages/document.html.j2"} <= {*source_files(*modules_of(spec))}


@pytest.mark.parametrize("name", ["promote_model", "compare_served"])
def test_a_verdict_depends_on_the_template_of_its_page(name: str) -> None:
    assert "components/pages/verdict.html.j2" in source_files(*modules_of(component(name)))


def test_a_training_does_not_depend_on_how_pages_look() -> None:
    assert not [name for name in source_files(*modules_of(component("train_ranker"))) if name.endswith(".html.j2")]
