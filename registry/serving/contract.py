"""What does a served model promise? Inputs, outputs, roles and the parity proof that travel with it."""

from __future__ import annotations

from pydantic import AwareDatetime, Field

from features.declaration import FieldSpec, Frozen, Name, RankerSchema


class ModelContract(Frozen):
    """Everything a caller of `model.onnx` must know.

    Attributes:
        ranker: registered name of the ranker.
        ranker_digest: digest of the `Ranker` artifact the graph was exported from; also the identity
            that an error memory is tied to.
        schema_: roles, fields, base rates, domains and training window.
        tasks: output names that are probabilities, entire-space feedback first, then conditionals.
        hidden: width of the output `hidden`.
        hidden_mean: mean of `hidden` over (at most 10,000 rows of) the training split.
        opset: ONNX opset.
    """

    ranker: str
    ranker_digest: str
    schema_: RankerSchema = Field(alias="schema")
    tasks: tuple[Name, ...]
    hidden: int
    hidden_mean: tuple[float, ...]
    opset: int

    @property
    def fields(self) -> tuple[FieldSpec, ...]:
        """Graph inputs."""
        return self.schema_.fields


class ParityCase(Frozen):
    """One comparison of torch and onnxruntime."""

    batch: int
    history: int
    output: str
    max_abs_difference: float


class ParityReport(Frozen):
    """Whether the graph answers as the trained module does."""

    passed: bool
    tolerance: float
    provider: str
    cases: tuple[ParityCase, ...]


class RegisteredVersion(Frozen):
    """A version in the registry, by name, number and content."""

    model: str
    """Any name that MLflow allows: others register models in the same MLflow."""
    version: int
    digest: str
    """Digest of the `OnnxModel` artifact, empty when somebody else registered the version."""
    model_uri: str
    ranker_digest: str
    report_digest: str
    created_at: AwareDatetime
