"""Which histories does a ranker read, with which encoder, and which candidate is each matched with?

A *stream* is all sequence fields of the same events, those that share one field of times. By default each field is a
history of its own, with the categorical field of its table as candidate. Joined, the attributes of an event stand side
by side as one vector ``[A·d]``, and so do the matching fields of the candidate, zeros where an attribute has none.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor

from components.platform.errors import BadInputError
from components.rankers.config import ComposedConfig, PartConfig, Sizes
from components.rankers.embedding.content import ContentVectors
from components.rankers.embedding.events import Events, JoinedEvents
from components.rankers.embedding.table import EmbeddedFields
from components.rankers.parts import SequenceEncoder, by_length
from components.rankers.refusals import no_history, no_vectors
from components.rankers.registration import Registered, load, registered
from components.rankers.sequences.config import MeanConfig
from features.declaration import FieldSpec, RankerSchema


@dataclass(frozen=True)
class History:
    """One history of a row, as its encoder reads it."""

    name: str
    """The sequence field, or the field of times of a stream whose attributes are joined."""
    fields: tuple[str, ...]
    """Its A attributes, sequence fields of the same events in the schema's order."""
    targets: tuple[str | None, ...]
    """By attribute, the categorical field that it is matched with; none where the encoder looks at no candidate."""
    length: int
    """Most events."""
    times: str | None
    """Field of seconds from each event to the request, or None."""
    content: FieldSpec | None = None
    """The first attribute whose values have vectors and that the candidate has too."""

    @property
    def targeted(self) -> bool:
        """Whether the candidate has any attribute of the events."""
        return any(self.targets)

    def vectors(self, fields: EmbeddedFields) -> tuple[Tensor, Tensor]:
        """Return float32 ``[B, L, A·d]`` and ``[B, L]``: the events, and 1 where there is one."""
        if len(self.fields) == 1:
            return fields.sequences[self.fields[0]], fields.masks[self.fields[0]]
        there = torch.stack([fields.masks[name] for name in self.fields]).amax(dim=0)
        return torch.cat([fields.sequences[name] for name in self.fields], dim=2), there

    def events(self, fields: EmbeddedFields) -> Events | JoinedEvents:
        """Return the events of a batch without padding."""
        each = [fields.events[name] for name in self.fields]
        return each[0] if len(each) == 1 else JoinedEvents(tuple(each))

    def target(self, categorical: Mapping[str, Tensor]) -> Tensor | None:
        """Return float32 ``[B, A·d]`` of the fields float32 ``[B, d]``: the candidate's vector for each event's."""
        known = [categorical[name] for name in self.targets if name is not None]
        if not known:
            return None
        parts = [torch.zeros_like(known[0]) if name is None else categorical[name] for name in self.targets]
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)

    def encoded(self, encoder: SequenceEncoder, fields: EmbeddedFields) -> Tensor:
        """Return float32 ``[B, out_features]``, what an encoder makes of this history of a batch."""
        target = self.target(fields.categorical)
        jagged = self.fields[0] in fields.events
        times = {"elapsed": fields.elapsed[self.times]} if encoder.reads_times and self.times else {}
        if encoder.reads_content and self.content is not None:
            times["alike"] = self._alike(self.content.name, cast(ContentVectors, encoder.content), fields)
        if jagged:
            return encoder.of_events(self.events(fields), target, **times)
        encoded: Tensor = encoder(*self.vectors(fields), target, **times)
        return encoded

    def of_request(self, encoder: SequenceEncoder, fields: EmbeddedFields, rows: int) -> Tensor:
        """Return float32 ``[N, out_features]``, what an encoder makes of one history for each candidate of a request.

        Args:
            encoder: of this history, which the candidates are matched with.
            fields: of this history in one row; of a candidate in N rows, or in one where all have the same.
            rows: N.
        """
        known = {name: fields.categorical[name].expand(rows, -1) for name in self.targets if name is not None}
        target = self.target(known)
        if target is None:
            raise AssertionError("a history that no candidate is matched with is encoded once")
        times = {"elapsed": fields.elapsed[self.times]} if encoder.reads_times and self.times else {}
        if encoder.reads_content and self.content is not None:
            candidates = fields.ids[str(self.targets[self.fields.index(self.content.name)])].expand(rows)
            times["alike"] = cast(ContentVectors, encoder.content).for_each(
                fields.ids[self.content.name][0], candidates
            )
        return encoder.of_request(*self.vectors(fields), target, **times)

    def _alike(self, name: str, content: ContentVectors, fields: EmbeddedFields) -> Tensor:
        """Return float32 ``[B, L]`` or ``[N]``, how alike the events of one attribute are to the candidate's."""
        candidates = fields.ids[str(self.targets[self.fields.index(name)])]
        if name in fields.events:
            events = fields.events[name]
            return content(events.ids, events.at.spread(candidates))
        values = fields.ids[name]
        return content(values, candidates.unsqueeze(1).expand_as(values))

    def auxiliary(self, encoder: SequenceEncoder, fields: EmbeddedFields) -> Tensor:
        """Return float32 ``[B, auxiliary_features]``, what else an encoder is taught by in this history of a batch."""
        target = self.target(fields.categorical)
        if self.fields[0] in fields.events:
            return by_length(encoder.auxiliary, self.events(fields), target)
        return encoder.auxiliary(*self.vectors(fields), target)


