"""How does a MovieLens release come into the data folder?

``python -m components.ingest.ingest_movielens.download`` does what the component does on its first run.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from components.ingest.download import Report, ensure_files
from components.ingest.ingest_movielens.releases import RELEASES, release
from components.platform.errors import RankmillError, RetryableError
from components.platform.settings import Settings

log = logging.getLogger("rankmill")


def ensure(name: str, data_dir: Path, *, download: bool = True, verify: bool = True, report: Report = log.info) -> Path:
    """Return the folder with the files of the release called `name`, fetching the ones that are absent.

    Args:
        name: release, such as ``ml-100k``.
        data_dir: folder that holds one folder per release.
        download: fetch absent files; False makes absence an error.
        verify: compare each file with the release's sha256.
        report: gets one line per step.

    Raises:
        BadInputError: a file is truncated or changed.
        MissingError: a file is absent and `download` is False, or there is no such release.
        RetryableError: pip could not fetch the wheel.
    """
    return ensure_files(release(name).source, data_dir, download=download, verify=verify, report=report)


def main(arguments: Sequence[str] | None = None) -> int:
    """Fetch a release from the command line; return the exit status."""
    parser = argparse.ArgumentParser(prog="components.ingest.ingest_movielens.download", description=__doc__)
    parser.add_argument("--release", default="ml-100k", choices=sorted(RELEASES))
    parser.add_argument("--data", type=Path, help="data folder; from the environment when left out")
    chosen = parser.parse_args(arguments)

    def say(line: str) -> None:
        sys.stderr.write(f"{line}\n")

    try:
        data = chosen.data or Settings.from_environment().data
        folder = ensure(chosen.release, data.absolute(), report=say)
    except RankmillError as error:
        say(f"error: {error}")
        return error.exit_code
    except OSError as error:
        say(f"error: {error.strerror or error} ({error.filename}); free space or fix its permissions and run again")
        return RetryableError.exit_code
    say(f"{chosen.release} is complete in {folder}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
