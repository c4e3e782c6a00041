"""Does a ranker keep the contract of names, shapes and probabilities? Base classes of tests for whoever writes one.

A test module that holds this passes when the ranker is sound::

    class TestMyRanker(RankerKit):
        ranker = MyRankerConfig

pytest finds the checks by themselves. A part is checked in the ranker `dnn`. The inputs
have one field of every kind and a funnel of any length.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import ClassVar, Literal
from unittest import mock

import torch
from torch import Tensor

from components.platform.offers import Offers
from components.rankers import registration
from components.rankers.base import RankerModule
from components.rankers.build import build_ranker
from components.rankers.config import RankerConfig, options_of
from components.rankers.embedding.content import ValueVectors
from components.rankers.registration import RANKER, Offer, Registered
from components.rankers.tasks import HIDDEN, LOGIT, tasks_of
from components.train.ranker_files import CONFIG, WEIGHTS, load_ranker, write_weights
from features.declaration import FIRST, Declaration, FieldSpec, Position, RankerSchema, offsets_name, weight_name
from features.ground.field_docs import field_docs

FIELDS = (
    FieldSpec(name="genres", kind="sequence", size=7, table="genres", length=3, pooled=True),
    FieldSpec(name="item_id", kind="categorical", size=12, table="item_id", content=4),
    FieldSpec(name="popularity", kind="numeric"),
    FieldSpec(
        name="recent_items", kind="sequence", size=12, table="item_id", length=5, timed_by="recent_times", content=4
    ),
    FieldSpec(name="recent_likes", kind="sequence", size=4, table="recent_likes", length=5, timed_by="recent_times"),
    FieldSpec(name="recent_times", kind="elapsed", length=5),
    FieldSpec(name="taste", kind="vector", length=3),
    FieldSpec(name="user_id", kind="categorical", size=9, table="user_id"),
)
STREAM = ("recent_items", "recent_likes", "recent_times")
"""Fields that hold the same events, position by position."""
SIDES: dict[str, Literal["user", "item"]] = {
    **dict.fromkeys(("genres", "item_id", "popularity"), "item"),
    **dict.fromkeys((*STREAM, "taste", "user_id"), "user"),
}


def example_schema(*feedback: str, funnel: bool = True, fields: tuple[FieldSpec, ...] = FIELDS) -> RankerSchema:
    """Return the schema of the example: base rates 1/2, 1/4, 1/6 … along the feedback.

    The user stands for the domain as well, for rankers that need one; there are rows enough for any number of clusters.
    """
    rates = {name: 0.5 / (i + 1) for i, name in enumerate(feedback)}
    declaration = Declaration(feedback=feedback, funnel=funnel, domain="user_id")
    return RankerSchema(declaration=declaration, fields=fields, base_rates=rates, sides=SIDES, rows=100_000)


def placed_schema(*feedback: str) -> RankerSchema:
    """Return the schema of the example with a field ``place``, whose effect is added to logits."""
    schema = example_schema(*feedback, fields=(*FIELDS, FieldSpec(name="place", kind="categorical", size=7)))
    position = Position(column="place", effect="additive")
    return schema.model_copy(update={"declaration": schema.declaration.model_copy(update={"position": position})})


def example_batch(rows: int, history: int = 5, seed: int = 0) -> dict[str, Tensor]:
    """Return rows with every index from padding to the last, padding at the end of sequences."""
    g = torch.Generator().manual_seed(seed)

    def lengths(length: int) -> Tensor:
        return torch.randint(0, length + 1, (rows, 1), generator=g)

    def sequence(size: int, length: int, kept: Tensor) -> Tensor:
        ids = torch.randint(1, size, (rows, length), generator=g)
        return torch.where(torch.arange(length) < kept, ids, 0)

    events = lengths(history)
    ago = torch.rand((rows, history), generator=g).cumsum(dim=1) * 86_400
    return {
        "genres": sequence(7, min(3, history), lengths(min(3, history))),
        "item_id": torch.randint(0, 12, (rows,), generator=g),
        "popularity": torch.randn(rows, generator=g),
        "recent_items": sequence(12, history, events),
        "recent_likes": sequence(4, history, events),
        "recent_times": torch.where(torch.arange(history) < events, ago, -1.0),
        "taste": torch.randn((rows, 3), generator=g),
        "user_id": torch.randint(0, 9, (rows,), generator=g),
    }


def widened(batch: Mapping[str, Tensor], by: int) -> dict[str, Tensor]:
    """Return the batch with `by` more places of padding in every sequence."""
    more = {f: torch.nn.functional.pad(batch[f], (0, by)) for f in ("genres", *STREAM[:-1])}
    return {**batch, **more, STREAM[-1]: torch.nn.functional.pad(batch[STREAM[-1]], (0, by), value=-1.0)}


def unpadded(batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the batch as training gives it to a `jagged` ranker: histories one after the other."""
    made = dict(batch)
    for names, counted in ((("genres",), batch["genres"] != 0), (STREAM, batch[STREAM[-1]] >= 0)):
        counts = counted.sum(dim=1)
        offsets = torch.nn.functional.pad(counts.cumsum(0), (1, 0))
        for name in names:
            made |= {name: batch[name][counted], offsets_name(name): offsets}
    return made


