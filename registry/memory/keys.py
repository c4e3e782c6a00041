"""What identifies a row to the error memory? Its centred hidden vector or its fields, and who the user is.

New users look alike to the model: unseen ids share one embedding, so their hidden vectors differ by
profile and item only, and a memory keyed by them cannot learn an individual's taste. A code drawn
from the id itself, seen or not, tells users apart.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from features.ground.errors import BadInputError
from registry.memory.spec import CODE, FIELD_CODE, KeySpec

Array = np.ndarray[Any, Any]


def value_codes(values: pa.Array, seed: int, width: int = CODE) -> Array:
    """Return a fixed pseudo-random unit vector per value.

    The value's text is hashed to 64 bits (SipHash keyed by the seed: the same on every machine, and the
    same for 5 and "5"); bit b gives component b the value ±1/√width. Codes of two values are near
    orthogonal (cosine 0 ± 1/√width).

    Args:
        values: ``[B]``, ids of users or values of one categorical field.
        seed: another seed gives other codes.
        width: bits of the hash that are used, at most 64.

    Returns:
        float64 ``[B, width]`` of norm 1; zeros for a missing value, which is nobody's.
    """
    from pandas.util import hash_array

    if isinstance(values, pa.ChunkedArray):
        values = values.combine_chunks()
    coded = values.cast(pa.string()).dictionary_encode()  # the rows of one question are of one user
    texts = np.asarray(coded.dictionary.to_pylist(), dtype=object)
    hashed = np.asarray(hash_array(texts, hash_key=f"{seed % 2**64:016x}", categorize=False), dtype="<u8")
    bits = np.unpackbits(hashed.view(np.uint8).reshape(len(texts), 8), axis=1, bitorder="little")[:, :width]
    codes = np.concatenate([(bits * 2.0 - 1.0) / np.sqrt(width), np.zeros((1, bits.shape[1]))])
    return np.asarray(codes[coded.indices.fill_null(len(texts)).to_numpy(zero_copy_only=False)])


def row_keys(spec: KeySpec, hidden: Array, centre: Array, rows: pa.Table) -> Array:
    """Return the keys of rows.

    The first part of a key has norm 1 and the user's code norm w, so that
    cos(key, key′) = (s + w² cos(code, code′)) / (1 + w²). For ``hidden_user``, s is the cosine of the centred
    hidden vectors: with w = 2, one user in two unrelated situations is at 37°, two users in the same situation
    at 78°. For ``embedding``, s is the share of fields with equal values (± 1/√(16·fields)): the first part is
    what an embedding layer with fixed random vectors of width 16, one per value of each categorical field,
    gives. It is drawn from the raw values, so a value that training never held has a vector of its own, and
    the served graph need not offer its trained table. Histories and numbers are no part of it. A key of kind
    ``hidden`` is the first part of ``hidden_user`` alone.

    Args:
        spec: which key.
        hidden: float32 ``[B, H]``, the model's `hidden` output.
        centre: ``[H]``, subtracted first; ReLU activations are never negative, and signs of projections
            would hardly split them.
        rows: raw rows ``[B]`` with the column of the user and, for ``embedding``, those of the fields.

    Returns:
        float64 ``[B, width]``.

    Raises:
        BadInputError: `hidden` has another width, or a column is missing.
    """
    if hidden.ndim != 2 or hidden.shape[1] != spec.hidden:
        raise BadInputError(
            f"hidden vectors of shape {list(hidden.shape)} do not fit an error memory over width {spec.hidden}: "
            "rebuild the memory with this model"
        )
    keys = np.empty((len(hidden), spec.width))
    first = keys if spec.kind == "hidden" else keys[:, :-CODE]
    if spec.kind == "embedding":
        first[:] = _field_codes(spec, rows)
    else:
        np.subtract(hidden, centre, out=first)
        norm = np.linalg.norm(first, axis=1, keepdims=True)
        first /= np.where(norm > 0, norm, 1.0)
    if spec.kind != "hidden":
        np.multiply(spec.user_weight, value_codes(_column(rows, spec.user), spec.seed), out=keys[:, -CODE:])
    return keys


def _field_codes(spec: KeySpec, rows: pa.Table) -> Array:
    if not spec.fields:
        raise BadInputError("the model has no categorical field beside the user: choose key hidden or hidden_user")
    codes = [value_codes(_column(rows, name), spec.seed, FIELD_CODE) for name in spec.fields]
    return np.concatenate(codes, axis=1) / np.sqrt(len(codes))


def _column(rows: pa.Table, name: str) -> pa.ChunkedArray:
    if name not in rows.column_names:
        raise BadInputError(
            f"rows have no column {name!r}, which the error memory needs: add it, or score without it by --no-memory"
        )
    return rows.column(name)
