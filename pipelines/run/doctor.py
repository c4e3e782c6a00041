"""Is this machine fit to run Rankmill, and if not, what is to be done? Light checks, one sentence each."""

from __future__ import annotations

import importlib.util
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, packages_distributions, version
from pathlib import Path
from types import ModuleType

from components.platform.settings import ROOT, Settings
from components.platform.sources import ROOMS

ENGINES = (
    "apache-airflow",
    "ray",
    "torch",
    "mlflow",
    "feast",
    "great-expectations",
    "onnxruntime-gpu",
    "onnx",
    "onnxscript",
    "duckdb",
    "polars",
    "pyarrow",
    "pydantic",
)
LEAST_FREE = 2 << 30
"""Bytes that a run of the bundled pipelines may need with its caches."""


@dataclass(frozen=True)
class Check:
    """One finding."""

    name: str
    passed: bool
    found: str
    """What was seen, and what to do where it is not."""


def rooms_problem(root: Path) -> str | None:
    """Return a sentence when one of our packages comes from another tree than `root`, naming both paths."""
    for name in ROOMS:
        spec = importlib.util.find_spec(name)
        if spec is None or not spec.submodule_search_locations:
            return f"package {name!r} is not importable: put {root} on PYTHONPATH or run `pip install -e {root}`"
        here = Path(next(iter(spec.submodule_search_locations))).resolve()
        if here != (root / name).resolve():
            return (
                f"package {name!r} comes from {here}, but this file belongs to {root.resolve()}: "
                f"put {root.resolve()} first on PYTHONPATH or uninstall the other one"
            )
    return None


def examine(settings: Settings, *, deep: bool = False) -> list[Check]:
    """Return every check, none of which changes anything but a probe file."""
    return [check for group in (*_GROUPS, *((_providers,) if deep else ())) for check in group(settings)]


def _python(settings: Settings) -> Iterator[Check]:
    given = ".".join(map(str, sys.version_info[:3]))
    fits = sys.version_info[:2] == (3, 11)
    yield Check("python", fits, given if fits else f"{given}: make a .venv with Python 3.11, `make install` does it")


def _rooms(settings: Settings) -> Iterator[Check]:
    problem = rooms_problem(ROOT)
    yield Check("packages", problem is None, problem or f"{', '.join(ROOMS)} below {ROOT}")
    owners = packages_distributions()
    others = {name: sorted({*owners.get(name, [])} - {"rankmill"}) for name in ROOMS}
    taken = [f"{name} ({', '.join(who)})" for name, who in others.items() if who]
    yield Check(
        "package names",
        not taken,
        f"also provided by others: {'; '.join(taken)}: uninstall them here" if taken else "nobody else provides them",
    )


def _offers(settings: Settings) -> Iterator[Check]:
    from components.platform.catalog import catalog
    from components.rankers.registration import offered

    packages, faults = {spec.package for spec in catalog().values()}, [*catalog().refused.values()]
    for offers in (offered(True), offered(False)):
        packages |= {offer.package for offer in offers.usable.values()}
        faults += offers.refused.values()
    found = "; ".join(faults) if faults else f"of {', '.join(sorted(packages - {''})) or 'no other package'}"
    yield Check("components and rankers", not faults, found)


def _engines(settings: Settings) -> Iterator[Check]:
    pins = _pins(ROOT / "constraints.txt") | _pins(ROOT / "pyproject.toml")
    wrong = []
    for name in ENGINES:
        try:
            installed = version(name)
        except PackageNotFoundError:
            wrong.append(f"{name} is not installed")
            continue
        # A build tag such as +cpu says where torch runs, not which release it is.
        if name in pins and installed.partition("+")[0] != pins[name].partition("+")[0]:
            wrong.append(f"{name} is {installed}, pinned {pins[name]}")
    yield Check(
        "engines",
        not wrong,
        f"{'; '.join(wrong)}: run `make install`" if wrong else f"{len(ENGINES)} at their pinned versions",
    )


def _pins(file: Path) -> dict[str, str]:
    pins = {}
    for line in file.read_text(encoding="utf-8").splitlines() if file.exists() else ():
        name, found, pinned = line.strip().lstrip('"').partition("==")
        if found:
            pins[name.split("[")[0].lower()] = pinned.split(";")[0].split('"')[0].strip()
    return pins


def _stubs(settings: Settings) -> Iterator[Check]:
    from pipelines.language.load import pipeline_names
    from pipelines.run.stubs import every_stale_stub

    names = pipeline_names()
    stale = every_stale_stub()
    yield Check(
        "DAG stubs",
        not stale,
        f"{'; '.join(stale)}: run `rankmill stubs --write`" if stale else f"{len(names)} in dags/, one per pipeline",
    )


def _channels(settings: Settings) -> Iterator[Check]:
    from pipelines.language.load import pipeline_files, read
    from pipelines.language.notify import Notify, unsendable
    from pipelines.language.shape import fit

    wrong: dict[str, None] = {}
    telling = 0
    for file in pipeline_files().values():
        value = read(file).value
        block = value.get("notify") if isinstance(value, dict) else None
        notify = fit(Notify, block)[0] if block else None  # what is wrong with a file `rankmill validate` says
        telling += notify is not None
        wrong |= dict.fromkeys(unsendable(notify))
    found = f"{telling} pipelines tell people, and what sends is installed" if telling else "no pipeline tells people"
    yield Check("notifications", not wrong, "; ".join(wrong) or found)


