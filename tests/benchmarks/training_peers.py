"""How fast do the peers train the same network? Their ESMM, their default optimiser, batches from memory.

The loop is as bare as it can be (no data loader, no progress bar), which is kinder to them than their own trainers.
Runs in the benchmark environment, so nothing of ours is imported.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

from tests.benchmarks.training_world import FIELDS, HIDDEN, WIDTH, area, read_rows


def torch_rechub(path: str, vocabulary: int, steps: int, warm: int, batch: int, held_out: int) -> Iterator[None]:
    """Train torch-rechub's ESMM; see `_train`."""
    import torch
    from torch_rechub.basic.features import SparseFeature
    from torch_rechub.models.multi_task import ESMM

    torch.manual_seed(0)
    features = [SparseFeature(f"f{i}", vocab_size=vocabulary + 1, embed_dim=WIDTH) for i in range(FIELDS)]
    towers = {"dims": list(HIDDEN), "activation": "relu", "dropout": 0.0}
    model: Any = ESMM(features[: FIELDS // 2], features[FIELDS // 2 :], dict(towers), dict(towers))
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-3, weight_decay=1e-5)  # its MTLTrainer's defaults

    def predict(ids: Any) -> tuple[Any, Any]:
        answers = model({f"f{i}": ids[:, i] for i in range(FIELDS)})
        return answers[:, 1], answers[:, 2]

    return _train(model, optimiser, predict, lambda: 0.0, path, steps, warm, batch, held_out)


def deepctr_torch(path: str, vocabulary: int, steps: int, warm: int, batch: int, held_out: int) -> Iterator[None]:
    """Train deepctr-torch's ESMM; see `_train`."""
    import torch
    from deepctr_torch.inputs import SparseFeat
    from deepctr_torch.models.multitask import ESMM

    columns = [SparseFeat(f"f{i}", vocabulary_size=vocabulary + 1, embedding_dim=WIDTH) for i in range(FIELDS)]
    model: Any = ESMM(columns, tower_dnn_hidden_units=HIDDEN, device="cpu")
    model.train()
    optimiser = torch.optim.Adam(model.parameters())

    def predict(ids: Any) -> tuple[Any, Any]:
        answers = model(ids.float())
        return answers[:, 0], answers[:, 1]

    return _train(model, optimiser, predict, model.get_regularization_loss, path, steps, warm, batch, held_out)


def _train(
    model: Any,
    optimiser: Any,
    predict: Callable[[Any], tuple[Any, Any]],
    penalty: Callable[[], Any],
    path: str,
    steps: int,
    warm: int,
    batch: int,
    held_out: int,
) -> Iterator[None]:
    """Take `warm` steps, then time the others; the answer is samples/s and validation AUCs."""
    import torch
    from torch.nn.functional import binary_cross_entropy

    ids, click, conversion = (torch.from_numpy(values) for values in read_rows(path))
    seconds = 0.0
    yield
    for step in range(steps):
        start = time.perf_counter()
        at = slice(step * batch, (step + 1) * batch)
        clicked, converted = predict(ids[at])
        loss = binary_cross_entropy(clicked, click[at]) + binary_cross_entropy(converted, conversion[at]) + penalty()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        seconds += (time.perf_counter() - start) if step >= warm else 0.0
    yield
    model.eval()
    last = slice(len(ids) - held_out, len(ids))
    with torch.inference_mode():
        clicked, converted = predict(ids[last])
    return {  # type: ignore[return-value]  # tests.benchmarks.child reads what a generator returns
        "rate": (steps - warm) * batch / seconds,
        "click": area(click[last].numpy(), clicked.numpy()),
        "conversion": area(conversion[last].numpy(), converted.numpy()),
    }
