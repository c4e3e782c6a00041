"""Does a text from data, a file or a plugin stand on every page as what it is? No page gets markup from it."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable
from dataclasses import fields, is_dataclass, make_dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from pydantic import BaseModel

from components.data.validate_data.config import ExpectationResult, SuiteResult
from components.data.validate_data.page import render as contract_page
from components.data.validate_data.profile import ColumnProfile
from components.judge.attribute_conversions.page import render as attribution_page
from components.judge.attribute_conversions.report import Attribution, Channel
from components.judge.audit_delivery.page import render as delivery_page
from components.judge.audit_delivery.report import Ad, Delivery
from components.judge.choose_ranker.choice import Candidate
from components.judge.choose_ranker.choice import Choice as Chosen
from components.judge.choose_ranker.page import choice_page
from components.judge.evaluate_ranker.page import render as evaluation_page
from components.judge.learn_policy.page import render as policy_page
from components.judge.learn_policy.report import Choice, Learning, Pass
from components.judge.retrieve_candidates.page import render as retrieval_page
from components.judge.retrieve_candidates.report import Figures as Retrieved
from components.judge.retrieve_candidates.report import Retrieval
from components.judge.simulate_policy.page import render as simulation_page
from components.judge.simulate_policy.report import Gain, PolicyValue, Simulation
from components.judge.watch_drift import report as drift
from components.judge.watch_drift.page import drift_page
from components.memory.refresh_bandit.page import Item
from components.memory.refresh_bandit.page import Report as BanditReport
from components.memory.refresh_bandit.page import render as bandit_page
from components.pages.document import picture as picture_of
from components.pages.embed import embedded
from components.pages.links import Links
from components.pages.plots import new_figure, save
from components.pages.verdict import render as verdict_page
from components.platform.approval import Question
from components.platform.execute import StageResult
from components.platform.settings import ROOT
from components.platform.store.publish import Store
from components.platform.store.records import ArtifactRef
from components.train.fit_item_pairs.baskets import Baskets, Lines
from components.train.fit_item_pairs.judge import Lists
from components.train.fit_item_pairs.page import render as pairs_page
from components.train.fit_item_pairs.report import Figures as PairFigures
from components.train.fit_item_pairs.report import Fit
from components.train.search_ranker.page import page_of as searched_page
from components.train.searched import Gain as PairGain
from components.train.searched import PairChoice, Searched
from components.train.tune_ranker.page import tuned_page
from components.train.tune_ranker.records import Record as Trial
from components.train.tuned import Repeats, Tuning
from features.declaration import Window
from pipelines.compare.record import Data, Measured, Record, Row, Tried
from pipelines.compare.section import section
from pipelines.compare.spec import ComparisonSpec, EntrySpec, Reference
from pipelines.language.check import load_plan
from pipelines.language.load import pipeline_path
from pipelines.language.plan import Place, Plan
from pipelines.record.runs import RecordedRun, RunStart, StageFailure
from pipelines.run.asking import body
from pipelines.run.notice import Notice, Where
from pipelines.show.dag_doc import dag_doc, stage_doc
from pipelines.show.pages.absent import absent_page
from pipelines.show.pages.flow import Mark
from pipelines.show.pages.graph_page import page as graph_page
from pipelines.show.pages.model_page import model_page
from pipelines.show.pages.overview import Strip, Watched, overview_page
from pipelines.show.pages.pipeline_page import pipeline_page
from pipelines.show.pages.report import render as run_page
from pipelines.show.pages.standing import HistoryLine, ModelStanding, VersionLine
from pipelines.show.reference.components_page import component_section
from pipelines.show.reference.recipes_page import recipe_section
from registry.evaluation import ALL, Cell, Evaluation, Interval
from registry.gate.verdict import Consent, Judgement, Verdict
from registry.memory.bandit import BanditHeader
from registry.serving.model.contract import ModelContract, ParityReport
from registry.versions.card import Lineage, model_card

WORD = "hostile"
"""What each text from elsewhere is, before it is exchanged for something worse."""
NOW = datetime(2026, 1, 1, tzinfo=UTC)
SOME = Interval(value=0.7, low=0.6, high=0.8)
HOSTILE = [
    "<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "' onload='alert(1)", "a|b", "a\n\n# b", "`a", "``",
    "```\n<b>", "[x](javascript:alert(1))", "![x](http://evil.example/x.png)", "</style><b>", "a\r\n| c | d |", "- a",
    "1. a", "---", "{{ 7 * 7 }}", "{% raw %}", "&lt;b&gt;", "\u2028# x", "~~~\n<b>", "    <b>", "javascript:alert(1)",
    "<details>", "*b*",
]  # fmt: skip
PLAN = load_plan(pipeline_path("movielens_daily"))
TEXTS = st.text(alphabet=st.sampled_from("<>|`*_[]()!#\\&'\"\n\r \t~$-.1abc{}%="), min_size=1, max_size=14).filter(
    str.strip
)


def poisoned(value: Any, text: str) -> Any:
    """Return a value with `WORD` exchanged in every text that it holds, however deep."""
    if isinstance(value, str):
        return value.replace(WORD, text)
    if isinstance(value, BaseModel):
        return value.model_copy(
            update={name: poisoned(getattr(value, name), text) for name in type(value).model_fields}
        )
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{field.name: poisoned(getattr(value, field.name), text) for field in fields(value)})
    if isinstance(value, dict):
        return {poisoned(key, text): poisoned(held, text) for key, held in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(poisoned(held, text) for held in value)
    return value


class Outline(HTMLParser):
    """Tags with the names of their attributes, and where addresses lead."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, ...]] = []
        self.addresses: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, *(name for name, _ in attrs)))
        self.addresses += [value or "" for name, value in attrs if name in ("href", "src")]

    def handle_endtag(self, tag: str) -> None:
        self.tags.append((f"/{tag}",))


