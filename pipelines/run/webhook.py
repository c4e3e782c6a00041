"""How does a message reach an address of somebody's own? One POST of JSON: https, or http on this machine.

Address and secret come from an Airflow connection, and stand in no error: a path is often the key.
"""

from __future__ import annotations

import ipaddress
import json
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.client import HTTPException
from typing import Any, Protocol
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, ProxyHandler, Request, build_opener

from components.platform.errors import BadInputError, RetryableError

WAIT = 10.0
"""Seconds that connecting, sending and an answer may take each."""


class Connection(Protocol):
    """What Airflow knows of an address."""

    host: str | None
    schema: str | None
    login: str | None
    password: str | None
    port: int | None


@dataclass(frozen=True)
class Address:
    """Where a message is posted, and with which headers; neither is shown."""

    url: str = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)

    @property
    def is_here(self) -> bool:
        """Whether it is an address of this machine alone."""
        return _loopback(urlsplit(self.url).hostname or "")


def address_of(connection: Connection, extra: Mapping[str, Any]) -> Address:
    """Return the address that a connection names.

    `host` is a URL, or a host, whose `schema` is then the path, or the protocol as Airflow's HTTP provider has it. A
    login and password are sent as basic authentication, a password alone as a bearer token, `headers` in its `extra` as
    they are.

    Raises:
        BadInputError: it is no address, or one to which everything would go in the clear.
    """
    url = _url(connection)
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        host = None
    if host is None or parts.scheme not in ("http", "https") or any(char.isspace() for char in url):
        raise BadInputError("the connection names no address: give host and schema, or a URL as its host")
    if parts.username is not None or parts.password is not None:
        raise BadInputError("the address holds a login: put login and password into fields of their own")
    if parts.scheme == "http" and not _loopback(host):
        raise BadInputError("the address is http, and anybody could read along: make it https")
    headers = {"Content-Type": "application/json", "User-Agent": "rankmill"}
    more = extra.get("headers", {})
    if not isinstance(more, dict) or not all(isinstance(value, str) for value in more.values()):
        raise BadInputError("headers in the connection's extra must be texts by name: mend them")
    if connection.password and connection.login:
        login = b64encode(f"{connection.login}:{connection.password}".encode()).decode()
        headers["Authorization"] = f"Basic {login}"
    elif connection.password:
        headers["Authorization"] = f"Bearer {connection.password}"
    return Address(url, headers | more)


def _url(connection: Connection) -> str:
    host, schema = (connection.host or "").strip(), (connection.schema or "").strip("/")
    if "://" not in host:
        protocol = schema if schema in ("http", "https") else "http" if _loopback(host) else "https"
        path = "" if schema in ("http", "https") else schema
        inside = f"[{host}]" if ":" in host else host
        port = f":{connection.port}" if connection.port else ""
        return f"{protocol}://{inside}{port}/{path}" if host else ""
    head, _, path = host.partition("://")[2].partition("/")
    port = f":{connection.port}" if connection.port and ":" not in head.rpartition("]")[2] else ""
    return f"{host.partition('://')[0]}://{head}{port}/{path}"


def _loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class _Stay(HTTPRedirectHandler):
    """Follows nobody elsewhere with a secret in hand."""

    def redirect_request(self, *args: Any, **kwargs: Any) -> None:
        """Return that there is no other request to make."""


def post(address: Address, body: Mapping[str, Any]) -> None:
    """Post a JSON object.

    Raises:
        RetryableError: nobody took it; the error holds neither address nor secret.
    """
    # A proxy is for the way out.
    opener = build_opener(_Stay, *([ProxyHandler({})] if address.is_here else []))
    data = json.dumps(body, ensure_ascii=False).encode()
    try:
        request = Request(address.url, data, dict(address.headers), method="POST")  # noqa: S310  # http(s) alone
        with opener.open(request, timeout=WAIT):
            return
    except HTTPError as error:
        error.close()
        raise RetryableError(f"it answered {error.code}: correct the connection or see its server") from None
    except (TimeoutError, URLError) as error:
        late = isinstance(error, TimeoutError) or isinstance(error.reason, TimeoutError)
        reason = getattr(getattr(error, "reason", None), "strerror", None) or "no connection"
        why = f"it did not answer within {WAIT:.0f} s" if late else f"it cannot be reached ({reason})"
        raise RetryableError(f"{why}: see its server") from None
    except (OSError, HTTPException, ValueError) as error:
        raise RetryableError(f"it took no message ({type(error).__name__}): correct the connection") from None
