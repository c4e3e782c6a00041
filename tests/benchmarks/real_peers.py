"""How fast do the peers train DNN and DIN on real rows? Their layers, Adam, batches from memory, the first feedback.

Runs in the benchmark environment, so nothing of ours is imported. Histories are padded, as both libraries want them.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

HIDDEN, WIDTH, UNIT = (128, 64), 16, 64


def torch_rechub(folder: str, model: str, steps: int, warm: int, batch: int) -> Iterator[None]:
    """Train torch-rechub's layers; see `_train`. Its DIN reads no numbers."""
    import torch
    from torch_rechub.basic.features import DenseFeature, SequenceFeature, SparseFeature
    from torch_rechub.basic.layers import MLP, EmbeddingLayer
    from torch_rechub.models.ranking import DIN

    rows, fields, matched = _read(folder, model)
    torch.manual_seed(0)
    owners: dict[str, str] = {}
    made: dict[str, Any] = {}
    # The field that a table is named by comes first: others share with it.
    for field in sorted(fields, key=lambda field: field["kind"] != "categorical"):
        name, kind = field["name"], field["kind"]
        if kind not in ("categorical", "sequence"):
            made[name] = DenseFeature(name)
            made[name].embed_dim = rows[name].shape[1] if rows[name].ndim > 1 else 1
            continue
        owner = owners.setdefault(field["table"] or name, name)
        shared = {"vocab_size": field["size"], "embed_dim": WIDTH, "padding_idx": 0}
        shared |= {"shared_with": owner} if owner != name else {}
        pooling = {"pooling": "concat" if name in matched else "mean"} if kind == "sequence" else {}
        made[name] = (SequenceFeature if kind == "sequence" else SparseFeature)(name, **shared, **pooling)
    if model == "din":
        targets = set(matched.values())
        others = [f for n, f in made.items() if n not in matched and n not in targets and type(f) is not DenseFeature]
        network: Any = DIN(
            others, [made[name] for name in matched], [made[name] for name in matched.values()],
            {"dims": list(HIDDEN), "dropout": 0.0}, {"dims": [UNIT], "activation": "prelu"},
        )  # fmt: skip
    else:

        class Network(torch.nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.embedding = EmbeddingLayer(list(made.values()))
                self.mlp = MLP(sum(feature.embed_dim for feature in made.values()), dims=list(HIDDEN))

            def forward(self, inputs: Any) -> Any:
                return torch.sigmoid(self.mlp(self.embedding(inputs, list(made.values()), squeeze_dim=True)).squeeze(1))

        network = Network()
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-3, weight_decay=1e-5)  # its trainer's defaults
    tensors = {name: torch.from_numpy(rows[name]) for name in made}

    def predict(at: slice) -> Any:
        return network({name: values[at] for name, values in tensors.items()})

    return _train(predict, optimiser, lambda: 0.0, rows["label"], steps, warm, batch)


def deepctr_torch(folder: str, model: str, steps: int, warm: int, batch: int) -> Iterator[None]:
    """Train deepctr-torch's DIN, and its Wide & Deep without a wide part; see `_train`."""
    import torch
    from deepctr_torch.inputs import DenseFeat, SparseFeat, VarLenSparseFeat
    from deepctr_torch.models import DIN, WDL

    rows, fields, matched = _read(folder, model)
    columns, values = [], []
    for field in fields:
        name, kind = field["name"], field["kind"]
        taken = rows[name].reshape(len(rows[name]), -1)
        values.append(taken)
        if kind == "categorical":
            columns.append(SparseFeat(name, field["size"], WIDTH, embedding_name=field["table"] or name))
        elif kind == "sequence":
            known = f"hist_{matched[name]}" if name in matched else name
            sparse = SparseFeat(known, field["size"], WIDTH, embedding_name=field["table"] or name)
            length = f"{name}_length" if name in matched else None
            columns.append(VarLenSparseFeat(sparse, taken.shape[1], "mean", length))
            if length:
                values.append(np.count_nonzero(taken, axis=1)[:, None])
        else:
            columns.append(DenseFeat(name, taken.shape[1]))
    if model == "din":
        network: Any = DIN(columns, list(matched.values()), dnn_hidden_units=HIDDEN, att_hidden_size=(UNIT,))
    else:
        network = WDL([], columns, dnn_hidden_units=HIDDEN)
    network.train()
    inputs = torch.from_numpy(np.concatenate(values, axis=1, dtype=np.float32))  # as its own `fit` hands them over
    optimiser = torch.optim.Adam(network.parameters())
    return _train(
        lambda at: network(inputs[at]).squeeze(1), optimiser, network.get_regularization_loss, rows["label"],
        steps, warm, batch,
    )  # fmt: skip


def _read(folder: str, model: str) -> tuple[dict[str, Any], list[dict[str, Any]], dict[str, str]]:
    """Return rows, fields that the peers have a way for, and for DIN by history the candidate that it is matched with.

    One history per candidate: deepctr-torch names a history by it.
    """
    told = json.loads((Path(folder) / "fields.json").read_text(encoding="utf-8"))
    with np.load(Path(folder) / "rows.npz", allow_pickle=False) as held:
        rows = {name: held[name] for name in held.files}
    fields = [field for field in told["fields"] if field["kind"] != "elapsed"]
    if model != "din":
        return rows, fields, {}
    categorical = {field["table"]: field["name"] for field in fields if field["kind"] == "categorical"}
    histories = [field for field in fields if field["kind"] == "sequence" and not field["pooled"]]
    found = {field["table"]: field["name"] for field in histories if field["table"] in categorical}
    lengths = {rows[name].shape[1] for name in found.values()}
    matched = {name: categorical[table] for table, name in found.items() if rows[name].shape[1] == max(lengths)}
    if not matched:
        raise ValueError("no history shares a table with a candidate, which their DIN needs")
    return rows, fields, matched


def _train(
    predict: Callable[[slice], Any],
    optimiser: Any,
    penalty: Callable[[], Any],
    labels: Any,
    steps: int,
    warm: int,
    batch: int,
) -> Iterator[None]:
    """Take `warm` steps, then time the others; the answer is rows/s."""
    import torch
    from torch.nn.functional import binary_cross_entropy

    expected = torch.from_numpy(labels)
    seconds = 0.0
    yield
    for step in range(steps):
        start = time.perf_counter()
        first = step * batch % (len(expected) - batch + 1)
        at = slice(first, first + batch)
        loss = binary_cross_entropy(predict(at), expected[at]) + penalty()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        seconds += (time.perf_counter() - start) if step >= warm else 0.0
    yield
    return {"rate": (steps - warm) * batch / seconds}  # type: ignore[return-value]
