"""Do the strings below the fields of a model reach its JSON schema, without being read before?"""

from __future__ import annotations

from pydantic import Field

from features.declaration import Frozen
from features.ground.field_docs import field_docs


class Base(Frozen):
    """Has one field."""

    depth: int = 1
    """How deep, in
    metres."""


class Pool(Base):
    """Has more."""

    width: float = Field(2.0, alias="w")
    """How wide."""
    said: str = Field("", description="By itself.")
    """Not this."""
    silent: str = ""


def test_strings_below_fields_are_their_documentation_those_of_the_base_too() -> None:
    assert field_docs(Pool) == {"depth": "How deep, in metres.", "width": "How wide.", "said": "Not this."}


def test_the_schema_holds_them() -> None:
    found = {name: key.get("description") for name, key in Pool.model_json_schema()["properties"].items()}
    assert found == {"depth": "How deep, in metres.", "w": "How wide.", "said": "By itself.", "silent": None}


def test_a_class_without_a_source_has_none() -> None:
    namespace: dict[str, type] = {}
    exec("from features.declaration import Frozen\nclass Made(Frozen):\n    a: int = 1", namespace)
    assert field_docs(namespace["Made"]) == {}
