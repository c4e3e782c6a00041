"""What do the columns of a training row mean, and how are they encoded? Declared once, read everywhere."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints, model_validator

from features.ground.field_docs import field_docs

if TYPE_CHECKING:
    from pydantic import GetJsonSchemaHandler
    from pydantic.json_schema import JsonSchemaValue
    from pydantic_core import CoreSchema

Name = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,62}$")]
"""A name from YAML that becomes a column, a task, a file or a graph input."""
ORDERED = ("sequence", "bag", "elapsed")
"""Kinds whose values have an order, of which the newest are kept."""
LONGEST = 10_000
"""Most events of a history. What is stored does not grow with it; what a model computes per row does, and so does what
the online store keeps per key, in one message of about 10 bytes per event."""


class Frozen(BaseModel):
    """Immutable value with no surprises: unknown keys are errors. The string below a field is its documentation."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """Describe each key by the string below its field."""
        schema = handler(core_schema)
        properties, docs = handler.resolve_ref_schema(schema).get("properties", {}), field_docs(cls)
        for name, info in cls.model_fields.items():
            if name in docs and (key := info.alias or name) in properties:
                properties[key].setdefault("description", docs[name])
        return schema


class Window(Frozen):
    """A half-open interval ``[start, end)`` of UTC time."""

    start: AwareDatetime
    """First moment inside."""
    end: AwareDatetime
    """First moment after it."""
    known_until: AwareDatetime | None = Field(None, exclude_if=lambda moment: moment is None)
    """Rows stored at this moment or later are left out, so that the same window gives the same rows whenever it is
    read; None takes whatever is stored."""

    @model_validator(mode="after")
    def _ordered(self) -> Window:
        if self.start >= self.end:
            raise ValueError(f"window [{self.start:%Y-%m-%d %H:%M}, {self.end:%Y-%m-%d %H:%M}) is empty")
        return self

    def contains(self, moment: datetime) -> bool:
        """Return whether `moment` lies inside ``[start, end)``."""
        return self.start <= moment < self.end

    def __str__(self) -> str:
        known = f" as stored before {self.known_until:%Y-%m-%dT%H:%M:%SZ}" if self.known_until else ""
        return f"[{self.start:%Y-%m-%dT%H:%M:%SZ}, {self.end:%Y-%m-%dT%H:%M:%SZ}){known}"


JudgeBy = Literal["auc", "gauc", "log_loss", "request_auc", "mrr", "ndcg"]
"""Metrics that may say which of two rankers is better; those of requests need `Declaration.request`."""
OF_REQUESTS: tuple[JudgeBy, ...] = ("request_auc", "mrr", "ndcg")


class Position(Frozen):
    """The place of a row in what was shown: a ranker learns what it does, and answers as if every row stood in one."""

    column: Name
    """Column of the place, a whole number."""
    served: int = 1
    """Place that every answer is for; training must have seen it."""
    effect: Literal["input", "additive"] = Field("input", exclude_if=lambda effect: effect == "input")
    """`input` is a feature like any other; `additive` is one number per place and feedback that is added to the logit,
    so that no ranker can let the place change what it says of items. LightGBM reads an input either way."""


class Within(Frozen):
    """A number as it stands among those of the same request."""

    of: Name
    """Column of the number."""
    take: Literal["rank", "ratio", "gap"]
    """`rank` is its place from 1, the smallest first; `ratio` it over the mean of what was shown; `gap` it minus that
    mean."""


class Declaration(Frozen):
    """The roles columns play in a table of impressions."""

    feedback: tuple[Name, ...] = Field(min_length=1)
    """Ordered binary labels, shallow to deep (click, then conversion). With `funnel` every deeper label implies the
    shallower ones."""
    funnel: bool = True
    """Whether the labels are nested."""
    user: Name = "user_id"
    """Column of the user id (groups GAUC)."""
    item: Name = "item_id"
    """Column of the item id."""
    time: Name = "event_timestamp"
    """Column of the impression's time, UTC."""
    domain: Name | None = None
    """Column of the business domain (scenario, placement, age band), or None."""
    request: Name | None = Field(None, exclude_if=lambda column: column is None)
    """Column that is equal for rows that one user was shown together (a request, slate or session), or None."""
    group: Name | None = Field(None, exclude_if=lambda column: column is None)
    """Column of the group that a fairness audit asks about, or None; by itself no input of a ranker."""
    position: Position | None = Field(None, exclude_if=lambda place: place is None)
    """Where a row stood in what was shown, or None."""
    within: dict[Name, Within] = Field(default_factory=dict, exclude_if=lambda made: not made)
    """Features that are made of the rows of a request, by name."""
    judge_by: JudgeBy = Field("auc", exclude_if=lambda metric: metric == "auc")
    """Metric, mean over the feedback, by which training keeps an epoch and the gate compares two rankers."""

    @property
    def added(self) -> str | None:
        """Column of the place whose effect is added to logits, or None."""
        return self.position.column if self.position is not None and self.position.effect == "additive" else None


def conditional_name(deep: str, shallow: str) -> str:
    """Return the name of the conditional task P(deep | shallow), e.g. ``love_given_like``."""
    return f"{deep}_given_{shallow}"


def weight_name(feedback: str) -> str:
    """Return the column that says how much a row counts in the loss of a feedback, e.g. ``click__weight``."""
    return f"{feedback}__weight"


