"""Which ranker, of which parts and size? The `ranker:` block of a pipeline, without torch."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Literal

from pydantic import Field, ValidationInfo, field_validator
from pydantic.json_schema import SkipJsonSchema

from components.platform.contract import ComponentConfig
from components.platform.errors import did_you_mean
from components.platform.offers import Offers
from components.rankers.offered import RankerSpec, offered_rankers
from features.declaration import Name

EMBEDDINGS = {
    "vocabulary": "components.rankers.embedding.table:FieldEmbedding",
    "hashed": "components.rankers.embedding.hashed:HashedEmbedding",
}
SEQUENCES = {
    "mean": "components.rankers.sequences.mean:MeanSequence",
    "din": "components.rankers.sequences.din:DinSequence",
    "tin": "components.rankers.sequences.tin:TinSequence",
    "transformer": "components.rankers.sequences.transformer:TransformerSequence",
}
INTERACTIONS = {
    "none": "components.rankers.interactions.none:NoInteraction",
    "mlp": "components.rankers.interactions.mlp:Mlp",
    "dcnv2": "components.rankers.interactions.dcnv2:DcnV2",
    "autoint": "components.rankers.interactions.autoint:AutoInt",
}
DOMAINS = {
    "none": "components.rankers.domains.none:NoAdaptation",
    "star": "components.rankers.domains.star:Star",
    "adaptdhm": "components.rankers.domains.adaptdhm:AdaptDhm",
}
HEADS = {
    "single": "components.rankers.heads.single:SingleHead",
    "shared_bottom": "components.rankers.heads.shared_bottom:SharedBottomHead",
    "mmoe": "components.rankers.heads.mmoe:MmoeHead",
    "ple": "components.rankers.heads.ple:PleHead",
    "esmm": "components.rankers.heads.esmm:EsmmHead",
}
"""Registered name of each part → ``module:class``. YAML never holds the right-hand side."""

COMPOSED = "components.rankers.composed:ComposedRanker"
RANKERS: dict[str, str] = {
    "adaptdhm": COMPOSED,
    "autoint": COMPOSED,
    "dcnv2": COMPOSED,
    "din": COMPOSED,
    "dnn": COMPOSED,
    "esmm": COMPOSED,
    "fintrec": "components.rankers.fintrec.ranker:Fintrec",
    "gnolr": "components.rankers.gnolr.ranker:Gnolr",
    "lr": "components.rankers.lr:LogisticRegression",
    "mmoe": COMPOSED,
    "ple": COMPOSED,
    "shared_bottom": COMPOSED,
    "star": COMPOSED,
}
"""Registered name of each ranker → ``module:class``."""

_COMPOSED_KEYS = frozenset(
    {"embedding_width", "embedding_std", "hidden", "dropout"}
    | {"embedding", "sequence", "interaction", "domain", "head"}
    | {"buckets", "layers", "heads", "experts", "clusters", "routing"}
)
OPTIONS: dict[str, frozenset[str]] = {
    "fintrec": frozenset({"embedding_width", "embedding_std", "hidden", "dropout"} | {"layers", "heads"})
    | {"time", "cvr_space"},
    "gnolr": frozenset({"embedding_width", "embedding_std", "hidden", "dropout", "gamma"}),
    "lr": frozenset(),
} | {name: _COMPOSED_KEYS for name, path in RANKERS.items() if path == COMPOSED}
"""Keys of the `ranker:` block that each ranker understands, besides `name`."""
READ_BY: dict[str, dict[str, tuple[str, ...]]] = {
    "buckets": {"embedding": ("hashed",)},
    "layers": {"sequence": ("transformer",), "interaction": ("mlp", "dcnv2", "autoint")},
    "heads": {"sequence": ("transformer",), "interaction": ("autoint",)},
    "experts": {"head": ("mmoe", "ple")},
    "clusters": {"domain": ("adaptdhm",)},
    "routing": {"domain": ("adaptdhm",)},
}
"""Keys that only some parts of a composed ranker read: key → kind of part → names of the parts."""

_BASE: dict[str, Any] = {
    "embedding_width": 16,
    "embedding_std": 0.01,
    "hidden": (128, 64),
    "dropout": 0.0,
    "embedding": "vocabulary",
    "sequence": "mean",
    "interaction": "none",
    "domain": "none",
    "head": "single",
    "buckets": 65_536,
    "layers": 2,
    "heads": 2,
    "experts": 4,
    "clusters": 3,
    "routing": "centred",
}
_NAMED: dict[str, dict[str, Any]] = {
    "adaptdhm": {"domain": "adaptdhm", "hidden": (64, 64)},
    "autoint": {"interaction": "autoint"},
    "dcnv2": {"interaction": "dcnv2"},
    "din": {"sequence": "din"},
    "dnn": {},
    "esmm": {"head": "esmm", "embedding_width": 18, "hidden": (360, 200, 80)},
    "fintrec": {
        **{"embedding_width": 32, "embedding_std": 0.1, "dropout": 0.1},
        **{"layers": 2, "heads": 4, "time": "decay", "cvr_space": "entire"},
    },
    "gnolr": {"embedding_width": 16, "embedding_std": 1.0, "hidden": (128, 64, 32)},
    "lr": {},
    "mmoe": {"head": "mmoe"},
    "ple": {"head": "ple", "hidden": (128, 128, 64)},
    "shared_bottom": {"head": "shared_bottom"},
    "star": {"domain": "star", "hidden": (64, 64)},
}
DEFAULTS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {name: MappingProxyType({**_BASE, **parts}) for name, parts in _NAMED.items()}
)
"""Parts and sizes of each named ranker: the paper's, where the paper gives them."""


