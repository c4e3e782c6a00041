"""Do the parts of a ranker make sense together with the training set that is wired to it? One function per rule.

These rules read two stages: the one with the `ranker:` block (of a pipeline, or an entry of a comparison), and the
one at the other end of its wire, which declares feedback and domain. Keys that a combination of parts would ignore
are refused by `RankerConfig` itself, and what only the rows can tell when the ranker is built.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from pydantic import BaseModel

from components.data.build_training_set.config import Config as Roles
from components.judge.retrieve_candidates.config import COMPONENT as RETRIEVAL
from components.platform.artifacts import OnnxModel, Ranker, TrainingSet
from components.rankers import refusals
from components.rankers.config import ComposedConfig, RankerConfig
from components.rankers.fintrec.config import FintrecConfig
from components.rankers.gnolr.config import GnolrConfig
from components.rankers.onepiece.config import OnePieceConfig
from features.declaration import Declaration
from features.ground.yaml_text import KeyPath, quoted
from pipelines.language import shape
from pipelines.language.params import references
from pipelines.language.problems import Finding
from pipelines.language.rules.draft import PipelineDraft, Rule

_JUDGED = frozenset(
    {"name", "head", "domain", "gamma", "cvr_space"}
    | {"feedback", "funnel", "user", "item", "context", "drop", "encode"}
)
"""Keys that a rule reads: where one of them is broken, nothing can be said."""


@dataclass(frozen=True)
class Training:
    """A ranker, and the roles of the columns that it will be trained on."""

    draft: PipelineDraft
    stage: str
    """Stage with the `ranker:` block."""
    ranker: RankerConfig
    dataset: str
    """Stage that declares the roles."""
    roles: Roles
    """Its config."""

    @property
    def declaration(self) -> Declaration:
        """Roles without the config around them."""
        return self.roles.declaration()

    @property
    def inputs(self) -> set[str]:
        """Columns of the impression that the ranker reads; the features of the service are more."""
        named = {self.roles.user, self.roles.item, *self.roles.context}
        named |= {self.roles.position.column} if self.roles.position else set()
        return (named | {self.roles.domain} if self.roles.domain else named) - {*self.roles.drop}

    @property
    def gamma(self) -> tuple[float, ...] | None:
        """Scales of `gnolr`, where they are given."""
        return self.ranker.gamma if isinstance(self.ranker, GnolrConfig) else None

    def part(self, kind: str) -> str | None:
        """Return the part of a composed ranker."""
        return str(getattr(self.ranker, kind)) if isinstance(self.ranker, ComposedConfig) else None

    def chosen(self, part: str, message: str) -> Finding:
        """Return a finding at the part, or at the name of the ranker that has it by default."""
        written = self.draft.block("stages", self.stage, "with", "ranker")
        return self.at(self.stage, ("ranker", part if part in written else "name"), message)

    def at(self, stage: str, where: KeyPath, message: str) -> Finding:
        """Return a finding below `with:` of a stage, at the nearest block that the file has."""
        path = self.draft.nearest(stage, where)
        used = references(self.draft.spec.stages[stage].with_)
        if param := next((name for at, name in used.items() if at == path[3:][: len(at)]), None):
            message += f" (the default of param {quoted(param)})"
        return Finding(path, message)


def trainings(draft: PipelineDraft) -> Sequence[Training]:
    """Return every ranker whose block and whose training set's roles can be read; looked for once per draft."""
    if trainings not in draft.asked:
        draft.asked[trainings] = tuple(_trainings(draft))
    found: Sequence[Training] = draft.asked[trainings]
    return found


def _trainings(draft: PipelineDraft) -> Iterator[Training]:
    for name, _, component in draft.stages():
        if "ranker" not in component.config.model_fields:
            continue
        ranker = _fitted(draft, name, RankerConfig, "ranker")
        dataset = _declaring_stage(draft, name)
        if isinstance(ranker, RankerConfig) and dataset is not None:
            roles = _fitted(draft, dataset, Roles)
            if isinstance(roles, Roles):
                yield Training(draft, name, ranker, dataset, roles)


def esmm_has_a_funnel(draft: PipelineDraft) -> Iterator[Finding]:
    """Head `esmm` multiplies the steps of a funnel, so there must be one of two or more."""
    for training in trainings(draft):
        if training.part("head") == "esmm" and (reason := refusals.no_funnel(training.declaration)):
            yield training.chosen("head", reason)


