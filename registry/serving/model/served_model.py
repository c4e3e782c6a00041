"""What is a model that can be asked? An open ONNX graph with its encoder, contract and calibration, which agree.

Here are the single steps; `registry.serving.answers.answer` composes them.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pyarrow as pa
from pydantic import ValidationError

from features.declaration import PADDING, FieldSpec
from features.encoding.encoder import Encoder
from features.encoding.files import ENCODER, read_encoder
from features.ground.errors import BadInputError, MissingError
from features.within import with_within
from registry.serving.incoming import ELSEWHERE, domain_codes, domain_column, placed, selected
from registry.serving.model.contract import ModelContract, axes_of
from registry.serving.model.session import Provider, open_session, outputs_of, provider_name
from registry.serving.scores.calibration import Calibration, read_calibration
from registry.serving.scores.value import ValueTable

if TYPE_CHECKING:
    import onnxruntime

MODEL = "model.onnx"
CONTRACT = "contract.json"
HIDDEN = "hidden"
"""Name of the graph output that is a representation, not a probability."""
CHUNK = 8192
"""Rows encoded and scored at a time."""

Batch = Mapping[str, np.ndarray[Any, Any]]
Probabilities = np.ndarray[Any, np.dtype[np.float64]]
_Port = tuple[str, list[str | int]]
"""Type and shape of a graph input or output, as onnxruntime writes them."""


@dataclass(frozen=True)
class ServedModel:
    """A graph with the encoder and the contract that belong to it."""

    contract: ModelContract
    encoder: Encoder
    session: onnxruntime.InferenceSession
    directory: Path
    calibration: Calibration | None = None
    """Curves by domain, and the value of a conversion; None answers as the graph does."""
    label: str = ""
    """What messages call it, such as ``model shop v3``; where it lies when empty."""

    @classmethod
    def open(
        cls, directory: Path, provider: Provider = "auto", threads: int | None = None, label: str = ""
    ) -> ServedModel:
        """Open a model from `model.onnx`, `contract.json`, its encoder and, if any, `calibration.json`.

        Raises:
            MissingError: a file is missing, or the requested provider did not load.
            BadInputError: a file cannot be read, or graph, contract and encoder disagree.
        """
        called = label or _at(directory)
        for name in (MODEL, CONTRACT):
            if not (directory / name).is_file():
                raise MissingError(f"{called} has no {name}: export or register the model again")
        try:
            contract = ModelContract.model_validate_json((directory / CONTRACT).read_bytes())
        except ValidationError as error:
            reason = error.errors()[0]["msg"]
            raise BadInputError(f"{CONTRACT} of {called} cannot be read ({reason}): export the model again") from error
        encoder = read_encoder(directory, called, again="export or register the model again")
        calibration = read_calibration(directory, contract.ranker_digest, contract.schema_.declaration, called)
        session = open_session(directory / MODEL, provider, threads, f"{MODEL} of {called}")
        model = cls(contract, encoder, session, directory, calibration, label)
        model.check()
        return model

    @property
    def called(self) -> str:
        """What messages call it: its label, or where it lies."""
        return self.label or _at(self.directory)

    @property
    def provider(self) -> Literal["cpu", "cuda"]:
        """Execution provider that loaded."""
        return provider_name(self.session)

    def check(self) -> None:
        """Compare the graph's inputs and outputs and the encoder's fields with the contract.

        Raises:
            BadInputError: they disagree; the message names the first difference.
        """
        axes = axes_of(self.contract.fields)
        promised: dict[str, _Port] = {
            f"input {f.name}": ("tensor(int64)" if f.embedded else "tensor(float)", [*axes[f.name]])
            for f in self.contract.fields
        }
        promised |= {f"output {task}": ("tensor(float)", ["batch"]) for task in self.contract.tasks}
        promised[f"output {HIDDEN}"] = ("tensor(float)", ["batch", self.contract.hidden])
        found = {f"input {x.name}": (x.type, list(x.shape)) for x in self.session.get_inputs()}
        found |= {f"output {x.name}": (x.type, list(x.shape)) for x in self.session.get_outputs()}
        for name in sorted(promised.keys() | found.keys()):
            if promised.get(name) != found.get(name):
                raise BadInputError(
                    f"{MODEL} of {self.called} does not keep its contract: {name} is "
                    f"{_described(found.get(name))}, promised {_described(promised.get(name))}; export the model again"
                )
        if self.encoder.fields != self.contract.fields:
            raise BadInputError(
                f"{ENCODER} of {self.called} makes other inputs than {CONTRACT} promises: export the model again"
            )

    def needs(self, present: Collection[str]) -> dict[str, str]:
        """Return the columns that `rows` reads, and what those are for that are no feature.

        What is served in one place needs no column, and a feature that is not `present` may be made of others.
        """
        declaration = self.contract.schema_.declaration
        made = {name: within for name, within in declaration.within.items() if name not in present}
        given = {*made} | ({declaration.position.column} if declaration.position else set())
        uses = {name: "" for name in self.encoder.columns if name not in given}
        for name, within in made.items():
            uses.setdefault(str(declaration.request), "request")
            uses.setdefault(within.of, f"{name!r} is made of it")
        return uses

    def rows(self, table: pa.Table, *, as_shown: bool = False) -> pa.Table:
        """Return the columns that the encoder reads: each row in the place that is served, among its request.

        The table has what the model `needs`. With `as_shown` a row stands where it says it stood.

        Raises:
            BadInputError: as `registry.serving.incoming.selected` and `features.within.with_within` say.
        """
        declaration = self.contract.schema_.declaration
        rows = with_within(table if as_shown else placed(table, declaration), declaration)
        return selected(rows, self.encoder.columns, declaration.time)

    @property
    def value(self) -> ValueTable:
        """The value of a conversion that the model carries; without one a conversion counts as 1."""
        return self.calibration.value if self.calibration else ValueTable()

    def calibrated(self, tasks: dict[str, Probabilities], table: pa.Table) -> dict[str, Probabilities]:
        """Return the graph's own answers as the model gives them: through its calibration when it has one.

        Raises:
            BadInputError: the domain's column is missing.
        """
        if self.calibration is None:
            return tasks
        declaration, domains = self.contract.schema_.declaration, self.calibration.domains
        codes = np.full(table.num_rows, ELSEWHERE, dtype=np.int64)
        if domains:
            codes = domain_codes(domain_column(table, declaration.domain, "the calibration"), domains)
        return self.calibration.apply(tasks, declaration, codes)

    def run(self, batch: Batch) -> dict[str, np.ndarray[Any, np.dtype[np.float32]]]:
        """Return every output of the graph for encoded rows, before calibration.

        Histories are cut to the longest of the batch: what lies behind is padding, which rankers mask.

        Raises:
            BadInputError: an answer is not a finite number.
        """
        names = [*self.contract.tasks, HIDDEN]
        answers = dict(zip(names, outputs_of(self.session, names, trimmed(batch, self.contract)), strict=True))
        for name, values in answers.items():
            wrong = ~np.isfinite(values)
            if wrong.any():
                rows = int(np.count_nonzero(wrong.reshape(len(values), -1).any(axis=1)))
                raise BadInputError(
                    f"{self.called} answers {name} of {rows} of {len(values)} rows with no number: "
                    "train and export it again"
                )
        return answers


def _at(directory: Path) -> str:
    return f"the model at {directory}"


def trimmed(batch: Batch, contract: ModelContract) -> dict[str, np.ndarray[Any, Any]]:
    """Return the batch with every sequence axis as long as its longest row, at least 1."""
    feed = {field.name: batch[field.name] for field in contract.fields}
    for fields in contract.sequence_axes.values():
        filled = np.logical_or.reduce([_present(field, feed[field.name]).any(axis=0) for field in fields])
        longest = int(filled.nonzero()[0].max(initial=0)) + 1
        for one in fields:
            feed[one.name] = np.ascontiguousarray(feed[one.name][:, :longest])
    return feed


def _present(field: FieldSpec, values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return where a sequence holds a value, or elapsed times an event."""
    return values >= 0 if field.kind == "elapsed" else values != PADDING


def _described(port: _Port | None) -> str:
    return "absent" if port is None else f"{port[0]} {port[1]}"
