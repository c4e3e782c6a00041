"""Which places are there, what does each set, and in which does a command work? `--profile`, `rankmill profiles`."""

from __future__ import annotations

from typing import Annotated

import typer

Profile = Annotated[
    str | None, typer.Option("--profile", help="Place to work in: a profile by name or file; see `rankmill profiles`.")
]


def use(name: str | None) -> None:
    """Work in the place of a profile, if one is given, and never show what it keeps secret."""
    if name is None:
        return
    from pipelines.language.profile import use_profile
    from pipelines.show.terminal import hide_secrets

    use_profile(name)
    hide_secrets()


def profiles(
    name: Annotated[str | None, typer.Argument(help="Show this one in detail.", metavar="PROFILE")] = None,
) -> None:
    """List the profiles, or show which variables one sets; values that it fetches are never shown."""
    import os

    from pipelines.language.profile import load_profile, profile_file, profile_files
    from pipelines.language.profile_spec import REFERENCE
    from pipelines.show.terminal import folding, show

    if name is None:
        table = folding("profile", "GPUs", "what it is")
        for file in sorted(profile_files().values()):
            spec = load_profile(file).spec
            table.add_row(spec.name, str(spec.resources.gpus), spec.description)
        show(table)
        return
    profile = load_profile(profile_file(name))
    table = folding("key", "variable", "value", "")
    for variable, (where, value) in profile.variables.items():
        match = REFERENCE.fullmatch(value)
        source = (
            match["name"]
            if match and match["kind"] == "env"
            else f"AIRFLOW_CONN_{match['name'].upper()}"
            if match
            else ""
        )
        state = "" if not source else f"{source} is set" if os.environ.get(source) else f"{source} is not set"
        table.add_row(".".join(map(str, where)), variable, value, state)
    show(table)