def click_space_has_a_step(draft: PipelineDraft) -> Iterator[Finding]:
    """`cvr_space: click` of `fintrec` learns the deeper steps of a funnel, so there must be one."""
    for training in trainings(draft):
        ranker = training.ranker
        if (
            isinstance(ranker, FintrecConfig)
            and ranker.cvr_space == "click"
            and (reason := refusals.no_clicks(training.declaration))
        ):
            yield training.at(training.stage, ("ranker", "cvr_space"), reason)


def events_have_times(draft: PipelineDraft) -> Iterator[Finding]:
    """Rankers of timed events need them, so the training set holds the times of a history."""
    for training in trainings(draft):
        if not isinstance(training.ranker, FintrecConfig | OnePieceConfig):
            continue
        for columns in draft.columns.get(training.stage, {}).values():
            timed = [c for c in columns.known.values() if c.kind == "elapsed" and not c.auxiliary]
            if columns.tasks and columns.whole and not timed:
                yield training.at(training.stage, ("ranker", "name"), refusals.no_times(training.ranker.name))


def frozen_has_vectors(draft: PipelineDraft) -> Iterator[Finding]:
    """Embedding `frozen` and sequence `muse` read vectors of values, so `attach_vectors` stands before them."""
    for training in trainings(draft):
        if not any(columns.vectors is False for columns in draft.columns.get(training.stage, {}).values()):
            continue
        if training.part("embedding") == "frozen":
            yield training.chosen("embedding", refusals.no_vectors("embedding 'frozen'", "embedding 'vocabulary'"))
        if isinstance(training.ranker, ComposedConfig) and "muse" in training.ranker.encoders:
            yield training.chosen("sequence", refusals.no_vectors("sequence 'muse'", "sequence 'din'"))


def sequences_are_histories(draft: PipelineDraft) -> Iterator[Finding]:
    """What a map of `sequence` names is a history of the training set, or the times of some."""
    for training in trainings(draft):
        ranker = training.ranker
        chosen = ranker.sequence if isinstance(ranker, ComposedConfig) else {}
        for columns in draft.columns.get(training.stage, {}).values() if isinstance(chosen, dict) else ():
            lists = sorted(name for name, column in columns.known.items() if column.dtype.startswith("array"))
            for name in chosen if columns.tasks and columns.whole else ():
                if name not in columns.known:
                    yield training.at(training.stage, ("ranker", "sequence", name), refusals.no_history(name, lists))


def pairs_are_of_fields(draft: PipelineDraft) -> Iterator[Finding]:
    """What `optinter` pairs are columns of the training set with one value per row."""
    for training in trainings(draft):
        for way in ("memorise", "factorise"):
            pairs = getattr(training.ranker, way, ())
            for columns in draft.columns.get(training.stage, {}).values() if pairs else ():
                if not (columns.tasks and columns.whole):
                    continue
                single = {name: c for name, c in columns.known.items() if not c.dtype.startswith("array")}
                fields = [n for n, c in single.items() if c.role not in ("feedback", "timestamp") and not c.auxiliary]
                for at, pair in enumerate(pairs):
                    for place, name in enumerate(pair):
                        if name not in single:
                            where = ("ranker", way, at, place)
                            yield training.at(training.stage, where, refusals.no_pair(name, fields))


def star_has_a_domain(draft: PipelineDraft) -> Iterator[Finding]:
    """Domain part `star` keeps weights per declared domain; `adaptdhm` finds its own groups and needs none."""
    for training in trainings(draft):
        if training.part("domain") == "star" and (reason := refusals.no_domain(training.declaration)):
            yield training.chosen("domain", reason)


def star_reads_the_domain(draft: PipelineDraft) -> Iterator[Finding]:
    """Domain part `star` finds a row's domain among the ranker's categorical inputs."""
    for training in trainings(draft):
        domain = training.roles.domain
        if training.part("domain") != "star" or domain is None:
            continue
        encoding = training.roles.encode.get(domain)
        if domain in training.roles.drop:
            where: KeyPath = ("drop", training.roles.drop.index(domain))
        elif encoding is not None and encoding.kind in ("number", "normalise"):
            where = ("encode", domain, "kind")
        else:
            continue
        reason = refusals.no_domain_input(domain)
        at_ranker = training.chosen("domain", reason).where
        yield replace(training.at(training.dataset, where, reason), otherwise=at_ranker)


def gamma_counts_the_feedback(draft: PipelineDraft) -> Iterator[Finding]:
    """`gamma` of `gnolr` has one entry per feedback."""
    for training in trainings(draft):
        gamma = training.gamma
        if gamma is not None and (reason := refusals.gamma_of_another_length(training.roles.feedback, gamma)):
            yield training.at(training.stage, ("ranker", "gamma"), reason)