def _judged() -> Verdict:
    judged = Judgement(
        task=WORD, domain=WORD, metric="auc", champion=0.5, challenger=0.6, difference=SOME, limit=-0.01,
        outcome="passed", reason=WORD,
    )  # fmt: skip
    return Verdict(
        model=WORD, challenger=2, champion=1, answer="promoted", reason=WORD, judgements=(judged,), rows=9,
        dataset_digest=WORD, decided_at=NOW, warnings=(WORD,),
        consent=Consent(approved=True, by=WORD, place=WORD, note=WORD),
    )  # fmt: skip


def _verdict(text: str) -> str:
    return verdict_page(poisoned(_judged(), text))


def _report() -> Evaluation:
    cells = tuple(
        Cell(task=WORD, domain=domain, space="every impression", rows=9, positives=4,
             metrics=dict.fromkeys(("auc", "gauc", "log_loss", "normalised_entropy", "ece", "pcoc"), SOME))
        for domain in (ALL, WORD)
    )  # fmt: skip
    return Evaluation(
        model_digest=WORD, dataset_digest=WORD, split="test", rows=9, window_start=NOW, window_end=NOW, confidence=0.95,
        resamples=10, provider="cpu", tasks=(WORD,), domains=(WORD,), cells=cells, calibration=(),
    )  # fmt: skip


def _evaluation(text: str) -> str:
    return evaluation_page(poisoned(_report(), text), text, (text,), ())


def _contract(text: str) -> str:
    found = ExpectationResult(
        expectation=WORD, column=WORD, arguments={WORD: WORD}, action="fail", passed=False, checked=9, broken=1,
        examples=(WORD,), observed=WORD, problem=WORD, why=WORD, line=1,
    )  # fmt: skip
    result = SuiteResult(suite=WORD, rows=9, kept=8, max_quarantined=0.1, passed=False, expectations=(found,))
    column = ColumnProfile(name=WORD, kind=WORD, nulls=0.0, smallest=WORD, largest=WORD, distinct=1)
    return contract_page(poisoned(result, text), text, [poisoned(column, text)])


