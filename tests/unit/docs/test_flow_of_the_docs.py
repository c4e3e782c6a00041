"""Does the `Flow` that the documentation shows tell what it says?"""

from __future__ import annotations

import re
from types import SimpleNamespace
from typing import Any

from components.platform.columns import Column, Columns
from components.platform.settings import ROOT

PAGE = ROOT / "docs" / "write-a-component.md"


def shown() -> Any:
    """Return the flow of the page."""
    (code,) = re.findall(r"```python\n(# keep_rows/columns\.py\n.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    names: dict[str, Any] = {}
    exec(code, names)
    return names["FLOW"]


def test_a_column_that_is_not_there_is_told_and_nothing_is_judged_where_nothing_is_known() -> None:
    flow, table = shown(), Columns({"country": Column("string", "domain")})
    right, wrong = SimpleNamespace(column="country"), SimpleNamespace(column="contry")
    assert [*flow.asks(right, {"table": table})] == [] == [*flow.asks(wrong, {})]
    assert [*flow.asks(wrong, {"table": Columns(table.known, whole=False)})] == []
    (fault,) = flow.asks(wrong, {"table": table})
    assert fault.where == ("column",)
    assert fault.message == "no column 'contry' (did you mean 'country'?): name a column of the table"
    assert flow.gives(right, {"table": table}) == {"kept": table} and flow.gives(right, {}) == {}
