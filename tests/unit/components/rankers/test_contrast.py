"""Do two halves of an item's fields teach rare items what they are, and does nothing else change by it?"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from components.platform.errors import BadInputError
from components.rankers.build import build_ranker
from components.rankers.config import RankerConfig
from components.rankers.gnolr import ranker as module
from components.rankers.gnolr.contrast import MOST, ItemInputs, contrast_losses, halves
from components.rankers.gnolr.ranker import VIEWS, Gnolr
from components.testing.ranker import FIELDS, SIDES, example_batch, example_schema, unpadded
from components.train.train_ranker.config import Knobs
from components.train.train_ranker.optimiser import RankerOptimiser
from features.declaration import FIRST, UNKNOWN, Declaration, FieldSpec, RankerSchema

ITEM = tuple(field for field in FIELDS if SIDES.get(field.name) == "item")
OTHERS = tuple(field for field in FIELDS if field not in ITEM)


def ranker_of(**contrast: Any) -> Gnolr:
    torch.manual_seed(0)
    block = {"contrast": contrast} if contrast else {}
    made = build_ranker(RankerConfig.of(name="gnolr", hidden=(8, 4), **block), example_schema("like", "love"))
    assert isinstance(made, Gnolr)
    return made.train()


def test_golden_vector_of_the_paper() -> None:
    one, other = ([[1, 0], [0, 1], [0.6, 0.8]], [[0.8, 0.6], [0.1, 0.9], [1, 0.2]])
    views = [torch.nn.functional.normalize(torch.tensor(each, dtype=torch.float64), dim=1) for each in (one, other)]
    losses = contrast_losses(*views, temperature=0.1)
    assert losses.tolist() == pytest.approx([1.958106, 0.019620, 2.546165], abs=1e-6)
    assert losses.mean().item() == pytest.approx(1.5079634237, abs=1e-9)


def test_without_it_nothing_changes_and_with_it_only_training_does() -> None:
    batch = example_batch(40)
    plain, zero, on = ranker_of(), ranker_of(weight=0.0), ranker_of(weight=0.5)
    labels = {name: (torch.arange(40) % 3 == 0).float() for name in ("like", "love")}
    found = [each.loss(each(batch), labels) for each in (plain, zero, on)]
    assert torch.equal(found[0], found[1]) and found[2] > found[0] + 0.1
    assert VIEWS not in zero(batch) and on.state_dict().keys() == plain.state_dict().keys()
    answers, same = plain.eval()(batch), on.eval()(batch)
    assert answers.keys() == same.keys() and all(torch.equal(answers[name], same[name]) for name in answers)
    assert on.loss(same, labels) == plain.loss(answers, labels)
    assert "contrast" not in RankerConfig.of(name="gnolr").model_dump()


def test_users_learn_nothing_from_it() -> None:
    ranker = ranker_of(weight=1.0)
    contrast_losses(*ranker(example_batch(40))[VIEWS], temperature=0.1).mean().backward()
    assert all(weight.grad is None for weight in ranker.user.parameters())
    assert all(weight.grad is not None and weight.grad.any() for weight in ranker.item.parameters() if weight.dim() > 1)


def test_items_count_once_unknown_ones_not_at_all_and_lists_may_lie_one_after_the_other() -> None:
    inputs = ItemInputs(ITEM, OTHERS, "item_id")
    batch = example_batch(60)
    items = inputs.distinct(batch)
    rows = inputs.batch(items)
    known = dict.fromkeys(int(item) for item in batch["item_id"] if item > UNKNOWN)
    assert rows["item_id"].tolist() == [*known], "each once, in the batch's order"
    first = [batch["item_id"].tolist().index(item) for item in known]
    assert torch.equal(rows["popularity"].squeeze(-1), batch["popularity"][first].view(-1))
    genres = batch["genres"][first]
    assert torch.equal(rows["genres"][:, : genres.shape[1]], genres)
    assert not rows["user_id"].any() and not rows["recent_items"].any()
    jagged = unpadded(example_batch(60))
    assert torch.equal(inputs.distinct(jagged), items)
    unnamed = ItemInputs(ITEM, OTHERS, None).distinct(batch)
    assert len(unnamed) == len(torch.unique(unnamed, dim=0)) >= len(items)


def test_a_batch_of_unknown_items_has_nothing_to_compare() -> None:
    batch = example_batch(20) | {"item_id": torch.full((20,), UNKNOWN)}
    labels = {name: (torch.arange(20) % 3 == 0).float() for name in ("like", "love")}
    plain, on = ranker_of(), ranker_of(weight=0.5)
    assert torch.equal(on.loss(on(batch), labels), plain.loss(plain(batch), labels))


def test_a_step_compares_so_many_items_and_no_more() -> None:
    field = FieldSpec(name="item_id", kind="categorical", size=FIRST + 400, table="item_id")
    inputs = ItemInputs((field, FieldSpec(name="price", kind="numeric")), (), "item_id")
    ids = torch.arange(400).repeat(2) + FIRST
    assert inputs.distinct({"item_id": ids, "price": ids.float()})[:, 0].tolist() == ids[:MOST].tolist()


def test_halves_are_halves_and_change_with_the_batch() -> None:
    drawn = [halves(torch.full((4, 3), float(step)), 5).tolist() for step in range(20)]
    assert all(sum(half) == 2 for half in drawn) and len({*map(tuple, drawn)}) > 5
    assert drawn == [halves(torch.full((4, 3), float(step)), 5).tolist() for step in range(20)]


def test_one_field_has_no_halves() -> None:
    with pytest.raises(BadInputError, match=r"has one of the item \('item_id'\): add fields of the item, or leave"):
        ItemInputs(ITEM[1:2], OTHERS, "item_id")


ITEMS, USERS, CHOICES, FINE, DRAWN = 600, 30, 4000, 40, 4


@cache
def found(seed: int, contrast: bool, wrong: bool = False) -> float:
    """Return the share of users' true best 20 of the rarest half of all items that `gnolr` has among its own 20.

    Items have three latents, each seen through a fine field and a coarse one that is wrong for a fifth of them; users
    have a taste for values of each, and popularity falls by rank^-1.1. As a control, `wrong` halves belong to the next
    item.
    """
    rng = np.random.default_rng(seed)
    fine = rng.integers(FINE, size=(ITEMS, 3))
    coarse = np.where(rng.random((ITEMS, 3)) < 0.2, rng.integers(FINE // 8, size=(ITEMS, 3)), fine // 8)
    taste = rng.normal(size=(USERS, 3, FINE)) * 0.4 + rng.normal(size=(USERS, 3, FINE // 8)).repeat(8, axis=2)
    truth = sum(taste[:, k][:, fine[:, k]] for k in range(3))
    popularity = rng.permutation(1 / np.arange(1, ITEMS + 1) ** 1.1)
    chance = popularity * np.exp(truth)
    chance /= chance.sum(axis=1, keepdims=True)
    users = rng.integers(USERS, size=CHOICES)
    items = np.array([rng.choice(ITEMS, p=chance[user]) for user in users])
    values = torch.from_numpy(np.concatenate([fine, coarse], axis=1)) + FIRST
    names = [f"field_{at}" for at in range(6)]
    sizes = dict.fromkeys(names, FINE + FIRST) | {"user_id": USERS + FIRST}
    schema = RankerSchema(
        declaration=Declaration(feedback=("click",)),
        fields=tuple(FieldSpec(name=name, kind="categorical", size=size, table=name) for name, size in sizes.items()),
        base_rates={"click": 1 / (1 + DRAWN)},
        sides={**dict.fromkeys(names, "item"), "user_id": "user"},
    )

    def inputs(user: Tensor, item: Tensor) -> dict[str, Tensor]:
        return dict(zip(names, values[item].unbind(dim=1), strict=True)) | {"user_id": user + FIRST}

    torch.manual_seed(seed)
    block: dict[str, Any] = {"contrast": {}} if contrast else {}
    ranker = build_ranker(RankerConfig.of(name="gnolr", hidden=(64, 32), **block), schema).train()
    optimiser = RankerOptimiser(ranker, Knobs(learning_rate=0.004))
    labels = torch.cat([torch.ones(CHOICES), torch.zeros(CHOICES * DRAWN)])
    with pytest.MonkeyPatch.context() as patch:
        if wrong:
            patch.setattr(module, "contrast_losses", lambda a, b, t: contrast_losses(a, b.roll(1, dims=-2), t))
        for _ in range(6):
            shown = torch.from_numpy(np.concatenate([items, rng.integers(ITEMS, size=CHOICES * DRAWN)]))
            to = torch.from_numpy(np.concatenate([users, np.repeat(users, DRAWN)]))
            for at in torch.from_numpy(rng.permutation(len(labels))).split(512):
                optimiser.clear()
                ranker.loss(ranker(inputs(to[at], shown[at])), {"click": labels[at]}).backward()  # type: ignore[no-untyped-call]  # torch does not type it
                optimiser.step()
    ranker.eval()
    with torch.no_grad():
        every = torch.arange(ITEMS)
        scores = np.stack([ranker(inputs(torch.full((ITEMS,), user), every))["click"] for user in range(USERS)])
    rare = np.argsort(popularity)[: ITEMS // 2]
    best, own = (np.argsort(-each[:, rare], axis=1)[:, :20] for each in (truth, scores))
    return float(np.mean([len({*a} & {*b}) / 20 for a, b in zip(best, own, strict=True)]))


def test_rare_items_are_found_by_it() -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # the matrices are too small for two
    try:
        plain, with_it, wrong = ([found(seed, *how) for seed in range(3)] for how in ((False,), (True,), (True, True)))
    finally:
        torch.set_num_threads(threads)
    assert np.mean(with_it) > np.mean(plain) + 0.015, (plain, with_it)
    assert all(a > b + 0.03 for a, b in zip(with_it, wrong, strict=True)), (with_it, wrong)