def _places(settings: Settings) -> Iterator[Check]:
    if settings.artifacts.startswith("file:"):
        yield _writable("artifact store", Path(settings.artifacts.removeprefix("file://")), "RANKMILL_ARTIFACTS")
    else:
        yield Check("artifact store", True, f"{settings.artifacts} (not tried: it is remote)")
    yield _writable("home", settings.home, "RANKMILL_HOME")
    free = shutil.disk_usage(_existing(settings.home)).free
    yield Check(
        "free disk",
        free >= LEAST_FREE,
        f"{free / 2**30:.1f} GiB"
        + ("" if free >= LEAST_FREE else f": free {LEAST_FREE >> 30} GiB or move RANKMILL_HOME"),
    )


def _writable(name: str, folder: Path, variable: str) -> Check:
    probe = folder / ".rankmill-probe"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.write_text("")
        probe.unlink()
    except OSError as error:
        return Check(name, False, f"{folder}: {error.strerror}: make it writable or move {variable}")
    return Check(name, True, str(folder))


def _existing(folder: Path) -> Path:
    while not folder.exists():
        folder = folder.parent
    return folder


def _data(settings: Settings) -> Iterator[Check]:
    from components.ingest.download import paths_of
    from components.ingest.wheels import SHIPPED

    for name in ("ml-100k", "ml-1m"):
        folder = settings.data / SHIPPED[name].into
        absent = [file for file, path in paths_of(SHIPPED[name], settings.data).items() if not path.exists()]
        # Absent data is no failure: the ingest stage fetches it.
        found = f"{', '.join(absent)} not in {folder} yet: `rankmill run` fetches them" if absent else str(folder)
        yield Check(f"data {name}", True, found)


def _tracking(settings: Settings) -> Iterator[Check]:
    from registry.versions.database import require, sqlite_file

    try:
        file = sqlite_file(settings.tracking_uri)
        if file is not None and file.exists():
            require(settings.tracking_uri)
            yield Check("MLflow", True, str(file))
        elif file is not None:
            yield Check("MLflow", True, f"no database at {file} yet: `rankmill run` creates it")
        else:
            yield _reachable("MLflow", settings.tracking_uri)
    except Exception as error:  # every way a database can be broken is a finding here
        yield Check("MLflow", False, str(error))


def _reachable(name: str, address: str) -> Check:
    from base64 import b64encode
    from urllib.error import URLError
    from urllib.parse import unquote, urlsplit
    from urllib.request import Request, urlopen

    if not address.startswith(("http://", "https://")):
        return Check(name, True, f"{address} (not tried)")
    login, _, host = urlsplit(address).netloc.rpartition("@")
    request = Request(f"{urlsplit(address)._replace(netloc=host).geturl().rstrip('/')}/health")  # noqa: S310  # http, https
    if login:
        request.add_header("Authorization", f"Basic {b64encode(unquote(login).encode()).decode()}")
    try:
        with urlopen(request, timeout=3):  # noqa: S310  # http and https only, see above
            return Check(name, True, address)
    except (URLError, OSError) as error:
        return Check(name, False, f"{address} does not answer ({error}): start it or fix MLFLOW_TRACKING_URI")


def _accelerator(settings: Settings) -> Iterator[Check]:
    # The list of providers that onnxruntime offers says nothing about what loads; the driver does.
    driver = shutil.which("nvidia-smi") or Path("/proc/driver/nvidia/version").exists()
    yield Check(
        "accelerator",
        True,
        "NVIDIA driver present; `provider: cuda` is checked when a session opens"
        if driver
        else "none: pipelines run on the CPU, `provider: cuda` would be refused",
    )


def _providers(settings: Settings) -> Iterator[Check]:
    try:
        import torch

        yield Check(
            "torch", True, f"{torch.__version__}, CUDA {'available' if torch.cuda.is_available() else 'not available'}"
        )
        import onnxruntime

        yield Check("onnxruntime", True, f"{onnxruntime.__version__}, devices {_devices(onnxruntime)}")
    except (ImportError, OSError) as error:
        yield Check("engines load", False, f"{error}: run `make install`")


def _devices(onnxruntime: ModuleType) -> str:
    """Return the devices that onnxruntime found; its list of providers names CUDA on every machine."""
    return ", ".join(sorted({device.ep_name for device in onnxruntime.get_ep_devices()}))


def _ports(settings: Settings) -> Iterator[Check]:
    from pipelines.run.airflow_home import AIRFLOW_PORT, MLFLOW_PORT
    from pipelines.run.servers import port_is_busy

    busy = [port for port in (AIRFLOW_PORT, MLFLOW_PORT) if port_is_busy(port)]
    # Somebody's own `rankmill ui` holds them too, so this is a note and no failure.
    yield Check(
        "ports",
        True,
        f"{', '.join(map(str, busy))} in use: `rankmill ui` needs --airflow-port or --mlflow-port (or is running)"
        if busy
        else f"{AIRFLOW_PORT} (Airflow) and {MLFLOW_PORT} (MLflow) are free",
    )


_GROUPS: tuple[Callable[[Settings], Iterator[Check]], ...] = (
    _python,
    _rooms,
    _offers,
    _engines,
    _stubs,
    _channels,
    _places,
    _data,
    _tracking,
    _accelerator,
    _ports,
)
