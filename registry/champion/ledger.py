"""Who made which version champion, when, on what evidence? An append-only chain of small JSON files.

Each entry is one file, ``<root>/<model>/00000001.json``, created exclusively: of two writers of the
same number one fails. An entry holds the sha256 of the file before it, so a changed or removed entry
is noticed by whoever reads the chain next.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

from pydantic import AwareDatetime, ValidationError

from features.declaration import Frozen, Name
from features.ground.errors import BadInputError, RetryableError
from features.ground.files import written
from features.ground.remote_files import local_path, open_files
from registry.gate.verdict import Verdict

Action = Literal[
    "promoting",
    "rolling back",
    "abandoned",
    "promoted",
    "rolled back",
    "moved outside",
    "removed outside",
    "refused",
    "unchanged",
    "lifted",
    "asked",
    "approved",
    "declined",
    "held",
    "released",
]
"""`promoting` and `rolling back` announce a move of the alias; a later entry that names them says how it
ended. `moved outside` and `removed outside` record what somebody did in MLflow without Rankmill.
`lifted` ends what a rollback began: pipelines may promote the version again. `asked` is a question to people about a
promotion, `approved` and `declined` are their answers. Between `held` and `released` no pipeline moves the alias."""
INTENTS: tuple[Action, ...] = ("promoting", "rolling back")
MOVES: tuple[Action, ...] = ("promoted", "rolled back", "moved outside", "removed outside")
"""Actions after which the champion is another one, or none."""
_FILE = re.compile(r"\d{8}\.json")
_TRIES = 20


class Holder(Frozen):
    """The process that announced a move."""

    token: str
    """Unique to the announcement."""
    host: str
    """Its machine."""
    pid: int
    """Its process id."""


class Evidence(Frozen):
    """What the gate saw, in brief; the whole verdict is an artifact."""

    answer: str
    """The verdict."""
    rows: int
    """Rows that both models were scored on."""
    dataset_digest: str
    """Digest of the `TrainingSet` they came from."""
    judged: int
    """Cells judged."""
    refused: tuple[str, ...]
    """Cells that refused, as ``task/domain/metric``."""

    @classmethod
    def of(cls, verdict: Verdict) -> Evidence:
        """Return the summary of a verdict."""
        judged = [j for j in verdict.judgements if j.outcome != "not judged"]
        return cls(
            answer=verdict.answer,
            rows=verdict.rows,
            dataset_digest=verdict.dataset_digest,
            judged=len(judged),
            refused=tuple(f"{j.task}/{j.domain}/{j.metric}" for j in judged if j.outcome == "refused"),
        )


class Asked(Frozen):
    """A question to people: may this version become champion?"""

    through: Literal["airflow", "command line"]
    """Where it is answered."""
    by: tuple[str, ...] = ()
    """Who may answer; empty for whoever may use that place."""
    verdict: str
    """sha256 of the verdict that they were shown."""


class Note(Frozen):
    """What a writer knows about an entry; number, time and chain are added by `Ledger.append`."""

    action: Action
    """What happened."""
    model: Name
    """Registered model."""
    version: int
    """The version it happened to; of a hold the champion, 0 without one."""
    digest: str
    """Its `OnnxModel` digest."""
    previous: int | None = None
    """Champion before, None without one."""
    previous_digest: str = ""
    """Its digest."""
    reason: str = ""
    """One clause."""
    actor: str = ""
    """Who asked: a user or ``pipeline:<name>``."""
    run_id: str = ""
    """Id of the pipeline run, empty by hand."""
    evidence: Evidence | None = None
    """The gate's summary, None by hand."""
    effective_at: AwareDatetime | None = None
    """Since when the alias points where the entry says; None for entries that move nothing."""
    settles: int | None = None
    """Number of the announcement that this entry ends, or of the question that it answers."""
    asked: Asked | None = None
    """What belongs to a question."""
    until: AwareDatetime | None = None
    """When a question, or a hold of the model, ends by itself; None for never."""
    holder: Holder | None = None
    """Process behind an announcement."""
    registry: str = ""
    """Tracking URI of the registry that counts these versions, without a login; empty in entries of older releases.
    Another registry, or the same one made anew, may give the number to other content."""


