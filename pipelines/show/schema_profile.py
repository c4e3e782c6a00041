"""What may an editor complete in a profile file? The JSON Schema of the model that checks it."""

from __future__ import annotations

import json

from pipelines.language.profile_spec import ProfileSpec
from pipelines.show.schema import SCHEMA_FILE, model_schema

PROFILE_SCHEMA_FILE = SCHEMA_FILE.with_name("profile.schema.json")
"""Where editors find it; `# yaml-language-server: $schema=../schema/profile.schema.json` names it."""


def profile_schema_text() -> str:
    """Return the schema (draft 7) as the text of its file."""
    root = {
        "$schema": "http://json-schema.org/draft-07/schema#",
        **model_schema(ProfileSpec),
    }
    return json.dumps(root, indent=2, ensure_ascii=False) + "\n"


def profile_schema_is_fresh() -> bool:
    """Return whether the schema file holds what the model says."""
    return PROFILE_SCHEMA_FILE.exists() and PROFILE_SCHEMA_FILE.read_text(encoding="utf-8") == profile_schema_text()