def _simulation(text: str, picture: Path) -> str:
    value = PolicyValue(
        policy=WORD, group=WORD, rows=9, positives=1, candidates=3, logged=SOME, mean_weight=SOME, effective_rows=5.0,
        largest_weight=2.0, clipped=0.0, estimates={WORD: SOME}, corrections={}, on_policy=SOME,
        gains=(Gain(over=WORD, by=WORD, difference=SOME),),
    )  # fmt: skip
    report = Simulation(
        model_digest=WORD, dataset_digest=WORD, reference_digest=WORD, reward=WORD, rows=9, held_out=True, unit=WORD,
        window=Window(start=NOW, end=NOW.replace(day=2)), clip=None, confidence=0.95, resamples=10, values=(value,),
    )  # fmt: skip
    return simulation_page(poisoned(report, text), text, (text,), (picture,))


def _policy(text: str, image: Path) -> str:
    choice = Choice(group=WORD, action=WORD, logged=0.5, policy=0.5, reward=0.1)
    report = Learning(
        dataset_digest=WORD, action=WORD, reward=WORD, features=(WORD,), objective="dr", floor=0.1, temperature=1.0,
        train_rows=9, validation_rows=9, units=WORD, least_logged=0.1, logged=0.1, best=0, reward_passes=1,
        passes=(Pass(epoch=0, value=0.1, low=0.0),), choices=(choice,), best_fixed={WORD: WORD},
    )  # fmt: skip
    return policy_page(poisoned(report, text), text, (text,), image)


def _attribution(text: str, image: Path) -> str:
    channel = Channel(
        name=WORD, rows=9, effect=SOME, share=0.5, converted=SOME, logit=0.1, touches=0.5, last=0.5, again=0.1
    )
    report = Attribution(
        model_digest=WORD, dataset_digest=WORD, again_digest=WORD, feedback=WORD, attribute=WORD, split=WORD, rows=9,
        rows_of_split=9, conversions=4, predicted=4.0, auc=0.7, min_auc=0.6, together=SOME, confidence=0.95,
        resamples=9, stability=None, channels=(channel,), remarks=(WORD,),
    )  # fmt: skip
    return attribution_page(poisoned(report, text), text, image)


def _delivery(text: str, image: Path) -> str:
    ad = Ad(
        name=WORD, impressions=9, people=9, unknown=0.1, shares={WORD: 1.0}, eligible={WORD: 1.0}, variance=SOME,
        mean=0.1, limit=0.2, chance=0.5, exact=True, state="over",
    )  # fmt: skip
    report = Delivery(
        table_digest=WORD, ad=WORD, group=WORD, unit="people", declared=False, among=WORD, at_most=0.1, level=0.95,
        resamples=9, min_impressions=9, people=9, unknown=0.1, population={WORD: 1.0}, ads=(ad,), left_out=0,
        left_out_impressions=0, above=1, by_chance=0.1, within_ads=0.0, within_impressions=0.0, remarks=(WORD,),
    )  # fmt: skip
    return delivery_page(poisoned(report, text), image)


def _bandit(text: str, image: Path) -> str:
    header = BanditHeader(
        model="shop", version=1, ranker_digest=WORD, item="item_id", feedback="click", alpha=0.1, nearest=1, rows=9,
        covers=Window(start=NOW, end=NOW.replace(day=2)),
    )  # fmt: skip
    report = BanditReport(
        header=header, clusters=2, items=3, untouched=0.5, least=0.1, most=0.2, image=picture_of(image),
        unsure=(Item(item=WORD, rows=1.0, rate=0.1, bonus=0.2),),
    )  # fmt: skip
    return bandit_page(poisoned(report, text))


