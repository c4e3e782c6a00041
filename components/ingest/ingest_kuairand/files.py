"""Where are the KuaiRand files, and which are needed? The user's own download, found by official names."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from components.platform.errors import MissingError

FOLDER = "kuairand-pure"
"""Folder of the data set below the data folder."""
USERS = "user_features_pure.csv"
VIDEOS = "video_features_basic_pure.csv"


def log_name(period: str) -> str:
    """Return the official name of the standard log of a period."""
    return f"log_standard_{period}_pure.csv"


def needed(periods: Iterable[str]) -> tuple[str, ...]:
    """Return the official names of every file that is read, logs first."""
    return (*(log_name(period) for period in sorted(set(periods))), USERS, VIDEOS)


def find(data: Path, name: str) -> Path:
    """Return the file with an official name, plain or with ``.gz``, in the data set's folder or its ``data/``.

    Args:
        data: data folder of the settings.
        name: official file name.

    Raises:
        MissingError: there is none; the message says where to get it and where to put it.
    """
    folder = data / FOLDER
    for place in (folder / "data", folder):
        for candidate in (place / name, place / f"{name}.gz"):
            if candidate.is_file():
                return candidate
    raise MissingError(
        f"{name} (or {name}.gz) is not in {folder / 'data'}: download KuaiRand-Pure from the KuaiRand project "
        "(chongminggao/KuaiRand, CC BY-SA 4.0) and put the files of its data folder there, or set RANKMILL_DATA"
    )
