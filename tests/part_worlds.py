"""In which world does it pay to have a part? One planted truth for each mechanism, as tensors, without engines."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from features.declaration import FIRST, Declaration, FieldSpec, RankerSchema
from tests.known_truth_events import SCHEMA as TIMED
from tests.known_truth_events import recency_world

Batch = dict[str, Tensor]


@dataclass(frozen=True)
class Rows:
    """Impressions with the probabilities that they were drawn from.

    Attributes:
        batch: by field.
        truth: float32 ``[rows]`` by task: the probability of each feedback, and of steps of a funnel.
        labels: float32 ``[rows]`` by feedback.
    """

    batch: Batch
    truth: dict[str, Tensor]
    labels: dict[str, Tensor]


@dataclass(frozen=True)
class PartWorld:
    """A truth and what a ranker is told of it.

    Attributes:
        schema: inputs and feedback.
        draw: makes so many rows of a seed; the truth itself is the same for every seed.
        content: float32 ``[V, D]``, the vectors that items come with, if any.
    """

    schema: RankerSchema
    draw: Callable[[int, int], Rows]
    content: Tensor | None = None


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _rows(batch: Batch, truth: dict[str, Tensor], seed: int) -> Rows:
    """Return rows whose feedback is drawn independently of each other."""
    g = _generator(1_000_003 + seed)
    return Rows(batch, truth, {name: (torch.rand(len(p), generator=g) < p).float() for name, p in truth.items()})


def _signs(*shape: int) -> Tensor:
    """Return ±1, float32 of `shape`: half of the values along the last axis each way."""
    g = _generator(77)
    values = torch.arange(shape[-1])
    rows = [values[torch.randperm(shape[-1], generator=g)] for _ in range(int(torch.tensor(shape[:-1]).prod()))]
    return torch.where(torch.stack(rows) < shape[-1] // 2, 1.0, -1.0).view(*shape)


def _schema(sizes: dict[str, int], rates: dict[str, float], domain: str | None = None, rows: int = 0) -> RankerSchema:
    """Return a schema of categorical fields with so many known values each."""
    return RankerSchema(
        declaration=Declaration(feedback=tuple(rates), domain=domain, funnel=False),
        fields=tuple(FieldSpec(name=n, kind="categorical", size=FIRST + s, table=n) for n, s in sizes.items()),
        base_rates=rates,
        rows=rows,
        sides={name: "item" if name == "item_id" else "user" for name in sizes if name != domain},
    )


def _ids(rows: int, sizes: dict[str, int], seed: int) -> Batch:
    g = _generator(seed)
    return {name: torch.randint(size, (rows,), generator=g) for name, size in sizes.items()}


def _shown(ids: Batch) -> Batch:
    return {name: values + FIRST for name, values in ids.items()}


def _match(ids: Batch, numbers: int) -> Tensor:
    """Return how well a user and an item of 100 each fit: the product of hidden numbers, one of a kind per id."""
    hidden = torch.randn(2, 100, numbers, generator=_generator(77))
    fits: Tensor = (hidden[0, ids["user_id"]] * hidden[1, ids["item_id"]]).sum(dim=1)
    return fits / math.sqrt(numbers)


def effects() -> PartWorld:
    """Each id adds its own: what a linear model of ids knows, and nobody else without ids."""
    sizes = {"user_id": 100, "item_id": 100}
    effect = torch.randn(2, 100, generator=_generator(77))

    def draw(rows: int, seed: int) -> Rows:
        ids = _ids(rows, sizes, seed)
        p = torch.sigmoid(effect[0, ids["user_id"]] + effect[1, ids["item_id"]])
        return _rows(_shown(ids), {"like": p}, seed)

    return PartWorld(_schema(sizes, {"like": 0.5}), draw)


def match() -> PartWorld:
    """A user and an item fit or not; neither says anything alone."""
    sizes = {"user_id": 100, "item_id": 100}

    def draw(rows: int, seed: int) -> Rows:
        ids = _ids(rows, sizes, seed)
        return _rows(_shown(ids), {"like": torch.sigmoid(2 * _match(ids, 2))}, seed)

    return PartWorld(_schema(sizes, {"like": 0.5}), draw)


def crosses(small: int = 12, large: int = 120) -> PartWorld:
    """One pair of fields is a table without any order, one a product of few numbers of many values, all else noise.

    A pair of the second has some two rows per combination in 24,000: too few to remember, and 200 per value.
    """
    sizes = {"table_a": small, "table_b": small, "product_a": large, "product_b": large, "noise": 30}
    effect = 1.3 * _signs(small, small)
    hidden = torch.randn(2, large, 2, generator=_generator(77))

    def draw(rows: int, seed: int) -> Rows:
        ids = _ids(rows, sizes, seed)
        fits = (hidden[0, ids["product_a"]] * hidden[1, ids["product_b"]]).sum(dim=1)
        p = torch.sigmoid(effect[ids["table_a"], ids["table_b"]] + fits)
        return _rows(_shown(ids), {"like": p}, seed)

    found = _schema(sizes, {"like": 0.5})
    return PartWorld(found.model_copy(update={"fields": tuple(sorted(found.fields, key=lambda f: f.name))}), draw)


def which_counts() -> PartWorld:
    """Two of six fields say together which of the other four counts."""
    sizes = {f"f{i}": 10 for i in range(6)}
    signs = _signs(6, 10)

    def draw(rows: int, seed: int) -> Rows:
        ids = _ids(rows, sizes, seed)
        x = torch.stack(list(ids.values()), dim=1)
        place = 2 + (x[:, 0] + x[:, 1]) % 4
        chosen = signs[place, x.gather(1, place[:, None])[:, 0]]
        return _rows(_shown(ids), {"like": torch.sigmoid(2 * chosen)}, seed)

    return PartWorld(_schema(sizes, {"like": 0.5}), draw)


def _history(items: int, events: int) -> RankerSchema:
    return RankerSchema(
        declaration=Declaration(feedback=("like",)),
        fields=(
            FieldSpec(name="item_id", kind="categorical", size=FIRST + items, table="item_id"),
            FieldSpec(name="recent", kind="sequence", size=FIRST + items, table="item_id", length=events),
        ),
        base_rates={"like": 0.5},
    )


def tastes() -> PartWorld:
    """A user's history is of one of two kinds, which like opposite items: without history the item says nothing."""

    def draw(rows: int, seed: int) -> Rows:
        g = _generator(seed)
        kind = torch.randint(2, (rows,), generator=g)
        recent = 2 * torch.randint(10, (rows, 5), generator=g) + kind[:, None]
        item = torch.randint(20, (rows,), generator=g)
        p = torch.where(item % 2 == kind, 0.9, 0.1)
        return _rows({"item_id": item + FIRST, "recent": recent + FIRST}, {"like": p}, seed)

    return PartWorld(_history(20, 5), draw)