def _drift(text: str, image: Path) -> str:
    cells = tuple(
        drift.Cell(
            check="moved", of=f"{WORD}{at}", domain=domain, rows=9, now=0.5, change=change, limit=0.1, chance=chance
        )
        for domain in (ALL, WORD)
        for at, (change, chance) in enumerate([(0.5, 0.0), (0.0, 0.5), (None, None)])
    )
    day = drift.Day(start=NOW, end=NOW.replace(day=2), rows=9, users=9, judged=9, rates={WORD: 0.5}, cells=cells)
    report = drift.Report(
        model=WORD, version=1, digest=WORD, rows_digest=WORD, baseline_rows=9, baseline_users=9,
        baseline_window=Window(start=NOW, end=NOW.replace(day=2)), every=WORD, false_alarms=0.05,
        days=drift.settled([day, day], 0.05), remarks=(WORD,),
    )  # fmt: skip
    return drift_page(poisoned(report, text), picture_of(image), ((text, picture_of(image)),))


def _letter(text: str) -> str:
    where = Where(pipeline=WORD, run_id=WORD, stage=WORD)
    return poisoned(Notice("failure", where, WORD, WORD), text).html()


def _plan(text: str) -> Plan:
    """A pipeline whose description and last stage come from elsewhere."""
    last = PLAN.stages[-1]
    assert all(last.name not in stage.upstream for stage in PLAN.stages)
    theirs = replace(last, name=text, component=replace(last.component, name=text, summary=text))
    return replace(
        PLAN,
        spec=PLAN.spec.model_copy(update={"description": text}),
        stages=(*PLAN.stages[:-1], theirs),
        predictions=(),
    )


def _graph(text: str) -> str:
    return graph_page(_plan(text), {text: Mark("done", text)}, text)


def _tuned(text: str, image: Path) -> str:
    record = Trial(number=0, kind="own", values={WORD: WORD}, seed=0, state="failed", epochs=(), reason=WORD)
    found = Tuning(
        ranker=WORD, metric=WORD, search="random", seed=0, space={WORD: [WORD]}, dataset=WORD, trials=1, wanted=2,
        failed=1, budget=1.0, winner=0, values={WORD: WORD}, epochs=1, value=0.5, own=None, mean=0.4, optimism=0.1,
        repeats=(Repeats(trial=0, first=0.5, others=(0.4,), mean=0.4),),
    )  # fmt: skip
    src = picture_of(image)
    return tuned_page(poisoned(found, text), [poisoned(record, text)], {text: 0.5}, src, src)


def _searched(text: str, image: Path) -> str:
    gain = PairGain(mean=0.1, error=0.01)
    pair = PairChoice(pair=(WORD, WORD), chosen="memorise", memorise=gain, factorise=gain, combinations=1, rows=2)
    found = Searched(
        ranker=WORD, dataset=WORD, seed=0, cross_rows=16, sure=2.0, worth=0.001, epoch=1, epochs=2, rows=9,
        pairs=(pair, pair.model_copy(update={"chosen": "naive"})), naive=0.5, all_memorised=0.5, all_factorised=0.5,
        chosen=0.4,
    )  # fmt: skip
    return searched_page(poisoned(found, text), picture_of(image))


def _chosen(text: str) -> str:
    one = Candidate(stage=WORD, ranker=WORD, digest=WORD, values={WORD: 0.5}, value=0.5)
    other = one.model_copy(update={"behind": SOME})
    found = Chosen(
        metric="auc", top=9, feedback=(WORD,), rows=9, users=9, confidence=0.9, dataset=WORD, candidates=(one, other)
    )  # fmt: skip
    return choice_page(poisoned(found, text))


def _retrieved(text: str) -> str:
    found = Retrieved(
        way="single", group="all", k=9, users=9, recall=SOME, distinct=9, catalogue=0.5, popularity=2.0, popular=0.5
    )
    report = Retrieval(
        model_digest=WORD, dataset_digest=WORD, feedback="click", horizon=None, mixture=None, items=9, users=9,
        judged=9, choices=9, unseen=0, resamples=10, figures=(found,),
    )  # fmt: skip
    return retrieval_page(poisoned(report, text), text)


