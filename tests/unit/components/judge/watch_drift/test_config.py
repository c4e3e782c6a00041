"""Which configs can watch nothing, and which input may be left out?"""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from components.judge.watch_drift.config import COMPONENT, Config, Limits
from components.platform.artifacts import LabelledRows
from pipelines.show.reference.components_page import component_section
from pipelines.show.reference.describe import sample_yaml


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"limits": dict.fromkeys(Limits.model_fields)}, "nothing would be watched"),
        ({"every": "36h"}, "every must be whole days"),
        ({"false_alarms": 0.0}, "greater than 0"),
        ({"limits": {"level": 0.0}}, "greater than 0"),
    ],
)
def test_a_config_that_cannot_be_meant_is_refused(config: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        Config(model="shop", **config)


def test_rows_are_needed_and_what_a_join_gives_is_not() -> None:
    assert COMPONENT.needed_inputs == ("rows",)
    assert COMPONENT.input_types == {"rows": LabelledRows, "joined": LabelledRows}
    assert "    # joined: STAGE.labelled_rows\n" in sample_yaml(COMPONENT)
    assert "| `in`, if any | `joined` |" in "\n".join(component_section(COMPONENT))