class RankerConfig(ComponentConfig):
    """A ranker by name; every other key left out keeps the named ranker's default."""

    name: Name
    """Registered name of the ranker."""
    embedding_width: int | None = Field(None, ge=1, le=1024)
    """Width of every embedding table."""
    embedding_std: float | None = Field(None, ge=0, le=10)
    """Standard deviation of the initial embeddings."""
    hidden: tuple[int, ...] | None = None
    """Widths of the hidden layers of each tower."""
    dropout: float | None = Field(None, ge=0, lt=1)
    """Share of hidden units dropped in training."""
    embedding: Literal["vocabulary", "hashed"] | None = None
    """How an index becomes a vector: a row of its own, or the sum of two rows of one table of `buckets` rows."""
    sequence: Literal["mean", "din", "tin", "transformer"] | None = None
    """How a history becomes one vector."""
    interaction: Literal["none", "mlp", "dcnv2", "autoint"] | None = None
    """How fields meet before the towers."""
    domain: Literal["none", "star", "adaptdhm"] | None = None
    """How towers adapt to domains, or to clusters found in the data."""
    head: Literal["single", "shared_bottom", "mmoe", "ple", "esmm"] | None = None
    """How the feedback types share what they learn."""
    buckets: int | None = Field(None, ge=2, le=100_000_000)
    """Rows of the one table of a `hashed` embedding."""
    layers: int | None = Field(None, ge=1, le=12)
    """Layers of the interaction, or of a transformer over the history or, in `fintrec`, over the events."""
    heads: int | None = Field(None, ge=1, le=16)
    """Attention heads of `autoint`, `transformer` and `fintrec`."""
    experts: int | None = Field(None, ge=1, le=64)
    """Experts of `mmoe`; shared experts of `ple`, which has as many again per feedback."""
    clusters: int | None = Field(None, ge=1, le=64)
    """K of `adaptdhm`."""
    routing: Literal["centred", "literal"] | None = None
    """`adaptdhm`: subtract the running mean before routing, or route raw vectors as published code does."""
    time: Literal["decay", "none"] | None = None
    """`fintrec`: tokens know how long ago their event was and attention fades with time, or only the order counts."""
    cvr_space: Literal["entire", "click"] | None = None
    """`fintrec`: deeper steps of a funnel learn from products over every impression, or from rows that reached them."""
    gamma: tuple[float, ...] | None = None
    """`gnolr`: scale of each feedback's cosine; left out, 0.9 of the gap between thresholds."""

    code: SkipJsonSchema[str] = Field("", validate_default=True, exclude_if=lambda code: not code)
    """Of a ranker of another package: that package, its version and its source, filled in whatever is written."""

    @field_validator("name")
    @classmethod
    def _known(cls, name: str) -> str:
        if fault := offered().refused.get(name):
            raise ValueError(fault)
        if name not in (known := ranker_names()):
            raise ValueError(f"no ranker {name!r}{did_you_mean(name, known)}")
        return name

    @field_validator("code")
    @classmethod
    def _of_its_package(cls, _: str, info: ValidationInfo) -> str:
        spec = offered().usable.get(info.data.get("name", ""))
        return spec.code if spec else ""

    @field_validator("hidden")
    @classmethod
    def _wide_enough(cls, hidden: tuple[int, ...] | None) -> tuple[int, ...] | None:
        if hidden is not None and (not hidden or min(hidden) < 1):
            raise ValueError("hidden needs at least one layer, each at least 1 wide; leave it out for the default")
        return hidden

    @field_validator("*")
    @classmethod
    def _understood(cls, value: object, info: ValidationInfo) -> object:
        name, key = info.data.get("name"), str(info.field_name)
        if value is None or name is None or key in ("name", "code"):
            return value
        understood = options_of(name)
        if key not in understood:
            raise ValueError(f"ranker {name!r} has no {key!r}: leave it out")
        kinds = [kind for kind in READ_BY.get(key, ()) if kind in understood]
        parts = {kind: info.data.get(kind) or defaults_of(name).get(kind) for kind in kinds}
        if parts and all(chosen not in READ_BY[key][kind] for kind, chosen in parts.items()):
            readers = " or ".join(f"{kind} {' or '.join(map(repr, names))}" for kind, names in READ_BY[key].items())
            here = " and ".join(f"{kind} {chosen!r}" for kind, chosen in parts.items())
            raise ValueError(f"{key!r} is read by {readers}, and this ranker has {here}: leave it out")
        return value

    def complete(self) -> RankerConfig:
        """Return the config with the named ranker's default for every key left out."""
        understood = options_of(self.name)
        filled = {
            key: value
            for key, value in defaults_of(self.name).items()
            if key in understood and getattr(self, key) is None
        }
        return self.model_copy(update=filled)


def offered() -> Offers[RankerSpec]:
    """Return the rankers of installed packages."""
    return offered_rankers(frozenset(RANKERS), frozenset(RankerConfig.model_fields) - {"name", "code"})


def ranker_names() -> list[str]:
    """Return the names of all rankers, ours and those of installed packages, sorted."""
    return sorted({*RANKERS, *offered().usable})


def class_of(name: str) -> str:
    """Return the ``module:class`` of a ranker."""
    return RANKERS[name] if name in RANKERS else offered().usable[name].module


def options_of(name: str) -> frozenset[str]:
    """Return the keys of the `ranker:` block that a ranker understands, besides `name`."""
    return OPTIONS[name] if name in RANKERS else offered().usable[name].options


def defaults_of(name: str) -> Mapping[str, Any]:
    """Return the value of each key that a block leaves out; keys that the ranker does not understand are among them."""
    return DEFAULTS[name] if name in RANKERS else {**_BASE, **offered().usable[name].defaults}