def without_events(batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the batch with sequences of length 0."""
    return {**batch, **{f: batch[f][:, :0] for f in ("genres", *STREAM)}}


def labels_of(*feedback: str, rows: int) -> dict[str, Tensor]:
    """Return labels, float32 ``[rows]`` by feedback, of both classes."""
    return {name: (torch.arange(rows) % (i + 2) == 0).float() for i, name in enumerate(feedback)}


class RankerContract:
    """What must hold of a ranker as a module."""

    ranker: ClassVar[type[Registered]]
    """Config class of the ranker, or of the part, that is checked; it need not be installed."""

    def setup_method(self) -> None:
        """Let the name of the ranker be known for one test."""
        name = self.ranker.called
        nothing: Offers[Offer] = Offers(MappingProxyType({}), MappingProxyType({}))
        found = Offers(MappingProxyType({name: Offer(name, self.ranker)}), MappingProxyType({}))
        is_ranker = self.ranker.kind == RANKER
        self._offered = mock.patch.object(registration, "offered", lambda of: found if of == is_ranker else nothing)
        self._offered.start()

    def teardown_method(self) -> None:
        """Forget it again."""
        self._offered.stop()

    def config(self) -> RankerConfig:
        """Return the `ranker:` block of the checks: the ranker's defaults unless overridden."""
        kind, name = self.ranker.kind, self.ranker.called
        return RankerConfig.of(name) if kind == RANKER else RankerConfig.of("dnn", **{kind: name})

    def build(self, schema: RankerSchema, moved: bool = False, seed: int = 0) -> RankerModule:
        """Return a new ranker in evaluation mode.

        Args:
            schema: its inputs.
            moved: whether its weights are moved away from where they start, so that each of them is in the answers.
            seed: of its weights.
        """
        torch.manual_seed(seed)
        ranker = build_ranker(self.config(), schema)
        with torch.no_grad():
            for parameter in ranker.parameters() if moved else ():
                parameter.add_(torch.randn(parameter.shape) * 0.3)
            for part in ranker.modules() if moved else ():
                if isinstance(part, ValueVectors):  # which a training set would bring
                    vectors = torch.randn(part.size - FIRST, part.wide) * 0.3
                    part.take(torch.cat([torch.zeros(FIRST, part.wide), vectors]), torch.ones(part.size))
        return ranker.eval()

    def test_outputs_are_the_declared_tasks_and_hidden(self) -> None:
        """A probability per task, by name, and `hidden` with a row per row."""
        for feedback in (("like", "love"), ("click", "cart", "pay")):
            schema = example_schema(*feedback)
            outputs = self.build(schema, moved=True)(example_batch(33))
            for task in tasks_of(schema.declaration):
                _require(task.name in outputs, f"there is no output {task.name!r}")
                _require(outputs[task.name].shape == (33,), f"output {task.name!r} of 33 rows is not [33]")
                probable = (outputs[task.name] >= 0) & (outputs[task.name] <= 1)
                _require(bool(probable.all()), f"output {task.name!r} leaves [0, 1]")
            hidden = outputs.get(HIDDEN)
            _require(hidden is not None and hidden.ndim == 2 and hidden.shape[0] == 33, "`hidden` is not [rows, width]")

    def test_conditionals_times_the_step_before_are_the_feedback(self) -> None:
        """P(pay) is P(cart) · P(pay given cart), along the funnel."""
        outputs = self.build(example_schema("click", "cart", "pay"), moved=True)(example_batch(200))
        for shallow, deep in (("click", "cart"), ("cart", "pay")):
            product = outputs[shallow] * outputs[f"{deep}_given_{shallow}"]
            # A linear model may give the deep feedback more than the shallow one; its conditional stops at 1.
            torch.testing.assert_close(product, torch.minimum(outputs[deep], outputs[shallow]), atol=1e-6, rtol=1e-5)

    def test_a_row_is_scored_alike_alone_in_a_batch_and_with_more_padding(self) -> None:
        """Neither its neighbours nor the room left in a history change an answer."""
        ranker, batch = self.build(example_schema("like", "love"), moved=True), example_batch(17)
        whole = ranker(batch)
        alone = ranker({field: values[4:5] for field, values in batch.items()})
        padded = ranker(widened(batch, 6))
        for output in whole:
            torch.testing.assert_close(alone[output], whole[output][4:5])
            torch.testing.assert_close(padded[output], whole[output])

    def test_histories_without_padding_are_scored_and_teach_alike(self) -> None:
        """What training reads is what is served: the same answers, and the same gradients."""
        feedback, rows = ("like", "love"), 40
        ranker, batch = self.build(example_schema(*feedback), moved=True), example_batch(rows)
        if not ranker.jagged:
            return
        gradients: list[dict[str, Tensor]] = []
        for given in (batch, unpadded(batch)):
            ranker.zero_grad()
            outputs = ranker(given)
            for output, values in ranker(batch).items():
                torch.testing.assert_close(outputs[output], values)
            ranker.loss(outputs, labels_of(*feedback, rows=rows)).backward()
            learned = ((name, weight.grad) for name, weight in ranker.named_parameters())
            gradients.append({name: gradient.clone() for name, gradient in learned if gradient is not None})
        _require(gradients[0].keys() == gradients[1].keys(), "without padding, other weights learn")
        for name, gradient in gradients[0].items():
            alike = torch.allclose(gradients[1][name], gradient, atol=1e-6, rtol=1e-4)
            _require(alike, f"without padding, the gradient of {name} is another one")
        nothing = without_events(batch)
        for output, values in ranker(unpadded(nothing)).items():
            torch.testing.assert_close(values, ranker(nothing)[output])

    def test_an_empty_history_is_a_history_of_padding(self) -> None:
        """Sequences of length 0 are scored, as sequences of padding are."""
        ranker, batch = self.build(example_schema("like", "love"), moved=True), example_batch(9)
        without = ranker(without_events(batch))
        for output, values in ranker(widened(without_events(batch), 5)).items():
            _require(bool(torch.isfinite(values).all()), f"output {output!r} of a history of padding is not finite")
            torch.testing.assert_close(without[output], values)

    def test_unseen_values_are_scored_and_loss_has_gradients_everywhere(self) -> None:
        """The index of the unseen has an answer, and every weight learns."""
        ranker = self.build(example_schema("like", "love"), moved=True)
        unseen = {f: torch.ones_like(v) if v.dtype == torch.int64 else v for f, v in example_batch(6).items()}
        _require(all(torch.isfinite(values).all() for values in ranker(unseen).values()), "unseen values: not finite")
        loss = ranker.loss(ranker(example_batch(64)), labels_of("like", "love", rows=64))
        _require(loss.ndim == 0, "the loss is no single number")
        loss.backward()
        for name, parameter in ranker.named_parameters():
            gradient = parameter.grad
            _require(gradient is not None, f"{name} has no gradient")
            learns = gradient is not None and torch.isfinite(gradient).all() and gradient.abs().sum() > 0
            _require(bool(learns), f"the gradient of {name} is zero or not finite")

    def test_a_row_of_weight_two_teaches_as_two_rows(self) -> None:
        """Rows count in the loss by their weights, and weights of 1 change no bit of it."""
        feedback, rows = ("like", "love"), 32
        ranker, batch = self.build(example_schema(*feedback), moved=True), example_batch(rows)
        outputs, labels = ranker(batch), labels_of(*feedback, rows=rows)
        once = {weight_name(name): torch.ones(rows) for name in feedback}
        _require(ranker.loss(outputs, labels | once).equal(ranker.loss(outputs, labels)), "weights of 1 move the loss")
        times = torch.arange(rows) % 3
        weights = {weight_name(name): times.float() for name in feedback}
        twice = torch.arange(rows).repeat_interleave(times)
        repeated = ranker.loss(
            {name: values[twice] for name, values in outputs.items()}, {n: y[twice] for n, y in labels.items()}
        )
        found = ranker.loss(outputs, labels | weights)
        _require(torch.allclose(found * rows, repeated * len(twice), rtol=1e-5), "the loss does not weigh rows")

    def test_a_place_is_added_to_logits_and_changes_no_order(self) -> None:
        """Where its effect is added, a place moves a logit of all rows by the same, and nothing else reads it."""
        rows, feedback = 40, ("like", "love")
        ranker, batch = self.build(placed_schema(*feedback), moved=True), example_batch(rows)
        at = [ranker(batch | {"place": torch.full((rows,), place)}) for place in (2, 6, 1)]
        logits = [name for name in at[0] if name.endswith(LOGIT)]
        _require(len(logits) == len(feedback), f"the logits are {logits}: there is one for each of {feedback}")
        for name in logits:
            moved = at[1][name] - at[0][name]
            _require(bool(moved.abs().min() > 1e-3), f"the place does not move {name!r}")
            torch.testing.assert_close(moved, moved[:1].expand(rows), atol=1e-4, rtol=0.0)
        _require(torch.equal(at[0][HIDDEN], at[1][HIDDEN]), "`hidden` reads the place")
        for output, values in at[2].items():
            _require(torch.equal(values, at[1][output]), f"{output!r} of an unknown place is not the largest one's")
        ranker.loss(at[0], labels_of(*feedback, rows=rows)).backward()
        effect = ranker.get_parameter("place.weight")
        _require(effect.grad is not None and bool(effect.grad[2].any()), "the effect of a place does not learn")
        with torch.no_grad():
            effect.zero_()
            for output, values in ranker.forward(batch).items():
                torch.testing.assert_close(ranker(batch | {"place": torch.full((rows,), 2)})[output], values)

    def test_written_and_read_back_it_answers_the_same(self, tmp_path: Path) -> None:
        """All state is in the weights' file."""
        schema, batch = example_schema("like", "love"), example_batch(12)
        ranker = self.build(schema, moved=True)
        write_weights(tmp_path / WEIGHTS, ranker)
        (tmp_path / CONFIG).write_text(self.config().model_dump_json(), encoding="utf-8")
        (tmp_path / "schema.json").write_text(schema.model_dump_json(), encoding="utf-8")
        again = load_ranker(tmp_path)
        _require(not again.training, "what is read back is in training mode")
        for output, values in ranker(batch).items():
            _require(torch.equal(again(batch)[output], values), f"read back, output {output!r} differs")
        written = sorted(path.name for path in tmp_path.iterdir())
        _require(written == sorted((CONFIG, "schema.json", WEIGHTS)), f"other files were written: {written}")


class RankerKit(RankerContract):
    """What must hold of a ranker of another package: the contract, its registration, and its graph."""

    def test_its_defaults_are_a_valid_block(self) -> None:
        """Every option has a default that the key takes, and says what it means."""
        written = self.config().model_dump()
        _require(RankerConfig.model_validate(written) == self.config(), "the defaults change when they are written")
        silent = [key for key in options_of(self.ranker) if key not in field_docs(self.ranker)]
        _require(not silent, f"options without a line of text below them: {silent}")

    def test_its_graph_answers_as_the_module_does(self, tmp_path: Path) -> None:
        """ONNX and torch agree for every batch size and history length."""
        from components.judge.export_onnx.graph import export_graph
        from components.judge.export_onnx.parity import compare, require
        from registry.serving.model.session import open_session

        schema = example_schema("like", "love")
        ranker = self.build(schema, moved=True)
        tasks = tuple(task.name for task in tasks_of(schema.declaration))
        export_graph(ranker, schema, tasks, tmp_path / "model.onnx")
        rows = {name: values.numpy() for name, values in example_batch(50).items()}
        session = open_session(tmp_path / "model.onnx", "cpu")
        require(compare(ranker, session, schema.fields, tasks, rows, 1e-5), "the differences")


def _require(holds: object, sentence: str) -> None:
    if not holds:
        raise AssertionError(sentence)
