"""What is still to be found out about an item, for a user like this one? Diag-LinUCB over clusters of users × items.

Users' vectors are grouped into C clusters; an edge joins a cluster and an item and holds two sums, d = 1 + Σ w² and
b = Σ w·r, of the rows that reached it. A user is a mixture w ≥ 0, Σ w = 1, of the K nearest clusters, and

    mean  = Σ_c w_c · b_jc / d_jc          bonus = √(Σ_c w_c² / d_jc)

(Yi et al., RecSys 2023). Updates are sums, so that streams and workers merge by addition, and running a window again
gives the same state. An edge that nobody has reached has d = 1: the largest bonus, never none. The diagonal form
credits every active cluster with the whole reward, so its mean is not that of LinUCB; what is served is the bonus.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pydantic import ValidationError

from features.declaration import Frozen, Name, Window
from features.ground.errors import BadInputError, MissingError

STATE, HEADER, ITEMS = "bandit.safetensors", "bandit.json", "items.parquet"
ITERATIONS = 50
"""Most passes of k-means."""

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


class BanditHeader(Frozen):
    """Whose bandit it is, and how its bonus is made."""

    model: Name
    """Registered model."""
    version: int
    """Its version, whose user vectors the clusters are of."""
    ranker_digest: str
    """Digest of the ranker: another one has other vectors."""
    item: Name
    """Column of the item."""
    feedback: Name
    """Label that is the reward."""
    alpha: float
    """Weight of the bonus."""
    nearest: int
    """Clusters that a user is a mixture of, K."""
    covers: Window
    """Time of the rows it has seen."""
    rows: int
    """How many they are."""


@dataclass(frozen=True)
class Bandit:
    """Clusters, items and the two sums of every edge."""

    header: BanditHeader
    centres: Floats
    """``[C, D]``."""
    items: pa.Array
    """``[J]`` ids that a bonus is known for, ascending; any other id is one that nobody has reached."""
    d: Floats
    """``[C, J]``, 1 where nothing was seen."""
    b: Floats
    """``[C, J]``."""

    def mixture(self, users: NDArray[Any]) -> Floats:
        """Return w, float64 ``[n, C]``: the softmax of minus the squared distance over the K nearest centres.

        Args:
            users: ``[n, D]`` vectors.
        """
        return mixture(users, self.centres, self.header.nearest)

    def places(self, items: pa.Array | pa.ChunkedArray) -> Integers:
        """Return the place of each id in `items`, −1 for one that nobody has reached."""
        column = items.combine_chunks() if isinstance(items, pa.ChunkedArray) else items
        found = pc.fill_null(pc.index_in(column.cast(self.items.type), value_set=self.items), -1)
        return np.asarray(found.to_numpy(zero_copy_only=False), dtype=np.int64)

    def bonus(self, users: NDArray[Any], items: pa.Array | pa.ChunkedArray) -> Floats:
        """Return α √(Σ w² / d) of each row, float64 ``[n]``, above 0.

        Args:
            users: ``[n, D]`` vectors.
            items: ``[n]`` ids.
        """
        weight, at = self.mixture(users), self.places(items)
        reached = np.where((at >= 0)[:, None], self.d.T[at], 1.0)
        return np.asarray(self.header.alpha * np.sqrt((weight**2 / reached).sum(axis=1)), dtype=np.float64)

    def mean(self, users: NDArray[Any], items: pa.Array | pa.ChunkedArray) -> Floats:
        """Return Σ w·b/d of each row, float64 ``[n]``; 0 where nothing was seen."""
        weight, at = self.mixture(users), self.places(items)
        rate = np.where((at >= 0)[:, None], (self.b / self.d).T[at], 0.0)
        return np.asarray((weight * rate).sum(axis=1), dtype=np.float64)

    def save(self, folder: Path) -> None:
        """Write the state, the header and the ids."""
        import pyarrow.parquet as pq
        from safetensors.numpy import save_file

        save_file({"b": self.b, "centres": self.centres, "d": self.d}, str(folder / STATE))
        (folder / HEADER).write_text(self.header.model_dump_json(indent=2), encoding="utf-8")
        pq.write_table(pa.table({"item": self.items}), folder / ITEMS)


def mixture(users: NDArray[Any], centres: Floats, nearest: int) -> Floats:
    """Return float64 ``[n, C]`` weights of clusters, at most `nearest` of a row above 0, which sum to 1.

    Args:
        users: ``[n, D]`` vectors.
        centres: ``[C, D]``.
        nearest: K.
    """
    distance = _distances(np.asarray(users, dtype=np.float64), centres)
    nearest = min(nearest, centres.shape[0])
    chosen = np.argsort(distance, axis=1, kind="stable")[:, :nearest]
    near = np.take_along_axis(distance, chosen, axis=1)
    odds = np.exp(near.min(axis=1, keepdims=True) - near)
    weight = np.zeros_like(distance)
    np.put_along_axis(weight, chosen, odds / odds.sum(axis=1, keepdims=True), axis=1)
    return weight


def sums(weight: Floats, at: Integers, reward: Floats, items: int) -> tuple[Floats, Floats]:
    """Return what rows add to d and b, each float64 ``[C, J]``; sums of parts are the sum of the whole.

    Args:
        weight: ``[n, C]`` mixtures of the rows' users.
        at: ``[n]`` places of their items.
        reward: ``[n]``.
        items: J.
    """
    d, b = (np.zeros((items, weight.shape[1])) for _ in range(2))
    np.add.at(d, at, weight**2)
    np.add.at(b, at, weight * reward[:, None])
    return d.T.copy(), b.T.copy()


def clustered(users: NDArray[Any], clusters: int, seed: int) -> Floats:
    """Return at most `clusters` centres of user vectors by k-means, float64 ``[C, D]``.

    Args:
        users: ``[n, D]``, at least one.
        clusters: how many are wanted; no more than there are different vectors are made.
        seed: of the first centres.
    """
    points = np.unique(np.asarray(users, dtype=np.float64), axis=0)
    rng = np.random.default_rng(seed)
    centres = points[np.sort(rng.permutation(len(points))[: min(clusters, len(points))])]
    own: Integers = np.full(len(points), -1, dtype=np.int64)
    for _ in range(ITERATIONS):
        now = _distances(points, centres).argmin(axis=1)
        if (now == own).all():
            break
        own = now
        count = np.bincount(own, minlength=len(centres))
        total = np.zeros_like(centres)
        np.add.at(total, own, points)
        centres = np.where(count[:, None] > 0, total / np.maximum(count, 1)[:, None], centres)
    return centres


def open_bandit(folder: Path, ranker_digest: str) -> Bandit:
    """Return the bandit of a ranker.

    Raises:
        MissingError: a file is missing.
        BadInputError: a file cannot be read, or it belongs to another ranker.
    """
    import pyarrow.parquet as pq
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        header = BanditHeader.model_validate_json((folder / HEADER).read_text(encoding="utf-8"))
        state = load_file(str(folder / STATE))
        items = pq.read_table(folder / ITEMS)["item"].combine_chunks()
        made = Bandit(header, state["centres"], items, state["d"], state["b"])
    except FileNotFoundError as error:
        raise MissingError(f"the bandit has no {Path(str(error.filename)).name}: refresh it again") from error
    except (ValidationError, SafetensorError, pa.ArrowInvalid, KeyError) as error:
        raise BadInputError(f"the bandit cannot be read ({type(error).__name__}): refresh it again") from error
    if header.ranker_digest != ranker_digest:
        raise BadInputError(f"the bandit belongs to {header.model} v{header.version}, another ranker: refresh it")
    if not made.d.shape == made.b.shape == (len(made.centres), len(items)):
        raise BadInputError("the bandit's sums, clusters and items do not fit each other: refresh it again")
    return made


def read_header(folder: Path) -> BanditHeader:
    """Return the header of a bandit.

    Raises:
        BadInputError: it cannot be read.
    """
    try:
        return BanditHeader.model_validate_json((folder / HEADER).read_text(encoding="utf-8"))
    except (OSError, ValidationError) as error:
        raise BadInputError(f"{HEADER} cannot be read ({type(error).__name__}): refresh the bandit again") from error


def _distances(points: Floats, centres: Floats) -> Floats:
    """Return squared distances, float64 ``[n, C]``."""
    both = np.square(points).sum(axis=1)[:, None] + np.square(centres).sum(axis=1)[None, :]
    return np.asarray(np.maximum(both - 2.0 * points @ centres.T, 0.0), dtype=np.float64)