def offsets_name(field: str) -> str:
    """Return the input that says where the histories of a field begin and end, e.g. ``recent_items__offsets``."""
    return f"{field}__offsets"


class FieldSpec(Frozen):
    """One model input, as the encoder produces it and the ranker and the ONNX graph consume it."""

    name: Name
    """Feature name; also the graph input's name."""
    kind: Literal["categorical", "numeric", "sequence", "elapsed", "vector"]
    """``categorical`` is an int64 index per row; ``numeric`` a float32 per row, or `length` of them where several tell
    one number; ``sequence`` int64 indices per row, most recent first, padded at the end with 0; ``elapsed`` float32
    seconds per row from each event of a history to the request, below 0 where there is no event or it lies after the
    request; ``vector`` float32 numbers per row, zero where the vector is missing."""
    size: int = 0
    """Rows of the embedding table (categorical and sequence); 0 otherwise."""
    table: Name | None = None
    """Name of the embedding table; fields with the same table share it."""
    length: int = 0
    """Longest sequence or history kept, width of a vector or of a number in parts; 0 for one value per row."""
    pooled: bool = False
    """Whether a sequence is an unordered bag (genres) rather than a history."""
    timed_by: Name | None = None
    """The ``elapsed`` field that says when the events of this sequence happened; sequences with the same one are
    attributes of the same events, position by position: one stream."""
    content: int = Field(0, exclude_if=lambda width: width == 0)
    """Width of the vector that `attach_vectors` gave each value of the table; 0 where it gave none."""

    @property
    def embedded(self) -> bool:
        """Whether its values are indices of embedding rows, int64; otherwise they are float32."""
        return self.kind in ("categorical", "sequence")

    @property
    def wide(self) -> bool:
        """Whether a row has several values."""
        return self.kind in ("sequence", "elapsed", "vector") or self.length > 0


MISSING_ELEMENT: dict[str, str | int | float] = {
    "string": "", "int32": -(1 << 31), "int64": -(1 << 63), "float32": float("nan"), "float64": float("nan"),
}  # fmt: skip
"""By type of its elements, what stands in a list where something is missing: no online store keeps a null there."""
PADDING = 0
"""Index of padding and of a missing categorical value: its embedding row is zero and never trained."""
UNKNOWN = 1
"""Index of a value that the training split never held."""
FIRST = 2
"""First index of a known value."""


class RankerSchema(Frozen):
    """Everything a ranker must know about the data to build itself."""

    declaration: Declaration
    """Roles of the columns."""
    fields: tuple[FieldSpec, ...]
    """Model inputs, sorted by name."""
    base_rates: dict[str, float]
    """Share of positives per feedback in the training split, for bias initialisation."""
    domains: tuple[str, ...] = ()
    """Known domain values, sorted; empty when there is no domain."""
    weighted: tuple[Name, ...] = Field((), exclude_if=lambda names: not names)
    """Feedback whose loss counts rows by their weight, in the column of `weight_name`; 1 on average."""
    sides: dict[Name, Literal["user", "item"]] = Field(default_factory=dict)
    """By field, whether it describes the user or the item; a field left out describes the request."""
    pairs: tuple[Name, ...] = Field((), exclude_if=lambda names: not names)
    """Fields of the request that another candidate would change, such as what a user did with an author."""
    rows: int = 0
    """Training rows."""
    trained_from: AwareDatetime | None = None
    """Time of the earliest training row."""
    trained_until: AwareDatetime | None = None
    """Every row used to fit or to select the model is earlier than this."""


class FieldEncoding(Frozen):
    """Encoding of one feature; every key left out keeps the default of the feature's Feast dtype."""

    kind: Literal["vocabulary", "hash", "number", "normalise", "bin", "sequence", "bag", "elapsed", "vector"] | None = (
        None
    )
    """`vocabulary` indexes the values of the training split; `hash` maps any value to one of `buckets` rows;
    `number`, the default of floats, gives three numbers: the normal score of x among the training values, what
    `normalise` gives, and whether x is missing; `normalise` is (x − mean) / std, without sentinels far from all other
    values; `bin` cuts at training quantiles into `buckets` embedded rows; `sequence` is an ordered history; `bag` an
    unordered set; `elapsed` turns the times of a history (int64 µs since 1970 UTC) into seconds before the request;
    `vector` passes `length` numbers on as they are, for a vector that another model computed."""
    buckets: int = Field(10_000, ge=2)
    """Rows of a hash or bin encoding."""
    min_count: int = Field(1, ge=1)
    """Values rarer than this in the training split count as unknown."""
    shares: Name | None = None
    """Feature whose vocabulary and embedding table this one uses."""
    length: int = Field(50, ge=1, le=LONGEST)
    """Longest history kept, its newest end; width of a vector."""
    order: Literal["newest_first", "oldest_first"] = "newest_first"
    """How the column lists a history: its newest value first, as recipes do, or its oldest. The ranker reads it newest
    first either way."""
    timed_by: Name | None = None
    """The `elapsed` feature with the times of this history."""

    @model_validator(mode="after")
    def _an_order_of_values(self) -> Self:
        if self.order == "oldest_first" and self.kind not in (None, *ORDERED):
            raise ValueError(f"order says how a list of values is read, and {self.kind!r} reads none: leave it out")
        return self
