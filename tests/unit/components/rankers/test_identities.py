"""Is a ranker, with its mechanism made trivial, the simpler ranker that it then must be? Specification, section 6.

The others: `test_gnolr.py` (one feedback is the cross-entropy of a shifted cosine), `test_adaptdhm.py` (one cluster
with weights of one is the dnn), `test_star.py` (routes start as the shared tower), `test_multi_task_heads.py` (one
expert makes `mmoe` a shared bottom), and `components/memory` (no weight or an empty memory is the base model).
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from components.rankers.build import build_ranker
from components.rankers.config import RankerConfig
from features.declaration import RankerSchema

SchemaOf = Callable[..., RankerSchema]
BatchOf = Callable[..., dict[str, Tensor]]


def shaken(name: str, schema: RankerSchema, **config: object) -> nn.Module:
    torch.manual_seed(0)
    ranker = build_ranker(RankerConfig.model_validate({"name": name, "hidden": (8, 4)} | config), schema)
    with torch.no_grad():
        for parameter in ranker.parameters():
            parameter.add_(torch.randn(parameter.shape) * 0.3)
    return ranker.eval()


@pytest.mark.parametrize("certain", [True, False])
def test_esmm_whose_every_click_converts_is_a_click_model(
    certain: bool, schema_of: SchemaOf, batch_of: BatchOf
) -> None:
    """With the second stage at +∞; the control leaves it where it is."""
    esmm = shaken("esmm", schema_of("like", "love"), embedding_width=6)
    plain = build_ranker(RankerConfig.of(name="dnn", hidden=(8, 4), embedding_width=6), schema_of("like")).eval()
    weights = {name: values for name, values in esmm.state_dict().items() if ".towers.1." not in name}
    found = plain.load_state_dict(weights)
    assert not found.missing_keys
    if certain:
        with torch.no_grad():
            dict(esmm.named_parameters())["head.towers.1.tower.head.bias"].fill_(1e9)
    batch = batch_of(60)
    answers, clicks = esmm(batch), plain(batch)
    torch.testing.assert_close(answers["like"], clicks["like"])
    assert torch.equal(answers["love"], answers["like"]) is certain
    label = (torch.arange(60) % 2).float()
    loss = esmm.loss(answers, {"like": label, "love": label})
    once = functional.binary_cross_entropy(clicks["like"], label)
    assert torch.isclose(loss, 2 * once, rtol=1e-5).item() is certain


def test_a_shared_bottom_of_one_feedback_is_the_dnn(schema_of: SchemaOf, batch_of: BatchOf) -> None:
    """Multi-task heads take one feedback: there is nothing to share, and nothing wrong."""
    shared, plain = (shaken(name, schema_of("like"), embedding_width=6) for name in ("shared_bottom", "dnn"))
    ordered = [*shared.state_dict().values()]
    assert [tuple(v.shape) for v in ordered] == [tuple(v.shape) for v in plain.state_dict().values()]
    plain.load_state_dict(dict(zip(plain.state_dict(), ordered, strict=True)))
    torch.testing.assert_close(shared(batch_of(30))["like"], plain(batch_of(30))["like"])
