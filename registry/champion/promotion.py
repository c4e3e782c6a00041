"""How does a version become champion without a moment in which alias and ledger contradict each other for good?

A move is announced in the ledger, the alias is moved, and a second entry settles the announcement.
The ledger's numbers are the compare-and-set: whoever decided on an older state cannot announce. After
a crash between the steps, the next call looks where the alias points and settles what was left open,
so a lost champion or a promotion that the ledger does not know cannot stay.
"""

from __future__ import annotations

import os
import socket
import tempfile
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psutil

from features.ground.errors import BadInputError, MissingError, RankmillError, RetryableError
from registry.champion.consent import hold, moment_said, open_questions
from registry.champion.ledger import (
    MOVES,
    Action,
    Asked,
    Entry,
    Evidence,
    Holder,
    Ledger,
    Note,
    champion,
    pending,
    predecessors,
    taken_back,
)
from registry.champion.protection import Protection
from registry.serving.model.contract import RegisteredVersion
from registry.versions.client import CHAMPION, Registry
from registry.versions.database import shown
from registry.versions.seal import check_parity

LEASE = timedelta(minutes=10)
"""Longest life of an announcement whose process cannot be asked; a move takes seconds."""
_live: set[str] = set()
"""Announcements that this process is carrying out."""
_DONE: dict[Action, Action] = {"promoting": "promoted", "rolling back": "rolled back"}


@dataclass(frozen=True)
class Request:
    """Who asks, and why."""

    actor: str
    """A user, or ``pipeline:<name>``."""
    reason: str
    run_id: str = ""
    """Id of the pipeline run, empty by hand."""
    evidence: Evidence | None = None
    """The gate's summary, None by hand."""


