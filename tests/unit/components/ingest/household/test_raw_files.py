"""Is it an error when exposures and a table of attributes do not meet at all?"""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from components.ingest.ingest_household.raw_files import with_attributes
from components.platform.errors import BadInputError

LOG = pl.DataFrame({"household_id": ["1.0", "2.0"]})
WHERE = Path("demographics.parquet")


def test_attributes_reach_the_rows_that_have_some() -> None:
    table = pl.DataFrame({"household_id": ["2.0", "9"], "age": [30, 40]})
    assert with_attributes(LOG, table, "household_id", WHERE)["age"].to_list() == [None, 30]
    assert with_attributes(LOG.clear(), table, "household_id", WHERE).is_empty()


@pytest.mark.parametrize(("ids", "there"), [(["1", "2"], "'1' there"), ([], "the table holds no rows")])
def test_tables_that_do_not_meet_are_an_error(ids: list[str], there: str) -> None:
    table = pl.DataFrame(
        {"household_id": pl.Series(ids, dtype=pl.String), "age": pl.Series([1] * len(ids), dtype=pl.Int64)}
    )
    with pytest.raises(BadInputError) as caught:
        with_attributes(LOG, table, "household_id", WHERE)
    assert "parquet: not one of 2 exposures finds its row, household_id is such as '1.0'" in str(caught.value)
    assert there in str(caught.value)
