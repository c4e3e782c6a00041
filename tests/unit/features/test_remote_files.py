"""Is what an object store's driver raises told in a sentence, whatever its class?"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from components.platform.errors import BadInputError, RetryableError, StorageError
from components.platform.store.publish import Store
from features.ground.remote_files import open_files
from registry.champion.ledger import Ledger


class ClientError(Exception):
    """What a driver's client library raises: no `OSError`."""


class Sulking(MemoryFileSystem):
    """An object store that fails every call as it was told to."""

    protocol = "sulking"
    says: BaseException | None = None
    given: ClassVar[dict[str, Any]] = {}

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        Sulking.given = options

    def ls(self, path: str, detail: bool = True, **options: Any) -> Any:
        if Sulking.says is not None:
            raise Sulking.says
        return super().ls(path, detail, **options)

    def cat_file(self, path: str, start: int | None = None, end: int | None = None, **options: Any) -> Any:
        if Sulking.says is not None:
            raise Sulking.says
        return super().cat_file(path, start, end, **options)


@pytest.fixture
def sulking() -> Iterator[type[Sulking]]:
    fsspec.register_implementation("sulking", Sulking, clobber=True)
    yield Sulking
    Sulking.says = None


FAILURES = [
    (PermissionError("Access Denied."), BadInputError, "refuses: Access Denied; correct the keys, what they allow, or"),
    (
        ClientError("Could not connect\nat all"),
        RetryableError,
        "does not answer: Could not connect; start it, or correct",
    ),
    (TimeoutError(), RetryableError, "does not answer: TimeoutError; start it, or correct"),
]


@pytest.mark.parametrize(("raised", "kind", "sentence"), FAILURES)
def test_a_store_that_fails_says_what_and_what_to_do(
    sulking: type[Sulking], tmp_path: Path, raised: BaseException, kind: type[Exception], sentence: str
) -> None:
    place = "sulking://bucket/artifacts"
    store, ledger = Store(place, tmp_path), Ledger(place)
    assert store.find("train", "key") is None and store.keys("train") == () and ledger.entries("shop") == ()
    sulking.says = raised
    for asked in (lambda: store.find("train", "key"), lambda: store.keys("train")):
        with pytest.raises(kind, match=f"{place} {sentence} RANKMILL_ARTIFACTS") as found:
            asked()
        assert isinstance(found.value, StorageError) == issubclass(kind, RetryableError), "only those are tried again"
    with pytest.raises(kind, match=f"{place} {sentence} RANKMILL_LEDGER"):
        ledger.entries("shop")


def test_a_file_that_is_not_there_is_no_failure_of_the_store(sulking: type[Sulking]) -> None:
    files, base = open_files("sulking://bucket", "RANKMILL_ARTIFACTS")
    with pytest.raises(FileNotFoundError):
        files.cat_file(f"{base}/absent")
    files.pipe_file(f"{base}/there", b"1", mode="create")
    with pytest.raises(FileExistsError):
        files.pipe_file(f"{base}/there", b"2", mode="create")


class ConditionError(Exception):
    """botocore's error, by what matters of it."""

    response: ClassVar[dict[str, Any]] = {"Error": {"Code": "PreconditionFailed"}}


def test_an_object_that_somebody_else_wrote_first_is_there(sulking: type[Sulking]) -> None:
    files, base = open_files("sulking://bucket", "RANKMILL_ARTIFACTS")
    sulking.says = OSError(22, "At least one of the pre-conditions you specified did not hold")
    with pytest.raises(RetryableError):
        files.cat_file(f"{base}/any")
    sulking.says.__cause__ = ConditionError()
    with pytest.raises(FileExistsError):
        files.cat_file(f"{base}/any")


def test_a_uri_without_a_driver_is_told() -> None:
    with pytest.raises(BadInputError, match=r"nowhere://b cannot be opened \(.*\): install its driver.*RANKMILL_X"):
        open_files("nowhere://b", "RANKMILL_X")


def test_what_another_process_writes_is_seen(sulking: type[Sulking]) -> None:
    open_files("sulking://bucket", "RANKMILL_ARTIFACTS")
    assert sulking.given == {"use_listings_cache": False}
