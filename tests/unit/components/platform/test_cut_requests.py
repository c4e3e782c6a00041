"""Is it told when a quarantine takes some rows of a request and leaves others?"""

from __future__ import annotations

import pyarrow as pa
import pytest

from components.data.validate_data.component import cut_requests


def rows(*requests: str | None) -> pa.Table:
    """Return rows of these requests."""
    return pa.table({"request_id": pa.array(requests, pa.string())})


@pytest.mark.parametrize(
    ("kept", "aside", "line"),
    [
        (rows("a", "b", "c"), rows("b", "b", "c", "d"), "warning: 2 requests keep rows and lost 3 to the quarantine"),
        # A request that goes as a whole leaves no hole, and rows without one were shown alone.
        (rows("a", None), rows("d", "d", None), None),
        (rows("a"), rows(), None),
        (pa.table({"user_id": ["a"]}), pa.table({"user_id": ["a"]}), None),
    ],
)
def test_requests_that_keep_some_rows_are_counted(kept: pa.Table, aside: pa.Table, line: str | None) -> None:
    assert cut_requests(kept, aside) == line
