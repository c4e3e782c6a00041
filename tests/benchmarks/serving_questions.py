"""Which questions are servers asked? Real users and items, by ids alone and with every value that the model reads."""

from __future__ import annotations

import json
import random
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

MODEL = "movielens_ranker"
AT = "1998-04-24T00:00:00Z"
"""Moment of every question: the last of the log, of which the store's features are."""


def write(folder: str, count: int, number: int) -> None:
    """Write ``ids-…``, ``whole-…`` and ``bento-…`` files of `number` questions about `count` candidates each."""
    from components.platform.settings import Settings
    from pipelines.run.service.parts import lookup_of
    from pipelines.run.service.versions import StoredVersions
    from registry.serving.live.rows import rows_of
    from registry.serving.wire.config import ServingConfig
    from registry.serving.wire.protocol import Question, Tensor, datatype_of, question_body

    to = Path(folder)
    to.mkdir(parents=True, exist_ok=True)
    settings = Settings.from_environment()
    config = ServingConfig.model_validate({"name": "bench", "model": MODEL})
    versions = StoredVersions(settings, config)
    live = versions.open(versions.pointed())
    lookup = lookup_of(config, settings, timeout=60)
    drawn = random.Random(count)
    for at in range(number):
        tensors = {
            "user_id": Tensor("user_id", "INT64", (1,), (drawn.randint(1, 900),)),
            "item_id": Tensor("item_id", "INT64", (count,), tuple(drawn.sample(range(1, 1600), count))),
            "age_band": Tensor("age_band", "BYTES", (1,), ("35_plus",)),
            "event_timestamp": Tensor("event_timestamp", "BYTES", (1,), (AT,)),
        }
        asked = Question(tensors)
        (to / f"ids-{count}-{at}.json").write_bytes(question_body(asked))
        rows = rows_of(asked, live.reads, lookup, datetime.now(UTC), count)
        whole = dict(tensors)
        for name in rows.table.column_names:
            values: list[Any] = rows.table[name].to_pylist()
            if name in tensors or all(value is None for value in values):
                continue  # what is missing is left out: no other server takes null
            kind = datatype_of(live.reads.dtype(name) or "string")
            values = values[:1] if name in rows.shared else values
            if isinstance(next(value for value in values if value is not None), list):
                lists = [value or [] for value in values]
                width = max(map(len, lists))
                flat = [
                    value
                    for each in lists
                    for value in (*each, *[each[0] if each else _blank(kind)] * (width - len(each)))
                ]
                lengths = tuple(map(len, lists))
                whole[name] = Tensor(name, kind, (len(lists), width), tuple(flat), lengths)
            else:
                plain = tuple(_blank(kind) if value is None else value for value in values)
                whole[name] = Tensor(name, kind, (len(plain),), plain)
        body = question_body(Question(whole))
        (to / f"whole-{count}-{at}.json").write_bytes(body)
        (to / f"bento-{count}-{at}.json").write_bytes(json.dumps({"inputs": json.loads(body)["inputs"]}).encode())


def _blank(kind: str) -> Any:
    return "" if kind == "BYTES" else 0