def _pairs(text: str) -> str:
    lines, one = Lines(np.array([0]), np.array([0])), np.array([[0]])
    baskets = Baskets(pl.Series(["1"]), np.array([9]), lines, lines, pl.Series([text]), 0)
    report = Fit(
        basket="basket", item="item", items=1, left_out=0, pairs=9, test_baskets=9, test_pairs=9, new_pairs=9,
        popularity=0.0, publish="vectors", resamples=9,
        figures=(PairFigures(way="vectors", k=9, recall=SOME, new=SOME, distinct=9),),
    )  # fmt: skip
    listed = Lists(one, one.astype(np.float64))
    return pairs_page(report, baskets, listed, listed, text)


LINKS = Links("file:///rankmill")
RECORDED = RunStart(
    pipeline=WORD, run_id=WORD, moment=NOW, started_at=NOW, stages=(WORD, "other"), params={}, options=(), host=WORD
)


def _ran(text: str, folder: Path) -> RecordedRun:
    ref = ArtifactRef(kind=WORD, uri=WORD, digest=WORD)
    result = StageResult(
        stage=WORD, component="count_numbers", key="k", cached=False, seconds=1.0, outputs={WORD: ref}, notes=[]
    )
    run = RecordedRun(
        start=RECORDED, folder=folder, results=(result,), state="failed", seconds=1.0, told=WORD, pinned=False,
        failures=(), again=WORD,
    )  # fmt: skip
    return poisoned(run, text)


def _standing(text: str) -> ModelStanding:
    history = HistoryLine(
        sequence=1, at=NOW, what="asked", version=2, before=1, actor=WORD, reason=WORD, pipeline=WORD, run_id=WORD
    )
    version = VersionLine(
        version=2, digest=WORD, aliases=("champion",), created_at=NOW, figures=((WORD, WORD),), verdict="refused",
        why=WORD, held=WORD, pipeline=WORD, run_id=WORD,
    )  # fmt: skip
    model = ModelStanding(
        name=WORD, champion=2, since=NOW, versions=(version,), history=(history,), trouble=WORD, hold=WORD,
        waiting=(history,),
    )  # fmt: skip
    return poisoned(model, text)


def _overview(text: str, folder: Path) -> str:
    day = Watched(day=NOW.date(), state="alarm", said=text, run_id=text)
    return overview_page(LINKS, (_standing(text),), (Strip(text, text, (day,)),), (_ran(text, folder),), text)


def _run(text: str, tmp_path: Path) -> str:
    ref = ArtifactRef(kind=WORD, uri=WORD, digest=WORD)
    result = StageResult(
        stage=WORD, component="count_numbers", key="k", cached=False, seconds=1.0, outputs={WORD: ref}, notes=[WORD]
    )
    start = RunStart(
        pipeline=WORD, run_id=WORD, moment=NOW, started_at=NOW, stages=(WORD, "other"), params={WORD: WORD},
        options=(WORD,), host=WORD,
    )  # fmt: skip
    run = RecordedRun(
        start=start, folder=tmp_path, results=(result,), state="failed", seconds=1.0, told=WORD, pinned=False,
        failures=(StageFailure(failed="other", message=WORD, at=NOW),), again=WORD,
    )  # fmt: skip
    return run_page(poisoned(run, text), _plan(text), Store((tmp_path / "store").as_uri(), tmp_path / "cache"))


