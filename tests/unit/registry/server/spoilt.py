"""What does a body look like that was written by a mistaken or a hostile program? A good one, spoilt at random."""

from __future__ import annotations

import random

PIECES = (b"[", b"]", b"{", b"null", b"-", b"9" * 30, b"1e999", b'"', b"\xff", b"\\u0000")


def spoilt(good: bytes, rng: random.Random) -> bytes:
    """Return a body with up to four changes: another byte, some bytes less, or a piece of JSON more."""
    body = bytearray(good)
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(body))
        choice = rng.random()
        if choice < 0.4:
            body[at] = rng.randrange(256)
        elif choice < 0.7:
            del body[at : at + rng.randint(1, 8)]
        else:
            body[at:at] = rng.choice(PIECES)
    return bytes(body)