class Entry(Note):
    """One file of the ledger."""

    sequence: int
    """Its number, from 1 without gaps."""
    at: AwareDatetime
    """When it was written."""
    chain: str
    """sha256 of the file before it, empty for the first."""

    @property
    def champion(self) -> int | None:
        """Version that is champion after this move."""
        return None if self.action == "removed outside" else self.version

    @property
    def held(self) -> str:
        """What is said about a version that this entry took back."""
        moment = f"{self.effective_at or self.at:%Y-%m-%d %H:%M} UTC"
        return f"taken back in MLflow, seen {moment}" if self.action == "moved outside" else (
            f"rolled back on {moment} by {self.actor}"
        )  # fmt: skip


@dataclass(frozen=True)
class Former:
    """A champion of the past."""

    version: int
    digest: str
    """Its content; empty when somebody else registered it."""
    registry: str = ""
    """That registry, empty when the entry does not say."""

    def is_same(self, other: Former) -> bool:
        """Return whether both are the same content; versions without a digest have their number alone."""
        return self.digest == other.digest and (bool(self.digest) or self.version == other.version)


class LostRaceError(RetryableError):
    """Another process wrote to the ledger after this one had read it."""


@dataclass(frozen=True)
class Ledger:
    """The ledgers of all models below one fsspec URI."""

    root: str

    def entries(self, model: str) -> tuple[Entry, ...]:
        """Return all entries of `model`, oldest first, the chain checked.

        Raises:
            BadInputError: an entry was changed, removed or cannot be read.
            RetryableError: the store cannot be read.
        """
        return tuple(entry for entry, _ in self._read(model))

    def append(self, note: Note, after: int | None = None) -> Entry:
        """Write the next entry.

        Args:
            note: what happened.
            after: number of the last entry the writer has seen; None takes whichever is last and,
                when another writer comes first, tries again with the next number.

        Raises:
            LostRaceError: `after` is given and somebody wrote another entry since.
            BadInputError: the chain is broken; nothing was written.
            RetryableError: the store cannot be written.
        """
        for _ in range(_TRIES):
            known = self._read(note.model)
            last = known[-1][0].sequence if known else 0
            if after is not None and last != after:
                break
            entry = Entry(
                **note.model_dump(), sequence=last + 1, at=datetime.now(UTC), chain=known[-1][1] if known else ""
            )
            try:
                self._create(f"{self._folder(note.model)}/{entry.sequence:08d}.json", entry.model_dump_json(indent=2))
            except FileExistsError:
                continue
            except OSError as error:
                raise RetryableError(
                    f"cannot write the ledger of {note.model!r} at {self.root}: {error}; fix the store and run again"
                ) from error
            return entry
        raise LostRaceError(
            f"the ledger of {note.model!r} at {self.root} got another entry meanwhile: "
            "run again to decide on what it says now"
        )

    def _read(self, model: str) -> list[tuple[Entry, str]]:
        """Return the entries with the sha256 of their files."""
        fs, folder = self._fs(), self._folder(model)
        self._check_moved(folder)
        try:
            paths = sorted(p for p in fs.ls(folder, detail=False, refresh=True) if _FILE.fullmatch(Path(p).name))
            contents: dict[str, bytes] = fs.cat(paths) if paths else {}
        except FileNotFoundError:
            return []
        except OSError as error:
            raise RetryableError(
                f"cannot read the ledger of {model!r} at {self.root}: {error}; fix the store and run again"
            ) from error
        found: list[tuple[Entry, str]] = []
        chain = ""
        for number, path in enumerate(paths, start=1):
            content = contents[path]
            where = f"ledger entry {Path(path).name} of {model!r} at {self.root}"
            if Path(path).name != f"{number:08d}.json":
                raise BadInputError(f"ledger of {model!r} at {self.root} lacks entry {number:08d}.json: restore it")
            try:
                entry = Entry.model_validate_json(content)
            except ValidationError as error:
                raise BadInputError(f"{where} cannot be read: restore it from a backup") from error
            if entry.sequence != number or entry.model != model or entry.chain != chain:
                before = f"{number - 1:08d}.json" if number > 1 else "the file"
                raise BadInputError(f"{where} does not follow {before}, which was changed: restore it from a backup")
            chain = hashlib.sha256(content).hexdigest()
            found.append((entry, chain))
        return found

    def _check_moved(self, folder: str) -> None:
        """Raise when the ledger lies where releases before this one put that of a folder with a space or umlaut."""
        if local_path(self.root) is None:
            return
        before = Path(quote(folder))
        if before != Path(folder) and before.is_dir() and not Path(folder).exists():
            raise BadInputError(
                f"the ledger lies at {before.parent}, where an earlier release put it: move that folder to "
                f"{Path(folder).parent}"
            )

    def _create(self, path: str, text: str) -> None:
        """Create a file with all of its content or not at all.

        Raises:
            FileExistsError: there is one already.
        """
        fs = self._fs()
        if local_path(self.root) is None:
            fs.pipe_file(path, text.encode(), mode="create")
            return
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        with written(target, text) as partial:
            os.link(partial, target)  # unlike a rename, a link fails where a file is

    def _fs(self) -> Any:
        return open_files(self.root, "RANKMILL_LEDGER")[0]

    def _folder(self, model: str) -> str:
        return f"{open_files(self.root, 'RANKMILL_LEDGER')[1].rstrip('/')}/{model}"