@pytest.fixture(scope="module")
def html(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Callable[[str], str]]:
    folder = tmp_path_factory.mktemp("pages")
    picture = save(new_figure(1, 1), folder / "picture.png")
    return {
        "components/pages/verdict.py": _verdict,
        "components/judge/evaluate_ranker/page.py": _evaluation,
        "components/data/validate_data/page.py": _contract,
        "components/judge/learn_policy/page.py": lambda text: _policy(text, picture),
        "components/memory/refresh_bandit/page.py": lambda text: _bandit(text, picture),
        "components/judge/simulate_policy/page.py": lambda text: _simulation(text, picture),
        "components/judge/attribute_conversions/page.py": lambda text: _attribution(text, picture),
        "components/judge/audit_delivery/page.py": lambda text: _delivery(text, picture),
        "components/judge/watch_drift/page.py": lambda text: _drift(text, picture),
        "components/judge/choose_ranker/page.py": _chosen,
        "components/judge/retrieve_candidates/page.py": _retrieved,
        "components/train/fit_item_pairs/page.py": _pairs,
        "components/train/search_ranker/page.py": lambda text: _searched(text, picture),
        "components/train/tune_ranker/page.py": lambda text: _tuned(text, picture),
        "pipelines/run/notice.py": _letter,
        "pipelines/show/pages/absent.py": lambda text: absent_page(text, text),
        "pipelines/show/pages/graph_page.py": _graph,
        "pipelines/show/pages/model_page.py": lambda text: model_page(_standing(text), LINKS),
        "pipelines/show/pages/overview.py": lambda text: _overview(text, folder),
        "pipelines/show/pages/pipeline_page.py": lambda text: pipeline_page(text, (_ran(text, folder),), LINKS),
        "pipelines/show/pages/report.py": lambda text: _run(text, folder),
    }


@pytest.fixture(scope="module")
def usual(html: dict[str, Callable[[str], str]]) -> dict[str, list[tuple[str, ...]]]:
    """Tags of each page with a harmless word."""
    return {name: Outline(build(WORD)).tags for name, build in html.items()}


PAGES_OF_NAMES = {
    "components/data/derive_labels/page.py",
    "components/memory/refresh_error_memory/page.py",
    "components/memory/study_error_memory/page.py",
}
"""Pages whose texts are names of tasks, models and columns, which hold lower-case letters only."""
WITHIN_OTHERS = {
    "components/pages/document.py",
    "pipelines/show/pages/flow.py",
    "pipelines/show/pages/runs.py",
    "pipelines/show/pages/versions.py",
}
"""Templates of what stands in other pages: the document itself, pictures and tables."""


def _hostile(test: Callable[..., None]) -> Callable[..., None]:
    for text in HOSTILE:
        test = example(text=text)(test)
    keep = settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
    return keep(given(text=TEXTS)(test))


@_hostile
def test_no_page_gets_a_tag_or_an_address_from_a_text(
    html: dict[str, Callable[[str], str]], usual: dict[str, list[tuple[str, ...]]], text: str
) -> None:
    for name, build in html.items():
        page = Outline(build(text))
        assert page.tags == usual[name], name
        assert all(address.startswith(("data:image/png;base64,", "file:///")) for address in page.addresses), name


def test_every_template_is_tried(html: dict[str, Callable[[str], str]]) -> None:
    beside = {path.with_name(path.name.replace(".html.j2", ".py")) for path in _templates()}
    builders = {path.relative_to(ROOT).as_posix() for path in beside} - WITHIN_OTHERS
    assert builders == {*html} | PAGES_OF_NAMES


def test_templates_alone_make_pages_and_escape_by_themselves() -> None:
    """One environment, which escapes; markup that is no template's comes from `embedded` alone; one style sheet."""
    (made,) = [(path, call) for path, tree in _modules() for call in _calls(tree, "Environment")]
    assert made[0] == "components/pages/document.py"
    assert {keyword.arg: ast.unparse(keyword.value) for keyword in made[1].keywords}["autoescape"] == "True"
    assert {path for path, tree in _modules() if _calls(tree, "Markup")} == {"pipelines/show/pages/report.py"}
    assert {path for path, tree in _modules() if _imports(tree, "html")} == {"components/pages/embed.py"}
    for path, tree in _modules():
        texts = [
            node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)
        ]
        assert not [text for text in texts if re.search(r"<(html|table|div|style|td|h1)\b", text)], path
    for file in _templates():
        template = file.read_text(encoding="utf-8")
        assert not re.search(r"\|\s*safe|autoescape|https?:|<script|<link", template), file
        assert not re.findall(r"""\w=\{\{""", template), f"{file}: an attribute without quotes"
        assert ("<style>" in template) == (file.name == "document.html.j2"), file


