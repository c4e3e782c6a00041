"""Which rows resemble this one most? The rows themselves, searched exactly, in a store of bounded size.

The vector store of ReLoop2 (Zhu et al., KDD 2023, section 4.3): keys with their labels and base predictions.
Its size is bounded as the paper does, by an error threshold and random down-sampling. The sample is the rows
with the smallest hashes of their own content, so it does not depend on the order of writes.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from features.declaration import Name
from registry.memory.neighbours import Neighbours, check_keys, check_rows, check_share
from registry.memory.spec import ExactStore

Array = np.ndarray[Any, Any]
FORGOTTEN = 1e-3
"""Rows whose age weight fell below this are dropped."""
_SHIFT = np.uint64(32)


@dataclass
class Exact:
    """Rows in the order of their hashes. `write` and `forget` replace the arrays."""

    choice: ExactStore
    width: int
    seed: int
    """Seed of the hashes that choose the sample."""
    keys: Array
    """float32 ``[n, width]``, scaled to norm 1."""
    weight: Array
    """float64 ``[n]``, age weight: 1 when written, times ρ at the end of every later slot."""
    priority: Array
    """uint64 ``[n]``, hash of the row; the smallest are kept."""
    label: dict[str, Array]
    """By task: float64 ``[n]``."""
    predicted: dict[str, Array]
    """By task: float64 ``[n]``."""
    _index: Any = field(default=None, repr=False, compare=False)

    @classmethod
    def empty(cls, choice: ExactStore, width: int, seed: int, tasks: tuple[Name, ...]) -> Exact:
        """Return a store that has seen no row."""
        return cls(
            choice=choice,
            width=width,
            seed=seed,
            keys=np.zeros((0, width), dtype=np.float32),
            weight=np.zeros(0),
            priority=np.zeros(0, dtype=np.uint64),
            label={task: np.zeros(0) for task in sorted(tasks)},
            predicted={task: np.zeros(0) for task in sorted(tasks)},
        )

    @property
    def tasks(self) -> tuple[str, ...]:
        """Tasks whose labels and predictions are stored, sorted."""
        return tuple(self.label)

    @property
    def rows(self) -> int:
        """Rows kept."""
        return len(self.weight)

    def write(self, keys: Array, label: Mapping[str, Array], predicted: Mapping[str, Array]) -> None:
        """Add labelled rows whose base model erred by more than the threshold in any task.

        Arguments as for `Sketch.write`.

        Raises:
            BadInputError: as for `Sketch.write`; nothing was written.
        """
        check_rows(self.tasks, keys, label, predicted)
        check_keys(keys, self.width)
        truth = {task: np.asarray(label[task], dtype=np.float64) for task in self.tasks}
        guess = {task: np.asarray(predicted[task], dtype=np.float64) for task in self.tasks}
        erred = np.logical_or.reduce([np.abs(truth[task] - guess[task]) > self.choice.threshold for task in self.tasks])
        unit = _unit(keys)
        self._take(
            self._joined(
                Exact(
                    choice=self.choice,
                    width=self.width,
                    seed=self.seed,
                    keys=unit[erred],
                    weight=np.ones(int(erred.sum())),
                    priority=_priority(unit, [*truth.values(), *guess.values()], self.seed)[erred],
                    label={task: values[erred] for task, values in truth.items()},
                    predicted={task: values[erred] for task, values in guess.items()},
                )
            )
        )

    def read(self, keys: Array, tasks: Collection[str] | None = None) -> Neighbours:
        """Return the most similar rows, at most K, of all tasks or some, found by inner products of keys of norm 1.

        The similarity of a row is its cosine, and the support of an answer the sum of its rows' age weights.
        """
        import faiss

        check_keys(keys, self.width)
        wanted = [task for task in self.tasks if tasks is None or task in tasks]
        if not self.rows or not len(keys):
            nothing = np.zeros((len(keys), 1))
            means = {task: nothing for task in wanted}
            return Neighbours(nothing, nothing, np.zeros(len(keys)), means, means)
        if self._index is None:
            self._index = faiss.IndexFlatIP(self.width)
            self._index.add(self.keys)
        similarity, at = self._index.search(_unit(keys), min(self.choice.neighbours, self.rows))
        count = self.weight[at]
        return Neighbours(
            count=count,
            similarity=similarity.astype(np.float64),
            support=count.sum(axis=1),
            label={task: self.label[task][at] for task in wanted},
            predicted={task: self.predicted[task][at] for task in wanted},
        )

    def forget(self, kept: float) -> None:
        """Multiply every age weight by `kept`: ρ at the end of a slot of time."""
        check_share(kept)
        self.weight = self.weight * kept
        self._take(self._at(np.flatnonzero(self.weight >= FORGOTTEN)))

    def tensors(self) -> dict[str, Array]:
        """Return the rows by name, as they are saved."""
        return (
            {"keys": self.keys, "weight": self.weight, "priority": self.priority}
            | {f"label/{task}": values for task, values in self.label.items()}
            | {f"predicted/{task}": values for task, values in self.predicted.items()}
        )

    def _joined(self, other: Exact) -> Exact:
        """Return both stores' rows in the order of their hashes, cut to the capacity."""
        both = Exact(
            choice=self.choice,
            width=self.width,
            seed=self.seed,
            keys=np.concatenate([self.keys, other.keys]),
            weight=np.concatenate([self.weight, other.weight]),
            priority=np.concatenate([self.priority, other.priority]),
            label={task: np.concatenate([self.label[task], other.label[task]]) for task in self.tasks},
            predicted={task: np.concatenate([self.predicted[task], other.predicted[task]]) for task in self.tasks},
        )
        # Equal rows have equal hashes; their age decides, so that the order of joining leaves no trace.
        return both._at(np.lexsort((-both.weight, both.priority))[: self.choice.capacity])

    def _at(self, at: Array) -> Exact:
        return Exact(
            choice=self.choice,
            width=self.width,
            seed=self.seed,
            keys=self.keys[at],
            weight=self.weight[at],
            priority=self.priority[at],
            label={task: values[at] for task, values in self.label.items()},
            predicted={task: values[at] for task, values in self.predicted.items()},
        )

    def _take(self, other: Exact) -> None:
        self.keys, self.weight, self.priority = other.keys, other.weight, other.priority
        self.label, self.predicted, self._index = other.label, other.predicted, None


def _unit(keys: Array) -> Array:
    """Return float32 keys of norm 1; a key of zeros stays zero and resembles nothing."""
    exact = np.asarray(keys, dtype=np.float64)
    norm = np.linalg.norm(exact, axis=1, keepdims=True)
    # Adding 0 turns −0 into 0: equal keys have equal bits.
    return np.ascontiguousarray(exact / np.where(norm > 0, norm, 1.0) + 0.0, dtype=np.float32)


def _priority(keys: Array, values: list[Array], seed: int) -> Array:
    """Return a seeded 64-bit hash of each row's key, labels and predictions, uint64 ``[B]``."""
    words = [keys.view(np.uint32).astype(np.uint64)]
    words += [np.ascontiguousarray(v + 0.0).view(np.uint64)[:, None] for v in values]
    content = np.concatenate(words, axis=1)
    content ^= content >> _SHIFT
    odd = np.random.Generator(np.random.PCG64(seed)).integers(0, 2**63, content.shape[1], dtype=np.uint64) * 2 + 1
    mixed = (content * odd).sum(axis=1, dtype=np.uint64)
    # The finaliser of SplitMix64 (Steele et al., OOPSLA 2014): every bit of the sum reaches every bit of the hash.
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))
