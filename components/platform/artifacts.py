"""Which artifacts do stages exchange, and which files lie in each?

An artifact is a directory with a `manifest.json` written last. These classes are small typed
references: they travel in XCom and in JSON, the bytes stay in the store. The docstring of each
type is its file layout; a stage may rely on nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, get_args, get_origin

from pydantic import BaseModel

from features.declaration import Frozen


@dataclass(frozen=True)
class Page:
    """A file of an artifact that a reader looks at."""

    file: str
    what: str
    """What a reader finds there."""


class Artifact(Frozen):
    """Reference to a published, immutable directory."""

    kind: ClassVar[str] = "artifact"
    schema_version: ClassVar[int] = 1
    page: ClassVar[Page | None] = None
    """HTML file that shows it."""
    picture: ClassVar[Page | None] = None
    """PNG file that shows it, where there is no page."""
    news: ClassVar[str] = ""
    """What happened when it says something new, for a type that may say nothing new; empty where each one is new."""

    uri: str
    """fsspec URI of the directory. A component returns a draft: the local directory it wrote."""
    digest: str = ""
    """sha256 over the directory's files, type and schema version; empty for a draft."""

    @classmethod
    def describe(cls) -> str:
        """Return the first sentence of the type's docstring."""
        return (cls.__doc__ or "").strip().split("\n")[0]


class EventsTable(Artifact):
    """Typed impressions with their labels, user and item attributes.

    `events.parquet`: one row per impression, sorted by time, user and item; `timestamp[us, UTC]`.
    `window.json`: `features.declaration.Window` that the rows come from.
    `<log>.parquet`: further logs of the same time, such as purchases, that features may be computed from.
    """

    kind: ClassVar[str] = "events_table"


class ValidatedEvents(EventsTable):
    """Impressions that passed a data contract; the same files as `EventsTable`."""

    kind: ClassVar[str] = "validated_events"


class QuarantinedRows(Artifact):
    """Rows that a suite sent aside, each with the expectations it broke.

    `rows.parquet`: the rows as they came, plus `broken`, a list of labels such as
    `expect_column_values_to_be_between(rating)`. May be empty.
    """

    kind: ClassVar[str] = "quarantined_rows"


class DataDocs(Artifact):
    """What the data contract found.

    `index.html`: self-contained page. `result.json`: `components.data.validate_data.config.SuiteResult`.
    """

    kind: ClassVar[str] = "data_docs"
    page: ClassVar[Page] = Page("index.html", "what the data contract found")


class FeatureTables(Artifact):
    """Parquet files behind the sources of one Feast feature service.

    `<source name>.parquet` per batch source, with `event_timestamp` and `created_timestamp` in
    `timestamp[us, UTC]`; `<source name>.events/`: what its histories refer to (`features.joins.histories`).
    `service.json`: `features.joins.store.ServiceSnapshot`.
    """

    kind: ClassVar[str] = "feature_tables"


class ItemVectors(Artifact):
    """What something other than clicks says of items: one vector each, of texts, images or another model.

    `vectors.parquet`: one row per item, ascending: `item`, int64 or text, and `vector`, a list of fixed width of
    float32 or float16. `vectors.json`: `components.ingest.item_vectors.VectorsHeader`. What `embed_text` learned of the
    texts: `vocabulary.json`, `components.safetensors`.
    """

    kind: ClassVar[str] = "item_vectors"


class SemanticIds(Artifact):
    """Codes of items that are made of their vectors, and what they were made with.

    `codes.parquet`: `item` and a column per piece, values from 1. `codebook.json`:
    `components.data.assign_semantic_ids.config.Codebook`. `codebook.safetensors`: centres by level, and what comes
    before them.
    """

    kind: ClassVar[str] = "semantic_ids"


class DerivedLabels(Artifact):
    """How labels were made of numbers, and what they say of the number that they must not speak of.

    `labels.json`: `components.data.derive_labels.config.MadeLabels`. `labels.html`: self-contained page.
    """

    kind: ClassVar[str] = "derived_labels"
    page: ClassVar[Page] = Page("labels.html", "derived labels, group by group")


