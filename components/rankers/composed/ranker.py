"""How do exchangeable parts make a ranker? Embedding, sequence, interaction, domain and head, each by name."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from components.rankers.base import RankerModule
from components.rankers.composed.auxiliary import AuxiliaryTower
from components.rankers.composed.histories import History, histories_of
from components.rankers.config import ComposedConfig
from components.rankers.embedding.table import EmbeddedFields, FieldEmbedding
from components.rankers.parts import Backbone, DomainPart, FieldVectors, Head, Interaction, SequenceEncoder
from components.rankers.registration import load, registered
from components.rankers.tasks import AUXILIARY
from features.declaration import FieldSpec, RankerSchema


class ComposedRanker(RankerModule):
    """A ranker of named parts; see `components.rankers.parts` for the seams.

    Raises:
        BadInputError: a part cannot serve this schema.
    """

    jagged = True

    def __init__(self, config: ComposedConfig, schema: RankerSchema) -> None:
        super().__init__()
        part = {
            kind: load(registered(kind)[getattr(config, kind)])
            for kind in ("embedding", "interaction", "domain", "head")
        }
        self.embedding: FieldEmbedding = part["embedding"].of(schema.fields, config)
        self.embedding.newest = config.newest
        self.histories = nn.ModuleDict()
        self.read: dict[str, History] = {}
        self.backbone: Backbone | None = None
        if config.backbone == "none":
            narrow, extra = self._encode(schema, config)
            told = {"specs": self.categorical} if part["interaction"].knows_fields else {}
            self.interaction: Interaction = part["interaction"](narrow, self.embedding.width, extra, config, **told)
            features = self.interaction.out_features
        else:
            self.backbone = load(registered("backbone")[config.backbone])(self.embedding, schema, config)
            features = self.backbone.out_features
        self.domain: DomainPart = part["domain"](features, schema, config)
        self.head: Head = part["head"](features, schema, config, self.domain)
        self.auxiliary = nn.ModuleDict(
            {
                name: AuxiliaryTower(cast(SequenceEncoder, encoder), schema, config)
                for name, encoder in self.histories.items()
                if encoder.auxiliary_features
            }
        )

    @property
    def categorical(self) -> tuple[FieldSpec, ...]:
        """The fields with one index per row, in the order in which their vectors stand."""
        return tuple(field for field in self.embedding.embedded if field.kind != "sequence")

    def _encode(self, schema: RankerSchema, config: ComposedConfig) -> tuple[int, int]:
        """Make the encoders of histories, and return how many field vectors and other numbers there are then."""
        width = self.embedding.width
        narrow = len(self.categorical)
        extra = sum(self.embedding.numeric.values())
        for history, made in histories_of(schema, self.embedding.embedded, config):
            self.read[history.name] = history
            self.histories[history.name] = made
            if made.out_features % width:
                extra += made.out_features
            else:
                narrow += made.out_features // width
        return narrow, extra

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Predict; see `RankerModule.forward`."""
        if self.backbone is not None:
            each = self.backbone(self.embedding(batch))
            outputs: dict[str, Tensor] = self.head(each, self.domain.route(each[0], batch))
            return outputs
        fields = self.embedding(batch)
        x = self.interaction(self._vectors(fields))
        route = self.domain.route(x, batch)
        if self.training and torch.is_autocast_enabled(x.device.type):
            x = x.to(torch.get_autocast_dtype(x.device.type))  # once, instead of once per tower
        return self.head(x, route) | self._beside(fields)

    def field_vectors(self, batch: dict[str, Tensor]) -> FieldVectors:
        """Return the fields of a batch as vectors, histories encoded."""
        return self._vectors(self.embedding(batch))

    def attended(self) -> tuple[str, ...]:
        """Return the fields that the interaction attends to, a number for each where a field is several."""
        if self.backbone is not None or not self.interaction.attends:
            return ()
        width, extra = self.embedding.width, [*self.embedding.numeric.items()]
        narrow = [(field.name, 1) for field in self.categorical]
        for name, encoder in self.histories.items():
            size = cast(SequenceEncoder, encoder).out_features
            if size % width:
                extra.append((name, size))
            else:
                narrow.append((name, size // width))
        return tuple(
            name if many == 1 else f"{name} {at}" for name, many in (*narrow, *extra) for at in range(1, many + 1)
        )

    def attention(self, batch: dict[str, Tensor]) -> tuple[Tensor, ...]:
        """Return what attends to what in the interaction; see `RankerModule.attention`."""
        return self.interaction.attention(self.field_vectors(batch)) if self.attended() else ()

    def _vectors(self, fields: EmbeddedFields) -> FieldVectors:
        narrow = [fields.stacked]
        extra = list(fields.numeric.values())
        for name, encoder in self.histories.items():
            encoded = self.read[name].encoded(cast(SequenceEncoder, encoder), fields)
            if encoded.shape[1] % self.embedding.width:
                extra.append(encoded)
            else:
                narrow.append(encoded.unflatten(1, (-1, self.embedding.width)))
        return FieldVectors(tuple(narrow), tuple(extra), fields.ids)

    def _beside(self, fields: EmbeddedFields) -> dict[str, Tensor]:
        """Return the logits of auxiliary towers, which no graph has: by output, float32 ``[B, T]``."""
        if torch.compiler.is_exporting():
            return {}
        read = {name: (self.read[name], cast(SequenceEncoder, self.histories[name])) for name in self.auxiliary}
        return {
            AUXILIARY + name: self.auxiliary[name](history.auxiliary(encoder, fields))
            for name, (history, encoder) in read.items()
        }

    def loss(self, outputs: dict[str, Tensor], labels: dict[str, Tensor]) -> Tensor:
        """Return the head's loss, and those of auxiliary towers; see `RankerModule.loss`."""
        loss = self.head.loss(outputs, labels)
        for name, tower in self.auxiliary.items():
            loss = loss + cast(AuxiliaryTower, tower).loss(outputs[AUXILIARY + name], labels)
        return loss

    def sit_out(self) -> None:
        """Let the domain part join the other workers' sums."""
        self.domain.sit_out()

    def diagnostics(self) -> dict[str, float]:
        """Return what the domain part shows of itself."""
        return self.domain.diagnostics()