def histories_of(
    schema: RankerSchema, embedded: Sequence[FieldSpec], config: ComposedConfig
) -> Iterator[tuple[History, SequenceEncoder]]:
    """Yield every history with a new encoder, in the schema's order; a stream stands where its first field does.

    Raises:
        BadInputError: `sequence` names what is no history, or an encoder needs times that a history does not have.
    """
    sequences = [field for field in embedded if field.kind == "sequence"]
    dated = {field.name for field in schema.fields if field.kind == "elapsed"}
    chosen: Mapping[str, PartConfig] = config.sequence if isinstance(config.sequence, dict) else {}
    _check_names(chosen, sequences, dated)
    streams: dict[str, list[FieldSpec]] = {}
    for field in sequences:
        streams.setdefault(_read_as(field, dated, chosen, config), []).append(field)
    for name, attributes in streams.items():
        first = attributes[0]
        history = History(
            name=name,
            fields=tuple(field.name for field in attributes),
            targets=tuple(_target(field, schema) for field in attributes),
            length=min(first.length, config.newest or first.length),
            times=first.timed_by if first.timed_by in dated else None,
            content=next((field for field in attributes if field.content and _target(field, schema)), None),
        )
        made = _encoder(history, first.pooled, config)
        told = history.content or (name not in chosen and any(field.content for field in sequences))
        if made.reads_content and not told:
            of = "the training set" if name not in chosen else f"the history {name!r}"
            raise BadInputError(no_vectors("sequence 'muse'", "sequence 'din'", of))
        yield history, made


def _read_as(field: FieldSpec, dated: set[str], chosen: Mapping[str, PartConfig], config: ComposedConfig) -> str:
    """Return the name of the history that a field belongs to: its own, or that of its stream."""
    if field.timed_by is None or field.timed_by not in dated or field.pooled or field.name in chosen:
        return field.name
    return field.timed_by if field.timed_by in chosen or config.attributes == "joined" else field.name


def _check_names(chosen: Mapping[str, PartConfig], sequences: Sequence[FieldSpec], dated: set[str]) -> None:
    known = [f.name for f in sequences if not f.pooled]
    streams = sorted({f.timed_by for f in sequences if f.timed_by in dated and not f.pooled})
    every = [*known, *streams]
    for name in chosen:
        if name not in every:
            raise BadInputError(no_history(name, every))


def _encoder(history: History, pooled: bool, config: ComposedConfig) -> SequenceEncoder:
    """Return a new encoder: the one chosen for this history, or the ranker's."""
    chosen = config.sequence.get(history.name) if isinstance(config.sequence, dict) else None
    part: type[Registered]
    complete: Registered = config
    if pooled:
        part = MeanConfig
    elif chosen is not None:
        part = type(chosen)
        complete = chosen.model_copy(update={key: getattr(config, key) for key in Sizes.model_fields})
    else:
        part = registered("sequence")[config.plain_sequence]
    width = config.embedding_width * len(history.fields)
    kind: type[SequenceEncoder] = load(part)
    named: dict[str, Any] = {"fields": history.fields} if kind.knows_fields else {}
    named |= {"content": history.content} if kind.reads_content else {}
    made = kind(width, history.length, complete, targeted=history.targeted, **named)
    if made.reads_times and history.times is None:
        raise BadInputError(
            f"sequence {part.called!r} reads when the events of {history.name!r} were, and the training set has no "
            "times of them: include the times of this history in build_training_set, or read positions in order"
        )
    return made


def _target(history: FieldSpec, schema: RankerSchema) -> str | None:
    """Return the categorical field whose table a history shares: the candidate it is matched with."""
    names = [f.name for f in schema.fields if f.kind == "categorical" and f.table == history.table]
    item = schema.declaration.item
    return item if item in names else (names[0] if names else None)
