"""Which heads are there, and what may a pipeline say about each?"""

from typing import Annotated

from pydantic import Field

from components.rankers.config import HeadConfig


class SingleConfig(HeadConfig, name="single", builds="components.rankers.heads.single:SingleHead"):
    """A tower per feedback."""


class SharedBottomConfig(
    HeadConfig, name="shared_bottom", builds="components.rankers.heads.shared_bottom:SharedBottomHead"
):
    """One bottom, a tower per feedback."""


class Mixture(HeadConfig):
    """A head of experts."""

    experts: Annotated[int, Field(ge=1, le=64)] = 4
    """Experts of `mmoe`; shared experts of `ple`, which has as many again per feedback."""


class MmoeConfig(Mixture, name="mmoe", builds="components.rankers.heads.mmoe:MmoeHead"):
    """A gate per feedback over common experts."""


class PleConfig(Mixture, name="ple", builds="components.rankers.heads.ple:PleHead"):
    """Own and common experts, one extraction layer per width of `hidden` but the last."""


class EsmmConfig(HeadConfig, name="esmm", builds="components.rankers.heads.esmm:EsmmHead"):
    """The chain of a funnel, exact and finite for any logits; needs a funnel of two or more."""
