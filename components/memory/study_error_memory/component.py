"""How is the error memory compared with retraining? One frozen base, four learners, each slot scored first."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.data.training_set import SplitName, read_raw, read_schema
from components.memory.study_error_memory.config import Config, Inputs, Outputs
from components.memory.study_error_memory.report import MemoryChoice, StudyReport, Variant
from components.platform.artifacts import MemoryStudy
from components.platform.contract import RunContext
from components.platform.errors import BadInputError

if TYPE_CHECKING:
    import numpy as np

    from components.data.training_set import EncodedSplit
    from components.rankers.base import RankerModule
    from registry.memory.prequential import Replay, Stream

CHOOSES: SplitName = "validation"
"""The split on which the learning rate and the memory are chosen."""
SAMPLED = 10_000
"""Training rows behind the centre of the keys, as in the exported contract."""


def run(inputs: Inputs, config: Config, context: RunContext) -> Outputs:
    """Replay the test split of the ranker's training set.

    The memory of `both` holds the incremental learner's errors under the frozen base's keys: keys of weights
    that move would not meet again, and a memory that is reset at every step never fills.

    Raises:
        BadInputError: the training set is not the ranker's, a split is empty, or training diverged.
    """
    from components.memory.study_error_memory.choice import choose_memory, choose_rate, replayed
    from components.memory.study_error_memory.figures import overall, slot_figures
    from components.memory.study_error_memory.incremental import learn_slot_by_slot
    from components.memory.study_error_memory.page import write_page
    from components.rankers.config import RankerConfig
    from components.train.ranker_files import CONFIG, load_ranker
    from registry.memory.prequential import span

    trained, dataset = context.local(inputs.ranker), context.local(inputs.dataset)
    _check_pair(trained, dataset)
    schema, ranker = read_schema(trained), load_ranker(trained)
    feedback, funnel = schema.declaration.feedback, schema.declaration.funnel
    centre = _centre(ranker, dataset, config)
    past, past_rows = _stream(ranker, dataset, CHOOSES, config, centre)
    past_bounds = _slots(past.times, config)
    rates, rate, past_learned = choose_rate(past, past_rows, past_bounds, ranker, config, context.progress)

    base, rows = _stream(ranker, dataset, "test", config, centre)
    bounds = _slots(base.times, config)
    context.progress(f"{len(base.times)} test rows in {len(bounds)} slots; learning rate {rate:g}")
    learned = learn_slot_by_slot(
        ranker, rows, bounds, feedback, rate=rate, batch_size=config.batch_size, seed=config.seed
    )
    predicted: dict[str, Mapping[str, Any]] = {"base": base.predicted, "incremental": learned}
    choices: dict[Variant, MemoryChoice] = {}
    replays: dict[str, Replay] = {}
    learners: tuple[tuple[Variant, Mapping[str, Any], Mapping[str, Any]], ...] = (
        ("memory", past.predicted, base.predicted),
        ("both", past_learned, learned),
    )
    for variant, before, after in learners:
        choice = choose_memory(
            dataclasses.replace(past, predicted=before), past_bounds, config, funnel, context.progress
        )
        replays[variant] = replayed(dataclasses.replace(base, predicted=after), bounds, choice.memory, config, funnel)
        predicted[variant], choices[variant] = replays[variant].compensated, choice
    report = StudyReport(
        ranker=RankerConfig.model_validate_json((trained / CONFIG).read_text(encoding="utf-8")).name,
        ranker_digest=inputs.ranker.digest,
        dataset_digest=inputs.dataset.digest,
        rows=len(base.times),
        window=span(base.times),
        memory=_words(config),
        choices=choices,
        learning_rate=rate,
        learning_rates=rates,
        lambdas=config.lambdas,
        bootstrap=config.bootstrap,
        tasks=overall(base, predicted, feedback, bounds, config.bootstrap, config.seed),
        slots=slot_figures(base, predicted, feedback, bounds, replays),
    )
    draft = context.draft("study")
    (draft / "report.json").write_text(report.model_dump_json(indent=2), encoding="utf-8")
    write_page(draft, report)
    for variant, choice in choices.items():
        if choice.helps is not None:
            verdict = "better" if choice.helps else "no better"
            context.note(f"{variant}, chosen on validation: {choice.memory}; {verdict} there than no memory")
    for task, variants in report.tasks.items():
        for variant, found in variants.items():
            figures = ", ".join(f"{m} {v:.4f}" for m, v in found.metrics.items() if v is not None)
            context.note(f"{task}, {variant}: {figures}")
    return Outputs(study=MemoryStudy(uri=str(draft)))


def _check_pair(trained: Path, dataset: Path) -> None:
    """Check that the rows were encoded as the ranker's were."""
    from features.encoding.files import read_encoder

    if read_encoder(trained) != read_encoder(dataset) or read_schema(trained) != read_schema(dataset):
        raise BadInputError(
            "the ranker was trained on another training set than the one given: wire the dataset that trained it, "
            "whose test split it has not seen"
        )


def _centre(ranker: RankerModule, dataset: Path, config: Config) -> np.ndarray[Any, Any]:
    """Return the mean hidden vector of training rows spread evenly, or zeros without centring."""
    import numpy as np

    from components.memory.study_error_memory.incremental import answers
    from components.train.train_ranker.feed import open_split

    rows = open_split(dataset, "train", read_schema(dataset))
    spread = np.unique(np.linspace(0, max(0, rows.rows - 1), min(rows.rows, SAMPLED)).astype(np.int64))
    mean = answers(ranker, rows, spread, ()).hidden.mean(axis=0, dtype=np.float64)
    return np.asarray(mean if config.centre else np.zeros_like(mean))


def _stream(
    ranker: RankerModule, dataset: Path, split: SplitName, config: Config, centre: np.ndarray[Any, Any]
) -> tuple[Stream, EncodedSplit]:
    """Return a split with the frozen base's keys and answers, and its encoded rows.

    Raises:
        BadInputError: it has no rows.
    """
    import numpy as np

    from components.memory.refresh_error_memory.stream import labels, microseconds, user_groups
    from components.memory.study_error_memory.incremental import answers
    from components.train.train_ranker.feed import open_split
    from registry.memory.keys import row_keys
    from registry.memory.prequential import Stream

    schema = read_schema(dataset)
    declaration, rows = schema.declaration, open_split(dataset, split, schema)
    if not rows.rows:
        raise BadInputError(f"the {split} split has no rows: widen the window or change the split")
    said = answers(ranker, rows, np.arange(rows.rows), declaration.feedback)
    key = config.key_spec(declaration, schema.fields, len(centre))
    columns = dict.fromkeys([declaration.time, declaration.user, *declaration.feedback, *key.columns])
    raw = read_raw(dataset, split, list(columns))
    stream = Stream(
        times=microseconds(raw, declaration.time),
        users=user_groups(raw, declaration.user),
        keys=row_keys(key, said.hidden, centre, raw),
        labels=labels(raw, declaration.feedback),
        predicted=said.predicted,
    )
    return stream, rows


def _slots(times: np.ndarray[Any, Any], config: Config) -> tuple[tuple[int, int], ...]:
    from datetime import timedelta

    from registry.memory.prequential import slot_bounds, timed_slots

    if config.slot_hours is None:
        return slot_bounds(times, config.slots)
    return timed_slots(times, timedelta(hours=config.slot_hours))


def _words(config: Config) -> str:
    user = "" if config.key == "hidden" else f", user weight {config.user_weight:g}"
    return f"key {config.key}{user}; γ {config.gamma:g}, pool {config.pool}, n₀ {config.shrinkage:g}"
