"""Does the challenger replace the champion? Score both on the same rows, ask the gate and people, move the alias."""

from __future__ import annotations

from datetime import UTC, datetime

from components.platform.artifacts import Promotion
from components.platform.contract import RunContext
from components.platform.errors import BadInputError, GateRefusedError
from components.release.promote_model.case import VERDICT, Case, write_verdict
from components.release.promote_model.config import Config, Inputs, Outputs
from components.release.promote_model.rows import CannotScoreError, score_both
from registry.champion.ledger import Ledger
from registry.champion.promotion import Promotions
from registry.gate.decide import decide
from registry.gate.served_verdict import not_shown
from registry.gate.verdict import Verdict
from registry.gate.window import older, window_end
from registry.serving.model.contract import RegisteredVersion
from registry.versions.client import Registry


def run(inputs: Inputs, config: Config, context: RunContext) -> Outputs:
    """Promote the challenger when the gate agrees and, where the config says so, a person too.

    One of an older window than the champion's, or one that a person took back, is left where it is, and so is every
    one of a model that a person holds.

    Raises:
        GateRefusedError: the gate or a person refused, the champion cannot answer these rows, or the profile protects
            the alias from this pipeline, and the config does not say that a refusal finishes the stage; the champion
            stays, the ledger and the verdict page say why.
        ApprovalNeededError: a person is asked and has not answered yet.
        BadInputError: parity failed, files were changed, or a floor names an unknown task.
        RetryableError: the champion changed while this stage was judging, or MLflow is locked.
    """
    wanted = RegisteredVersion.model_validate_json((context.local(inputs.version) / "version.json").read_bytes())
    registry = Registry(context.settings.tracking_uri, context.settings.mlflow_artifacts)
    promotions = Promotions(registry, Ledger(context.settings.ledger))
    _check_same(wanted, registry.version(wanted.model, wanted.version))
    champion = promotions.champion(wanted.model)
    case = Case(promotions, wanted, champion, context)
    verdict = case.shown() or _judge(inputs, config, context, promotions, wanted, champion)
    for warning in verdict.warnings:
        context.note(warning)
    if verdict.answer == "promoted":
        verdict = case.allowed(verdict)
    if verdict.answer == "promoted" and config.approval is not None:
        verdict = case.asked(verdict, config.approval)
    request = case.request(verdict)
    if verdict.answer == "refused":
        page = write_verdict(verdict, context.kept)
        promotions.refuse(wanted.model, wanted.version, request)
        registry.tag(wanted.model, wanted.version, VERDICT, "refused")
        stays = f"v{champion.version} stays champion" if champion else "there is still no champion"
        said = f"{wanted.model} v{wanted.version} refused: {verdict.reason}; {stays}"
        if config.on_refusal == "fail":
            raise GateRefusedError(f"{said}, see {page}")
        context.says_no_news("promotion")
        context.note(said)
        return _publish(verdict, context)
    if verdict.answer in ("older", "held"):
        promotions.refuse(wanted.model, wanted.version, request)
        _tag_unless_promoted(registry, wanted, verdict.answer)
        stays = f"champion v{verdict.champion} stays" if champion else "there is still no champion"
        context.says_no_news("promotion")
        said = "is " if verdict.answer == "older" else "was "
        context.note(f"v{wanted.version} {said}{verdict.reason}; {stays}")
        return _publish(verdict, context)
    entry = promotions.promote(wanted.model, wanted.version, request, decided_on=champion)
    if entry.action == "unchanged":
        verdict = verdict.model_copy(update={"answer": "unchanged"})
        if not promotions.moved_by(wanted.model, request):
            context.says_no_news("promotion")
        context.note(f"champion v{champion.version if champion else wanted.version} unchanged")
    else:
        registry.tag(wanted.model, wanted.version, VERDICT, "promoted")
        context.note(f"champion v{wanted.version} (was {f'v{champion.version}' if champion else 'none'})")
        context.note(verdict.reason)
    return _publish(verdict, context)


