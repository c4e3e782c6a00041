"""What did a search of the architecture choose, and how does a training take it? Written by `search_ranker`."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from components.platform.errors import BadInputError
from components.rankers.config import ComposedConfig
from components.train.train_ranker.config import Config
from components.train.tuned import block_of, joined_config
from features.declaration import Frozen

FILE = "architecture.json"
"""File of an `Architecture`; in a `Ranker` that was trained with one, whose pairs it has."""
ARCHITECTURE = "architecture"
"""Annotation of such a ranker: what was chosen, in words."""
INTERACTION = "optinter"
"""The part that reads pairs."""
Mode = Literal["naive", "memorise", "factorise"]
MODES: tuple[Mode, ...] = ("naive", "memorise", "factorise")
"""What may become of a pair, by its number in a search."""


class Gain(Frozen):
    """By how much a pair lowers the log-loss of validation rows, in nats per row and feedback, others as chosen."""

    mean: float
    error: float
    """Standard error of the mean over rows."""


class PairChoice(Frozen):
    """One pair of fields, and what was chosen for it."""

    pair: tuple[str, str]
    chosen: Mode
    memorise: Gain
    """Against nothing."""
    factorise: Gain
    """Against nothing."""
    combinations: int
    """Combinations of known values that training rows hold."""
    rows: int
    """Rows that the pair's table would have."""


class Searched(Frozen):
    """The result of a search over pairs of fields."""

    method: Literal["optinter"] = "optinter"
    ranker: str
    """Name of the ranker that was searched."""
    dataset: str
    """Digest of the training set."""
    seed: int
    cross_rows: int
    """Most rows of a table of a pair."""
    sure: float
    """Standard errors by which a pair had to be better than nothing."""
    worth: float
    """Nats by which it had to be better besides."""
    epoch: int
    """Epoch whose weights judged the pairs."""
    epochs: int
    """Epochs of the search."""
    rows: int
    """Validation rows that chose."""
    pairs: tuple[PairChoice, ...]
    """Every pair that was looked at, in the order of the fields."""
    naive: float
    """Log-loss of those rows, mean over the feedback, by the searched network with nothing for any pair."""
    all_memorised: float
    """The same with every pair memorised."""
    all_factorised: float
    """The same with every pair factorised."""
    chosen: float
    """The same as chosen: those rows chose it, so it promises too much."""

    def of(self, mode: Mode) -> tuple[tuple[str, str], ...]:
        """Return the pairs for which a mode was chosen."""
        return tuple(each.pair for each in self.pairs if each.chosen == mode)

    @property
    def told(self) -> str:
        """What was chosen, in words, e.g. ``memorise gender × genre; factorise user_id × item_id``."""
        parts = [
            f"{mode} {', '.join(' × '.join(pair) for pair in self.of(mode))}" for mode in MODES[1:] if self.of(mode)
        ]
        return "; ".join(parts) or "nothing for any pair"


class ChosenBy(Frozen):
    """Which search chose the pairs of a ranker."""

    architecture: str
    """Digest of the `Architecture`."""
    memorise: tuple[tuple[str, str], ...]
    factorise: tuple[tuple[str, str], ...]


def read_searched(folder: Path) -> Searched:
    """Return what a local directory of an `Architecture` says."""
    return Searched.model_validate_json((folder / FILE).read_text(encoding="utf-8"))


def no_room_for_pairs(ranker: Any) -> str | None:
    """Return why no search can choose pairs for a ranker, or None when one can."""
    if not isinstance(ranker, ComposedConfig):
        return f"ranker {ranker.name!r} has no interaction that pairs could join: choose a ranker of exchangeable parts"
    if ranker.backbone != "none":
        return f"backbone {ranker.backbone!r} reads fields by itself, and no pairs: leave backbone out"
    if ranker.interaction not in ("none", INTERACTION):
        return f"interaction {ranker.interaction!r} stands where a search puts {INTERACTION!r}: leave interaction out"
    if getattr(ranker, "memorise", ()) or getattr(ranker, "factorise", ()):
        return "a search chooses the pairs, and this ranker has some already: leave memorise and factorise out"
    return None


def searched_config(config: Config, found: Searched) -> Config:
    """Return how a ranker is trained with the pairs that a search chose; as it is, where it chose none.

    Raises:
        BadInputError: they are those of another ranker, or this one has no room for them.
    """
    if found.ranker != config.ranker.name:
        raise BadInputError(
            f"architecture: the pairs are those of ranker {found.ranker!r}, and this stage trains "
            f"{config.ranker.name!r}: give both stages the same ranker"
        )
    if fault := no_room_for_pairs(config.ranker):
        raise BadInputError(f"architecture: {fault}")
    if len(found.of("naive")) == len(found.pairs):
        return config
    block = block_of(config, config.ranker) | config.model_dump(mode="json", exclude_unset=True, include={"workers"})
    ranker: dict[str, Any] = block["ranker"] | {"interaction": INTERACTION, "cross_rows": found.cross_rows}
    ranker |= {mode: [[*pair] for pair in found.of(mode)] for mode in MODES[1:]}
    return joined_config(
        block | {"ranker": ranker},
        "architecture: the pairs do not go together with this stage",
        "give this stage the ranker of the stage that searched",
    )