@dataclass(frozen=True)
class Promotions:
    """Moves of the champion alias of one registry, written down in one ledger."""

    registry: Registry
    ledger: Ledger
    protection: Protection = field(default_factory=Protection.from_environment)
    """Who may move it."""

    def champion(self, model: str) -> RegisteredVersion | None:
        """Return the champion after settling what an interrupted move left open.

        Raises:
            RetryableError: another process is moving the alias right now.
        """
        return self._settle(model)[0]

    def taken_back(self, model: str) -> dict[str, Entry]:
        """Return, by digest, the entry that took a version back and is not lifted; see `taken_back`."""
        return taken_back(self.ledger.entries(model))

    def moved_by(self, model: str, request: Request) -> bool:
        """Return whether the present champion was promoted by an earlier try of the run that asks."""
        entry = champion(self.ledger.entries(model))
        if entry is None or not request.run_id:
            return False
        return entry.actor == request.actor and entry.run_id == request.run_id

    def promote(self, model: str, version: int, request: Request, *, decided_on: RegisteredVersion | None) -> Entry:
        """Make `version` the champion.

        Args:
            model: registered model.
            version: version to promote.
            request: who and why.
            decided_on: champion when the decision was made, None without one.

        Returns:
            The entry: ``promoted``, or ``unchanged`` when the champion already has this content.

        Raises:
            MissingError: there is no such model or version.
            BadInputError: parity failed or is missing, a file differs from its digest, somebody else registered the
                version, or the ledger is broken.
            NotAllowedError: whoever asks may not move the champion.
            RetryableError: the champion changed since the decision; the champion stays as it is.
        """
        self.protection.check(request.actor, model)
        wanted = self._ours(model, version)
        present, entries = self._settle(model)
        if present is not None and present.digest == wanted.digest:
            return self._append(_note("unchanged", wanted, present, request))
        if not _same(present, decided_on):
            raise RetryableError(
                f"the champion of {model!r} is {_name(present)} and was {_name(decided_on)} when v{version} was "
                "judged: run the gate again"
            )
        return self._move("promoting", wanted, present, request, entries)

    def rollback(self, model: str, request: Request, to: int | None = None) -> Entry:
        """Make an earlier champion the champion again; the present one is taken back until `lift`.

        Args:
            model: registered model.
            request: who and why.
            to: version to go back to; None takes the nearest earlier champion whose content this registry still has.

        Raises:
            MissingError: there is no champion, no earlier one, or no such version.
            BadInputError: the version's parity failed, its files were changed, somebody else registered it, the ledger
                knows the number for other content, or the ledger is broken.
            NotAllowedError: whoever asks may not move the champion.
            RetryableError: another process moved the alias meanwhile.
        """
        self.protection.check(request.actor, model)
        if to is not None:
            self._ours(model, to)
        elif not self.ledger.entries(model):
            self._check_some_ours(model)
        present, entries = self._settle(model)
        wanted = self._nearest(model, entries, present) if to is None else self._ours(model, to)
        _check_meant(wanted, entries)
        if present is not None and present.digest == wanted.digest:
            return self._append(_note("unchanged", wanted, present, request))
        return self._move("rolling back", wanted, present, request, entries)

    def lift(self, model: str, version: int, request: Request) -> Entry:
        """Let pipelines promote a version again that a person took back; the champion stays.

        Raises:
            MissingError: there is no such model or version.
            BadInputError: the version is not taken back.
            NotAllowedError: whoever asks may not move the champion.
            RetryableError: another process moves the alias right now.
        """
        self.protection.check(request.actor, model)
        wanted = self._ours(model, version)
        present, entries = self._settle(model)
        held = taken_back(entries)
        if wanted.digest not in held:
            known = ", ".join(f"v{v.version}" for v in self._versions(model) if v.digest in held) or "none"
            raise BadInputError(
                f"{model} v{version} is not taken back, so there is nothing to lift (taken back: {known})"
            )
        return self._append(_note("lifted", wanted, present, request), entries[-1].sequence)

    def held(self, model: str) -> Entry | None:
        """Return the entry that holds the model now, or None."""
        return hold(self.ledger.entries(model), datetime.now(UTC))

    def hold(self, model: str, request: Request, until: datetime | None = None) -> Entry:
        """Keep every pipeline from moving the champion, until a moment or until `release`; a later hold replaces it.

        Raises:
            MissingError: there is no such model.
            BadInputError: the moment has passed, or nobody of Rankmill registered a version of it.
            RetryableError: another process moves the alias right now.
        """
        if until is not None and until <= datetime.now(UTC):
            raise BadInputError(
                f"{model} cannot be held until {moment_said(until)}, which has passed: name a later time"
            )
        self._check_some_ours(model)
        present, entries = self._settle(model)
        return self._append(_about(model, "held", present, request, until), entries[-1].sequence if entries else 0)

    def release(self, model: str, request: Request) -> Entry:
        """Let pipelines move the champion of a held model again.

        Raises:
            MissingError: there is no such model.
            BadInputError: the model is not held.
            NotAllowedError: whoever asks may not move the champion.
            RetryableError: another process moves the alias right now.
        """
        self.protection.check(request.actor, model)
        self._check_some_ours(model)
        present, entries = self._settle(model)
        if hold(entries, datetime.now(UTC)) is None:
            raise BadInputError(f"{model} is not held, so there is nothing to lift: see `rankmill history {model}`")
        return self._append(_about(model, "released", present, request), entries[-1].sequence)

    def ask(self, wanted: RegisteredVersion, request: Request, asked: Asked, until: datetime) -> Entry:
        """Write down that people are asked whether `wanted` may become champion; the same question is asked once."""
        present, entries = self._settle(wanted.model)
        for entry in open_questions(entries):
            if (entry.digest, entry.run_id, entry.asked) == (wanted.digest, request.run_id, asked):
                return entry
        note = _note("asked", wanted, present, request).model_copy(update={"asked": asked, "until": until})
        return self._append(note, entries[-1].sequence if entries else 0)

    def answer(self, question: Entry, *, approved: bool, by: str, reason: str) -> Entry:
        """Write down what was answered to a question; nothing moves.

        Raises:
            BadInputError: it has been answered.
            RetryableError: another answer came first, or the champion moved meanwhile.
        """
        entries = self.ledger.entries(question.model)
        before = next((entry for entry in entries if entry.settles == question.sequence), None)
        if before is not None:
            raise BadInputError(
                f"{question.model} v{question.version} was {before.action} by {before.actor} at "
                f"{moment_said(before.at)} already: see `rankmill history {question.model}`"
            )
        known = question.model_dump(include={"model", "version", "digest", "previous", "previous_digest", "run_id"})
        action: Action = "approved" if approved else "declined"
        note = Note(**known, action=action, settles=question.sequence, actor=by, reason=reason)
        return self._append(note, entries[-1].sequence)

    def _ours(self, model: str, version: int) -> RegisteredVersion:
        """Return a version that Rankmill registered."""
        found = self.registry.version(model, version)
        if not found.digest:
            raise BadInputError(
                f"{model} v{version} was not registered by Rankmill, so it cannot become champion: name one of "
                f"{self._known(model)}"
            )
        return found

    def _check_some_ours(self, model: str) -> None:
        """Raise for a model of somebody else, whose aliases are none of our business."""
        versions = self._versions(model)
        if versions and not any(version.digest for version in versions):
            raise BadInputError(
                f"model {model!r} has no version that Rankmill registered: its champion is not ours to move"
            )

    def _versions(self, model: str) -> list[RegisteredVersion]:
        return [listed.version for listed in self.registry.versions(model)]

    def _known(self, model: str) -> str:
        return ", ".join(f"v{v.version}" for v in self._versions(model) if v.digest) or "Rankmill's versions (none yet)"

    def _nearest(self, model: str, entries: Sequence[Entry], present: RegisteredVersion | None) -> RegisteredVersion:
        """Return the nearest earlier champion whose content this registry still has, whatever its number is now."""
        earlier = [former for former in predecessors(entries) if present is None or former.digest != present.digest]
        held = taken_back(entries)
        by_digest = {version.digest: version for version in reversed(self._versions(model)) if version.digest}
        for former in earlier:
            # `--to` may have gone past a champion that was taken back: going back must not lead to it again.
            if former.digest in by_digest and former.digest not in held:
                return by_digest[former.digest]
        if back := [by_digest[former.digest] for former in earlier if former.digest in by_digest]:
            names = ", ".join(f"v{version.version}" for version in back[:3])
            raise MissingError(
                f"every earlier champion of {model!r} that there is was taken back ({names}): name a version with --to "
                f"({self._known(model)}), or lift one with `rankmill promote {model} {back[0].version} --lift`"
            )
        if earlier:
            gone = ", ".join(f"v{former.version} ({former.digest[:12] or 'not ours'})" for former in earlier[:3])
            raise MissingError(
                f"the registry {self.here} has none of the earlier champions of {model!r}, {gone}: name a version "
                f"with --to ({self._known(model)})"
            )
        raise MissingError(f"model {model!r} has no earlier champion than {_name(present)}: name a version with --to")

    @property
    def here(self) -> str:
        """The registry as the ledger names it: its address without a login."""
        return shown(self.registry.tracking_uri)

    def _append(self, note: Note, after: int | None = None) -> Entry:
        return self.ledger.append(note.model_copy(update={"registry": self.here}), after)

    def refuse(self, model: str, version: int, request: Request) -> Entry:
        """Write down that the gate refused `version`; the champion stays."""
        present, _ = self._settle(model)
        return self._append(_note("refused", self.registry.version(model, version), present, request))

    def _move(
        self,
        action: Action,
        wanted: RegisteredVersion,
        present: RegisteredVersion | None,
        request: Request,
        entries: Sequence[Entry],
    ) -> Entry:
        self._check(wanted)
        token = uuid.uuid4().hex
        holder = Holder(token=token, host=socket.gethostname(), pid=os.getpid())
        note = _note(action, wanted, present, request).model_copy(update={"holder": holder})
        _live.add(token)
        try:
            announced = self._append(note, after=entries[-1].sequence if entries else 0)
            try:
                found = self.registry.alias(wanted.model, CHAMPION)
                if not _same(found, present):
                    raise RetryableError(
                        f"the champion of {wanted.model!r} became {_name(found)} meanwhile: run again to decide on it"
                    )
                if datetime.now(UTC) - announced.at > LEASE / 2:
                    raise RetryableError(f"moving the champion of {wanted.model!r} took too long: run again")
                self.registry.set_alias(wanted.model, CHAMPION, wanted.version)
            except RankmillError:
                # Whether the alias moved is unknown: MLflow may have answered too late.
                outcome = self._outcome(announced)
                if outcome.action == "abandoned":
                    raise
                return outcome
            return self._append(_settled(announced, _DONE[action], datetime.now(UTC)))
        finally:
            _live.discard(token)

    def _check(self, wanted: RegisteredVersion) -> None:
        """Raise unless the version's files are the registered ones and its parity passed."""
        with tempfile.TemporaryDirectory() as folder:
            directory = self.registry.download(wanted.model, wanted.version, Path(folder) / "version")
            check_parity(directory, f"{wanted.model} v{wanted.version}")

    def _settle(self, model: str) -> tuple[RegisteredVersion | None, Sequence[Entry]]:
        """Bring the ledger up to where the alias points; return the champion and the entries."""
        entries = list(self.ledger.entries(model))
        left = pending(entries)
        if left is not None:
            if _is_live(left):
                raise RetryableError(
                    f"{left.actor} is {left.action} {model!r} to v{left.version} since {left.at:%H:%M:%S} UTC: "
                    "run again in a minute"
                )
            entries.append(self._outcome(left, after=entries[-1].sequence))
        present = self.registry.alias(model, CHAMPION)
        recorded = champion(entries)
        if not is_recorded(present, recorded):
            after = entries[-1].sequence if entries else 0
            entries.append(self._append(_outside(model, present, recorded, self.here), after))
        return present, entries

    def _outcome(self, announced: Entry, after: int | None = None) -> Entry:
        """Write how an interrupted move ended: the alias knows."""
        found = self.registry.alias(announced.model, CHAMPION)
        if found is not None and found.digest == announced.digest:
            note = _settled(announced, _DONE[announced.action], announced.at, "completed after an interruption")
        else:
            note = _settled(announced, "abandoned", None, "interrupted before the alias moved")
        return self._append(note, after)


