"""INFNet: how do hundreds of fields, whole histories and several tasks read each other without reading all pairs?

Li et al., "INFNet: A Task-aware Information Flow Network for Large-Scale Recommendation Systems", 2025, second version.
Tokens of three types, C fields, S events and T tasks, meet in hubs. A block, with CA(q, x) = softmax(q W_Q (x W_K)ᵀ/√d)
x W_V and its own weights for each pair of types:

    aggregate    h ← LN( h + W [CA(h, C); CA(h, S); CA(h, T)] )       for the hubs h of each type
    broadcast    x ← LN( x + x ⊙ σ(α) + β ),  (α, β) = W' flatten(h)     for the tokens x of each type

Hubs start as: a linear map of all fields; the mean of each history, mapped; the task tokens themselves with those that
nobody owns. Cost grows with tokens times hubs.

Ours: tokens are brought to one size first, as products of fresh embeddings leave every softmax flat. A task token gets
what its own hub read, or nobody would. Heads read the fields beside their token (`skip`): without, they see nothing but
what attention has carried into one token, and learn little from little data. What nothing reads after the last block
is not computed there.
"""

from __future__ import annotations

import math
from typing import cast

import torch
from torch import Tensor, nn

from components.rankers.backbones.config import InfNetConfig
from components.rankers.embedding.table import EmbeddedFields, FieldEmbedding
from components.rankers.parts import Backbone
from components.rankers.sequences.attention import masked_softmax, of_size_one
from components.rankers.sequences.tin import BUCKETS, interval
from features.declaration import RankerSchema

_SCALE = 0.05
"""Initial size of what the blocks hand to the heads: a vector of size 1 would drown the fields at the start."""
TYPES = ("fields", "events", "tasks")


class CrossAttention(nn.Module):
    """``softmax(q W_Q (x W_K)ᵀ / √d) x W_V``; zero where there is nothing to read."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.query, self.key, self.value = (nn.Linear(width, width, bias=False) for _ in range(3))

    def forward(self, asking: Tensor, read: Tensor, there: Tensor | None) -> Tensor:
        """Return float32 ``[B, n, d]``.

        Args:
            asking: float32 ``[B, n, d]``.
            read: float32 ``[B, m, d]``.
            there: float32 ``[B, m]``, 1 for what exists; None where all does.
        """
        scores = self.query(asking) @ self.key(read).transpose(1, 2) / math.sqrt(asking.shape[2])
        weights = torch.softmax(scores, dim=2) if there is None else masked_softmax(scores, there.unsqueeze(1))
        return weights @ self.value(read)


class Block(nn.Module):
    """One aggregation into hubs and one broadcast from them, for the types of tokens that somebody reads after it."""

    def __init__(self, width: int, hubs: dict[str, int], types: tuple[str, ...]) -> None:
        super().__init__()
        self.types = types
        self.read = nn.ModuleDict({h: nn.ModuleList(CrossAttention(width) for _ in TYPES) for h in types})
        self.mix = nn.ModuleDict({h: nn.Linear(3 * width, width, bias=False) for h in types})
        self.tell = nn.ModuleDict({h: nn.Linear(hubs[h] * width, 2 * width, bias=False) for h in types})
        self.norm = nn.LayerNorm(width, elementwise_affine=False)

    def forward(
        self, tokens: dict[str, Tensor], hubs: dict[str, Tensor], there: Tensor
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Return tokens and hubs after this block, by type float32 ``[B, n, d]``.

        Args:
            tokens: by type.
            hubs: by type.
            there: float32 ``[B, L]``, 1 for an event.
        """
        after, told = dict(hubs), dict(tokens)
        for kind in self.types:
            parts = [
                attention(hubs[kind], tokens[of], there if of == "events" else None)
                for of, attention in zip(TYPES, cast(nn.ModuleList, self.read[kind]), strict=True)
            ]
            after[kind] = self.norm(hubs[kind] + self.mix[kind](torch.cat(parts, dim=2)))
            gate, shift = self.tell[kind](after[kind].flatten(start_dim=1)).unsqueeze(1).chunk(2, dim=2)
            told[kind] = self.norm(tokens[kind] + tokens[kind] * torch.sigmoid(gate) + shift)
        return told, after