def counts() -> PartWorld:
    """The more events are of the candidate, the likelier it is liked; others are many or few."""
    items, most, events = 20, 5, 15

    def draw(rows: int, seed: int) -> Rows:
        g = _generator(seed)
        item = torch.randint(items, (rows, 1), generator=g)
        others = (item + torch.randint(1, items, (rows, events), generator=g)) % items
        fitting = torch.randint(most + 1, (rows, 1), generator=g)
        length = torch.maximum(fitting, torch.randint(events + 1, (rows, 1), generator=g))
        order = torch.rand(rows, events, generator=g).masked_fill(torch.arange(events) >= length, 2.0).argsort(dim=1)
        fits = (order < fitting) & (torch.arange(events) < length)
        recent = torch.where(torch.arange(events) < length, torch.where(fits, item, others) + FIRST, 0)
        p = torch.sigmoid(1.0 * fits.sum(dim=1) - 2.5)
        return _rows({"item_id": item[:, 0] + FIRST, "recent": recent}, {"like": p}, seed)

    return PartWorld(_history(items, events), draw)


def order() -> PartWorld:
    """A candidate is liked when it is among the last two events."""
    items, events = 12, 6

    def draw(rows: int, seed: int) -> Rows:
        g = _generator(seed)
        kept = torch.randint(2, events + 1, (rows, 1), generator=g)
        ids = FIRST + torch.randint(items, (rows, events), generator=g)
        history = torch.where(torch.arange(events) < kept, ids, 0)
        seen = history.gather(1, (torch.rand(rows, 1, generator=g) * kept).long())[:, 0]
        other = FIRST + torch.randint(items, (rows,), generator=g)
        item = torch.where(torch.rand(rows, generator=g) < 0.7, seen, other)
        recent = (history[:, :2] == item[:, None]).any(dim=1)
        return _rows({"item_id": item, "recent": history}, {"like": torch.where(recent, 0.9, 0.1)}, seed)

    return PartWorld(_history(items, events), draw)


