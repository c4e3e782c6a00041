"""How does a stage fail, and what does its exit status say?

Every class is one kind of failure a scheduler treats differently: contract violations and refused
gates fail at once, environment failures are retried.
"""

from __future__ import annotations

from features.ground.errors import (
    BadInputError,
    MissingError,
    RankmillError,
    RetryableError,
    did_you_mean,
    nearest,
    no_columns,
)

__all__ = [
    "BadInputError",
    "ContractViolationError",
    "GateRefusedError",
    "MissingError",
    "ParityError",
    "RankmillError",
    "RetryableError",
    "StorageError",
    "did_you_mean",
    "nearest",
    "no_columns",
]


class ContractViolationError(BadInputError):
    """Rows broke a data contract (an expectation suite, a funnel, a point-in-time rule)."""

    exit_code = 65  # EX_DATAERR


class GateRefusedError(RankmillError):
    """The promotion gate refused a challenger; the champion stays."""

    exit_code = 3


class ParityError(RankmillError):
    """The exported model does not answer as the trained one does."""

    exit_code = 4


class StorageError(RetryableError):
    """Reading or publishing an artifact failed; nothing already published was touched."""
