"""Do Shared-Bottom, MMoE and PLE share what their papers share, and nothing else?"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from components.rankers.config import RankerConfig
from components.rankers.parts import DomainPart, Head
from components.rankers.registration import load
from components.rankers.tasks import HIDDEN
from features.declaration import RankerSchema
from tests.registered import DOMAINS, HEADS

WIDTH, ROWS = 6, 9
SHARING = ["mmoe", "ple", "shared_bottom"]
FEEDBACK = ("click", "like", "share")
Array = np.ndarray[Any, Any]
SchemaOf = Callable[..., RankerSchema]


def head(name: str, schema: RankerSchema, hidden: tuple[int, ...] = (5, 4), experts: int = 3) -> Head:
    """A head with weights away from zero, so that a wrong one is seen."""
    torch.manual_seed(0)
    config: Any = RankerConfig.of(
        "dnn", head=name, hidden=hidden, **{"experts": experts} if name in ("mmoe", "ple") else {}
    )
    domain: DomainPart = load(DOMAINS["none"])(WIDTH, schema, config)
    made = load(HEADS[config.head])(WIDTH, schema, config, domain)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(torch.randn(parameter.shape) * 0.3)
    return made.eval()


def inputs(rows: int = ROWS) -> tuple[Tensor, Tensor]:
    x = torch.randn(rows, WIDTH, generator=torch.Generator().manual_seed(1))
    return x, torch.zeros(rows, dtype=torch.int64)


def dense_by_hand(w: dict[str, Array], prefix: str, x: Array) -> Array:
    layer = 0
    while f"{prefix}{layer}.weight" in w:
        x = np.maximum(w[f"{prefix}{layer}.weight"] @ x + w[f"{prefix}{layer}.bias"], 0)
        layer += 3  # linear, ReLU, dropout
    return x


def mix_by_hand(gate: Array, x: Array, experts: list[Array]) -> Array:
    scores = [math.exp(float(row @ x)) for row in gate]
    assert len(scores) == len(experts)
    return np.array(sum(s / sum(scores) * e for s, e in zip(scores, experts, strict=True)))


def shared_bottom_by_hand(w: dict[str, Array], x: Array, experts: int, levels: int) -> list[Array]:
    return [dense_by_hand(w, "bottom.", x)] * len(FEEDBACK)


def mmoe_by_hand(w: dict[str, Array], x: Array, experts: int, levels: int) -> list[Array]:
    said = [dense_by_hand(w, f"experts.each.{i}.", x) for i in range(experts)]
    return [mix_by_hand(w[f"gates.{k}.choose.weight"], x, said) for k in range(len(FEEDBACK))]


def ple_by_hand(w: dict[str, Array], x: Array, experts: int, levels: int) -> list[Array]:
    own, common = [x] * len(FEEDBACK), x
    for level in range(levels):
        at = f"extractions.{level}."
        said = [
            [dense_by_hand(w, f"{at}own.{k}.each.{i}.", own[k]) for i in range(experts)] for k in range(len(FEEDBACK))
        ]
        shared = [dense_by_hand(w, f"{at}shared.each.{i}.", common) for i in range(experts)]
        own = [mix_by_hand(w[f"{at}gates.{k}.choose.weight"], own[k], said[k] + shared) for k in range(len(FEEDBACK))]
        if level + 1 < levels:
            every = [e for mine in said for e in mine] + shared
            common = mix_by_hand(w[f"{at}shared_gate.choose.weight"], common, every)
        else:
            assert f"{at}shared_gate.choose.weight" not in w, "nobody reads the last shared stream"
    return own


BY_HAND = {"shared_bottom": shared_bottom_by_hand, "mmoe": mmoe_by_hand, "ple": ple_by_hand}


@pytest.mark.parametrize("experts", [1, 3])
@pytest.mark.parametrize("hidden", [(4,), (5, 4), (7, 5, 4)])
@pytest.mark.parametrize("name", SHARING)
@torch.no_grad()
def test_it_is_the_formula_of_the_paper(name: str, hidden: tuple[int, ...], experts: int, schema_of: SchemaOf) -> None:
    made = head(name, schema_of(*FEEDBACK, funnel=False), hidden, experts)
    weights = {key: values.double().numpy() for key, values in made.state_dict().items()}
    x, route = inputs()
    outputs = made(x, route)
    for row in range(ROWS):
        below = BY_HAND[name](weights, x[row].double().numpy(), experts, max(1, len(hidden) - 1))
        last = []
        for k, feedback in enumerate(FEEDBACK):
            tower = f"towers.{k}.tower."
            last.append(dense_by_hand(weights, tower + "layers.", below[k]))
            z = float((weights[tower + "head.weight"] @ last[k] + weights[tower + "head.bias"])[0])
            assert float(outputs[feedback][row]) == pytest.approx(1 / (1 + math.exp(-z)), abs=1e-5)
        np.testing.assert_allclose(outputs[HIDDEN][row].numpy(), np.concatenate(last), atol=1e-4, rtol=1e-4)


def reached(made: Head, feedback: str) -> set[str]:
    """The parameters that the loss of one feedback alone moves."""
    x, route = inputs(64)
    made.zero_grad()
    made(x, route)[feedback + "_logit"].pow(2).sum().backward()
    return {n for n, p in made.named_parameters() if p.grad is not None and bool((p.grad != 0).any())}


@pytest.mark.parametrize(
    ("name", "common", "own"),
    [
        ("single", (), ("towers.0.",)),
        ("shared_bottom", ("bottom.",), ("towers.0.",)),
        ("mmoe", ("experts.",), ("towers.0.", "gates.0.")),
        (
            "ple",
            (*(f"extractions.0.{part}" for part in ("shared", "own", "gates", "shared_gate")), "extractions.1.shared."),
            ("towers.0.", "extractions.1.gates.0.", "extractions.1.own.0."),
        ),
    ],
)
def test_a_feedback_moves_what_it_shares_and_what_it_owns(
    name: str, common: tuple[str, ...], own: tuple[str, ...], schema_of: SchemaOf
) -> None:
    """The negative control is `single`, which shares nothing above x. In PLE's first layer the shared gate, which
    later layers read, mixes every feedback's experts; other feedbacks' gates of that layer are not reached."""
    made = head(name, schema_of(*FEEDBACK, funnel=False), hidden=(7, 5, 4))
    names = {n for n, _ in made.named_parameters()}
    expected = {n for n in names if n.startswith(common + own)}
    expected -= {n for n in names if n.startswith(("extractions.0.gates.1.", "extractions.0.gates.2."))}
    assert reached(made, "click") == expected


@pytest.mark.parametrize("hidden", [(4,), (5, 4), (7, 5, 4)])
@pytest.mark.parametrize("name", SHARING)
def test_the_loss_reaches_every_weight(name: str, hidden: tuple[int, ...], schema_of: SchemaOf) -> None:
    made = head(name, schema_of(*FEEDBACK, funnel=False), hidden)
    x, route = inputs(64)
    labels = {f: (torch.arange(64) % (k + 2) == 0).float() for k, f in enumerate(FEEDBACK)}
    loss = made.loss(made(x, route), labels)
    loss.backward()  # type: ignore[no-untyped-call]  # torch does not type it
    for parameter_name, parameter in made.named_parameters():
        assert parameter.grad is not None, parameter_name
        assert parameter.grad.abs().sum() > 0, parameter_name
    by_hand = sum(
        -float((y * torch.log(p) + (1 - y) * torch.log(1 - p)).mean())
        for y, p in ((labels[f], made(x, route)[f].detach().double()) for f in FEEDBACK)
    )
    assert loss.item() == pytest.approx(by_hand, rel=1e-5)


@torch.no_grad()
def test_one_expert_makes_mmoe_a_shared_bottom(schema_of: SchemaOf) -> None:
    schema = schema_of(*FEEDBACK, funnel=False)
    mmoe, plain = head("mmoe", schema, experts=1), head("shared_bottom", schema)
    weights = {k.replace("experts.each.0.", "bottom."): v for k, v in mmoe.state_dict().items() if "gates" not in k}
    plain.load_state_dict(weights)
    x, route = inputs()
    for output, values in mmoe(x, route).items():
        torch.testing.assert_close(plain(x, route)[output], values)


@torch.no_grad()
def test_gates_that_choose_own_experts_alone_make_ple_independent_towers(schema_of: SchemaOf) -> None:
    """With its gate closed for shared experts, no other feedback's expert and no shared one moves a feedback."""
    made = head("ple", schema_of(*FEEDBACK, funnel=False), experts=1)
    x, route = inputs()
    x = x.abs()
    gate = made.get_parameter("extractions.0.gates.0.choose.weight")
    gate[0], gate[1] = 100.0, -100.0
    before = made(x, route)
    for other in ("extractions.0.shared.", "extractions.0.own.1."):
        for name, parameter in made.named_parameters():
            if name.startswith(other):
                parameter.add_(1.0)
    after = made(x, route)
    assert torch.equal(after["click"], before["click"])
    assert not torch.equal(after["like"], before["like"])


@pytest.mark.parametrize("name", SHARING)
@pytest.mark.parametrize("feedback", [("like",), ("like", "love"), FEEDBACK], ids=len)
@torch.no_grad()
def test_any_number_of_feedback_types_with_or_without_a_funnel(
    name: str, feedback: tuple[str, ...], schema_of: SchemaOf
) -> None:
    x, route = inputs()
    for funnel in (True, False):
        outputs = head(name, schema_of(*feedback, funnel=funnel))(x, route)
        conditionals = [n for n in outputs if "_given_" in n and not n.endswith("_logit")]
        assert len(conditionals) == (len(feedback) - 1 if funnel else 0)
        assert outputs[HIDDEN].shape == (ROWS, 4 * len(feedback))


def test_the_heads_here_are_all_that_any_feedback_fits() -> None:
    assert sorted({*HEADS} - {"single", "esmm"}) == SHARING
