"""How does a trained ranker adapt to one product by training a few of its numbers? Low-rank changes of its layers.

Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", ICLR 2022: ``h = W x + (α/r) · B A x`` with W frozen, A
random and B zero, so that the adapted ranker starts as the frozen base, bit by bit. Beside A and B train the task
heads and a change of some embedding rows, which starts at zero as well.
"""

from __future__ import annotations

import copy
import hashlib
import math
from collections.abc import Iterable
from pathlib import Path
from typing import cast

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional

from components.platform.errors import BadInputError, StorageError
from components.rankers.base import RankerModule
from components.rankers.embedding.table import FieldEmbedding
from components.rankers.lora.config import AdapterHeader, LoraConfig
from features.declaration import RankerSchema
from features.ground.errors import listed
from features.ground.files import write_durably

ADAPTER = "adapter.safetensors"
HEADER = "adapter.json"
QUERY_VALUE = ("query", "value")
"""Names of the linear layers that attention in every ranker gives its queries and values."""
HEADS = ("head", "heads")
"""Names of the modules below which everything trains."""


class LoraLinear(nn.Module):
    """``W x + b + (α/r) · B A dropout(x)``; only A and B train.

    The base layer is frozen.
    """

    def __init__(self, base: nn.Linear, config: LoraConfig) -> None:
        super().__init__()
        self.base = base.requires_grad_(False)
        self.scale = config.alpha / config.rank
        self.down = nn.Parameter(base.weight.new_empty(config.rank, base.in_features))
        nn.init.kaiming_uniform_(self.down, a=math.sqrt(5))
        self.up = nn.Parameter(base.weight.new_zeros(base.out_features, config.rank))
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Return float32 ``[..., out]`` of ``[..., in]``."""
        change = functional.linear(functional.linear(self.dropout(x), self.down), self.up)
        answer: Tensor = self.base(x) + change * self.scale
        return answer

    def merged(self) -> nn.Linear:
        """Return the base with the change added to its weights."""
        with torch.no_grad():
            self.base.weight.add_(self.up @ self.down, alpha=self.scale)
        return self.base.requires_grad_(True)


class ChangedRows(FieldEmbedding):
    """An embedding of which the rows of some tables have a learned change added; the rest is frozen.

    The change is a parameter of its own rather than a masked gradient, so that neither the optimiser's moments nor
    its weight decay touch any other row.
    """

    place: Tensor

    def __init__(self, base: FieldEmbedding, fields: Iterable[str]) -> None:
        nn.Module.__init__(self)  # not the parent's, which would make a table
        self.base = base.requires_grad_(False)
        self.weight = base.weight
        self.width, self.numeric, self.elapsed = base.width, base.numeric, base.elapsed
        self.embedded, self.offsets = base.embedded, base.offsets
        sizes = {field.name: field.size for field in base.embedded}
        rows = sorted({base.offsets[name] + i for name in fields for i in range(sizes[name])})
        place = torch.zeros(base.weight.shape[0], dtype=torch.int64)
        place[rows] = torch.arange(1, len(rows) + 1)
        self.register_buffer("place", place, persistent=False)
        self.delta = nn.Parameter(base.weight.new_zeros(len(rows) + 1, base.width))
        """Row 0 stands for all rows that do not change, and stays zero."""

    def look_up(self, rows: Tensor) -> Tensor:
        """Return the changed vectors; see `FieldEmbedding.look_up`."""
        return self.base.look_up(rows) + functional.embedding(self.place[rows], self.delta, padding_idx=0)

    def merged(self) -> FieldEmbedding:
        """Return the base with the change added to its rows."""
        with torch.no_grad():
            self.base.weight.add_(functional.embedding(self.place, self.delta))
        return self.base.requires_grad_(True)


def attach(ranker: RankerModule, config: LoraConfig, schema: RankerSchema, domain: str) -> AdapterHeader:
    """Freeze a ranker in place, but for its heads, and add what an adapter trains; its answers stay what they were.

    Raises:
        BadInputError: the ranker has no layer, or no embedding rows, of the kind that is to change.
    """
    base = weights_digest(ranker)
    layers = _layers(ranker, config)
    rows = _rows(ranker, config, schema)
    for name, parameter in ranker.named_parameters():
        parameter.requires_grad_(_in_head(name))
    for name in layers:
        _replace(ranker, name, LoraLinear(cast(nn.Linear, ranker.get_submodule(name)), config))
    if rows:
        ranker.embedding = ChangedRows(cast(FieldEmbedding, ranker.get_submodule("embedding")), rows)
    trained = sum(parameter.numel() for parameter in ranker.parameters() if parameter.requires_grad)
    return AdapterHeader(base=base, domain=domain, lora=config, layers=layers, rows=rows, parameters=trained)


def merged(ranker: RankerModule) -> RankerModule:
    """Return a ranker of plain layers that answers as the adapted one does; without an adapter, the ranker itself."""
    if not any(isinstance(module, LoraLinear | ChangedRows) for module in ranker.modules()):
        return ranker
    plain = copy.deepcopy(ranker)
    for name, module in list(plain.named_modules()):
        if isinstance(module, LoraLinear | ChangedRows):
            _replace(plain, name, module.merged())
    return plain.requires_grad_(True)


def adapter_state(ranker: RankerModule) -> dict[str, Tensor]:
    """Return what an adapter changed: trained parameters, and state that no gradient changes."""
    state: dict[str, Tensor] = {
        name: parameter for name, parameter in ranker.named_parameters() if parameter.requires_grad
    }
    known = ranker.state_dict()
    state |= {name: buffer for name, buffer in ranker.named_buffers() if name in known}
    return {name: value.detach().cpu().contiguous() for name, value in state.items()}


def write_adapter(directory: Path, ranker: RankerModule, header: AdapterHeader) -> None:
    """Write the adapter of a ranker, without the base, into `directory`."""
    save_file(adapter_state(ranker), str(directory / ADAPTER))
    write_durably(directory / HEADER, header.model_dump_json(indent=2))


def load_adapter(ranker: RankerModule, directory: Path, schema: RankerSchema) -> AdapterHeader:
    """Put a written adapter on its base, in place.

    Raises:
        BadInputError: it belongs to another base.
        StorageError: its files do not fit together.
    """
    header = AdapterHeader.model_validate_json((directory / HEADER).read_text(encoding="utf-8"))
    if (found := weights_digest(ranker)) != header.base:
        raise BadInputError(
            f"the adapter in {directory} was trained on weights {header.base[:12]} and this ranker has {found[:12]}: "
            "load the ranker that it was adapted from, or adapt this one"
        )
    attach(ranker, header.lora, schema, header.domain)
    try:
        state: dict[str, Tensor] = load_file(str(directory / ADAPTER))
        if state.keys() != adapter_state(ranker).keys():
            raise SafetensorError("it names other layers")
        ranker.load_state_dict(state, strict=False)
    except (OSError, RuntimeError, SafetensorError) as error:
        first = str(error).strip().splitlines()[0]
        raise StorageError(f"{directory / ADAPTER} does not fit its header: {first}; adapt the ranker again") from error
    return header


def weights_digest(ranker: nn.Module) -> str:
    """Return the sha256 of a ranker's state: names, shapes and numbers."""
    digest = hashlib.sha256()
    for name, value in sorted(ranker.state_dict().items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _in_head(name: str) -> bool:
    return any(part in HEADS for part in name.split("."))


def _layers(ranker: nn.Module, config: LoraConfig) -> tuple[str, ...]:
    """Return the names of the linear layers to change, sorted."""
    linear = [n for n, module in ranker.named_modules() if isinstance(module, nn.Linear) and not _in_head(n)]
    chosen = linear if config.targets == "all" else [n for n in linear if n.rpartition(".")[2] in QUERY_VALUE]
    if not chosen:
        what = "linear layer outside its heads" if config.targets == "all" else "attention with a query and a value"
        instead = "targets 'all', " if linear else ""
        raise BadInputError(
            f"ranker {type(ranker).__name__!r} has no {what} for LoRA to change: "
            f"choose {instead}method 'full', or another ranker"
        )
    return tuple(sorted(chosen))


def _rows(ranker: nn.Module, config: LoraConfig, schema: RankerSchema) -> tuple[str, ...]:
    """Return the fields whose embedding rows change, sorted."""
    embedding = getattr(ranker, "embedding", None)
    known = {field.name for field in schema.fields if field.embedded}
    if type(embedding) is not FieldEmbedding:
        if config.rows:
            raise BadInputError(
                f"rows of {', '.join(config.rows)} cannot train: the values of a ranker with hashed or frozen "
                "embeddings are not rows of their own alone; leave rows out"
            )
        return ()
    if config.rows is None:
        wanted = {schema.declaration.domain, schema.declaration.item} & known
        return tuple(sorted(name for name in wanted if name))
    for name in config.rows:
        if name not in known:
            raise BadInputError(f"rows: {name!r} is no field with embedding rows: name some of {listed(sorted(known))}")
    return tuple(sorted(set(config.rows)))


def _replace(ranker: nn.Module, name: str, module: nn.Module) -> None:
    owner, _, last = name.rpartition(".")
    setattr(ranker.get_submodule(owner), last, module)
