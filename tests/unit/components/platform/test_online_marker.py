"""Does a view keep one meaning in the online store, whichever file of definitions comes later?"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from components.data.materialize_features.marker import (
    OnlineMarker,
    distrust,
    read_markers,
    refuse_foreign_views,
    standing,
    write_marker,
)
from features.declaration import Window
from features.ground.errors import BadInputError

START = datetime(2026, 1, 1, tzinfo=UTC)


def marker(service: str, views: tuple[str, ...], definitions: str = "") -> OnlineMarker:
    return OnlineMarker(
        service=service,
        digest="d",
        window=Window(start=START, end=START + timedelta(days=1)),
        views=views,
        online="online.db",
        finished_at=START,
        definitions=definitions,
    )


WRITTEN = {
    "movielens_ranker": marker("movielens_ranker", ("item_profile",)),
    "shop_ranker": marker("shop_ranker", ("shopper_profile", "article_profile"), "shop_features.py"),
}


@pytest.mark.parametrize(
    ("views", "definitions"),
    [(("item_profile",), ""), (("shopper_profile",), "shop_features.py"), (("brand_new",), "other.py")],
)
def test_services_of_one_file_share_views_and_new_names_are_free(views: tuple[str, ...], definitions: str) -> None:
    refuse_foreign_views(WRITTEN, views, definitions)


@pytest.mark.parametrize(
    ("views", "definitions", "by"),
    [
        (("brand_new", "shopper_profile"), "other.py", "shop_features.py"),
        (("shopper_profile",), "", "shop_features.py"),
        (("item_profile",), "shop_features.py", "features/definitions/"),
    ],
)
def test_a_view_of_another_file_is_refused(views: tuple[str, ...], definitions: str, by: str) -> None:
    with pytest.raises(
        BadInputError, match=f"feature view '{views[-1]}' of .* in the online store by {by} .*rename one"
    ):
        refuse_foreign_views(WRITTEN, views, definitions)


LATER = Window(start=START, end=START + timedelta(days=2))


@pytest.mark.parametrize(
    ("view", "values", "window", "found"),
    [
        ("taste", "other", LATER, "held"),
        ("taste", "own", LATER, "outdated"),  # another service wrote it last
        ("city", "own", LATER, "held"),
        ("city", "own", WRITTEN["shop_ranker"].window, "later"),
        ("unwritten", "own", LATER, "outdated"),
    ],
)
def test_what_counts_is_who_wrote_a_view_last(view: str, values: str, window: Window, found: str) -> None:
    first = marker("shop", ("taste", "city")).model_copy(
        update={"values": {"taste": "own", "city": "own"}, "window": LATER}
    )
    second = marker("tastes", ("taste",)).model_copy(
        update={"values": {"taste": "other"}, "finished_at": START + timedelta(hours=1)}
    )
    assert standing({"shop": first, "tastes": second}, view, values, window) == found


def test_values_that_are_computed_anew_are_not_taken_for_written(tmp_path: Path) -> None:
    write_marker(tmp_path, marker("shop", ("taste",)).model_copy(update={"values": {"taste": "own"}}))
    distrust(tmp_path, read_markers(tmp_path, "another online store").values(), ["taste"])
    distrust(tmp_path, read_markers(tmp_path, "online.db").values(), ["another view"])
    assert read_markers(tmp_path, "online.db")["shop"].values == {"taste": "own"}
    distrust(tmp_path, read_markers(tmp_path, "online.db").values(), ["taste"])
    assert read_markers(tmp_path, "online.db")["shop"].values == {}
    assert read_markers(tmp_path, "online.db")["shop"].window.end == START + timedelta(days=1)


def test_a_marker_of_before_means_the_shipped_definitions() -> None:
    old = WRITTEN["movielens_ranker"].model_dump(mode="json", exclude={"definitions"})
    assert OnlineMarker.model_validate(old).definitions == ""
