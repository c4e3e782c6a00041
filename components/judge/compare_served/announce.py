"""How does a gate learn of a comparison? A tag on the version that was compared, once the comparison is published."""

from __future__ import annotations

from typing import TYPE_CHECKING

from components.platform.settings import Settings
from components.platform.store.publish import open_store

if TYPE_CHECKING:
    from components.judge.compare_served.config import Config, Outputs


def announce(outputs: Outputs, config: Config, settings: Settings) -> None:
    """Tag the challenger with its verdict; of two comparisons the newer one stands."""
    from registry.gate.served_verdict import ServedVerdict, served_verdicts, tag_of
    from registry.gate.verdict import Verdict
    from registry.versions.client import Registry

    folder = open_store(settings).fetch(outputs.comparison)
    verdict = Verdict.model_validate_json((folder / "verdict.json").read_bytes())
    if verdict.served is None or verdict.champion is None:
        return
    registry = Registry(settings.tracking_uri, settings.mlflow_artifacts)
    listed = {one.version.version: one for one in registry.versions(verdict.model)}
    if verdict.challenger not in listed or verdict.champion not in listed:
        return  # somebody deleted a version meanwhile: nobody can promote it, or be compared with it
    before = served_verdicts(listed[verdict.challenger].tags).get(verdict.served)
    if before is not None and before.decided_at > verdict.decided_at:
        return
    told = ServedVerdict(
        uri=outputs.comparison.uri,
        digest=outputs.comparison.digest,
        answer="passed" if verdict.answer == "passed" else "refused",
        reason=verdict.reason[:500],
        challenger_digest=listed[verdict.challenger].version.digest,
        champion=verdict.champion,
        champion_digest=listed[verdict.champion].version.digest,
        rows=verdict.rows,
        decided_at=verdict.decided_at,
    )
    registry.tag(verdict.model, verdict.challenger, tag_of(verdict.served), told.model_dump_json())
