"""Which of Airflow's notifiers takes a message to people, how long may it take, and what is said when it fails?"""

from __future__ import annotations

import asyncio
import contextvars
import logging
from collections.abc import Mapping
from threading import Thread
from typing import Any

from airflow.sdk import BaseNotifier, Connection, Context
from airflow.sdk.exceptions import AirflowNotFoundException
from airflow.sdk.log import redact

from components.platform.errors import MissingError, RetryableError
from pipelines.language.hiding import hidden, without_passwords
from pipelines.language.notify import Target, missing_package
from pipelines.run.notice import Notice
from pipelines.run.task import sentence
from pipelines.run.webhook import address_of, post

log = logging.getLogger("rankmill")
PATIENCE = 30.0
"""Seconds that one message may take through one channel, whoever sends it."""


class WebhookNotifier(BaseNotifier):
    """Posts a JSON object to the address of a connection."""

    def __init__(self, connection: str, body: Mapping[str, Any]) -> None:
        super().__init__()
        self.connection, self.body = connection, body

    def notify(self, context: Context) -> None:
        """Post it.

        Raises:
            BadInputError: the connection is no address.
            RetryableError: nobody took it.
        """
        connection = Connection.get(self.connection)
        post(address_of(connection, connection.extra_dejson), self.body)

    async def async_notify(self, context: Context) -> None:
        """Post it while others go on; fails as `notify` does."""
        connection = await Connection.async_get(self.connection)
        await asyncio.to_thread(post, address_of(connection, await connection.aextra_dejson()), self.body)


def notifier_of(target: Target, notice: Notice) -> BaseNotifier:
    """Return what sends a message through a channel; its texts are no templates, so only `notify` may be called.

    Raises:
        MissingError: the package of the channel is not installed.
    """
    if (package := missing_package(target.channel)) is not None:
        raise MissingError(f"{package} is not installed: install the extra `notify`")
    if target.channel == "slack":
        from airflow.providers.slack.notifications.slack_webhook import SlackWebhookNotifier

        return SlackWebhookNotifier(
            slack_webhook_conn_id=target.connection, text=notice.slack(), timeout=10, unfurl_links=False
        )
    if target.channel == "email":
        from airflow.providers.smtp.notifications.smtp import SmtpNotifier

        return SmtpNotifier(
            to=[*target.to], from_email=target.sender, subject=f"Rankmill: {notice.title}", html_content=notice.html(),
            smtp_conn_id=target.connection,
        )  # fmt: skip
    return WebhookNotifier(target.connection, notice.body())


def send_within(seconds: float, notifier: BaseNotifier) -> None:
    """Let a notifier send, and wait no longer than that: time-outs of sockets begin anew with every byte.

    Raises:
        RetryableError: it took longer.
        Exception: what the notifier raised.
    """
    raised: list[Exception] = []

    def send() -> None:
        try:
            notifier.notify({})
        except Exception as error:
            raised.append(error)

    sender = Thread(target=contextvars.copy_context().run, args=(send,), daemon=True)
    sender.start()
    sender.join(seconds)
    if sender.is_alive():
        raise RetryableError(f"it took longer than {seconds:.0f} s: see its server")
    if raised:
        raise raised[0]


def not_told(notice: Notice, target: Target, error: Exception) -> None:
    """Say in the log that a message did not get through, without the secrets that a library's error may hold."""
    if isinstance(error, AirflowNotFoundException) or "connection is not found" in str(error):
        said = f"Airflow has no such connection: add it, or set AIRFLOW_CONN_{target.connection.upper()}"
    elif isinstance(error, TimeoutError):
        said = f"it took longer than {PATIENCE:.0f} s: see its server"
    else:
        said = sentence(error)
    clean = hidden(without_passwords(str(redact(said))))
    log.warning("%s: its %s was not told through %s: %s", notice.where, notice.event, target, clean)
