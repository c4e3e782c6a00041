"""What identifies a row to the error memory? Its centred hidden vector, and who the user is.

New users look alike to the model: unseen ids share one embedding, so their hidden vectors differ by
profile and item only, and a memory keyed by them cannot learn an individual's taste. A code drawn
from the id itself, seen or not, tells users apart.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from features.declaration import Frozen
from features.errors import BadInputError

Array = np.ndarray[Any, Any]
KeyKind = Literal["hidden", "hidden_user"]
CODE = 64
"""Width of a user code: one sign per bit of a 64-bit hash."""


def user_codes(users: pa.Array, seed: int) -> Array:
    """Return a fixed pseudo-random unit vector per user id.

    The id's text is hashed to 64 bits (SipHash keyed by the seed: the same on every machine, and the
    same for 5 and "5"); bit b gives component b the value ±1/8. Codes of two users are near orthogonal
    (cosine 0 ± 1/8).

    Args:
        users: ids ``[B]``, integers or strings.
        seed: another seed gives other codes.

    Returns:
        float64 ``[B, 64]`` of norm 1; zeros for a missing id, which is nobody's.
    """
    from pandas.util import hash_array

    if isinstance(users, pa.ChunkedArray):
        users = users.combine_chunks()
    text = users.cast(pa.string())
    missing = pc.is_null(text).to_numpy(zero_copy_only=False)
    plain = np.asarray(text.fill_null("").to_numpy(zero_copy_only=False), dtype=object)
    hashed = np.asarray(hash_array(plain, hash_key=f"{seed % 2**64:016x}", categorize=True), dtype="<u8")
    bits = np.unpackbits(hashed.view(np.uint8).reshape(len(plain), 8), axis=1, bitorder="little")
    codes = (bits * 2.0 - 1.0) / np.sqrt(CODE)
    codes[missing] = 0.0
    return codes


class KeySpec(Frozen):
    """What a key is made of.

    Attributes:
        kind: ``hidden``, or ``hidden_user`` with the user's code appended.
        hidden: width of the model's hidden vector.
        user_weight: w, norm of the user code where the centred hidden vector has norm 1.
        seed: seed of the user codes.
    """

    kind: KeyKind
    hidden: int
    user_weight: float = Field(2.0, ge=0)
    seed: int = 0

    @property
    def width(self) -> int:
        """Width of a key."""
        return self.hidden + CODE if self.kind == "hidden_user" else self.hidden


def row_keys(spec: KeySpec, hidden: Array, centre: Array, users: pa.Array) -> Array:
    """Return the keys of rows.

    The centred hidden vector is scaled to norm 1 per row. Signed projections ignore a key's norm, so for
    ``hidden`` this changes nothing; for ``hidden_user`` it makes the halves comparable whatever the
    model's scale: cos(key, key′) = (cos(hidden, hidden′) + w² cos(code, code′)) / (1 + w²). With w = 2,
    one user in two unrelated situations is at 37°, two users in the same situation at 78°.

    Args:
        spec: which key.
        hidden: float32 ``[B, H]``, the model's `hidden` output.
        centre: ``[H]``, subtracted first; ReLU activations are never negative, and signs of projections
            would hardly split them.
        users: ids ``[B]``; not read for ``hidden``.

    Returns:
        float64 ``[B, width]``.

    Raises:
        BadInputError: `hidden` has another width.
    """
    if hidden.ndim != 2 or hidden.shape[1] != spec.hidden:
        raise BadInputError(
            f"hidden vectors of shape {list(hidden.shape)} do not fit an error memory over width {spec.hidden}: "
            "rebuild the memory with this model"
        )
    centred = np.asarray(hidden, dtype=np.float64) - centre
    norm = np.linalg.norm(centred, axis=1, keepdims=True)
    scaled = centred / np.where(norm > 0, norm, 1.0)
    if spec.kind == "hidden":
        return scaled
    return np.concatenate([scaled, spec.user_weight * user_codes(users, spec.seed)], axis=1)
