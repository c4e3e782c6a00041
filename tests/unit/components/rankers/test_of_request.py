"""Does one history of a request answer each candidate as it would alone, and is it read once for all of them?"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from components.rankers.embedding.content import APART, ContentVectors
from components.rankers.parts import SequenceEncoder
from components.rankers.registration import load
from features.declaration import FieldSpec
from tests.registered import SEQUENCES

WIDTH, VALUES, WIDE = 6, 40, 12
OTHERS = sorted({*SEQUENCES} - {"mean"})
"""Encoders that look at a candidate."""
CASES: list[dict[str, Any]] = [
    *({"name": name} for name in OTHERS),
    {"name": "din", "activation": "dice"},
    {"name": "tin", "positions": "both"},
    {"name": "sdim", "hashes": 12, "signature": 6},
    {"name": "transformer", "layers": 1},
    {"name": "transformer", "layers": 3, "heads": 3},
    {"name": "searched", "search": "soft", "keep": 3, "attend": "tin"},
    {"name": "searched", "search": "category", "keep": 3, "attend": "transformer"},
]


def encoder(name: str, **config: Any) -> SequenceEncoder:
    """An encoder with weights away from zero, so that a wrong one is seen; in muse every third value has no vector."""
    torch.manual_seed(0)
    complete: Any = SEQUENCES[name]().model_copy(update=config)
    field = FieldSpec(name="recent", kind="sequence", size=VALUES, table="item", length=9, content=WIDE)
    more = {"content": field} if name == "muse" else {}
    made: SequenceEncoder = load(SEQUENCES[name])(WIDTH, 9, complete, targeted=True, **more)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(torch.randn(parameter.shape) * 0.4)
        if name == "muse":
            vectors = torch.randn(VALUES, WIDE)
            vectors[::3] = 0
            content(made).take(vectors, torch.ones(VALUES))
    return made.eval()


def content(made: SequenceEncoder) -> ContentVectors:
    assert isinstance(made.content, ContentVectors)
    return made.content


def request(made: SequenceEncoder, candidates: int, events: int) -> tuple[tuple[Tensor, ...], dict[str, Tensor]]:
    """Arguments of `of_request`: every fourth event is missing, and the second candidate is among the events."""
    g = torch.Generator().manual_seed(events)
    ids, asked = (torch.randint(2, VALUES, (many,), generator=g) for many in (events, candidates))
    if events and candidates > 1:
        asked[1] = ids[0]
    table = torch.randn(VALUES, WIDTH, generator=g)
    mask = (torch.arange(events) % 4 != 3).float().unsqueeze(0)
    vectors = table[ids].unsqueeze(0) * mask.unsqueeze(2)
    times: dict[str, Tensor] = {}
    if made.reads_times:
        times["elapsed"] = torch.where(mask > 0, torch.rand(1, events, generator=g) * 1e6, -1.0)
    if made.reads_content:
        times["alike"] = content(made).for_each(ids, asked)
    return (vectors, mask, table[asked]), times


@pytest.mark.parametrize("events", [0, 1, 9, 14])
@pytest.mark.parametrize("case", CASES, ids=lambda case: "-".join(str(value) for value in case.values()))
@torch.no_grad()
def test_candidates_are_answered_as_each_would_be_alone(case: dict[str, Any], events: int) -> None:
    made = encoder(**case)
    (vectors, mask, target), times = request(made, 7, events)
    expected = [
        made(
            vectors, mask, one.unsqueeze(0), **{name: t[at : at + 1] if len(t) > 1 else t for name, t in times.items()}
        )
        for at, one in enumerate(target)
    ]
    found = made.of_request(vectors, mask, target, **times)
    torch.testing.assert_close(found, torch.cat(expected), atol=2e-6, rtol=2e-5)
    assert events < 9 or (found.std(dim=0) > 0).any(), "candidates differ"


def test_each_candidates_cosines_are_those_of_rows_to_the_bit() -> None:
    made = content(encoder("muse"))
    values, others = torch.arange(VALUES), torch.arange(VALUES).flip(0)[:11]
    rows = made(values.expand(11, -1), others.unsqueeze(1).expand(-1, VALUES))
    assert torch.equal(made.for_each(values, others), rows)
    assert (rows == APART).any() and (rows > 0).any()


class _Written(TorchDispatchMode):
    """Counts the numbers that operations write; a view writes none."""

    numbers = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        if not func.is_view:
            self.numbers += sum(x.numel() for x in (made if isinstance(made, tuple | list) else (made,)))
        return made


def work(answer: Callable[[int, int], object], kind: str) -> float:
    """Return the numbers written, or products taken, per candidate and event: what grows with both."""

    def counted(candidates: int, events: int) -> float:
        if kind == "products":
            with FlopCounterMode(display=False) as counter:
                answer(candidates, events)
            return counter.get_total_flops() / 2
        with _Written() as written:
            answer(candidates, events)
        return written.numbers

    low, high = (40, 80), (60, 120)
    mixed = counted(high[0], high[1]) - counted(low[0], high[1]) - counted(high[0], low[1]) + counted(low[0], low[1])
    return mixed / ((high[0] - low[0]) * (high[1] - low[1]))


@pytest.mark.parametrize(
    ("name", "kind", "most"),
    [
        ("din", "products", 0.6),
        ("din", "numbers", 0.95),
        ("muse", "numbers", 0.9),
        ("sdim", "products", 0.0),
        ("sdim", "numbers", 0.0),
        ("searched", "products", 0.0),
        ("searched", "numbers", 0.3),
        ("tin", "numbers", 0.2),
        ("transformer", "products", 0.01),
        ("transformer", "numbers", 0.03),
    ],
)
@torch.no_grad()
def test_what_no_candidate_decides_is_computed_once(name: str, kind: str, most: float) -> None:
    """Share of what reading the history for each candidate takes: what every encoder that says nothing does."""
    made = encoder(name)
    given = {(many, events): request(made, many, events) for many in (40, 60) for events in (80, 120)}
    once = work(lambda many, events: made.of_request(*given[many, events][0], **given[many, events][1]), kind)
    each = work(
        lambda many, events: SequenceEncoder.of_request(made, *given[many, events][0], **given[many, events][1]), kind
    )
    assert once <= most * each, (once, each)
    assert each > 0
