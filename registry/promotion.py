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
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psutil

from features.errors import MissingError, RankmillError, RetryableError
from registry.client import CHAMPION, Registry
from registry.contract import RegisteredVersion
from registry.ledger import Action, Entry, Evidence, Holder, Ledger, Note, champion, pending, predecessors
from registry.seal import check_parity

LEASE = timedelta(minutes=10)
"""Longest life of an announcement whose process cannot be asked; a move takes seconds."""
_live: set[str] = set()
"""Announcements that this process is carrying out."""
_DONE: dict[Action, Action] = {"promoting": "promoted", "rolling back": "rolled back"}


@dataclass(frozen=True)
class Request:
    """Who asks, and why.

    Attributes:
        actor: a user, or ``pipeline:<name>``.
        reason: one clause.
        run_id: id of the pipeline run, empty by hand.
        evidence: the gate's summary, None by hand.
    """

    actor: str
    reason: str
    run_id: str = ""
    evidence: Evidence | None = None


@dataclass(frozen=True)
class Promotions:
    """Moves of the champion alias of one registry, written down in one ledger."""

    registry: Registry
    ledger: Ledger

    def champion(self, model: str) -> RegisteredVersion | None:
        """Return the champion after settling what an interrupted move left open.

        Raises:
            RetryableError: another process is moving the alias right now.
        """
        return self._settle(model)[0]

    def promote(self, model: str, version: int, request: Request, *, decided_on: int | None) -> Entry:
        """Make `version` the champion.

        Args:
            model: registered model.
            version: version to promote.
            request: who and why.
            decided_on: version that was champion when the decision was made, None without one.

        Returns:
            The entry: ``promoted``, or ``unchanged`` when the champion already has this content.

        Raises:
            MissingError: there is no such model or version.
            BadInputError: parity failed or is missing, a file differs from its digest, or the ledger is broken.
            RetryableError: the champion changed since the decision; the champion stays as it is.
        """
        wanted = self.registry.version(model, version)
        present, entries = self._settle(model)
        if present is not None and (present.version == version or (present.digest and present.digest == wanted.digest)):
            return self.ledger.append(_note("unchanged", wanted, present, request))
        if (present.version if present else None) != decided_on:
            raise RetryableError(
                f"the champion of {model!r} is {_name(present)} and was {_name(decided_on)} when v{version} was "
                "judged: run the gate again"
            )
        return self._move("promoting", wanted, present, request, entries)

    def rollback(self, model: str, request: Request, to: int | None = None) -> Entry:
        """Make an earlier champion the champion again.

        Args:
            model: registered model.
            request: who and why.
            to: version to go back to; None takes the champion before the present one.

        Raises:
            MissingError: there is no champion, no earlier one, or no such version.
            BadInputError: the version's parity failed, its files were changed, or the ledger is broken.
            RetryableError: another process moved the alias meanwhile.
        """
        present, entries = self._settle(model)
        if to is None:
            earlier = [v for v in predecessors(entries) if present is None or v != present.version]
            if not earlier:
                raise MissingError(
                    f"model {model!r} has no earlier champion than {_name(present)}: name a version with --to"
                )
            to = earlier[0]
        wanted = self.registry.version(model, to)
        if present is not None and present.version == to:
            return self.ledger.append(_note("unchanged", wanted, present, request))
        return self._move("rolling back", wanted, present, request, entries)

    def refuse(self, model: str, version: int, request: Request) -> Entry:
        """Write down that the gate refused `version`; the champion stays."""
        present, _ = self._settle(model)
        return self.ledger.append(_note("refused", self.registry.version(model, version), present, request))

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
            announced = self.ledger.append(note, after=entries[-1].sequence if entries else 0)
            try:
                found = self.registry.alias(wanted.model, CHAMPION)
                if (found.version if found else None) != (present.version if present else None):
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
            return self.ledger.append(_settled(announced, _DONE[action], datetime.now(UTC)))
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
        if (present.version if present else None) != (recorded.champion if recorded else None):
            after = entries[-1].sequence if entries else 0
            entries.append(self.ledger.append(_outside(model, present, recorded), after))
        return present, entries

    def _outcome(self, announced: Entry, after: int | None = None) -> Entry:
        """Write how an interrupted move ended: the alias knows."""
        found = self.registry.alias(announced.model, CHAMPION)
        if found is not None and found.version == announced.version:
            note = _settled(announced, _DONE[announced.action], announced.at, "completed after an interruption")
        else:
            note = _settled(announced, "abandoned", None, "interrupted before the alias moved")
        return self.ledger.append(note, after)


def _outside(model: str, present: RegisteredVersion | None, recorded: Entry | None) -> Note:
    """Return the note about an alias that somebody changed in MLflow."""
    # A removed champion may be a deleted version, so its facts come from the ledger.
    gone = recorded if present is None else None
    return Note(
        action="moved outside" if present else "removed outside",
        model=model,
        version=present.version if present else (gone.version if gone else 0),
        digest=present.digest if present else (gone.digest if gone else ""),
        previous=recorded.champion if recorded else None,
        previous_digest=recorded.digest if recorded else "",
        reason="the alias was changed in MLflow; the time is when Rankmill noticed",
        actor="unknown",
        effective_at=datetime.now(UTC),
    )


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


def _name(version: RegisteredVersion | int | None) -> str:
    if version is None:
        return "none"
    return f"v{version if isinstance(version, int) else version.version}"