class ItemPairs(Artifact):
    """What goes with each item, what stands for it, and how much of later baskets that tells.

    `pairs.parquet`: one row per item and other item that goes with it, by item and rank: `item`, `rank` from 1,
    `other`, `score`, and `together`, the baskets that hold both. `alike.parquet`: the same of what stands for it.
    `items.parquet`: `item`, ascending, and its `baskets`. `vectors.safetensors`, in that order: float32 ``[I, D]``
    `asking` and `found`, ``[I]`` `log_chance`. `report.json`: `components.train.fit_item_pairs.report.Fit`.
    `report.html`: self-contained page.
    """

    kind: ClassVar[str] = "item_pairs"
    page: ClassVar[Page] = Page("report.html", "what goes together, and how much of later baskets it tells")


class LabelledRows(Artifact):
    """Raw rows with labels, as a model reads them.

    `raw/rows.parquet`: row_id, roles, labels and features; or the splits of a `TrainingSet`. `answers.parquet`, of the
    log of a service only: what was answered to each row, and by whom (`components.ingest.ingest_served.answers`).
    """

    kind: ClassVar[str] = "labelled_rows"


class TrainingSet(LabelledRows):
    """Point-in-time-correct rows in three splits, raw and encoded.

    `raw/{train,validation,test}.parquet`: row_id, roles, labels and features as Feast returned them,
    sorted by time and row_id; `raw/events/`: what their histories refer to (`features.joins.histories`).
    `encoded/{train,validation,test}.arrow`, which may be left out: then who reads them encodes the raw rows
    (`components.data.training_set.read_encoded`), as always after `continue_ranker`: Arrow IPC, uncompressed, the
    same rows in the same order; one column per field of the schema (the smallest integers that hold its indices,
    float32, or a list view: of a history's indices, of its times as int64 µs, which rows may share), one float32
    column per feedback, `__domain` and `__user` as int64 codes, `__time` as int64 µs where there are times.
    `schema.json`: `features.declaration.RankerSchema`. `encoder.json`, `vocabularies.arrow`:
    `features.encoding.files`.
    `report.json`: `components.data.build_training_set.config.SplitReport`. `features.json`:
    `features.services.served.ServedFeatures`, where a server gets each column. After `attach_vectors`, by table:
    `vectors/TABLE.safetensors`, what `components.data.table_vectors.TableVectors` holds, and `vectors/TABLE.json`:
    `Attached` of `attach_vectors`.
    """

    kind: ClassVar[str] = "training_set"


class Ranker(Artifact):
    """Trained weights with everything needed to build the module again.

    `weights.safetensors`: the state dict of the best epoch. `ranker.json`:
    `components.rankers.config.RankerConfig`. `schema.json`, `encoder.json`, `vocabularies.arrow`: as in `TrainingSet`.
    `history.json`: list of `components.train.train_ranker.config.EpochReport`. `curves.png`: the curves.
    Of a ranker whose fields attend to each other, also `attention.json`:
    `components.train.train_ranker.attention.MeanAttention`, drawn below the curves.
    Trained with what tuning found, also `origin.json`: `components.train.tuned.Origin`; with what a search of the
    architecture chose, `architecture.json`: `components.train.searched.ChosenBy`.
    Adapted by LoRA, also `adapter.safetensors`: what was trained, and `adapter.json`:
    `components.rankers.lora.config.AdapterHeader`. Continued from a champion, also `continued.json`:
    `Continuation` of `continue_ranker`, `last_seen.safetensors`: by table, int32 UTC day since 1970-01-01
    of each value of the vocabulary, and `optimiser.safetensors`: its values at the best epoch.
    """

    kind: ClassVar[str] = "ranker"
    picture: ClassVar[Page] = Page("curves.png", "training curves")


class Tuned(Artifact):
    """Which values of a ranker's knobs were best on validation, and every trial that says so.

    `tuned.json`: `components.train.tuned.Tuning`. `trials.parquet`: one row per trial: its number, kind, values as
    JSON, seed, state, epochs, value, and the metrics of each epoch as JSON. `tuned.html`: self-contained page.
    `plots/*.png`. No seconds, so that the same trials make the same artifact; MLflow has them.
    """

    kind: ClassVar[str] = "tuned"
    page: ClassVar[Page] = Page("tuned.html", "what tuning tried, what it found, and how much of that is luck")


class Architecture(Artifact):
    """Which pairs of fields a ranker memorises, multiplies or leaves alone, and what says so.

    `architecture.json`: `components.train.searched.Searched`. `architecture.html`: self-contained page.
    `plots/*.png`. No seconds, so that the same search makes the same artifact.
    """

    kind: ClassVar[str] = "architecture"
    page: ClassVar[Page] = Page("architecture.html", "what each pair of fields is worth, and what was chosen for it")


