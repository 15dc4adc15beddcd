"""Events as plain e-mail, handed to one configured server (SMTP, RFC 5321)."""

from __future__ import annotations

import asyncio
import hashlib
import smtplib
import ssl
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime
from typing import Final

import structlog

from mergescale.gitops.notices.configured import MailChannel
from mergescale.gitops.notices.events import Notice
from mergescale.gitops.outbox import Retry, Undeliverable

log = structlog.get_logger()

#: LIMIT: each step with the mail server; there are about eight.
STEP_S: Final = 7.0
_WIDTH: Final = 16
#: ASCII only on the wire: not every server takes more.
_PLAIN: Final = SMTP.clone(cte_type="7bit")


def letter(channel: MailChannel, notice: Notice) -> EmailMessage:
    """Return the mail; the same for the same event, so that one sent twice is seen as one."""
    mail = EmailMessage(policy=_PLAIN)
    mail["From"] = channel.sender
    mail["To"] = ", ".join(channel.to)
    mail["Subject"] = f"[mergescale {notice.tailnet}] {notice.message}"[:180]
    mail["Date"] = format_datetime(notice.at)
    mail["Message-ID"] = f"<{_digest(notice)}@{channel.sender.rpartition('@')[2]}>"
    # SPEC(RFC 3834 5): nobody's holiday answers this.
    mail["Auto-Submitted"] = "auto-generated"
    lines = [notice.message, ""]
    told = {"tailnet": notice.tailnet, "event": str(notice.event), **notice.data}
    lines += [f"{name + ':':<{_WIDTH}}{value}" for name, value in told.items()]
    mail.set_content("\n".join(lines) + "\n")
    return mail


async def send(channel: MailChannel, password: str, notice: Notice) -> None:
    """Deliver it, on a thread.

    Raises:
        Retry: it may work later.
        Undeliverable: it will not.
    """
    mail = letter(channel, notice)
    try:
        refused = await asyncio.to_thread(_hand_over, channel, password, mail)
    except smtplib.SMTPRecipientsRefused as error:
        raise _meaning(min(code for code, _ in error.recipients.values())) from None
    except smtplib.SMTPAuthenticationError:
        raise Retry("the mail server refuses the login", everything=True) from None
    except smtplib.SMTPResponseException as error:
        raise _meaning(error.smtp_code) from None
    except (smtplib.SMTPException, OSError, ValueError):
        raise Retry("the mail server could not be used", everything=True) from None
    if refused:
        log.warning("notify.some-refused", channel=channel.name, refused=refused)


def _hand_over(channel: MailChannel, password: str, mail: EmailMessage) -> int:
    """Send it; return how many of the receivers the server did not take."""
    context = ssl.create_default_context()
    host, port = channel.host, channel.port
    if channel.security == "tls":
        server: smtplib.SMTP = smtplib.SMTP_SSL(host, port, timeout=STEP_S, context=context)
    else:
        server = smtplib.SMTP(host, port, timeout=STEP_S)
    with server:
        if channel.security == "starttls":
            # Raises if the server does not offer it: nothing is sent in the clear.
            server.starttls(context=context)
        if channel.user:
            server.login(channel.user, password)
        return len(server.send_message(mail, channel.sender, list(channel.to)))


def _meaning(code: int) -> Retry | Undeliverable:
    """SPEC(RFC 5321 4.2.1): 4xx is for now, 5xx for good."""
    if code < 500:
        return Retry(f"the mail server asks for another time ({code})", everything=True)
    return Undeliverable(f"the mail server does not take it ({code})")


def _digest(notice: Notice) -> str:
    about = [notice.tailnet, notice.key, notice.event, notice.message, *notice.data.values()]
    return hashlib.sha256("\0".join(about).encode("utf-8", "replace")).hexdigest()[:32]
