"""How are the candidates of one request scored by a graph that reads what they share once?

`request.onnx` lies beside `model.onnx`, answers the same, and takes the request's own fields in one row. It pays where
a request has many candidates; everything that is scored row by row goes through `registry.serving.model.served_model`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import ValidationError

from features.declaration import Frozen, Name
from features.ground.errors import BadInputError, MissingError
from registry.serving.model.contract import axes_of
from registry.serving.model.served_model import HIDDEN, Batch, ServedModel, trimmed
from registry.serving.model.session import Provider, open_session, outputs_of

if TYPE_CHECKING:
    import onnxruntime

REQUEST = "request.onnx"
REQUEST_CONTRACT = "request.json"
REQUEST_PARITY = "request_parity.json"


class SeveralRequestsError(BadInputError):
    """The rows hold several values of what a request has once: `ServedModel` answers them row by row."""


class RequestContract(Frozen):
    """What a caller of `request.onnx` must know besides `contract.json`."""

    once: tuple[Name, ...]
    """Inputs that come in one row; the others have one row per candidate, which are the outputs' rows."""


@dataclass(frozen=True)
class RequestGraph:
    """The graph of a request, beside the model that answers row by row."""

    model: ServedModel
    """Its encoder, tasks and calibration are the graph's too."""
    once: tuple[str, ...]
    """Fields that come in one row."""
    session: onnxruntime.InferenceSession

    @classmethod
    def open(cls, model: ServedModel, provider: Provider = "auto", threads: int | None = None) -> RequestGraph:
        """Open `request.onnx` beside a model.

        Raises:
            MissingError: the model was exported without it, or the requested provider did not load.
            BadInputError: a file cannot be read, or the graph has other inputs than it promises.
        """
        for name in (REQUEST, REQUEST_CONTRACT):
            if not (model.directory / name).is_file():
                raise MissingError(f"{model.called} has no {name}: export it with shape: request")
        try:
            contract = RequestContract.model_validate_json((model.directory / REQUEST_CONTRACT).read_bytes())
        except ValidationError as error:
            reason = error.errors()[0]["msg"]
            raise BadInputError(
                f"{REQUEST_CONTRACT} of {model.called} cannot be read ({reason}): export the model again"
            ) from error
        session = open_session(model.directory / REQUEST, provider, threads, f"{REQUEST} of {model.called}")
        promised = {name: [*axes] for name, axes in axes_of(model.contract.fields, contract.once).items()}
        if promised != {x.name: list(x.shape) for x in session.get_inputs()}:
            raise BadInputError(
                f"{REQUEST} of {model.called} has other inputs than {REQUEST_CONTRACT} promises: export the model again"
            )
        return cls(model, contract.once, session)

    def run(self, batch: Batch) -> dict[str, np.ndarray[Any, np.dtype[np.float32]]]:
        """Return every output of the graph for the candidates of one request, before calibration.

        Args:
            batch: by field what the encoder gives for one row per candidate, or for fields in `once` for one row.

        Raises:
            SeveralRequestsError: there is no candidate, or the rows are of several requests.
            BadInputError: an answer is not a number.
        """
        feed = trimmed(batch, self.model.contract)
        for name in self.once:
            values = feed[name]
            if not len(values) or (len(values) > 1 and (values != values[:1]).any()):
                raise SeveralRequestsError(
                    f"the {len(values)} candidates have {'several values' if len(values) else 'no value'} of {name!r}, "
                    "which one request has once: score the candidates of each request by themselves"
                )
            feed[name] = values[:1]
        names = [*self.model.contract.tasks, HIDDEN]
        answers = dict(zip(names, outputs_of(self.session, names, feed), strict=True))
        for name, values in answers.items():
            if not np.isfinite(values).all():
                raise BadInputError(
                    f"{REQUEST} of {self.model.called} answers {name} with no number: train and export the model again"
                )
        return answers