class Predecessor(Artifact):
    """The ranker that training continues, or that there is none.

    `predecessor.json`: `Taken` of `take_champion`. `ranker/`: the files of a `Ranker`, if there is one.
    """

    kind: ClassVar[str] = "predecessor"


class OnnxModel(Artifact):
    """Exported graph that answers as the trained ranker does.

    `model.onnx`: inputs named like the fields, axes `batch`, `history` and `bag_<field>`
    (`registry.serving.model.contract`); outputs are the tasks' probabilities by name and `hidden`.
    `<weight>.safetensors`: large tables, which the graphs name as external data
    (`components.judge.export_onnx.tables`). `contract.json`: `registry.serving.model.contract.ModelContract`.
    `encoder.json`, `vocabularies.arrow`, `schema.json`: as in `TrainingSet`. `parity.json`:
    `registry.serving.model.contract.ParityReport`, of the graph alone. `calibration.json`, after `calibrate_ranker`
    only: `registry.serving.scores.calibration.Calibration`. `request.onnx`, `request.json` and `request_parity.json`,
    if exported with ``shape: request``: `registry.serving.model.request_graph`. `golden.parquet`: rows and their
    answers (`registry.serving.evidence.golden`). `features.json`: as in `TrainingSet`.
    """

    kind: ClassVar[str] = "onnx_model"


class RankerChoice(Artifact):
    """How several exported rankers did on the same validation rows, and which of them is best.

    `choice.json`: `components.judge.choose_ranker.choice.Choice`. `choice.html`: self-contained page.
    """

    kind: ClassVar[str] = "ranker_choice"
    page: ClassVar[Page] = Page("choice.html", "candidates on the same rows, and how sure the choice is")


class EvaluationReport(Artifact):
    """How well the exported model ranks and calibrates on the test split.

    `report.json`: `registry.evaluation.Evaluation`. `report.html`: self-contained page.
    `plots/*.png`. `predictions.parquet`: row_id, user, domain, labels and predicted tasks. `baseline.json`:
    `registry.serving.evidence.baseline.Baseline`, what later days are compared with.
    """

    kind: ClassVar[str] = "evaluation_report"
    page: ClassVar[Page] = Page("report.html", "metrics, calibration, per-domain plots")


class Policy(Artifact):
    """Which action to choose, learned from a log: the chance of each, by what is known before the choice.

    `policy.onnx`: features and the mask `allowed` in, `chance` of every action out, float64. `contract.json`:
    `components.judge.policy_files.PolicyContract`. `encoder.json`, `vocabularies.arrow`: as in `TrainingSet`.
    `report.json`: `components.judge.learn_policy.report.Learning`. `report.html`: self-contained page.
    """

    kind: ClassVar[str] = "policy"
    page: ClassVar[Page] = Page("report.html", "how the policy was learned, and what it chooses")


class AttributionReport(Artifact):
    """What the events of each channel do to a conversion's predicted probability.

    `report.json`: `components.judge.attribute_conversions.report.Attribution`. `report.html`: self-contained page.
    """

    kind: ClassVar[str] = "attribution_report"
    page: ClassVar[Page] = Page("report.html", "what each channel's events do")


class DeliveryReport(Artifact):
    """Who was shown each ad against who might have been, by group.

    `report.json`: `components.judge.audit_delivery.report.Delivery`. `report.html`: self-contained page.
    """

    kind: ClassVar[str] = "delivery_report"
    page: ClassVar[Page] = Page("report.html", "delivery by group, against chance")


class PolicyReport(Artifact):
    """What policies are worth, judged by the log of another one.

    `report.json`: `components.judge.simulate_policy.report.Simulation`. `report.html`: self-contained page.
    `plots/*.png`.
    """

    kind: ClassVar[str] = "policy_report"
    page: ClassVar[Page] = Page("report.html", "what policies are worth")


class CandidatesTable(Artifact):
    """The items that may suit each user, and how many later choices are among them.

    `candidates.parquet`: one row per user and candidate, by user and rank: both ids under their names in the training
    set, `rank` from 1, `score`, the inner product of their vectors, and `kind`, the kind of items whose query found it,
    null where that was the user's own vector. `report.json`:
    `components.judge.retrieve_candidates.report.Retrieval`. `report.html`: self-contained page.
    """

    kind: ClassVar[str] = "candidates_table"
    page: ClassVar[Page] = Page("report.html", "later choices among the candidates")


class ModelVersion(Artifact):
    """A version in the MLflow registry.

    `version.json`: `registry.serving.model.contract.RegisteredVersion`. `card.md`: the model card.
    """

    kind: ClassVar[str] = "model_version"