def pending(entries: Sequence[Entry]) -> Entry | None:
    """Return the announcement that no later entry settles, or None."""
    settled = {entry.settles for entry in entries}
    return next((e for e in reversed(entries) if e.action in INTENTS and e.sequence not in settled), None)


def champion(entries: Sequence[Entry]) -> Entry | None:
    """Return the entry of the last move, whose `champion` is the present one; None before the first."""
    return next((entry for entry in reversed(entries) if entry.action in MOVES), None)


def champion_at(entries: Sequence[Entry], moment: datetime) -> Entry | None:
    """Return the last move before `moment`, whose `champion` was live then; None before the first."""
    return next((e for e in reversed(entries) if e.action in MOVES and (e.effective_at or e.at) <= moment), None)


def predecessors(entries: Sequence[Entry]) -> tuple[Former, ...]:
    """Return the champions to roll back to, nearest first; a second rollback goes further back, not forth."""
    line: list[Former] = []
    for entry in entries:
        if entry.action not in MOVES or entry.champion is None:
            continue
        live = Former(entry.version, entry.digest, entry.registry)
        places = [place for place, former in enumerate(line) if former.is_same(live)]
        if entry.action == "rolled back" and places:
            del line[places[-1] :]
        elif not line and entry.previous is not None:
            line.append(Former(entry.previous, entry.previous_digest))
        line.append(live)
    present = champion(entries)
    return tuple(reversed(line[:-1] if present and present.champion is not None else line))


def taken_back(entries: Sequence[Entry]) -> dict[str, Entry]:
    """Return, by digest, the entry that took a version back; pipelines leave it alone until a person lifts that.

    A version is taken back by a rollback, or by a move to an earlier champion in MLflow. Whoever makes it champion
    again has lifted it too.
    """
    held: dict[str, Entry] = {}
    former: Entry | None = None
    for place, entry in enumerate(entries):
        if entry.action in ("promoted", "rolled back", "moved outside", "lifted"):
            held.pop(entry.digest, None)
        back = entry.action == "rolled back" or (
            entry.action == "moved outside" and any(f.digest == entry.digest for f in predecessors(entries[:place]))
        )
        # The last champion counts even when its alias or version is gone: it may be registered again.
        if back and former is not None and former.digest and former.digest != entry.digest:
            held[former.digest] = entry
        former = entry if entry.action in MOVES else former
    return held