class InfNet(Backbone):
    """`layers` blocks; a history is a behaviour, and the attributes of its events are summed."""

    least: Tensor

    def __init__(self, embedding: FieldEmbedding, schema: RankerSchema, config: InfNetConfig) -> None:
        super().__init__()
        width, std = embedding.width, config.start
        self.width, self.skip = width, config.skip
        histories = [f for f in embedding.embedded if f.kind == "sequence"]
        self.bags = tuple(f.name for f in histories if f.pooled)
        dated = {*embedding.elapsed}
        streams: dict[str, list[str]] = {}
        for field in histories:
            if not field.pooled:
                times = field.timed_by if field.timed_by in dated else None
                streams.setdefault(times or field.name, []).append(field.name)
        self.streams = {name: tuple(fields) for name, fields in streams.items()}
        self.dated = tuple(name for name in streams if name in dated)
        longest = {name: max(f.length for f in histories if f.name in fields) for name, fields in streams.items()}
        narrow = sum(f.kind != "sequence" for f in embedding.embedded)
        numbers = sum(embedding.numeric.values())
        tokens = narrow + len(self.bags) + numbers
        feedback = len(schema.declaration.feedback)
        self.numbers = nn.Parameter(torch.randn(numbers, width) * std) if numbers else None
        self.places = nn.ParameterList(torch.randn(longest[name], width) for name in streams)
        self.intervals = nn.ParameterList(torch.randn(BUCKETS, width) for _ in self.dated)
        self.register_buffer("least", torch.tensor(std))
        self.behaviours = nn.ModuleList(nn.Linear(width, width, bias=False) for _ in streams)
        self.to_hubs = nn.Linear(tokens * width, config.hubs * width, bias=False)
        self.tasks = nn.Parameter(torch.randn(feedback + config.shared_tasks, width))
        self.feedback = feedback
        hubs = {"fields": config.hubs, "events": len(streams), "tasks": feedback + config.shared_tasks}
        types = TYPES if streams else ("fields", "tasks")
        self.blocks = nn.ModuleList(
            Block(width, hubs, ("tasks",) if last else types) for last in [False] * (config.layers - 1) + [True]
        )
        self.gain = nn.Parameter(torch.full((width,), _SCALE))
        self.out_features = width + (tokens + len(streams)) * width * self.skip

    def forward(self, fields: EmbeddedFields) -> tuple[Tensor, ...]:
        """Return float32 ``[B, D]`` per feedback; see `Backbone.forward`."""
        rows = fields.stacked.shape[0]
        raw = [fields.stacked, *(fields.mean(name).unsqueeze(1) for name in self.bags)]
        if self.numbers is not None:
            raw.append(torch.cat([*fields.numeric.values()], dim=1).unsqueeze(2) * self.numbers)
        plain = torch.cat(raw, dim=1)
        events, means, there = self._events(fields, rows)
        tokens = {"fields": of_size_one(plain, self.least), "events": events}
        tokens["tasks"] = self.tasks[: self.feedback].expand(rows, -1, -1)
        hubs = {
            "fields": self.to_hubs(tokens["fields"].flatten(start_dim=1)).unflatten(1, (-1, self.width)),
            "events": means[0],
            "tasks": self.tasks.expand(rows, -1, -1),
        }
        for block in self.blocks:
            tokens, hubs = block(tokens, hubs, there)
            tokens["tasks"] = tokens["tasks"] + hubs["tasks"][:, : self.feedback]
        answers = tokens["tasks"] * self.gain
        if not self.skip:
            return tuple(answers.unbind(dim=1))
        beside = torch.cat([plain.flatten(start_dim=1), means[1].flatten(start_dim=1)], dim=1)
        return tuple(torch.cat([answer, beside], dim=1) for answer in answers.unbind(dim=1))

    def _events(self, fields: EmbeddedFields, rows: int) -> tuple[Tensor, tuple[Tensor, Tensor], Tensor]:
        """Return the event tokens ``[B, L, d]``, the histories' mapped and plain means ``[B, A, d]``, the mask."""
        nothing = fields.stacked.new_zeros((rows, 0, self.width))
        tokens, mapped, means, there = [nothing], [nothing], [nothing], [nothing[:, :, 0]]
        intervals = dict(zip(self.dated, self.intervals, strict=True))
        for (name, names), places, behaviour in zip(self.streams.items(), self.places, self.behaviours, strict=True):
            vectors, mask = _summed(fields, names)
            sized = of_size_one(vectors, self.least)
            count = mask.sum(dim=1, keepdim=True).clamp(min=1.0)
            means.append((vectors.sum(dim=1) / count).unsqueeze(1))
            mapped.append(behaviour(sized.sum(dim=1) / count).unsqueeze(1))
            newer = torch.arange(sized.shape[1], device=sized.device).clamp(max=places.shape[0] - 1)
            dated = sized + places[newer]
            if name in intervals:
                elapsed = fields.elapsed[name]
                if name in fields.stretches:
                    elapsed = fields.stretches[name].padded(elapsed)
                dated = dated + intervals[name][interval(elapsed)]
            tokens.append(dated * mask.unsqueeze(2))
            there.append(mask)
        return (
            torch.cat(tokens, dim=1),
            (torch.cat(mapped, dim=1), torch.cat(means, dim=1)),
            torch.cat(there, dim=1),
        )


def _summed(fields: EmbeddedFields, names: tuple[str, ...]) -> tuple[Tensor, Tensor]:
    """Return float32 ``[B, L, d]`` and ``[B, L]``: the summed attributes of each event, and whether it has any."""
    if names[0] in fields.events:
        each = [fields.events[name].padded() for name in names]
    else:
        each = [(fields.sequences[name], fields.masks[name]) for name in names]
    vectors, masks = zip(*each, strict=True)
    return torch.stack(vectors).sum(dim=0), torch.stack(masks).amax(dim=0)
