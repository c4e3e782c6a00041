"""Does routing find planted clusters without a domain, never collapse, and never learn outside of training?"""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional

from components.platform.errors import BadInputError
from components.rankers.build import build_ranker
from components.rankers.config import RankerConfig
from components.rankers.domains import adaptdhm
from components.rankers.domains.adaptdhm import AdaptDhm, settle
from components.rankers.domains.partitioned import SHARED
from components.train.ranker_files import load_ranker, write_weights
from features.declaration import Declaration, FieldSpec, RankerSchema

ROOT = Path(__file__).resolve().parents[4]
SchemaOf = Callable[..., RankerSchema]
BatchOf = Callable[..., dict[str, Tensor]]
WIDTH = 32


def part_of(clusters: int = 3, routing: str = "centred", seed: int = 0, width: int = WIDTH, rows: int = 0) -> AdaptDhm:
    """A part that has warmed up, unless `rows` says of how many training rows half are still to come."""
    torch.manual_seed(seed)
    schema = RankerSchema(
        declaration=Declaration(feedback=("like",)), fields=(), base_rates={}, rows=rows or 100 * clusters
    )
    config = RankerConfig.of(name="adaptdhm", clusters=clusters, routing=routing)
    part = AdaptDhm(width, schema, config)
    part.warm_up = part.warm_up if rows else 0
    return part


class Planted:
    """Rows around three directions and a common offset, of a length of about `length`."""

    def __init__(self, length: float, seed: int) -> None:
        self.generator = torch.Generator().manual_seed(seed)
        self.means = functional.normalize(torch.randn(3, WIDTH, generator=self.generator), dim=1)
        self.offset = functional.normalize(torch.randn(WIDTH, generator=self.generator), dim=0)
        self.length = length

    def draw(self, rows: int = 512) -> tuple[Tensor, Tensor]:
        cluster = torch.randint(3, (rows,), generator=self.generator)
        noise = torch.randn(rows, WIDTH, generator=self.generator) * 0.1
        return (self.means[cluster] + self.offset + noise) * (self.length / 1.5), cluster


def purity(route: Tensor, cluster: Tensor) -> float:
    """Share of rows in the true cluster that most rows of their route have."""
    table = torch.zeros(3, 3)
    table.index_put_((route, cluster), torch.ones(len(route)), accumulate=True)
    return float(table.max(dim=1).values.sum() / len(route))


def test_golden_vector_of_the_specification() -> None:
    """Independent numbers, computed with numpy from the specification's equations."""
    x = torch.tensor([[1, 0], [0.8, 0.2], [0, 1], [-0.2, 0.9]])
    centres = torch.tensor([[0.6, 0.8], [0.8, -0.6]])
    pulled, coefficients = settle(x, centres, temperature=1.0)
    torch.testing.assert_close(pulled, torch.tensor([[0.493870, 0.869536], [0.708702, 0.705508]]), atol=1e-6, rtol=0)
    torch.testing.assert_close(coefficients[0], torch.tensor([0.419264, 0.580736]), atol=1e-6, rtol=0)
    assert coefficients.argmax(dim=1).tolist() == [1, 1, 0, 0]
    part = part_of(2, "literal", width=2)
    part.centres.copy_(centres)
    route = part.route(x, {})
    expected = torch.tensor([[0.589814, 0.807539], [0.859917, -0.510434]])
    torch.testing.assert_close(part.centres, expected, atol=1e-6, rtol=0)
    assert torch.equal(route, (x @ centres.T).argmax(dim=1)), "rows go where the centres were before the batch"


def test_one_iteration_gives_the_first_golden_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adaptdhm, "ITERATIONS", 1)
    x = torch.tensor([[1, 0], [0.8, 0.2], [0, 1], [-0.2, 0.9]])
    pulled, _ = settle(x, torch.tensor([[0.6, 0.8], [0.8, -0.6]]), temperature=1.0)
    torch.testing.assert_close(pulled, torch.tensor([[0.405667, 0.914021], [0.876674, 0.481084]]), atol=1e-6, rtol=0)