def liked_alike() -> PartWorld:
    """What users thought of events of the candidate's kind counts; what they thought of others, and the kinds alone,
    say nothing."""
    kinds, events = 12, 8

    def draw(rows: int, seed: int) -> Rows:
        g = _generator(seed)
        kind = torch.randint(kinds, (rows, 1), generator=g)
        recent = torch.randint(kinds, (rows, events), generator=g)
        recent = torch.where(torch.rand(rows, events, generator=g) < 0.3, kind, recent)
        liked = torch.randint(2, (rows, events), generator=g)
        score = ((2 * liked - 1) * (recent == kind)).sum(dim=1).clamp(-3, 3)
        told = {"item_id": kind[:, 0], "recent": recent, "recent_likes": liked}
        batch: Batch = {name: ids + FIRST for name, ids in told.items()}
        batch["recent_times"] = torch.arange(events, dtype=torch.float32).expand(rows, -1) * 3600.0
        return _rows(batch, {"like": torch.sigmoid(1.2 * score.float())}, seed)

    item, recent = _history(kinds, events).fields
    stream = {"length": events, "timed_by": "recent_times"}
    fields = (
        item,
        recent.model_copy(update=stream),
        FieldSpec(name="recent_likes", kind="sequence", size=FIRST + 2, table="recent_likes", **stream),
        FieldSpec(name="recent_times", kind="elapsed", length=events),
    )
    schema = RankerSchema(declaration=Declaration(feedback=("like",)), fields=fields, base_rates={"like": 0.5})
    return PartWorld(schema, draw)


def two_hops() -> PartWorld:
    """Events are a key and a value that is a key again: what counts is the value at the value at the candidate."""
    keys = 6

    def draw(rows: int, seed: int) -> Rows:
        g = _generator(seed)
        key = torch.rand(rows, keys, generator=g).argsort(dim=1)
        value = torch.randint(keys, (rows, keys), generator=g)
        at = torch.zeros_like(value).scatter(1, key, value)
        item = torch.randint(keys, (rows, 1), generator=g)
        far = at.gather(1, at.gather(1, item))[:, 0]
        told = {"item_id": item[:, 0], "recent": key, "recent_values": value}
        batch: Batch = {name: ids + FIRST for name, ids in told.items()}
        batch["recent_times"] = torch.arange(keys, dtype=torch.float32).expand(rows, -1) * 3600.0
        return _rows(batch, {"like": torch.where(far % 2 == 0, 0.9, 0.1)}, seed)

    item, recent = _history(keys, keys).fields
    stream = {"length": keys, "timed_by": "recent_times"}
    fields = (
        item,
        recent.model_copy(update=stream),
        FieldSpec(name="recent_times", kind="elapsed", length=keys),
        FieldSpec(name="recent_values", kind="sequence", size=FIRST + keys, table="recent_values", **stream),
    )
    declaration = Declaration(feedback=("like",))
    sides = {"item_id": "item"} | {field.name: "user" for field in fields[1:]}
    return PartWorld(RankerSchema(declaration=declaration, fields=fields, base_rates={"like": 0.5}, sides=sides), draw)


