"""Which columns will `ingest_table` publish? Known from its config alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from components.ingest.ingest_table.rule import parse
from components.platform.columns import Column, Columns, Flow, Role

if TYPE_CHECKING:
    from components.ingest.ingest_table.config import Config, Entities

_ROLES: dict[str, Role] = {
    **{"user_id": "user", "item_id": "item", "event_timestamp": "timestamp", "created_timestamp": "timestamp"},
    "domain": "domain",
}


def _gives(config: Config, inputs: Mapping[str, Columns]) -> Mapping[str, Columns]:
    types = {"user_id": config.user_key.type, "item_id": config.item_key.type, "propensity": "float64"}
    types |= {"event_timestamp": "timestamp", "created_timestamp": "timestamp"}
    types |= {"domain": "string", "request_id": "string", **dict.fromkeys(config.feedback, "int64")}
    roles = _ROLES | dict.fromkeys(config.feedback, "feedback")
    labels = _label_columns(config.feedback.values())
    for block, own in ((config.columns, labels), *((table.columns, frozenset()) for table in _tables(config))):
        for name, one in block.items():
            types[name] = one if isinstance(one, str) else one.type
            source = name if isinstance(one, str) else one.column or name
            if source in own:
                roles[name] = "feedback"
    return {"events": Columns({name: Column(types[name], roles.get(name, "other")) for name in config.published})}


def _tables(config: Config) -> Iterable[Entities]:
    return (table for table in (config.users, config.items) if table is not None)


def _label_columns(rules: Iterable[str]) -> frozenset[str]:
    """Return the columns of the file that alone decide a label: publishing one publishes the label."""
    read = (parse(rule).columns for rule in rules)
    return frozenset(columns[0] for columns in read if len(columns) == 1)


FLOW = Flow(gives=_gives)