@_hostile
def test_a_page_inside_another_keeps_nothing_but_words_tables_and_pictures(text: str) -> None:
    page = Outline(embedded(f"<head><style>{text}</style></head><td class=x><b onclick=x>{text}<i title={text}>{text}"))
    for tag, *names in page.tags:
        assert tag.removeprefix("/") in {"td", "b", "i", "img", "h1", "code", "small"}, tag
        assert set(names) <= {"class", "src"}
    assert page.addresses == []


def test_a_page_inside_another_is_closed_and_keeps_bars_and_pictures() -> None:
    inner = (
        "<title>no</title></details></div><div class='bar'><i style='left:1.5%;width:3%'></i>"
        "<i style='left:1%;background:url(x)'></i><img src='data:image/png;base64,AA==' alt='a &lt; b'>"
        "<img src='http://x'><a href='file:///x'>words</a><script>no</script><p>1 &lt; 2"
    )
    assert embedded(inner) == (
        '<div class="bar"><i style="left:1.5%;width:3%"></i><i></i>'
        '<img src="data:image/png;base64,AA==" alt="a &lt; b"><img>words<p>1 &lt; 2</p></div>'
    )


FILES_OF_YAML = {"pipelines/scaffold/write.py"}
"""Templates of files that are no pages."""


def _templates() -> list[Path]:
    return [
        path
        for room in ("components", "features", "pipelines", "registry")
        for path in (ROOT / room).rglob("*.html.j2")
    ]


@cache
def _modules() -> list[tuple[str, ast.Module]]:
    rooms = ("components", "features", "pipelines", "registry")
    files = [path for room in rooms for path in sorted((ROOT / room).rglob("*.py"))]
    names = {path.relative_to(ROOT).as_posix(): path for path in files}
    return [(name, ast.parse(names[name].read_text(encoding="utf-8"))) for name in names if name not in FILES_OF_YAML]


def _calls(tree: ast.Module, name: str) -> list[ast.Call]:
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    return [call for call in calls if isinstance(call.func, ast.Name) and call.func.id == name]


def _imports(tree: ast.Module, module: str) -> bool:
    return any(isinstance(node, ast.ImportFrom) and node.module == module for node in ast.walk(tree))


READ = MarkdownIt("commonmark", {"html": True, "linkify": False}).enable("table")
WORDS = {"text", "text_special", "code_inline", "softbreak", "inline"}


def structure(markdown: str) -> list[str]:
    """Everything in a page that is not words, in order."""
    found = []
    for token in READ.parse(markdown):
        found += [one.type for one in (token, *(token.children or ())) if one.type not in WORDS]
    return found


def _card(text: str, folder: Path) -> str:
    contract = ModelContract.model_validate_json((folder / "contract.json").read_text())
    field = contract.fields[0].model_copy(update={"name": text, "table": text})
    changes = {"domains": (text,), "base_rates": {text: 0.5}, "fields": (field,)}
    theirs = contract.model_copy(update={"schema_": contract.schema_.model_copy(update=changes), "ranker": text})
    parity = ParityReport.model_validate_json((folder / "parity.json").read_text())
    lineage = Lineage(model=text, pipeline=text, run_id=text, mlflow_run_id=text, model_digest=text, report_digest=text)
    return model_card(theirs, poisoned(_report(), text), parity, lineage)