def asked_by_context() -> PartWorld:
    """What a request is for, and not the candidate, says which event counts: in one history for, in another against."""
    kinds, events = 6, 6

    def draw(rows: int, seed: int) -> Rows:
        g = _generator(seed)
        item, intent = (torch.randint(kinds, (rows,), generator=g) for _ in range(2))
        batch: Batch = {"item_id": item + FIRST, "intent": intent + FIRST}
        found = []
        for name in ("recent", "refused"):
            ids = torch.randint(kinds, (rows, events), generator=g)
            other = (intent[:, None] + torch.randint(1, kinds, (rows, events), generator=g)) % kinds
            clean = torch.rand(rows, 1, generator=g) < 0.6
            ids = torch.where((ids == intent[:, None]) & clean, other, ids)
            there = torch.arange(events) < torch.randint(events + 1, (rows, 1), generator=g)
            batch[name] = torch.where(there, ids + FIRST, 0)
            found.append(((ids == intent[:, None]) & there).any(dim=1).float())
        truth = {"like": torch.sigmoid(4 * found[0] - 2), "save": torch.sigmoid(2 - 4 * found[1])}
        return _rows(batch, truth, seed)

    item, recent = _history(kinds, events).fields
    fields = (
        FieldSpec(name="intent", kind="categorical", size=FIRST + kinds, table="item_id"),
        item,
        recent,
        recent.model_copy(update={"name": "refused"}),
    )
    declaration = Declaration(feedback=("like", "save"), funnel=False)
    rates = {"like": 0.4, "save": 0.6}
    return PartWorld(RankerSchema(declaration=declaration, fields=fields, base_rates=rates), draw)


