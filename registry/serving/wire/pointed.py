"""Which version, of which files, with which memory and bandit? What a registry points at and a service remembers."""

from __future__ import annotations

from pydantic import Field

from features.declaration import Frozen


class Pointed(Frozen):
    """What the registry points at."""

    version: int
    """Number of the version."""
    digest: str
    """Digest of its files: what makes it the same version in an MLflow made anew."""
    memory: str = ""
    """Digest of its error memory; empty without one. `+37` behind it: 37 slots that were learned since."""

    bandit: str = Field("", exclude_if=lambda digest: not digest)
    """Digest of its bandit; empty without one, or where the service does not explore."""

    @property
    def short_memory(self) -> str:
        """The same with twelve characters of the digest."""
        digest, plus, slots = self.memory.partition("+")
        return f"{digest[:12]}{plus}{slots}"