def _comparison(text: str) -> str:
    spec = ComparisonSpec(
        name="shop", title=WORD, labels=WORD, pipeline="shop", dataset="dataset", against="dnn",
        entries={name: EntrySpec(ranker={"name": name}, note=WORD) for name in ("lr", "dnn", "absent")},
        references=(Reference(task=WORD, metric="auc", value=0.7, source=f"by {WORD} and others"),),
    )  # fmt: skip
    row = Row(
        config={WORD: WORD}, tried=(Tried(change={WORD: WORD}, score=0.5),), machine=WORD,
        runs=(Measured(seed=0, key="k", test={WORD: {"auc": 0.7}}, validation={WORD: 0.7}),),
    )  # fmt: skip
    data = Data(
        feedback=(WORD,), tasks=(WORD,), split=WORD, rows={WORD: 9}, rates={"test": {WORD: 0.5}}, unseen_users=0.5,
        fields=3,
    )  # fmt: skip
    record = Record(name="shop", data=data, rows={"lr": row, "dnn": row})
    return section(poisoned(spec, text), poisoned(record, text), "images/shop.svg")


def _component(text: str) -> str:
    spec = PLAN.stages[0].component
    return "\n".join(component_section(replace(spec, summary=text)))


def _question(text: str) -> str:
    asked = Question(verdict=_judged(), page=WORD, by=(WORD,), within=timedelta(hours=1), on_deadline="refuse")
    return body(poisoned(asked, text))


def _recipe(text: str) -> str:
    return "\n".join(recipe_section(make_dataclass("Shop", [("word", str, text)], namespace={"__doc__": WORD})))


def _task(text: str, folder: Path) -> str:
    file = folder / "theirs.yaml"
    file.write_text(
        f"stages:\n  last:\n    # {'    '.join(text.splitlines(keepends=True))}\n    uses: x\n  other: {{}}\n"
    )
    plan = replace(_plan(text), path=file)
    return stage_doc(replace(plan.stages[-1], places=(Place(file, 2),)))


@pytest.fixture(scope="module")
def markdown(
    good_model: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, tuple[Callable[[str], str], list[str]]]:
    """Each builder with what is no word on its page of a harmless one."""
    folder = tmp_path_factory.mktemp("yaml")
    builders: dict[str, Callable[[str], str]] = {
        "registry/versions/card.py": lambda text: _card(text, good_model),
        "pipelines/compare/section.py": _comparison,
        "pipelines/show/reference/components_page.py": _component,
        "pipelines/show/reference/recipes_page.py": _recipe,
        "pipelines/show/dag_doc.py dag": lambda text: dag_doc(_plan(text)),
        "pipelines/run/asking.py": _question,
        "pipelines/show/dag_doc.py stage": lambda text: _task(text, folder),
    }
    return {name: (build, structure(build(WORD))) for name, build in builders.items()}


@_hostile
def test_no_markdown_gets_markup_from_a_text(
    markdown: dict[str, tuple[Callable[[str], str], list[str]]], text: str
) -> None:
    for name, (build, harmless) in markdown.items():
        assert structure(build(text)) == harmless, name


def test_every_builder_of_markdown_is_tried() -> None:
    builders = {path for path, tree in _modules() if _imports(tree, "features.ground.markdown")}
    assert builders == {
        "registry/versions/card.py",
        "pipelines/compare/section.py",
        "pipelines/show/reference/components_page.py",
        "pipelines/show/reference/recipes_page.py",
        "pipelines/show/dag_doc.py",
        "pipelines/run/asking.py",
    }
    tables = {path for path, _ in _modules() if "|---" in (ROOT / path).read_text(encoding="utf-8")}
    assert not tables, "a table of Markdown by hand: use features.ground.markdown.table"


def test_a_name_is_no_formula_of_a_picture(tmp_path: Path) -> None:
    figure = new_figure(2, 2)
    figure.add_subplot().set_title(r"$\frac{$")
    assert save(figure, tmp_path / "x.png").exists()