class Promotion(Artifact):
    """The gate's answer about one version, and what was done.

    `verdict.json`: `registry.gate.verdict.Verdict`. `verdict.html`: self-contained page.
    """

    kind: ClassVar[str] = "promotion"
    page: ClassVar[Page] = Page("verdict.html", "the gate, cell by cell")
    news: ClassVar[str] = "the champion moved"


class ServedComparison(Artifact):
    """What two versions of one model answered to people's questions, compared; nothing was moved.

    `verdict.json`: `registry.gate.verdict.Verdict`. `verdict.html`: self-contained page. It is no `Promotion`, which
    pipelines wait for as for a change of champion.
    """

    kind: ClassVar[str] = "served_comparison"
    page: ClassVar[Page] = Page("verdict.html", "champion and challenger on people's questions, cell by cell")


class DriftReport(Artifact):
    """What the days of a window look like beside the baseline of a version.

    `drift.json`: `components.judge.watch_drift.report.Report`. `drift.html`: self-contained page. `plots/*.png`.
    """

    kind: ClassVar[str] = "drift_report"
    page: ClassVar[Page] = Page("drift.html", "what drifted, day by day")


class DriftAlarm(Artifact):
    """Whether a day drifted; pipelines that wait for it start only when it did.

    `alarm.json`: `components.judge.watch_drift.report.Alarm`.
    """

    kind: ClassVar[str] = "drift_alarm"
    news: ClassVar[str] = "a day drifted"


class ErrorMemory(Artifact):
    """ReLoop2 state that belongs to one champion.

    `memory.safetensors`: the store. `memory.json`: `registry.memory.error_memory.MemoryHeader` (champion
    digest, kind and seed of the store, window covered). `slots.json`: `registry.memory.prequential.SlotReport` per
    slot of time, base against compensated. `slots.html`, `slots.png`: the same as a picture.
    """

    kind: ClassVar[str] = "error_memory"
    page: ClassVar[Page] = Page("slots.html", "base against compensated, slot by slot")


class Bandit(Artifact):
    """What is still to be found out of items, by clusters of users; it belongs to one champion.

    `bandit.safetensors`: ``centres``, and ``d`` and ``b`` of every cluster and item, float64. `items.parquet`: the ids.
    `bandit.json`: `registry.memory.bandit.BanditHeader`. `bandit.html`, `bonus.png`: the same to look at.
    """

    kind: ClassVar[str] = "bandit"
    page: ClassVar[Page] = Page("bandit.html", "what is still to be found out")


class MemoryStudy(Artifact):
    """What the error memory and incremental training would have done, slot by slot.

    `report.json`: `components.memory.study_error_memory.report.StudyReport`. `report.html`: self-contained page.
    `slots.png`: the four learners per slot of time.
    """

    kind: ClassVar[str] = "memory_study"
    page: ClassVar[Page] = Page("report.html", "memory and incremental training against the base, slot by slot")


def _subclasses(root: type[Artifact]) -> dict[str, type[Artifact]]:
    found = {root.kind: root}
    for child in root.__subclasses__():
        found |= _subclasses(child)
    return found


def artifact_kinds() -> dict[str, type[Artifact]]:
    """Return every artifact type by its kind, third parties' included once imported."""
    return _subclasses(Artifact)


def artifact_fields(model: type[BaseModel]) -> dict[str, type[Artifact]]:
    """Return the artifact type of each field of an `Inputs` or `Outputs` model.

    Of ``Type | None`` and ``dict[str, Type]`` it is the type.
    """
    fields: dict[str, type[Artifact]] = {}
    for name, info in model.model_fields.items():
        kinds: list[Any] = [kind for kind in get_args(info.annotation) if kind is not type(None)]
        annotation: Any = kinds[0] if len(kinds) == 1 and not info.is_required() else info.annotation
        annotation = kinds[1] if get_origin(info.annotation) is dict and kinds[0] is str else annotation
        if not (isinstance(annotation, type) and issubclass(annotation, Artifact)):
            raise TypeError(f"{model.__module__}.{model.__qualname__}.{name} must be annotated with an artifact type")
        fields[name] = annotation
    return fields


def many_fields(model: type[BaseModel]) -> frozenset[str]:
    """Return the fields of an `Inputs` model that hold artifacts by stage."""
    return frozenset(name for name, info in model.model_fields.items() if get_origin(info.annotation) is dict)
