"""Which ranker, of which parts and size? The `ranker:` block of a pipeline, without torch.

The block is flat, and its `name` says which class checks it: of `esmm` that of `EsmmConfig`, joined with those of the
parts that it chooses, so that every key is read by somebody and a built ranker has a value for each.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Annotated, Any, ClassVar, Literal, cast

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    TypeAdapter,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    create_model,
    field_validator,
    model_serializer,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue, SkipJsonSchema
from pydantic_core import CoreSchema, PydanticKnownError
from pydantic_core.core_schema import with_info_wrap_validator_function

from components.platform.contract import ComponentConfig
from components.rankers.registration import RANKER, Registered, code_of, fault_of, offered, registered
from features.declaration import Name
from features.ground.field_docs import field_docs


def _wide_enough(hidden: tuple[int, ...]) -> tuple[int, ...]:
    if not hidden or min(hidden) < 1:
        raise ValueError("hidden needs at least one layer, each at least 1 wide; leave it out for the default")
    return hidden


Width = Annotated[int, Field(ge=1, le=1024)]
Deviation = Annotated[float, Field(ge=0, le=10)]
Hidden = Annotated[tuple[int, ...], AfterValidator(_wide_enough)]
Dropout = Annotated[float, Field(ge=0, lt=1)]
PARAMETER = r"^\$\{(params|matrix)\.[a-z][a-z0-9_]*\}$"
"""What a pipeline may write in place of any value."""
Layers = Annotated[int, Field(ge=1, le=12)]
AttentionHeads = Annotated[int, Field(ge=1, le=16)]


class Sizes(ComponentConfig):
    """What nearly every ranker reads, and every part may."""

    embedding_width: Width = 16
    """Width of every embedding table."""
    embedding_std: Deviation = 0.01
    """Standard deviation of the initial embeddings."""
    hidden: Hidden = (128, 64)
    """Widths of the hidden layers of each tower."""
    dropout: Dropout = 0.0
    """Share of hidden units dropped in training."""


class PartConfig(Registered, Sizes):
    """Base of the options of a part; what it builds gets them together with those of the ranker around it."""

    @property
    def start(self) -> float:
        """Size at which what is learned beside the embeddings starts: theirs, unless they start at zero."""
        return self.embedding_std or 0.01


class EmbeddingConfig(PartConfig):
    """How an index becomes a vector."""

    kind = "embedding"


class SequenceConfig(PartConfig):
    """How a history becomes one vector."""

    kind = "sequence"


class InteractionConfig(PartConfig):
    """How fields meet before the towers."""

    kind = "interaction"


class DomainConfig(PartConfig):
    """How towers adapt to domains, or to clusters found in the data."""

    kind = "domain"


class HeadConfig(PartConfig):
    """How the feedback types share what they learn."""

    kind = "head"


class BackboneConfig(PartConfig):
    """What reads all fields and events by itself."""

    kind = "backbone"


PARTS = tuple(
    base.kind for base in (EmbeddingConfig, SequenceConfig, InteractionConfig, DomainConfig, HeadConfig, BackboneConfig)
)
"""Kinds of parts, each a key of the block of a composed ranker."""


class RankerConfig(Registered):
    """A ranker by name; every other key left out keeps the named ranker's default."""

    kind: ClassVar[str] = RANKER

    name: Name
    """Registered name of the ranker."""
    code: SkipJsonSchema[str] = ""
    """Of a ranker, or with a part, of another package: package, version and source, filled in whatever is written."""

    @classmethod
    def of(cls, name: str, **options: Any) -> RankerConfig:
        """Return the block of a ranker, as if it was written in a pipeline.

        Raises:
            ValidationError: there is no such ranker, or it does not understand an option.
        """
        return RankerConfig.model_validate({"name": name, **options})

    @classmethod
    def __get_pydantic_core_schema__(cls, source: type[Any], handler: GetCoreSchemaHandler) -> CoreSchema:
        schema = handler(source)
        return with_info_wrap_validator_function(_by_its_name, schema) if cls is RankerConfig else schema

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """Return the schema of a block; of any ranker's, that says for each name which keys it reads."""
        found = super().__get_pydantic_json_schema__(schema, handler)
        if cls is RankerConfig:
            made = handler.resolve_ref_schema(found)
            made |= _by_name(handler)
            made.pop("additionalProperties", None)  # asked of one class by several fields, it is made once
        return found

    @classmethod
    def choices(cls, name: str, block: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        """Yield kind and name of everything that a block of this ranker chooses: itself, and its parts."""
        yield RANKER, name

    @field_validator("name")
    @classmethod
    def _is_known(cls, name: str) -> str:
        if fault := fault_of(RANKER, name):
            raise ValueError(fault)
        return name

    def __reduce__(self) -> tuple[Any, ...]:
        """Be made anew by another process: the class of a combination is made where it is first used."""
        return RankerConfig.model_validate, (self.model_dump(),)

    @model_serializer
    def _flat(self) -> dict[str, Any]:
        return {key: _written(value) for key, value in self if (key != "code" or value) and not _silent(self, key)}


Sequence = str | dict[Name, PartConfig]
HEADS_PER_FEEDBACK = ("single", "esmm")
"""Heads that read one input per feedback, as a backbone gives it."""


class ComposedConfig(RankerConfig, Sizes, builds="components.rankers.composed.ranker:ComposedRanker"):
    """A ranker of exchangeable parts; the keys of the chosen ones join its own."""

    embedding: str = "vocabulary"
    """How an index becomes a vector: a row of its own, or the sum of two rows of one table of `buckets` rows."""
    sequence: Sequence = "mean"
    """How a history becomes one vector; or by history which one does, by name or as a block with its options. A history
    is a sequence field, or a field of times, which stands for all attributes of the events that it times. Those that
    are not named are read as the ranker reads them by default."""
    attributes: Literal["apart", "joined"] = Field("apart", exclude_if=lambda read: read == "apart")
    """How sequences of the same events are read: each as a history of its own, or side by side, as one vector per event
    that is matched with the same attributes of the candidate."""
    newest: Annotated[int, Field(ge=1, le=100_000)] | None = Field(None, exclude_if=lambda most: most is None)
    """Most events of a history that are read, the newest; all that the training set has when left out."""
    interaction: str = "none"
    """How fields meet before the towers."""
    domain: str = "none"
    """How towers adapt to domains, or to clusters found in the data."""
    head: str = "single"
    """How the feedback types share what they learn."""
    backbone: str = Field("none", exclude_if=lambda name: name == "none")
    """What reads all fields and events by itself, one answer per feedback, in place of `sequence` and `interaction`."""

    @model_validator(mode="after")
    def _backbone_reads_alone(self) -> ComposedConfig:
        if self.backbone == "none":
            return self
        for kind in ("sequence", "interaction"):
            if getattr(self, kind) != type(self).model_fields[kind].default:
                raise ValueError(f"backbone {self.backbone!r} reads fields and events by itself: leave {kind} out")
        if self.head not in HEADS_PER_FEEDBACK:
            raise ValueError(
                f"backbone {self.backbone!r} gives each feedback an input of its own, which head {self.head!r} does "
                f"not read: choose {' or '.join(HEADS_PER_FEEDBACK)}"
            )
        return self

    @field_validator(*PARTS, mode="before")
    @classmethod
    def _is_a_part(cls, name: Any, info: ValidationInfo) -> Any:
        kind = str(info.field_name)
        if kind == SequenceConfig.kind and isinstance(name, Mapping):
            return _by_history().validate_python(name)
        return _known_part(kind, name)

    @property
    def plain_sequence(self) -> str:
        """Name of the encoder of histories that are not named by themselves."""
        return self.sequence if isinstance(self.sequence, str) else str(type(self).model_fields["sequence"].default)

    @property
    def encoders(self) -> frozenset[str]:
        """Names of the encoders of histories that are chosen: the one of all, or those of a map and the plain one."""
        mapped = self.sequence.values() if isinstance(self.sequence, dict) else ()
        return frozenset({self.plain_sequence, *(part.called for part in mapped)})

    @classmethod
    def choices(cls, name: str, block: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        """Yield kind and name of the ranker and of each part; a part that does not exist counts as the default."""
        yield RANKER, name
        for kind in PARTS:
            part = block.get(kind)
            known = isinstance(part, str) and part in registered(kind)
            yield kind, str(part if known else cls.model_fields[kind].default)


def _known_part(kind: str, name: Any) -> str:
    known = registered(kind)
    if isinstance(name, str) and name in known:
        return name
    if fault := offered(False).refused.get(str(name)):
        raise ValueError(fault)
    *most, last = map(repr, known)
    raise PydanticKnownError("literal_error", {"expected": f"{', '.join(most)} or {last}"})


def _of_one_history(chosen: Any, _: ValidatorFunctionWrapHandler) -> PartConfig:
    """Return the options of what encodes one history, of its name or of a block with a name."""
    if isinstance(chosen, PartConfig):
        return chosen
    block = {"name": chosen} if not isinstance(chosen, Mapping) else {**chosen}
    part: Any = registered(SequenceConfig.kind)[_known_part(SequenceConfig.kind, block.pop("name", None))]
    if outside := [key for key in block if key not in options_of(part)]:
        readable = ", ".join(options_of(part)) or "no option"
        raise ValueError(f"sequence {part.called!r} has no {outside[0]!r} for one history: it reads {readable}")
    return cast(PartConfig, part.model_validate(block))


@cache
def _by_history() -> TypeAdapter[dict[str, PartConfig]]:
    return TypeAdapter(dict[Name, Annotated[PartConfig, WrapValidator(_of_one_history)]])


def _silent(config: Registered, key: str) -> bool:
    """Return whether a key is left out where a config is written, so that files from before it stay what they are."""
    unsaid = type(config).model_fields[key].exclude_if
    return unsaid is not None and unsaid(getattr(config, key))


def _written(value: Any) -> Any:
    """Return a value as a pipeline has it."""
    if isinstance(value, dict):
        return {key: _written(each) for key, each in value.items()}
    if isinstance(value, PartConfig):
        options = {key: getattr(value, key) for key in options_of(type(value)) if not _silent(value, key)}
        return {"name": value.called, **options}
    return value


def _by_its_name(block: Any, handler: ValidatorFunctionWrapHandler, info: ValidationInfo) -> Any:
    """Let the class of the named ranker, joined with those of its parts, check a block."""
    if not isinstance(block, Mapping):
        return handler(block)
    name, known = block.get("name"), every_key()
    if not isinstance(name, str) or fault_of(RANKER, name):
        return handler({key: value for key, value in block.items() if key == "name" or key not in known})
    # Files of earlier versions hold null where a key was left out.
    kept = {key: value for key, value in block.items() if value is not None or key not in known}
    ranker: Any = registered(RANKER)[name]
    choices = [*ranker.choices(name, kept)]
    chosen: type[RankerConfig] = _joined(*(registered(kind)[part] for kind, part in choices))
    if misplaced := dict(_misplaced(chosen, kept)):
        refusals: dict[str, Any] = {key: (Annotated[Any, _saying(reason)], None) for key, reason in misplaced.items()}
        chosen = create_model("Misplaced", __base__=chosen, **refusals)
    encoders = [(SequenceConfig.kind, part) for part in _named_in(kept.get(SequenceConfig.kind))]
    kept["code"] = ", ".join(dict.fromkeys(filter(None, (code_of(*choice) for choice in [*choices, *encoders]))))
    if info.mode == "json":
        return chosen.model_validate_json(json.dumps(kept), strict=True)
    return chosen.model_validate(kept)


def _named_in(sequence: Any) -> list[str]:
    """Return the encoders that a map of histories chooses."""
    chosen = sequence.values() if isinstance(sequence, Mapping) else ()
    named = (each.get("name") if isinstance(each, Mapping) else each for each in chosen)
    return sorted({name for name in named if isinstance(name, str)})


@cache
def options_of(config: type[Registered]) -> tuple[str, ...]:
    """Return the keys that a ranker, or a part beside the sizes, reads of the block."""
    base = PartConfig if issubclass(config, PartConfig) else RankerConfig
    return tuple(key for key in config.model_fields if key not in base.model_fields)


@cache
def _joined(*classes: type[Registered]) -> type[RankerConfig]:
    """Return the class of a ranker with its parts; a key that several read is one key, as the first declares it."""
    ranker, *parts = classes
    bases: Any = classes
    made: Any = ranker
    if parts:
        made = create_model(ranker.__name__, __base__=bases, __module__=ranker.__module__)
    return cast("type[RankerConfig]", made)


def every_key() -> frozenset[str]:
    """Return the keys that any ranker or part reads."""
    return frozenset(
        key for kind in (RANKER, *PARTS) for known in registered(kind).values() for key in options_of(known)
    )


def readers_of(key: str) -> dict[str, list[str]]:
    """Return the parts that read a key: kind → names."""
    found = {kind: [name for name, part in registered(kind).items() if key in options_of(part)] for kind in PARTS}
    return {kind: names for kind, names in found.items() if names}


def _misplaced(chosen: type[RankerConfig], block: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the keys that nothing in this ranker reads though something else does, each with a sentence."""
    known = every_key() - {*chosen.model_fields}
    for key in (key for key in block if key in known):
        readers = readers_of(key)
        if not readers or not issubclass(chosen, ComposedConfig):
            yield key, f"ranker {block['name']!r} has no {key!r}: leave it out"
            continue
        parts = dict(chosen.choices(block["name"], block))
        by = " or ".join(f"{kind} {' or '.join(map(repr, names))}" for kind, names in readers.items())
        here = " and ".join(f"{kind} {parts[kind]!r}" for kind in readers)
        yield key, f"{key!r} is read by {by}, and this ranker has {here}: leave it out"


def _saying(reason: str) -> BeforeValidator:
    def refuse(_: Any) -> Any:
        raise ValueError(reason)

    return BeforeValidator(refuse)


def _by_name(handler: GetJsonSchemaHandler) -> JsonSchemaValue:
    """Return the JSON schema of the block of any ranker; of a composed one only defaults are particular to it."""
    rankers: dict[str, type[RankerConfig]] = dict(sorted(registered(RANKER).items()))  # type: ignore[arg-type]
    parted = {name: ranker for name, ranker in rankers.items() if issubclass(ranker, ComposedConfig)}
    plain = [name for name, ranker in parted.items() if options_of(ranker) == options_of(ComposedConfig)]
    shared = [_named(plain, _composed(ComposedConfig, handler))]
    for name, ranker in rankers.items():
        if name in plain:
            own = _keys(ranker, handler)["properties"]
            changed = {key: {"default": own[key]["default"]} for key in ranker.__annotations__ if key in own}
            shared.append(_named([name], {"properties": changed}))
        else:
            then = _composed(parted[name], handler) if name in parted else _keys(ranker, handler)
            shared.append(_named([name], then))
    return {
        "properties": {"name": {"description": field_docs(RankerConfig)["name"], **_choice(rankers)}},
        "allOf": shared,
    }


def _named(names: list[str], then: JsonSchemaValue) -> JsonSchemaValue:
    return {"if": {"properties": {"name": {"enum": names}}, "required": ["name"]}, "then": then}


def _choice(classes: Mapping[str, type[Registered]]) -> JsonSchemaValue:
    """Return the names of classes, or a reference to a parameter that holds one."""
    about = [
        inspect.cleandoc(config.__doc__ or "").partition("\n\n")[0].replace("\n", " ") for config in classes.values()
    ]
    names = {"type": "string", "enum": [*classes], "markdownEnumDescriptions": about}
    return {"anyOf": [names, {"type": "string", "pattern": PARAMETER}]}


def _keys(config: type[Registered], handler: GetJsonSchemaHandler) -> JsonSchemaValue:
    """Return what pydantic says of a class that is built late, without its name."""
    config.model_rebuild()
    found = config.__get_pydantic_json_schema__(config.__pydantic_core_schema__, handler)
    made = handler.resolve_ref_schema(found)
    properties = made["properties"] | ({"name": {}} if "name" in made["properties"] else {})
    return {"properties": properties, "additionalProperties": False}


def _said(field: JsonSchemaValue) -> JsonSchemaValue:
    return {key: field[key] for key in ("description", "default") if key in field}


def _composed(ranker: type[ComposedConfig], handler: GetJsonSchemaHandler) -> JsonSchemaValue:
    """Return the keys of composed rankers, each of a part's only where that part is chosen."""
    own: dict[str, Any] = _keys(ranker, handler)["properties"]
    keys: dict[str, Any] = {}
    for kind in PARTS:
        own[kind] = {**_said(own[kind]), **_choice(registered(kind))}
        if kind == SequenceConfig.kind:
            own[kind]["anyOf"].append({"type": "object", "additionalProperties": _one_history(handler)})
        for part in registered(kind).values():
            read = _keys(part, handler)["properties"]
            keys |= {key: read[key] for key in options_of(part) if key not in {**own, **keys}}
    conditions = [
        {
            "if": {"anyOf": [*_reading(key, ranker)]},
            "then": {"properties": {key: value}},
            "else": {"properties": {key: False}},
        }
        for key, value in keys.items()
    ]
    return {"properties": own, "propertyNames": {"enum": [*own, *keys]}, "allOf": conditions}


def _one_history(handler: GetJsonSchemaHandler) -> JsonSchemaValue:
    """Return what may encode one history: a name, or a block of a name with the options of that encoder."""
    known = registered(SequenceConfig.kind)
    blocks = []
    for name, part in known.items():
        read = _keys(part, handler)["properties"]
        options = {key: read[key] for key in options_of(part)}
        called = {"const": name, "description": "Name of the encoder of this history."}
        named = {"properties": {"name": called, **options}, "required": ["name"]}
        blocks.append({"type": "object", **named, "additionalProperties": False})
    return {"anyOf": [*_choice(known)["anyOf"], *blocks]}


def _reading(key: str, base: type[ComposedConfig]) -> Iterator[JsonSchemaValue]:
    """Yield when a part reads a key: it is chosen, by name or by a parameter, or it is left out and the default."""
    rankers = [config for config in registered(RANKER).values() if issubclass(config, base)]
    for kind, names in readers_of(key).items():
        yield {
            "required": [kind],
            "properties": {kind: {"anyOf": [{"enum": names}, {"type": "string", "pattern": PARAMETER}]}},
        }
        if default := [config.called for config in rankers if config.model_fields[kind].default in names]:
            yield {"not": {"required": [kind]}, "properties": {"name": {"enum": default}}}