@pytest.mark.parametrize("length", [0.015, 1.7])
@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("routing", ["centred", "literal"])
def test_planted_clusters_are_found_and_raw_vectors_of_small_length_collapse(
    routing: str, length: float, seed: int
) -> None:
    """Without a domain. The control routes raw vectors: its softmax is flat, its centres are one."""
    part, planted = part_of(routing=routing, seed=seed), Planted(length, seed)
    for _ in range(300 if routing == "literal" else 100):
        part.route(planted.draw()[0], {})
    shown = part.diagnostics()
    if routing == "literal":
        assert shown["centre_cosine_max"] > 0.99
        assert shown["max_coefficient"] == pytest.approx(1 / 3, abs=0.02), "no row prefers a centre"
        if length < 1:
            assert max(shown[f"usage_{k}"] for k in range(3)) > 0.6
        return
    part.eval()
    x, cluster = planted.draw(2000)
    assert purity(part.route(x, {}), cluster) > 0.95
    assert shown["centre_cosine_max"] < 0.0
    assert shown["max_coefficient"] > 0.95
    assert shown["assignment_entropy"] == pytest.approx(math.log(3), abs=0.05)
    assert sum(shown[f"usage_{k}"] for k in range(3)) == pytest.approx(1.0, abs=1e-5)


def test_the_state_moves_in_training_only_and_is_saved(schema: RankerSchema, batch_of: BatchOf, tmp_path: Path) -> None:
    config = RankerConfig.of(name="adaptdhm", hidden=(8,))
    ranker = build_ranker(config, schema)
    ranker.domain.warm_up = 0
    before = {name: values.clone() for name, values in ranker.named_buffers()}
    ranker.train()
    ranker(batch_of(64))
    trained = {name: values.clone() for name, values in ranker.named_buffers()}
    for name in ("centres", "mean", "mean_weight", "seen", "batches", "usage", "certainty"):
        assert not torch.equal(before[f"domain.{name}"], trained[f"domain.{name}"]), name
    ranker.eval()
    answers = ranker(batch_of(64, seed=1))
    assert all(torch.equal(values, trained[name]) for name, values in ranker.named_buffers())
    write_weights(tmp_path / "weights.safetensors", ranker)
    (tmp_path / "ranker.json").write_text(config.model_dump_json())
    (tmp_path / "schema.json").write_text(schema.model_dump_json())
    again = load_ranker(tmp_path)
    assert all(torch.equal(again(batch_of(64, seed=1))[name], values) for name, values in answers.items())
    assert not any(name.startswith("domain.") for name, _ in ranker.named_parameters())


def test_rows_are_routed_without_a_gradient() -> None:
    part, x = part_of(), torch.randn(20, WIDTH, requires_grad=True)
    for training in (True, False):
        part.train(training)
        assert not part.route(x, {}).requires_grad
        assert not part.centres.requires_grad


def test_in_training_and_in_evaluation_the_stored_centres_decide() -> None:
    part, x = part_of(seed=3), Planted(1.0, 3).draw(300)[0]
    for _ in range(5):
        part.route(x, {})
    z = x - part.mean  # nearly what training sees: this batch moves the mean by little
    expected = (z @ part.centres.T).argmax(dim=1)
    part.eval()
    assert torch.equal(part.route(x, {}), expected)
    part.train()
    assert (part.route(x, {}) == expected).float().mean() > 0.98


def test_warming_up_trains_the_shared_weights_alone_and_then_clusters_start_from_them(
    schema: RankerSchema, batch_of: BatchOf
) -> None:
    torch.manual_seed(0)
    short = schema.model_copy(update={"rows": 400})
    ranker = build_ranker(RankerConfig.of(name="adaptdhm", hidden=(8,)), short)
    optimiser = torch.optim.Adam(ranker.parameters(), lr=0.05, weight_decay=0.01)
    tower, start = ranker.head.towers[0], ranker.domain.centres.clone()

    def step(seed: int) -> None:
        batch = batch_of(50, seed=seed)
        labels = {name: (batch["item_id"] % 2).float() for name in ("like", "love")}
        optimiser.zero_grad()
        ranker.loss(ranker.train()(batch), labels).backward()
        optimiser.step()

    before = tower.shared.head.weight.detach().clone()
    for seed in range(4):  # 200 rows: half of the training rows
        step(seed)
    assert not torch.equal(tower.shared.head.weight, before)
    assert all((parameter == 0).all() for parameter in (*tower.scales, *tower.shifts))
    assert torch.equal(ranker.domain.centres, start)
    assert ranker.diagnostics() == {}
    x = torch.randn(9, start.shape[1])
    everywhere = [ranker.head.towers[0].eval()(x, torch.full((9,), k))[0] for k in (SHARED, 0, 1, 2)]
    assert all(torch.equal(z, everywhere[0]) for z in everywhere)
    step(4)
    assert any((parameter != 0).any() for parameter in tower.scales)
    assert not torch.equal(ranker.domain.centres, start)
    assert "usage_0" in ranker.diagnostics()


