"""The gate lets a challenger through: may this pipeline move the alias now, and does a person agree?"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote

from components.pages.verdict import render
from components.platform.approval import Answer, Question
from components.platform.artifacts import Promotion
from components.platform.contract import RunContext
from components.release.promote_model.config import Approval
from registry.champion.consent import hold_said, open_questions, unused_approval
from registry.champion.ledger import Asked, Entry, Evidence
from registry.champion.promotion import Promotions, Request
from registry.gate.verdict import Consent, Verdict
from registry.serving.model.contract import RegisteredVersion

VERDICT = "rankmill.verdict"
"""Tag of a version with the last answer of a gate."""
_FILE = "verdict.json"


@dataclass(frozen=True)
class Case:
    """A challenger, the champion that it would replace, and whom one may ask."""

    promotions: Promotions
    wanted: RegisteredVersion
    champion: RegisteredVersion | None
    context: RunContext

    def request(self, verdict: Verdict) -> Request:
        """Return the request that the ledger gets."""
        return Request(
            actor=f"pipeline:{self.context.pipeline}",
            reason="; ".join(filter(None, (verdict.reason, said(verdict.consent) if _agreed(verdict) else ""))),
            run_id=self.context.run_id,
            evidence=Evidence.of(verdict),
        )

    def shown(self) -> Verdict | None:
        """Return the verdict that people were shown by this run, while it still holds, so that nothing is judged twice.

        None where this run has asked nobody, where the champion is another one now, and on a machine that does not
        have the file: then the same rows are scored again, and give the same verdict.
        """
        question = self._question()
        if question is None or question.asked is None or not self._still_open(question):
            return None
        try:
            text = (self.context.kept / _FILE).read_bytes()
        except OSError:
            return None
        if hashlib.sha256(text).hexdigest() != question.asked.verdict:
            return None
        return Verdict.model_validate_json(text).model_copy(update={"answer": "promoted"})

    def allowed(self, verdict: Verdict) -> Verdict:
        """Return the verdict, or that the model is held, or that the alias is none of this pipeline's business."""
        actor, model = f"pipeline:{self.context.pipeline}", self.wanted.model
        if refusal := self.promotions.protection.refusal(actor, model):
            return verdict.model_copy(update={"answer": "refused", "reason": refusal})
        if held := self.promotions.held(model):
            reason = (
                f"let through by the gate and not promoted, since {model} is {hold_said(held)}, until `rankmill lift "
                f"{model}`; the gate: {verdict.reason}"
            )
            return verdict.model_copy(update={"answer": "held", "reason": reason})
        return verdict

    def asked(self, verdict: Verdict, approval: Approval) -> Verdict:
        """Return the verdict with what a person said to it.

        An answer about another champion than the present one decides nothing, so the challenger is refused then.

        Raises:
            ApprovalNeededError: nobody has answered yet.
        """
        question = self._question()
        entries = self.promotions.ledger.entries(self.wanted.model)
        if given := unused_approval(entries, self.wanted.digest, self.champion.digest if self.champion else ""):
            return verdict.model_copy(
                update={"consent": Consent(approved=True, by=given.actor, place="ledger", note=given.reason)}
            )
        if question is not None and self.context.people.answered and not self._still_open(question):
            answer = self.context.ask(self._asks(verdict, approval))
            self.promotions.answer(question, approved=answer.approved, by=_who(answer), reason=answer.note)
            before = f"v{question.previous}" if question.previous is not None else "no champion"
            now = f"v{self.champion.version} is champion" if self.champion else "there is none"
            late = f"people were asked about it against {before}, and {now} now: run the stage again to ask anew"
            return verdict.model_copy(update={"answer": "refused", "reason": late})
        waiting = verdict.model_copy(update={"answer": "waiting"})
        asks = self._asks(waiting, approval)
        text = (self.context.kept / _FILE).read_bytes()
        asked = Asked(through=self.context.people.place, by=asks.by, verdict=hashlib.sha256(text).hexdigest())
        if question is None or not self._still_open(question) or not self.context.people.answered:
            until = datetime.now(UTC) + approval.within
            question = self.promotions.ask(self.wanted, self.request(waiting), asked, until)
            self.promotions.registry.tag(self.wanted.model, self.wanted.version, VERDICT, "waiting")
        answer = self.context.ask(asks)
        self.promotions.answer(question, approved=answer.approved, by=_who(answer), reason=answer.note)
        consent = Consent(approved=answer.approved, by=answer.by, place=self.context.people.place, note=answer.note)
        verdict = verdict.model_copy(update={"consent": consent})
        if answer.approved:
            return verdict
        return verdict.model_copy(
            update={"answer": "refused", "reason": f"{said(consent)}; the gate: {verdict.reason}"}
        )

    def _asks(self, verdict: Verdict, approval: Approval) -> Question:
        """Return the question, its page written."""
        registry = self.promotions.registry.tracking_uri
        where = f"#/models/{quote(self.wanted.model)}/versions/{self.wanted.version}"
        return Question(
            verdict=verdict,
            page=str(write_verdict(verdict, self.context.kept)),
            link=f"{self.promotions.here.rstrip('/')}/{where}" if registry.startswith(("http://", "https://")) else "",
            by=self.promotions.protection.people(approval.by or ()),
            within=approval.within,
            on_deadline=approval.on_deadline,
        )

    def _question(self) -> Entry | None:
        """Return the last question that this run has asked about this content, answered or not."""
        entries = self.promotions.ledger.entries(self.wanted.model)
        mine = (
            one
            for one in reversed(entries)
            if one.action == "asked" and (one.digest, one.run_id) == (self.wanted.digest, self.context.run_id)
        )
        return next(mine, None)

    def _still_open(self, question: Entry) -> bool:
        entries = self.promotions.ledger.entries(self.wanted.model)
        return any(one.sequence == question.sequence for one in open_questions(entries))


def _agreed(verdict: Verdict) -> bool:
    return verdict.consent is not None and verdict.consent.approved


def _who(answer: Answer) -> str:
    return answer.by or "nobody in time"


def said(consent: Consent | None) -> str:
    """Return what a person said, as part of a sentence."""
    if consent is None:
        return ""
    what = "approved" if consent.approved else "declined"
    by = f"by {consent.by}" if consent.by else "since nobody answered in time"
    return f"{what} {by}" + (f" ({consent.note})" if consent.note else "")


def write_verdict(verdict: Verdict, folder: Path) -> Path:
    """Write the verdict as data and as a page; return the page."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / _FILE).write_text(verdict.model_dump_json(indent=2), encoding="utf-8")
    page = folder / Promotion.page.file
    page.write_text(render(verdict), encoding="utf-8")
    return page