def gamma_scales(draft: PipelineDraft) -> Iterator[Finding]:
    """Each entry of `gamma` is a positive scale."""
    for training in trainings(draft):
        wrong = refusals.gamma_that_is_no_scale(training.roles.feedback, training.gamma or ())
        for position, reason in wrong.items():
            yield training.at(training.stage, ("ranker", "gamma", position), reason)


def feedback_comes_once(draft: PipelineDraft) -> Iterator[Finding]:
    """A feedback listed twice would be two tasks of one name."""
    for training in trainings(draft):
        feedback = training.roles.feedback
        for position, name in enumerate(feedback):
            if name in feedback[:position]:
                message = f"feedback {quoted(name)} is listed twice: remove one of them"
                yield training.at(training.dataset, ("feedback", position), message)


def names_mean_one_thing(draft: PipelineDraft) -> Iterator[Finding]:
    """Columns of the impression, feedback and what a ranker makes of it are inputs and outputs of one graph."""
    for training in trainings(draft):
        roles = training.roles
        once = Declaration(feedback=tuple(dict.fromkeys(roles.feedback)), funnel=roles.funnel)
        within = {*roles.within} - {*roles.feedback}  # that one is told where `within` is
        for name, reason in refusals.names_with_two_meanings(once, training.inputs | within).items():
            where: KeyPath = ("within", name) if name in within else ("feedback",)
            for role in ("user", "item", "domain"):
                where = (role,) if getattr(roles, role) == name else where
            if roles.position is not None and roles.position.column == name:
                where = ("position", "column")
            if name in roles.feedback:
                where = ("feedback", roles.feedback.index(name))
            elif name in roles.context:
                where = ("context", roles.context.index(name))
            found = training.at(training.dataset, where, reason)
            yield replace(found, at="key") if where[0] == "within" else found


def retrieval_has_vectors(draft: PipelineDraft) -> Iterator[Finding]:
    """`retrieve_candidates` finds items by their vectors, which a ranker that scores pairs has not."""
    by_stage = {training.stage: training for training in trainings(draft)}
    for name, _, component in draft.stages():
        if component.name != RETRIEVAL.name:
            continue
        stage: str | None = name
        for _ in draft.spec.stages:  # each step goes one stage back
            stage = stage if stage is None or stage in by_stage else _model_of(draft, stage)
        if stage is None or isinstance(by_stage[stage].ranker, GnolrConfig):
            continue
        training = by_stage[stage]
        yield training.at(stage, ("ranker", "name"), refusals.no_sides(training.ranker.name, name))


def _model_of(draft: PipelineDraft, stage: str) -> str | None:
    """Return the stage that makes the ranker, or its graph, which `stage` reads."""
    reader = draft.component(stage)
    for wire in draft.wires():
        made = reader.input_types.get(wire.input) if reader is not None and wire.stage == stage else None
        if made is not None and issubclass(made, (OnnxModel, Ranker)):
            return wire.producer
    return None


def _declaring_stage(draft: PipelineDraft, stage: str) -> str | None:
    """Return the stage that makes the training set which `stage` reads, when that declares roles."""
    reader = draft.component(stage)
    for wire in draft.wires():
        made = reader.input_types.get(wire.input) if reader is not None and wire.stage == stage else None
        producer = draft.component(wire.producer)
        if made is not None and issubclass(made, TrainingSet) and producer is not None:
            return wire.producer if issubclass(producer.config, Roles) else None
    return None


def _fitted(draft: PipelineDraft, stage: str, model: type[BaseModel], *below: str) -> BaseModel | None:
    """Return a block below `with:` with every parameter at its default, or None when its roles cannot be read."""
    block = draft.with_block(stage)
    for part in below:
        block = block.get(part) if isinstance(block, dict) else None
    if not isinstance(block, dict):
        return None
    fitted, findings = shape.fit(model, block)
    broken = [finding.where for finding in findings]
    if fitted is None and not any(not where or where[0] in _JUDGED for where in broken):
        fitted, _ = shape.fit(model, shape.prune(block, broken))
    return fitted


RANKER_RULES: tuple[Rule, ...] = (
    esmm_has_a_funnel,
    click_space_has_a_step,
    events_have_times,
    frozen_has_vectors,
    sequences_are_histories,
    pairs_are_of_fields,
    star_has_a_domain,
    star_reads_the_domain,
    gamma_counts_the_feedback,
    gamma_scales,
    retrieval_has_vectors,
    feedback_comes_once,
    names_mean_one_thing,
)
"""Every rule about a ranker, in the order in which a reader would check by hand."""