def starve(part: AdaptDhm, planted: Planted) -> None:
    """Put three of four centres on the planted clusters and the last opposite to one: no row is nearest to it."""
    part.centres[:3] = functional.normalize(planted.means - planted.means.mean(dim=0), dim=1)
    part.centres[3] = -part.centres[0]


def test_a_centre_that_starves_long_enough_starts_anew_at_a_row_the_same_each_time() -> None:
    found = []
    for repeat in range(2):
        part, planted = part_of(4, seed=7), Planted(1.0, 7)
        torch.manual_seed(repeat)  # the global state must not matter
        part.route(planted.draw()[0], {})
        part.starved.zero_()
        for batch in range(adaptdhm.STARVED_BATCHES):
            assert part.starved.tolist() == [0, 0, 0, batch]
            starve(part, planted)
            x, _ = planted.draw()
            part.route(x, {})
        assert int(part.restarts) == 1
        assert part.starved.tolist() == [0, 0, 0, 0]
        z = functional.normalize(x - part.mean, dim=1)
        assert (z @ part.centres[3]).max().item() == pytest.approx(1.0, abs=1e-5), "the new centre is a row"
        found.append(part.centres.clone())
    assert torch.equal(found[0], found[1])


def test_a_used_centre_never_starts_anew() -> None:
    part, planted = part_of(), Planted(1.0, 0)
    for _ in range(3 * adaptdhm.STARVED_BATCHES):
        part.route(planted.draw(128)[0], {})
    assert part.diagnostics()["restarts"] == 0


TWO_WORKERS = """
import sys
import torch, torch.distributed as dist
from safetensors.torch import save_file
from tests.unit.components.rankers.test_adaptdhm import learn
rank, folder = int(sys.argv[1]), sys.argv[2]
torch.set_num_threads(1)
dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
save_file(learn(rank, 2), f"{folder}/{rank}.safetensors")
dist.destroy_process_group()
"""


