"""Can a training take what a search finds? Both name one ranker, and each value goes with the training's own knobs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeVar

from pydantic import ValidationError

from components.platform.artifacts import Architecture, Artifact, Tuned
from components.train.search_ranker.config import Config as SearchConfig
from components.train.searched import no_room_for_pairs
from components.train.train_ranker.config import Config as TrainConfig
from components.train.tune_ranker.config import Config
from components.train.tune_ranker.space import Choice, dimensions
from components.train.tuned import block_of, changed, training_config
from features.ground.yaml_text import quoted
from pipelines.language.problems import Finding
from pipelines.language.rules.draft import PipelineDraft, Rule, Wired

SearchT = TypeVar("SearchT", Config, SearchConfig)


def tuned_values_fit(draft: PipelineDraft) -> Iterator[Finding]:
    """What a stage with an input `tuned` trains is what the stage at the other end of the wire searches."""
    for wire, search, training in _taken(draft, Tuned, Config):
        if search.ranker.name != training.ranker.name:
            message = (
                f"stage {quoted(wire.producer)} tunes ranker {quoted(search.ranker.name)}, and {quoted(wire.stage)} "
                f"trains {quoted(training.ranker.name)}: give both the same"
            )
            yield Finding(wire.where, message)
            continue
        block = block_of(training, training.ranker)
        for found in dimensions(search.space, block_of(search, search.ranker)):
            value = found.values[0] if isinstance(found, Choice) else found.low
            try:
                training_config(changed(block, {found.path: value}))
            except ValidationError:
                message = (
                    f"stage {quoted(wire.producer)} tunes {found.path}, which does not go with the knobs of "
                    f"{quoted(wire.stage)}: give both the same ranker and knobs"
                )
                yield Finding(wire.where, message)


def searched_pairs_fit(draft: PipelineDraft) -> Iterator[Finding]:
    """What a stage with an input `architecture` trains has room for the pairs of the stage at the other end."""
    for wire, search, training in _taken(draft, Architecture, SearchConfig):
        if search.ranker.name != training.ranker.name:
            message = (
                f"stage {quoted(wire.producer)} searches pairs for ranker {quoted(search.ranker.name)}, and "
                f"{quoted(wire.stage)} trains {quoted(training.ranker.name)}: give both the same"
            )
            yield Finding(wire.where, message)
        elif fault := no_room_for_pairs(training.ranker):
            yield Finding(wire.where, f"stage {quoted(wire.stage)} takes pairs of a search: {fault}")


def _taken(
    draft: PipelineDraft, kind: type[Artifact], searches: type[SearchT]
) -> Iterator[tuple[Wired, SearchT, TrainConfig]]:
    """Yield every wire by which a training takes what a search finds, with the configs of both."""
    for wire in draft.wires():
        reader, search = draft.component(wire.stage), draft.configs.get(wire.producer)
        training = draft.configs.get(wire.stage)
        if reader is None or reader.input_types.get(wire.input) is not kind:
            continue
        if isinstance(search, searches) and isinstance(training, TrainConfig):
            yield wire, search, training


TUNING_RULES: tuple[Rule, ...] = (tuned_values_fit, searched_pairs_fit)
"""Every rule about stages that take what another one found."""
