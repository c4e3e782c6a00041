"""Which ranker does today's training continue? That of the newest champion whose training ended before today's does.

Not simply the present champion: a window that runs again after its own model was promoted, or a backfill, would learn
from its own future. The ledger knows the champions before.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from components.data.build_training_set.config import SplitReport
from components.data.training_set import read_schema
from components.platform.artifacts import Predecessor, Ranker
from components.platform.catalog import catalog
from components.platform.contract import RunContext
from components.platform.errors import BadInputError
from components.platform.store.publish import Store, open_store
from components.platform.store.records import MANIFEST
from components.train.take_champion.config import MODEL_VERSION, RANKER, TAKEN, Config, Inputs, Outputs, Taken
from registry.champion.ledger import MOVES, Ledger
from registry.serving.model.contract import RegisteredVersion
from registry.versions.client import CHAMPION, Registry
from registry.versions.database import initialise


@dataclass(frozen=True)
class Found:
    """A champion's ranker."""

    version: RegisteredVersion
    ranker: Ranker


def run(inputs: Inputs, config: Config, context: RunContext) -> Outputs:
    """Copy the ranker out of the store, its digest checked, or write down why there is none.

    Raises:
        BadInputError: the test split is not later than the rows that train, or the ledger is broken.
        RetryableError: MLflow or the ledger cannot be read.
        StorageError: the ranker's files differ from their digest.
    """
    until = _trained_until(context.local(inputs.dataset))
    settings = context.settings
    initialise(settings.tracking_uri, settings.mlflow_artifacts)  # a first run asks before anything is registered
    registry = Registry(settings.tracking_uri, settings.mlflow_artifacts)
    found = find(config.model, until, registry, Ledger(settings.ledger), open_store(settings))
    draft = context.draft("predecessor")
    if isinstance(found, Found):
        shutil.copytree(context.local(found.ranker), draft / RANKER, ignore=shutil.ignore_patterns(MANIFEST))
        taken = Taken(ranker_digest=found.ranker.digest)
        context.annotate(MODEL_VERSION, f"{config.model}/{found.version.version}")
        context.note(f"{config.model} v{found.version.version}, ranker {found.ranker.digest[:12]}")
    else:
        taken = found
        context.note(f"nothing to continue: {taken.reason}")
    (draft / TAKEN).write_text(taken.model_dump_json(indent=2), encoding="utf-8")
    return Outputs(predecessor=Predecessor(uri=str(draft)))


def find(model: str, until: datetime, registry: Registry, ledger: Ledger, store: Store) -> Found | Taken:
    """Return the newest champion that learned from nothing at `until` or later, or why there is none."""
    champions = list(_champions(model, registry, ledger))
    for version in champions:
        if not version.digest:
            reason = (
                f"the champion {model} v{version.version} was not registered by Rankmill: promote one of Rankmill's "
                "versions to continue it"
            )
            return Taken(reason=reason, as_expected=False)
        ranker = find_ranker(store, version.ranker_digest)
        if ranker is None:
            reason = (
                f"the artifact store does not have the ranker {version.ranker_digest[:12]} of {model} "
                f"v{version.version}: point RANKMILL_ARTIFACTS at its store, or promote a version of train_ranker or "
                "continue_ranker"
            )
            return Taken(reason=reason, as_expected=False)
        ended = read_schema(store.fetch(ranker)).trained_until
        if ended is not None and ended < until:
            return Found(version, ranker)
    if champions:
        return Taken(reason=f"no champion of {model!r} learned from earlier rows only")
    return Taken(reason=f"{model!r} has no champion yet")


def find_ranker(store: Store, digest: str) -> Ranker | None:
    """Return the ranker of a digest, whichever stage made it."""
    known = catalog()
    for component in store.components():
        if component in known and Ranker not in known[component].output_types.values():
            continue
        for record in store.records(component):
            for ref in record.outputs.values():
                if ref.kind == Ranker.kind and ref.digest == digest:
                    return Ranker(uri=ref.uri, digest=ref.digest)
    return None


def _champions(model: str, registry: Registry, ledger: Ledger) -> Iterator[RegisteredVersion]:
    """Yield each version that is or was champion once and still exists, latest first; the ledger is read by digest."""
    present = registry.alias(model, CHAMPION)
    if present is None:
        return  # whoever removed the champion wants a start from nothing
    seen = {present.digest}
    yield present
    by_digest = {listed.version.digest: listed.version for listed in registry.versions(model)}
    for entry in reversed(ledger.entries(model)):
        if entry.action in MOVES and entry.champion is not None and entry.digest not in seen:
            seen.add(entry.digest)
            if entry.digest in by_digest:  # somebody may have deleted it in MLflow
                yield by_digest[entry.digest]


def _trained_until(dataset: Path) -> datetime:
    """Return the end of what the next ranker learns from; its test rows must not be earlier.

    Raises:
        BadInputError: they are, as in a random split: a champion of an earlier window has learned from some of them.
    """
    until = read_schema(dataset).trained_until
    test = SplitReport.model_validate_json((dataset / "report.json").read_text(encoding="utf-8")).test.window
    if until is None or test is None or test.start < until:
        raise BadInputError(
            "the test split has rows earlier than the end of training, and the champion of an earlier window has "
            "learned from such rows: use split by time"
        )
    return until