def learn(rank: int, world: int) -> dict[str, Tensor]:
    """Route global batches of many sizes, one row included; the first 200 rows are warm-up, later a centre starves."""
    part, planted = part_of(4, seed=5, rows=400), Planted(0.5, 5)
    for step, rows in enumerate([64, 135, 1, 1, 100, 33, 128, 1, 77]):
        x = planted.draw(rows)[0]
        if step == 6:
            starve(part, planted)
            part.starved[3] = adaptdhm.STARVED_BATCHES - 1
        mine = x[rows * rank // world : rows * (rank + 1) // world]
        if len(mine):
            part.route(mine, {})
        else:
            part.sit_out()
    assert int(part.restarts) == 1
    return part.state_dict()


def test_two_workers_have_the_centres_of_one(tmp_path: Path) -> None:
    """A real gloo group of two processes, with batches of one row that leave a worker without any."""
    one = learn(0, 1)
    command = [sys.executable, "-c", TWO_WORKERS]
    workers = [subprocess.Popen([*command, str(rank), str(tmp_path)], cwd=ROOT) for rank in (0, 1)]
    assert [worker.wait(120) for worker in workers] == [0, 0]
    for rank in (0, 1):
        two = load_file(str(tmp_path / f"{rank}.safetensors"))
        assert two.keys() == one.keys()
        for name, values in one.items():
            torch.testing.assert_close(two[name], values, atol=1e-5, rtol=1e-5, msg=f"{name} of worker {rank}")


def test_one_cluster_with_weights_of_one_is_the_dnn(schema: RankerSchema, batch_of: BatchOf) -> None:
    torch.manual_seed(0)
    dnn = build_ranker(RankerConfig.of(name="dnn", hidden=(8, 4)), schema).eval()
    one = build_ranker(RankerConfig.of(name="adaptdhm", hidden=(8, 4), clusters=1), schema).eval()
    with torch.no_grad():
        for parameter in dnn.parameters():
            parameter.add_(torch.randn(parameter.shape) * 0.3)
    renamed = {name.replace(".tower.", ".shared."): values for name, values in dnn.state_dict().items()}
    found = one.load_state_dict(renamed, strict=False)
    assert not found.unexpected_keys
    assert all(name.startswith("domain.") or ".scales." in name or ".shifts." in name for name in found.missing_keys)
    batch = batch_of(50)
    answers = one(batch)
    for name, values in dnn(batch).items():
        torch.testing.assert_close(answers[name], values, atol=1e-6, rtol=0)
    assert one.diagnostics() == {}
    one.train()
    one.domain.warm_up = 0
    one(batch)
    assert one.diagnostics()["assignment_entropy"] == 0.0
    assert "centre_cosine_max" not in one.diagnostics(), "one centre has no pair"


@pytest.mark.parametrize(("rows", "clusters"), [(299, 3), (0, 1)])
def test_too_few_rows_per_cluster_are_refused(rows: int, clusters: int, schema: RankerSchema) -> None:
    config = RankerConfig.of(name="adaptdhm", clusters=clusters)
    with pytest.raises(BadInputError, match=rf"{100 * clusters} for {clusters} clusters.*has {rows}: lower clusters"):
        build_ranker(config, schema.model_copy(update={"rows": rows}))
    build_ranker(config, schema.model_copy(update={"rows": 100 * clusters}))


NUMBERS = tuple(FieldSpec(name=f"n{i}", kind="numeric") for i in range(6))


def clustered_world(rows: int, seed: int) -> tuple[dict[str, Tensor], Tensor]:
    """Three clouds of rows; in each, the label follows a direction of its own. No domain among the fields."""
    fixed = torch.Generator().manual_seed(0)
    centre = functional.normalize(torch.randn(3, 6, generator=fixed), dim=1) * 4
    slope = functional.normalize(torch.randn(3, 6, generator=fixed), dim=1) * 6
    generator = torch.Generator().manual_seed(seed)
    cloud = torch.randint(3, (rows,), generator=generator)
    noise = torch.randn(rows, 6, generator=generator)
    x = centre[cloud] + noise
    label = torch.rand(rows, generator=generator) < torch.sigmoid((noise * slope[cloud]).sum(dim=1))
    return {field.name: x[:, i] for i, field in enumerate(NUMBERS)}, label.float()


def held_out_loss(config: RankerConfig, seed: int) -> float:
    torch.manual_seed(seed)
    schema = RankerSchema(
        declaration=Declaration(feedback=("like",)), fields=NUMBERS, base_rates={"like": 0.5}, rows=4000
    )
    ranker = build_ranker(config, schema)
    optimiser = torch.optim.Adam(ranker.parameters(), lr=0.02)
    ranker.train()
    for step in range(250):
        batch, label = clustered_world(256, seed=1000 + step)
        optimiser.zero_grad()
        ranker.loss(ranker(batch), {"like": label}).backward()
        optimiser.step()
    batch, label = clustered_world(4000, seed=1)
    with torch.no_grad():
        return float(functional.binary_cross_entropy(ranker.eval()(batch)["like"], label))


def test_clusters_with_answers_of_their_own_beat_a_shared_tower_of_the_same_size() -> None:
    """The control with one cluster has the same tower and does not."""
    losses = {
        name: held_out_loss(RankerConfig.of(name=name, hidden=(4,), clusters=clusters), seed=0)
        for name, clusters in (("dnn", None), ("adaptdhm", 3))
    }
    losses["control"] = held_out_loss(RankerConfig.of(name="adaptdhm", hidden=(4,), clusters=1), seed=0)
    assert losses["adaptdhm"] < losses["dnn"] - 0.05
    assert losses["control"] > losses["adaptdhm"] + 0.05
