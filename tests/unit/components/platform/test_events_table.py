"""Is it an error when a log and a table of attributes do not meet at all?"""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from components.ingest import csv_table
from components.ingest.events_table import with_attributes
from components.platform.errors import BadInputError

LOG = pl.DataFrame({"user_id": ["1.0", "2.0"]})
WHERE = Path("users.csv")


def test_attributes_reach_the_rows_that_have_some() -> None:
    table = pl.DataFrame({"user_id": ["2.0", "9"], "age": [30, 40]})
    assert with_attributes(LOG, table, "user_id", WHERE)["age"].to_list() == [None, 30]
    assert with_attributes(LOG.clear(), table, "user_id", WHERE).is_empty()


@pytest.mark.parametrize(("ids", "there"), [(["1", "2"], "'1' there"), ([], "the table holds no rows")])
def test_tables_that_do_not_meet_are_an_error(ids: list[str], there: str) -> None:
    table = pl.DataFrame({"user_id": pl.Series(ids, dtype=pl.String), "age": pl.Series([1] * len(ids), dtype=pl.Int64)})
    with pytest.raises(BadInputError) as caught:
        with_attributes(LOG, table, "user_id", WHERE)
    assert "users.csv: not one of 2 impressions finds its row, user_id is such as '1.0'" in str(caught.value)
    assert there in str(caught.value)


def test_a_raw_file_with_a_quote_left_open_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text('id,text\n1,a\n2,"5 disk\n3,"c"\n')
    with pytest.raises(BadInputError, match=r"log.csv, row 2: a quote is opened and not closed in its line"):
        csv_table.read(path, ("id",))
