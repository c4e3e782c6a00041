"""Do the model card and the verdict page say what they must, and nothing that a name could inject?"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path

from components.data.training_set import read_schema
from components.pages.verdict import render
from registry.evaluation import ALL, Cell, Evaluation, Interval
from registry.gate.policy import Floor, GatePolicy
from registry.serving.model.contract import ModelContract, ParityReport
from registry.serving.scores.calibration import Calibration, Platt, Stage
from registry.versions.card import Lineage, model_card
from tests.unit.registry.test_decide import FAST, make_pair, verdict_of


class Outline(HTMLParser):
    """Counts tags and refuses resources from elsewhere."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.opened: list[str] = []
        self.closed: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag not in ("script", "link", "img", "iframe")
        assert not any(name in ("src", "href") for name, _ in attrs)
        if tag not in ("meta",):
            self.opened.append(tag)

    def handle_endtag(self, tag: str) -> None:
        self.closed.append(tag)


def test_the_verdict_page_shows_every_cell_and_the_one_that_decided() -> None:
    policy = GatePolicy(floors={"like": Floor(auc=0.5)}, **FAST)
    verdict = verdict_of(make_pair(3000, challenger_noise=2.5, hurt="north"), policy)
    page = render(verdict)
    outline = Outline(page)
    assert sorted(outline.opened) == sorted(outline.closed)
    cells = [page.count(f'<td class="judged {kind}">') for kind in ("passed", "refused", "not-judged")]
    assert sum(cells) == len(verdict.judgements)
    assert page.count("decided it") == 1
    assert page.count('class="bar"') == sum(j.difference is not None for j in verdict.judgements)
    for word in ("m v2", "champion v1", "refused", "north", "east", "love_given_like"):
        assert word in page


def test_the_verdict_page_shows_what_the_gate_guards_whatever_it_is() -> None:
    pair = replace(make_pair(800), judge_by="gauc")
    page = render(verdict_of(pair, GatePolicy(floors={"like": Floor(log_loss=9)}, **FAST)))
    assert "gauc, challenger − champion" in page and "log loss floor" in page


def test_names_from_data_are_escaped() -> None:
    pair = make_pair(800)
    domain = pair.domain.astype("<U40")
    domain[domain == "north"] = "<script>alert(1)</script>"
    page = render(verdict_of(replace(pair, domain=domain), GatePolicy(**FAST)))
    Outline(page)
    assert "&lt;script&gt;alert(1)" in page, "the name is on the page"


def test_a_verdict_without_judgements_is_a_page_too() -> None:
    verdict = verdict_of(make_pair(300), GatePolicy(**FAST)).model_copy(
        update={"judgements": (), "answer": "unchanged"}
    )
    assert "unchanged" in render(verdict)


def test_the_card_holds_window_inputs_figures_parity_and_lineage(good_model: Path, training_set_dir: Path) -> None:
    contract = ModelContract.model_validate_json((good_model / "contract.json").read_text())
    parity = ParityReport.model_validate_json((good_model / "parity.json").read_text())
    schema = read_schema(training_set_dir)
    cells = tuple(
        Cell(task=task, domain=domain, space="every impression", rows=900, positives=positives, metrics={
            "auc": Interval(value=0.7123, low=0.7, high=0.73), "pcoc": Interval(value=None),
        })
        for task in contract.tasks
        for domain, positives in ((ALL, 300), ("25_34", 12))
    )  # fmt: skip
    evaluation = Evaluation(
        model_digest="a" * 64, dataset_digest="b" * 64, split="test", rows=900,
        window_start=datetime(2024, 1, 28, tzinfo=UTC), window_end=datetime(2024, 1, 31, tzinfo=UTC),
        confidence=0.95, resamples=200, provider="cpu", tasks=contract.tasks, domains=("25_34",),
        cells=cells, calibration=(),
    )  # fmt: skip
    lineage = Lineage(
        model="tiny_ranker", pipeline="p", run_id="r1", mlflow_run_id="", model_digest="a" * 64, report_digest="c" * 64
    )
    card = model_card(contract, evaluation, parity, lineage)
    assert card.startswith("# tiny_ranker\n")
    assert f"{schema.trained_from:%Y-%m-%d %H:%M} to {schema.trained_until:%Y-%m-%d %H:%M} UTC" in card
    assert "2024-01-28 00:00 to 2024-01-31 00:00 UTC" in card
    for field in contract.fields:
        assert f"| `{field.name}` |" in card
    rows = [line for line in card.splitlines() if line.startswith("| `l")]
    assert len(rows) == len(cells)
    assert "| `love` | 25_34 | 900 | 12 | 0.7123 [0.7000, 0.7300] |" in card
    assert "`love` in 25_34" in card.partition("## Limits")[2]
    assert "Passed: torch against onnxruntime on cpu" in card
    assert "the graph's own answers, uncalibrated" in card
    curve = Platt(slope=0.9, intercept=0.1)
    curves = (Stage(task="like", pooled=curve, domains={"25_34": curve}), Stage(task="love_given_like", pooled=curve))
    calibration = Calibration(ranker_digest="r", dataset_digest="d", method="platt", stages=curves)
    calibrated = model_card(contract, evaluation, parity, lineage, calibration)
    assert "`platt` curves fitted on the validation split" in calibrated
    assert "curves of their own: 25_34." in calibrated
    for digest in ("a" * 64, "b" * 64, "c" * 64, contract.ranker_digest):
        assert f"`{digest}`" in card
    widths = {line.count("|") for line in rows}
    assert len(widths) == 1


def test_the_page_tells_of_nothing_that_is_not_on_it() -> None:
    """No rows of both models and no legend without a comparison, no interval without one."""
    pair = make_pair(300)
    both = render(verdict_of(pair, GatePolicy(**FAST)))
    assert "300 rows scored by both models" in both and "Dot: difference" in both and "60 resamples" in both
    alone = render(verdict_of(replace(pair, champion=None), GatePolicy(**FAST), champion=None))
    assert "300 rows scored" in alone and "both models" not in alone and "Dot: difference" not in alone
    floors = GatePolicy(floors={"like": Floor(auc=0.1)}, **FAST)
    judged = render(verdict_of(replace(pair, champion=None), floors, champion=None))
    assert "AUC floor" in judged and "Dot: difference" not in judged
    none = verdict_of(pair, GatePolicy(**FAST)).model_copy(update={"judgements": (), "answer": "held", "rows": 0})
    assert "rows scored" not in render(none) and "Dot:" not in render(none)


def test_the_page_shows_warnings_and_the_rule() -> None:
    policy = GatePolicy(rule="non_inferior", **FAST)
    page = render(verdict_of(make_pair(200, challenger_noise=0.5, champion_noise=0.5), policy))
    assert "too small to guard the champion" in page and "any part of its bar" in page
