"""What do people read when something happened to a run? What, where, what to do, and links; no Airflow in here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from urllib.parse import quote

from components.judge.watch_drift.component import ALARM
from components.judge.watch_drift.report import Alarm
from components.platform.approval import Question
from components.platform.artifacts import Artifact, DriftAlarm, Promotion
from components.platform.errors import GateRefusedError, RankmillError
from components.platform.execute import StageResult, run_folder
from components.platform.settings import Settings
from components.platform.store.publish import open_store
from features.declaration import Window
from features.ground.durations import written
from pipelines.language.hiding import hidden, without_passwords
from pipelines.language.notify import Event
from pipelines.run.asking import subject
from registry.gate.verdict import Verdict

MOST_SAID = 2000
"""Characters of a sentence that are sent; of a longer one the rest stands in the log."""
_TITLES: dict[Event, str] = {
    "failure": "{where} failed",
    "approval": "{where} asks you",
    "refusal": "{where} refused a ranker",
    "promotion": "{where} made a new champion",
    "drift": "{where} saw drift",
    "deadline": "{where} is late",
}
_REFUSED = "the champion goes on answering: read in the verdict what would be lost, and where"


@dataclass(frozen=True)
class Where:
    """The stage, or the run as a whole, that something happened to."""

    pipeline: str
    run_id: str
    stage: str = ""
    """Empty for the run."""
    window: Window | None = None
    link: str = ""
    """Page of the run, or of its stage, in Airflow."""

    def __str__(self) -> str:
        """Return `pipeline.stage`."""
        return f"{self.pipeline}.{self.stage}" if self.stage else self.pipeline


@dataclass(frozen=True)
class _Letter:
    """What its template shows."""

    title: str
    rows: tuple[tuple[str, str, bool], ...]
    """Heading, text, and whether the text is an address."""


@dataclass(frozen=True)
class Notice:
    """A message before it goes through a channel."""

    event: Event
    where: Where
    what: str
    """What happened, in a sentence."""
    advice: str
    """What to do, in a sentence."""
    page: str = ""
    """Where the page of the stage lies."""
    figures: Mapping[str, Any] = field(default_factory=dict)
    """The same for machines, as JSON values."""

    @property
    def title(self) -> str:
        """One line that says it all."""
        return _TITLES[self.event].format(where=self.where)

    def rows(self) -> Iterator[tuple[str, str]]:
        """Yield what there is to read below the title, each with its heading."""
        told = {
            "what": _said(self.what),
            "what to do": self.advice,
            "run": self.where.run_id,
            "window": str(self.where.window or ""),
            "in Airflow": self.where.link,
            "page": without_passwords(self.page),
        }
        return ((heading, hidden(text)) for heading, text in told.items() if text)

    def text(self) -> str:
        """Return it as lines of text."""
        return "\n".join([self.title, *(f"{heading}: {text}" for heading, text in self.rows())])

    def html(self) -> str:
        """Return it as a letter; every text of it is shown as it stands."""
        from components.pages.document import render

        linked = ("https://", "http://")
        rows = tuple((heading, text, text.startswith(linked)) for heading, text in self.rows())
        return render(__file__, _Letter(self.title, rows)).strip()

    def slack(self) -> str:
        """Return it in Slack's markup, in which three characters are special: escaped, they call nobody by name."""
        return self.text().replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")

    def body(self) -> dict[str, Any]:
        """Return it as a JSON object; `text` says all of it, as most chat servers read it."""
        window = self.where.window
        return {
            "event": self.event,
            "text": self.text(),
            "title": self.title,
            "pipeline": self.where.pipeline,
            "stage": self.where.stage or None,
            "run": self.where.run_id,
            "window": {"start": window.start.isoformat(), "end": window.end.isoformat()} if window else None,
            "what": hidden(_said(self.what)),
            "advice": self.advice,
            "run_url": self.where.link or None,
            "page": hidden(without_passwords(self.page)) or None,
            **({"figures": dict(self.figures)} if self.figures else {}),
        }


def _said(text: str) -> str:
    one = " ".join(without_passwords(text).split())
    return one if len(one) <= MOST_SAID else f"{one[:MOST_SAID]} …"


def link_of(base_url: str, pipeline: str, run_id: str, stage: str = "") -> str:
    """Return Airflow's page of a run, or of a stage in it; empty where Airflow does not know its own address."""
    if not base_url.startswith(("http://", "https://")):
        return ""
    task = f"/tasks/{quote(stage, safe='')}" if stage else ""
    return f"{base_url.rstrip('/')}/dags/{quote(pipeline, safe='')}/runs/{quote(run_id, safe='')}{task}"