def is_recorded(present: RegisteredVersion | None, recorded: Entry | None) -> bool:
    """Return whether the ledger's last move ends where the alias points, by number and content."""
    live = recorded is not None and recorded.champion is not None
    if present is None or recorded is None or not live:
        return present is None and not live
    return (present.version, present.digest) == (recorded.version, recorded.digest)


def outside_reason(present: RegisteredVersion | None, recorded: Entry | None, here: str) -> str:
    """Return why the alias is not where the ledger left it, as far as one can see."""
    if recorded is not None and recorded.registry and recorded.registry != here:
        return f"this is the registry {here}, and the champion before was of {recorded.registry}"
    if present is not None and recorded is not None and present.version == recorded.champion:
        return (
            f"v{present.version} has other content now (digest {present.digest[:12] or 'none'}, was "
            f"{recorded.digest[:12] or 'none'}): the registry was made anew"
        )
    ours = "" if present is None or present.digest else f"v{present.version} was not registered by Rankmill; "
    return f"{ours}the alias was changed in MLflow; the time is when Rankmill noticed"


def _outside(model: str, present: RegisteredVersion | None, recorded: Entry | None, here: str) -> Note:
    """Return the note about an alias that somebody changed in MLflow."""
    # A removed champion may be a deleted version, so its facts come from the ledger.
    gone = recorded if present is None else None
    return Note(
        action="moved outside" if present else "removed outside",
        model=model,
        version=present.version if present else (gone.version if gone else 0),
        digest=present.digest if present else (gone.digest if gone else ""),
        previous=recorded.champion if recorded else None,
        previous_digest=recorded.digest if recorded and recorded.champion is not None else "",
        reason=outside_reason(present, recorded, here),
        actor="unknown",
        effective_at=datetime.now(UTC),
    )


