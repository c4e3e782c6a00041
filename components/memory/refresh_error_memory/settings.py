"""Which choices does every error memory have? What it stores, what its keys are, how it answers."""

from __future__ import annotations

from typing import Self

from pydantic import Field, field_validator, model_validator

from components.platform.contract import ComponentConfig
from features.declaration import Declaration, FieldSpec
from registry.memory.spec import ExactStore, KeyKind, KeySpec, Pool, ReadOut, SketchStore, StoreChoice

LAMBDAS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)


class KeysAndAnswers(ComponentConfig):
    """Keys and read-out of an error memory, whatever it stores (ReLoop2, Zhu et al., KDD 2023)."""

    gamma: float = Field(1.0, ge=0, le=1)
    """1 compares the neighbours' labels with the query's own prediction; 0 takes the neighbours' errors."""
    lambdas: tuple[float, ...] = Field(LAMBDAS, min_length=1)
    """Weights of the compensation to choose from; each slot uses the best on earlier slots."""
    pool: Pool = "softmax"
    """Attention over neighbours, or one ratio of sums."""
    centre: bool = True
    """Subtract the training mean of `hidden` from keys: ReLU activations split poorly otherwise."""
    shrinkage: float = Field(0.0, ge=0)
    """n₀ of λ·n/(n+n₀): fewer stored neighbours compensate less."""
    key: KeyKind = "hidden_user"
    """`hidden`; `hidden_user` adds a fixed random code of the user id; `embedding` has codes of fields and user."""
    user_weight: float = Field(2.0, ge=0)
    """Norm of the user code where the rest of the key has norm 1; larger keeps users further apart."""
    seed: int = Field(0, ge=0)
    """Seed of the projections, the codes and the sample."""

    @field_validator("lambdas")
    @classmethod
    def _shares(cls, lambdas: tuple[float, ...]) -> tuple[float, ...]:
        outside = [value for value in lambdas if not 0 <= value <= 1]
        if outside:
            raise ValueError(f"λ is a share of the correction, between 0 and 1, not {outside[0]:g}")
        return lambdas

    def read_out_at(self, temperature: float) -> ReadOut:
        """Return how neighbours become a correction with this τ."""
        return ReadOut(gamma=self.gamma, temperature=temperature, pool=self.pool, shrinkage=self.shrinkage)

    def key_spec(self, declaration: Declaration, fields: tuple[FieldSpec, ...], hidden: int) -> KeySpec:
        """Return the keys of a model's rows.

        Args:
            declaration: roles of its columns.
            fields: its inputs.
            hidden: width of its hidden vector.
        """
        categorical = [f.name for f in fields if f.kind == "categorical" and f.name != declaration.user]
        return KeySpec(
            kind=self.key,
            hidden=hidden,
            user=declaration.user,
            fields=tuple(sorted(categorical)) if self.key == "embedding" else (),
            user_weight=self.user_weight,
            seed=self.seed,
        )


def usual_temperature(store: SketchStore | ExactStore) -> float:
    """Return the τ of a store that was given none: cosines of an exact store lie closer together than log-counts."""
    return 0.1 if isinstance(store, ExactStore) else 1.0


class MemorySettings(KeysAndAnswers):
    """Store, keys and read-out of one memory."""

    store: StoreChoice = SketchStore()
    """Hashed buckets of fixed size (`kind: sketch`), or the rows themselves (`kind: exact`)."""
    arrays: int | None = Field(None, ge=1, le=1024)
    """Short for `store: {kind: sketch, arrays: …}`."""
    bits: int | None = Field(None, ge=1, le=20)
    """Short for `store: {kind: sketch, bits: …}`."""
    temperature: float | None = Field(None, gt=0)
    """τ of the attention over neighbours; left out, 1 for a sketch and 0.1 for an exact store."""
    decay: float = Field(1.0, gt=0, le=1)
    """ρ: at the end of each slot, everything older counts this much of what it did; 1 forgets nothing."""

    @model_validator(mode="after")
    def _one_store(self) -> Self:
        if (self.arrays or self.bits) and "store" in self.model_fields_set:
            raise ValueError("arrays and bits are short for a sketch: put them into store, or leave store out")
        self.chosen_store()
        return self

    def chosen_store(self) -> SketchStore | ExactStore:
        """Return the store with `arrays` and `bits` in it."""
        if isinstance(self.store, ExactStore) or not (self.arrays or self.bits):
            return self.store
        return SketchStore(arrays=self.arrays or self.store.arrays, bits=self.bits or self.store.bits)

    def read_out(self) -> ReadOut:
        """Return how neighbours become a correction."""
        return self.read_out_at(self.temperature or usual_temperature(self.chosen_store()))