def long_ago(items: int = 40, events: int = 120, newest: int = 30, partner: int = 0) -> PartWorld:
    """What counts lies beyond the newest events: the more of the older ones are the candidate, the likelier it is.

    Or not the candidate itself: the item so many numbers after it.
    """

    def draw(rows: int, seed: int) -> Rows:
        g = _generator(seed)
        candidate = torch.randint(items, (rows, 1), generator=g)
        item = (candidate + partner) % items
        others = (item + torch.randint(1, items, (rows, events), generator=g)) % items
        fitting = torch.randint(1, 8, (rows, 1), generator=g) * torch.randint(2, (rows, 1), generator=g)
        order = torch.rand(rows, events - newest, generator=g).argsort(dim=1).argsort(dim=1)
        fits = torch.nn.functional.pad(order < fitting, (newest, 0))
        recent = torch.where(fits, item, others)
        p = torch.sigmoid(0.9 * fitting[:, 0].clamp(max=5) - 2.0)
        told = {"item_id": candidate[:, 0], "recent": recent, "kind": candidate[:, 0] // 8, "recent_kinds": recent // 8}
        return _rows({name: ids + FIRST for name, ids in told.items()}, {"like": p}, seed)

    return PartWorld(_history(items, events), draw)


def goes_with() -> PartWorld:
    """As `long_ago`, but what counts is another item, which goes with the candidate and is nothing like it."""
    return long_ago(items=20, events=60, newest=15, partner=10)


def alike_by_content(shuffled: bool = False) -> PartWorld:
    """The more of the older events are of the candidate's kind, the likelier it is liked.

    Items are so many that ids say nothing of kinds; their content shows them, unless it is that of other items.
    """
    items, kinds, events, newest, width = 4000, 20, 60, 15, 16
    g = _generator(77)
    centres = torch.randn(kinds, width, generator=g)
    content = centres.repeat_interleave(items // kinds, dim=0) + 0.3 * torch.randn(items, width, generator=g)
    content = content[torch.randperm(items, generator=g)] if shuffled else content

    def draw(rows: int, seed: int) -> Rows:
        g = _generator(seed)
        kind = torch.randint(kinds, (rows, 1), generator=g)
        others = (kind + torch.randint(1, kinds, (rows, events), generator=g)) % kinds
        fitting = torch.randint(1, 8, (rows, 1), generator=g) * torch.randint(2, (rows, 1), generator=g)
        order = torch.rand(rows, events - newest, generator=g).argsort(dim=1).argsort(dim=1)
        shown = torch.where(torch.nn.functional.pad(order < fitting, (newest, 0)), kind, others)
        each = [kinds_of * (items // kinds) for kinds_of in (kind, shown)]
        item, recent = (first + torch.randint(items // kinds, first.shape, generator=g) + FIRST for first in each)
        p = torch.sigmoid(0.9 * fitting[:, 0].clamp(max=5) - 2.0)
        return _rows({"item_id": item[:, 0], "recent": recent}, {"like": p}, seed)

    schema = _history(items, events)
    fields = tuple(field.model_copy(update={"content": width}) for field in schema.fields)
    held = torch.cat([torch.zeros(FIRST, width), content])
    return PartWorld(schema.model_copy(update={"fields": fields}), draw, held)


def content_of_others() -> PartWorld:
    """As `alike_by_content`, with the content of other items."""
    return alike_by_content(shuffled=True)


def domains() -> PartWorld:
    """Every domain turns the same values another way."""
    sizes = {"domain": 4, **{f"f{i}": 10 for i in range(4)}}
    signs = _signs(4, 4, 10)

    def draw(rows: int, seed: int) -> Rows:
        ids = _ids(rows, sizes, seed)
        score = torch.stack([signs[ids["domain"], i, ids[f"f{i}"]] for i in range(4)]).sum(dim=0)
        return _rows(_shown(ids), {"like": torch.sigmoid(score)}, seed)

    return PartWorld(_schema(sizes, {"like": 0.5}, domain="domain"), draw)


def kinds() -> PartWorld:
    """Rows are of three kinds that every one of twelve ids betrays; each kind turns six other values another way."""
    sizes = {**{f"id{i}": 12 for i in range(12)}, **{f"f{i}": 10 for i in range(6)}}
    signs = _signs(3, 6, 10)
    likes, saves = torch.tensor([[-1.5, 0.0, 1.5], [1.5, -3.0, 1.5]])  # no line through all kinds

    def draw(rows: int, seed: int) -> Rows:
        ids = _ids(rows, sizes, seed)
        kind = torch.randint(3, (rows,), generator=_generator(seed + 1_000))
        ids |= {name: 4 * kind + ids[name] % 4 for name in ids if name.startswith("id")}
        turned = torch.stack([signs[kind, i, ids[f"f{i}"]] for i in range(6)]).sum(dim=0)
        like, save = torch.sigmoid(0.7 * turned + likes[kind]), torch.sigmoid(saves[kind])
        return _rows(_shown(ids), {"like": like, "save": save}, seed)

    return PartWorld(_schema(sizes, {"like": 0.5, "save": 0.5}, rows=1_000), draw)


def rare_beside_frequent() -> PartWorld:
    """One hard truth decides what happens often and what happens ten times less often."""
    hard = which_counts()

    def draw(rows: int, seed: int) -> Rows:
        found = hard.draw(rows, seed)
        return _rows(found.batch, {"like": found.truth["like"], "love": 0.1 * found.truth["like"]}, seed)

    declaration = Declaration(feedback=("like", "love"), funnel=False)
    told = {"declaration": declaration, "base_rates": {"like": 0.5, "love": 0.05}}
    return PartWorld(hard.schema.model_copy(update=told), draw)


def funnel() -> PartWorld:
    """Clicks follow a hard truth, and what is bought once clicked, which is rare, an easy one."""
    hard = which_counts()
    signs = _signs(2, 10)

    def draw(rows: int, seed: int) -> Rows:
        found = hard.draw(rows, seed)
        click = found.truth["like"]
        step = torch.sigmoid(signs[0, found.batch["f5"] - FIRST] - 2.0)
        g = _generator(1_000_003 + seed)
        clicked = torch.rand(rows, generator=g) < click
        bought = clicked & (torch.rand(rows, generator=g) < step)
        truth = {"click": click, "order": click * step, "order_given_click": step}
        return Rows(found.batch, truth, {"click": clicked.float(), "order": bought.float()})

    told = {"declaration": Declaration(feedback=("click", "order")), "base_rates": {"click": 0.5, "order": 0.075}}
    return PartWorld(hard.schema.model_copy(update=told), draw)


def recency() -> PartWorld:
    """What was bought within a day counts, and no order tells the time: see `recency_world`."""

    def draw(rows: int, seed: int) -> Rows:
        found = recency_world(rows, seed)
        return Rows(found.batch, {"click": found.click}, found.labels)

    return PartWorld(TIMED, draw)


def without(world: PartWorld, fields: Sequence[str]) -> PartWorld:
    """Return the world as a ranker sees it that is told nothing of some fields."""
    kept = tuple(field for field in world.schema.fields if field.name not in fields)
    return PartWorld(world.schema.model_copy(update={"fields": kept}), world.draw)