def _tag_unless_promoted(registry: Registry, wanted: RegisteredVersion, answer: str) -> None:
    """Note an answer that no gate gave; what a gate said about the version before stays."""
    known = next(listed for listed in registry.versions(wanted.model) if listed.version.version == wanted.version)
    if known.tags.get(VERDICT) != "promoted":
        registry.tag(wanted.model, wanted.version, VERDICT, answer)


def _publish(verdict: Verdict, context: RunContext) -> Outputs:
    draft = context.draft("promotion")
    write_verdict(verdict, draft)
    return Outputs(promotion=Promotion(uri=str(draft)))


def _check_same(wanted: RegisteredVersion, found: RegisteredVersion) -> None:
    if wanted.digest != found.digest:
        raise BadInputError(
            f"{wanted.model} v{wanted.version} in MLflow is not the version that was registered (digest "
            f"{found.digest[:12] or 'none'}, expected {wanted.digest[:12]}): run register_model again"
        )


def _judge(
    inputs: Inputs,
    config: Config,
    context: RunContext,
    promotions: Promotions,
    wanted: RegisteredVersion,
    champion: RegisteredVersion | None,
) -> Verdict:
    """Return the verdict; the champion's own content, a version taken back and an older window need no judgement."""
    registry = promotions.registry
    verdict = Verdict(
        model=wanted.model,
        challenger=wanted.version,
        champion=champion.version if champion else None,
        answer="unchanged",
        reason=f"v{wanted.version} has the content of the present champion",
        judgements=(),
        rows=0,
        dataset_digest=inputs.dataset.digest,
        decided_at=datetime.now(UTC),
    )
    if champion is not None and champion.digest == wanted.digest:
        return verdict
    if back := promotions.taken_back(wanted.model).get(wanted.digest):
        lift = f"until `rankmill promote {wanted.model} {wanted.version} --lift`"
        return verdict.model_copy(update={"answer": "held", "reason": f"{back.held}: not promoted {lift}"})
    if champion is not None and not champion.digest:
        theirs = (
            f"the champion v{champion.version} was not registered by Rankmill, so nothing can be compared with it: "
            f"promote by hand with `rankmill promote {wanted.model} {wanted.version}`"
        )
        return verdict.model_copy(update={"answer": "refused", "reason": theirs})
    if champion is not None and not config.allow_older:
        ends = {listed.version.version: window_end(listed.tags) for listed in registry.versions(wanted.model)}
        if reason := older(ends.get(wanted.version), ends.get(champion.version)):
            return verdict.model_copy(update={"answer": "older", "reason": reason})
    if champion is not None and config.served is not None:
        tags = next(one.tags for one in registry.versions(wanted.model) if one.version.version == wanted.version)
        if reason := not_shown(config.served, tags, wanted, champion, datetime.now(UTC)):
            return verdict.model_copy(update={"answer": "refused", "reason": reason})
    folder = context.scratch / "models"
    try:
        new = registry.download(wanted.model, wanted.version, folder / "challenger")
        old = registry.download(champion.model, champion.version, folder / "champion") if champion else None
        name = f"{champion.model} v{champion.version}" if champion else ""
        context.progress(f"scoring {wanted.model} v{wanted.version}{f' and {name}' if name else ''} on the test split")
        pair, remarks = score_both(context.local(inputs.dataset), new, old, name, config.provider, context.progress)
    except CannotScoreError as error:
        return verdict.model_copy(update={"answer": "refused", "reason": str(error)})
    for remark in remarks:
        context.note(remark)
    return decide(
        pair,
        config.gate,
        model=wanted.model,
        challenger=wanted.version,
        champion=champion.version if champion else None,
        dataset_digest=inputs.dataset.digest,
        decided_at=datetime.now(UTC),
    )