def not_done(where: Where, said: str, error: RankmillError | None, settings: Settings) -> Notice:
    """Return that a stage failed for good, or that the gate in it refused.

    Args:
        where: the stage.
        said: the error's sentence.
        error: the error itself; None where it was no error of ours, or happened in another process.
        settings: where a stage that failed may have left a page.
    """
    kept = run_folder(settings, where.pipeline, where.run_id) / where.stage
    page = next(iter(sorted(map(str, kept.glob("*.html")))), "")
    if isinstance(error, GateRefusedError):
        return Notice("refusal", where, said, _REFUSED, page)
    again = "clear the stage in Airflow" if where.link else "run it again"
    return Notice("failure", where, said, f"do what it says, then {again}: finished stages come from the store", page)


def news_of(where: Where, outputs: Mapping[str, type[Artifact]], result: StageResult) -> Notice | None:
    """Return what a stage made that people are told of: a champion, a refusal that finished its stage, or an alarm.

    None where there is no news.

    Args:
        where: the stage.
        outputs: kinds of what it makes, by name.
        result: what it made.
    """
    if result.cached:
        return None
    for name, kind in outputs.items():
        if name not in result.outputs:
            continue
        if issubclass(kind, Promotion) and (verdict := _verdict(result, name)).answer == "refused":
            return _refused(where, verdict, _page(result, name, Promotion))
        if name in result.no_news:
            continue
        if issubclass(kind, Promotion):
            return _promoted(where, result, name)
        if issubclass(kind, DriftAlarm):
            return _drifted(where, outputs, result, name)
    return None


def _verdict(result: StageResult, name: str) -> Verdict:
    return Verdict.model_validate_json(_read(result, name, "verdict.json"))


def _refused(where: Where, verdict: Verdict, page: str) -> Notice:
    stays = f"v{verdict.champion} stays champion" if verdict.champion is not None else "there is still no champion"
    what = f"{verdict.model} v{verdict.challenger} refused: {verdict.reason}; {stays}"
    return Notice("refusal", where, what, _REFUSED, page)


def _promoted(where: Where, result: StageResult, name: str) -> Notice:
    verdict = _verdict(result, name)
    before = verdict.champion if verdict.champion != verdict.challenger else None
    was = f" (was v{before})" if before else ""
    advice = f"`rankmill history {verdict.model}` lists the champions"
    advice += f", `rankmill rollback {verdict.model}` brings v{before} back" if before else ""
    return Notice(
        "promotion", where, f"{verdict.model} v{verdict.challenger} is champion{was}: {verdict.reason}", advice,
        _page(result, name, Promotion), {"model": verdict.model, "version": verdict.challenger, "before": before},
    )  # fmt: skip


def _drifted(where: Where, outputs: Mapping[str, type[Artifact]], result: StageResult, name: str) -> Notice:
    alarm = Alarm.model_validate_json(_read(result, name, ALARM))
    what = f"{alarm.model} v{alarm.version} on {alarm.start:%Y-%m-%d}: {'; '.join(alarm.sentences)}"
    pages = (_page(result, other, kind) for other, kind in outputs.items())
    return Notice(
        "drift", where, what, "read the page from the top; the guide to production says what each alarm mostly is",
        next(filter(None, pages), ""), {"model": alarm.model, "version": alarm.version, "alarms": [*alarm.sentences]},
    )  # fmt: skip


def asks(where: Where, question: Question) -> Notice:
    """Return that a stage waits for a person."""
    by = f", which is for {', '.join(question.by)}" if question.by else ""
    means = "it is refused" if question.on_deadline == "refuse" else "it becomes champion"
    what = f"{subject(question)} The gate: {question.verdict.reason}"
    advice = (
        f"answer under Required Actions in Airflow{by}, within {written(question.within)}; without an answer {means}"
    )
    verdict = question.verdict
    return Notice(
        "approval", where, what, advice, question.page,
        {"model": verdict.model, "version": verdict.challenger, "before": verdict.champion},
    )  # fmt: skip


def late(where: Where, deadline: timedelta) -> Notice:
    """Return that a run has not ended in time."""
    what = f"the run has not ended {written(deadline)} after it was queued"
    return Notice("deadline", where, what, "see which stage is running, and since when")


def timed_out(limit: timedelta) -> str:
    """Return the sentence about a stage that ran too long."""
    return f"it ran longer than its timeout of {written(limit)}: raise `timeout:` or give it less to do"


def _read(result: StageResult, name: str, file: str) -> bytes:
    folder = open_store(Settings.from_environment()).fetch(result.outputs[name].load())
    return (folder / file).read_bytes()


def _page(result: StageResult, name: str, kind: type[Artifact]) -> str:
    if kind.page is None or name not in result.outputs:
        return ""
    return f"{result.outputs[name].uri.rstrip('/')}/{kind.page.file}"
