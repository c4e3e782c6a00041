"""Who is told what happened to a pipeline? The block `notify`: by event the channels, each by its Airflow connection.

A connection holds address and secret, so no file does.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Annotated, Literal, Self, get_args

from pydantic import AfterValidator, ConfigDict, Field, StringConstraints, WithJsonSchema, model_validator

from features.declaration import Frozen

Event = Literal["failure", "approval", "refusal", "promotion", "drift", "deadline"]
Channel = Literal["slack", "email", "webhook"]
PROVIDERS: dict[Channel, str] = {
    "slack": "apache-airflow-providers-slack",
    "email": "apache-airflow-providers-smtp",
}
"""Package of Airflow that sends through a channel; a webhook needs none."""
_CONNECTION = r"^[A-Za-z_][A-Za-z0-9_.-]{0,199}$"


def _connection(value: str) -> str:
    if not re.fullmatch(_CONNECTION, value):
        # What stands there may be the very secret that should not, so it is not repeated.
        raise ValueError(
            "a connection is named by its id (letters, digits, _ . and -): address and secret belong into Airflow"
        )
    return value


ConnectionId = Annotated[
    str, AfterValidator(_connection), WithJsonSchema({"type": "string", "pattern": _CONNECTION, "maxLength": 200})
]
"""Id of a connection that Airflow has."""
Address = Annotated[str, StringConstraints(pattern=r"^[^\s@,;:<>\"]+@[^\s@,;:<>\"]+$", max_length=320)]


class Slack(Frozen):
    """A channel of Slack."""

    connection: ConnectionId
    """Airflow connection of type `slackwebhook` (Slack Incoming Webhook), which belongs to one channel."""


class Email(Frozen):
    """A letter."""

    connection: ConnectionId
    """Airflow connection of type `smtp`."""
    to: tuple[Address, ...] = Field(min_length=1, max_length=100)
    """Who gets it."""
    sender: Address | None = None
    """Address that it comes from; left out, the `from_email` of the connection."""


class Webhook(Frozen):
    """A JSON object that is posted to an address."""

    connection: ConnectionId
    """Airflow connection of type `http`: https, or http on this machine; a password alone is a bearer token."""


class Channels(Frozen):
    """Where a message goes."""

    model_config = ConfigDict(json_schema_extra={"minProperties": 1})

    slack: Slack | tuple[Slack, ...] | None = None
    """A channel of Slack, or a list of them."""
    email: Email | None = None
    """Addresses that get a letter."""
    webhook: Webhook | tuple[Webhook, ...] | None = None
    """An address that gets a JSON object, or a list of them."""

    @model_validator(mode="after")
    def _somebody(self) -> Self:
        if not self.targets:
            raise ValueError("name slack, email or webhook, or null for nobody")
        return self

    @property
    def targets(self) -> tuple[Target, ...]:
        """Every place of them."""
        return tuple(
            Target(channel, one.connection, getattr(one, "to", ()), getattr(one, "sender", None))
            for channel in _CHANNELS
            for one in _each(getattr(self, channel))
        )


_CHANNELS: tuple[Channel, ...] = ("slack", "email", "webhook")


def _each(value: Slack | Email | Webhook | tuple[Slack | Webhook, ...] | None) -> tuple[Slack | Email | Webhook, ...]:
    return () if value is None else value if isinstance(value, tuple) else (value,)


@dataclass(frozen=True)
class Target:
    """One place that a message goes to."""

    channel: Channel
    connection: str
    to: tuple[str, ...] = ()
    """Addresses of a letter."""
    sender: str | None = None

    def __str__(self) -> str:
        """Return the place as a sentence names it; whom a letter goes to is left out."""
        return f"{self.channel} ({self.connection})"


class Notify(Frozen):
    """Who is told of what."""

    failure: Channels | None = None
    """A stage failed, and no try is left."""
    approval: Channels | None = None
    """A stage asks whether a version may become champion, and waits for the answer."""
    refusal: Channels | None = None
    """A gate, or a person after it, refused a ranker; the champion stays."""
    promotion: Channels | None = None
    """The champion moved."""
    drift: Channels | None = None
    """`watch_drift` raised its alarm."""
    deadline: Channels | None = None
    """A run has not ended when its `deadline` passed."""

    def targets(self, event: Event) -> tuple[Target, ...]:
        """Return the places that an event is told to."""
        channels: Channels | None = getattr(self, event)
        return channels.targets if channels else ()

    @property
    def events(self) -> tuple[Event, ...]:
        """Events that somebody is told of."""
        return tuple(event for event in _EVENTS if self.targets(event))


_EVENTS: tuple[Event, ...] = get_args(Event)


def unsendable(notify: Notify | None) -> Iterator[str]:
    """Yield in a sentence each channel that this installation has no package for."""
    events = {target.channel: event for event in notify.events for target in notify.targets(event)} if notify else {}
    for channel, event in events.items():
        if (package := missing_package(channel)) is not None:
            yield (
                f"notify.{event} tells through {channel}, which needs {package}, and it is not installed: "
                "install the extra `notify`"
            )


def missing_package(channel: Channel) -> str | None:
    """Return the package that a channel needs and that is not installed."""
    package = PROVIDERS.get(channel)
    if package is None:
        return None
    try:
        version(package)
    except PackageNotFoundError:
        return package
    return None
