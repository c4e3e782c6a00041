"""What does someone ask who runs one component alone? A JSON file → the request of its stage."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from components.platform.errors import BadInputError, MissingError
from components.platform.execute import StageRequest
from pipelines.language import shape


def read_request(component: str, path: Path) -> StageRequest:
    """Return the request that a JSON file makes of a component; the file need not repeat the component's name.

    Raises:
        MissingError: there is no such file.
        BadInputError: it is not JSON, asks for another component, or is no request; all its mistakes in one message.
    """
    try:
        value: Any = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise MissingError(f"there is no file {path}: write a JSON file with config, inputs and window") from None
    except OSError as error:
        raise BadInputError(f"{path} cannot be read ({error.strerror}): name a JSON file") from None
    except (ValueError, RecursionError) as error:
        raise BadInputError(f"{path} is not JSON ({error}): mend it") from None
    if isinstance(value, dict) and value.setdefault("component", component) != component:
        raise BadInputError(f"{path} is a request of component {value['component']!r}: run that one, or mend the file")
    request, findings = shape.fit(StageRequest, value)
    if request is None:
        raise BadInputError(f"{path}: " + "; ".join(finding.message for finding in findings))
    return request