def _check_meant(wanted: RegisteredVersion, entries: Sequence[Entry]) -> None:
    """Raise when the ledger's champions know the wanted number for other content only: the registry was made anew."""
    same = [entry for entry in entries if entry.action in MOVES and entry.champion == wanted.version]
    if same and all(entry.digest != wanted.digest for entry in same):
        of = f" of {same[-1].registry}" if same[-1].registry else ""
        raise BadInputError(
            f"{wanted.model} v{wanted.version} has digest {wanted.digest[:12]}, and the champion v{wanted.version}{of} "
            f"in the ledger had {same[-1].digest[:12] or 'none'}: this registry counts anew, use `rankmill promote "
            f"{wanted.model} {wanted.version}` if you mean this one"
        )


def _same(one: RegisteredVersion | None, other: RegisteredVersion | None) -> bool:
    """Return whether both are the same version with the same content, or both none."""
    if one is None or other is None:
        return one is other
    return (one.version, one.digest) == (other.version, other.digest)


def _note(action: Action, wanted: RegisteredVersion, present: RegisteredVersion | None, request: Request) -> Note:
    return Note(
        action=action,
        model=wanted.model,
        version=wanted.version,
        digest=wanted.digest,
        previous=present.version if present else None,
        previous_digest=present.digest if present else "",
        reason=request.reason,
        actor=request.actor,
        run_id=request.run_id,
        evidence=request.evidence,
    )


def _about(
    model: str, action: Action, present: RegisteredVersion | None, request: Request, until: datetime | None = None
) -> Note:
    """Return a note about a model rather than one version of it."""
    number, digest = (present.version, present.digest) if present else (0, "")
    return Note(
        action=action, model=model, version=number, digest=digest, previous=number or None, previous_digest=digest,
        reason=request.reason, actor=request.actor, run_id=request.run_id, until=until,
    )  # fmt: skip


def _settled(announced: Entry, action: Action, effective_at: datetime | None, remark: str = "") -> Note:
    known = announced.model_dump(include=set(Note.model_fields))
    known |= {"action": action, "settles": announced.sequence, "holder": None, "effective_at": effective_at}
    known["reason"] = "; ".join(part for part in (announced.reason, remark) if part)
    return Note(**known)


def _is_live(announced: Entry) -> bool:
    """Return whether the process behind an announcement may still carry it out."""
    holder = announced.holder
    if holder is None or datetime.now(UTC) - announced.at > LEASE:
        return False
    if holder.host != socket.gethostname():
        return True
    if holder.pid == os.getpid():
        return holder.token in _live
    return psutil.pid_exists(holder.pid)


def _name(version: RegisteredVersion | None) -> str:
    return f"v{version.version}" if version else "none"
