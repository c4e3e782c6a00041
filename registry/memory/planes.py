"""On which side of random planes do keys lie? Found in float32, and in float64 where that is too close to call.

The sides are those of a float64 product, at half its cost: a float32 product of two vectors of n numbers is off by at
most (n + 4)·2⁻²⁴ times their lengths (Higham, Accuracy and Stability of Numerical Algorithms, 2002, section 3.1; inputs
rounded once each), so a result beyond that has the right sign, and of keys in no special place one in some thousand
lies within.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
ROUNDING = 2.0**-24
"""Unit roundoff of float32."""
LENGTHS = (1e-12, 1e12)
"""Lengths of keys between which no product leaves the range of float32."""
FEW = 1 / 16
"""Share of the products above which all of them are made again in float64: one by one would cost more."""


@dataclass(frozen=True)
class Planes:
    """Planes through the origin."""

    normals: Array
    """float64 ``[P, width]``."""
    coarse: Array
    """The same in float32."""
    longest: float
    """Length of the longest normal."""

    @classmethod
    def of(cls, projections: Array) -> Planes:
        """Return the planes whose normals are the columns of float64 ``[width, P]``."""
        normals = np.ascontiguousarray(projections.T, dtype=np.float64)
        longest = float(np.sqrt(np.einsum("pw,pw->p", normals, normals).max(initial=0.0)))
        return cls(normals, normals.astype(np.float32), longest)

    def above(self, keys: Array) -> Array:
        """Return where a key's product with a normal is above 0, bool ``[P, B]``.

        Args:
            keys: ``[B, width]``, finite.
        """
        exact = np.asarray(keys, dtype=np.float64)
        length = np.sqrt(np.einsum("bw,bw->b", exact, exact))
        coarse = self.coarse @ exact.astype(np.float32).T
        error = (exact.shape[1] + 4) * ROUNDING * self.longest * length
        ordinary = (length >= LENGTHS[0]) & (length <= LENGTHS[1])
        # Rounded up, as the bound itself must not be too small in float32.
        bound = np.where(ordinary, np.nextafter(error.astype(np.float32), np.float32(np.inf)), np.float32(np.inf))
        above: Array = coarse > 0
        close = np.flatnonzero(~(np.abs(coarse) > bound))
        if len(close) > FEW * above.size:
            return np.asarray(self.normals @ exact.T > 0)
        plane, key = np.divmod(close, max(len(exact), 1))
        above[plane, key] = np.einsum("nw,nw->n", self.normals[plane], exact[key]) > 0
        return above
