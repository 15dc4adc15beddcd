"""What each channel sends, to whom, and what it makes of the answer."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import json
import socket
import ssl
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from mergescale.gitops.git.source import Source
from mergescale.gitops.notices import configured, mail, policies, slack
from mergescale.gitops.notices.channels import Channels
from mergescale.gitops.notices.events import Event, Notice
from mergescale.gitops.notices.posting import MAX_ANSWER_BYTES
from mergescale.gitops.outbox import Retry, Undeliverable
from mergescale.gitops.reconcile import Reconciler
from mergescale.kernel.errors import Conflict, Invalid, MergescaleError, NotFound
from mergescale.kernel.ids import TailnetName
from mergescale.policy.policyfile import UNSET
from mergescale.server.tls import CertificateFiles
from mergescale.state.engine import Engine
from mergescale.state.ports import StoreUnavailable
from support.aio import aio
from support.certificates import write
from support.clock import START, FakeClock, FakeEntropy
from support.journal import MemoryFeed, MemoryJournal
from support.receivers import MailServer, Receiver, mailing, receiving
from support.repositories import MemoryFetches
from support.vault import MemoryVault

pytestmark = pytest.mark.enable_socket

CANARY = "hunter2-canary"
BODY = {
    "type": "gitopsTestsFailed",
    "message": 'aaaaaaaaaaaa by Ana fails its tests: <!channel> & "x"',
    "data": {"commit": "a" * 40, "reason": "TestsFailed"},
}
_CHANNELS: TypeAdapter[tuple[configured.Channel, ...]] = TypeAdapter(configured.Channels)


def channels(*wanted: Mapping[str, Any], vault: MemoryVault | None = None) -> Channels:
    """Return the channels of a tailnet, as the settings would have them."""
    found = _CHANNELS.validate_python(wanted)
    name = TailnetName("default")
    return Channels(name, found, vault or MemoryVault(), FakeClock(), FakeEntropy())


@contextlib.asynccontextmanager
async def engine_on(journal: MemoryJournal) -> AsyncIterator[Engine]:
    """Run a tailnet on a journal."""
    engine = await Engine.open(TailnetName("default"), journal, MemoryFeed(), FakeClock())
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(engine.run())
        yield engine
        engine.stop()


def to(receiver: Receiver, **more: Any) -> dict[str, Any]:
    return {"kind": "webhook", "name": "ops", "url": f"{receiver.url}/hook", **more}


def by_mail(server: MailServer, **more: Any) -> dict[str, Any]:
    """Return a channel that sends mail to this server, in the clear unless said otherwise."""
    made = {"kind": "email", "name": "ops", "host": "127.0.0.1", "port": server.port}
    who = {"sender": "mergescale@example.com", "to": ["ana@example.com", "bob@example.com"]}
    return {**made, **who, "security": "none", **more}


def checked(secret: str, headers: Mapping[str, str], body: bytes) -> Any:
    """Return the events of a webhook, checked as Tailscale's documentation tells consumers to."""
    fields = dict(part.split("=", 1) for part in headers["tailscale-webhook-signature"].split(","))
    assert abs(int(fields["t"]) - START.timestamp()) <= 300
    signed = fields["t"].encode() + b"." + body
    made = hmac.new(secret.encode(), signed, hashlib.sha256).hexdigest()
    assert hmac.compare_digest(made, fields["v1"])
    return json.loads(body)


@aio
async def test_a_webhook_is_what_consumers_of_tailscales_take() -> None:
    """A list of events, signed with the time; values of data are texts."""
    with receiving() as receiver:
        here = channels(to(receiver))
        secret = await here.keep_secret("ops", None, by="ana")
        assert secret is not None
        await here.deliveries["ops"]("branch", BODY)
        path, headers, body = receiver.took[0]
        assert (path, headers["content-type"]) == ("/hook", "application/json")
        assert checked(secret, headers, body) == [
            {
                "timestamp": "2026-01-01T00:00:00Z",
                "version": 1,
                "type": "gitopsTestsFailed",
                "tailnet": "default",
                "message": BODY["message"],
                "data": BODY["data"],
            }
        ]


@aio
async def test_a_policy_update_carries_the_policies_as_tailscales_does() -> None:
    """``newPolicy``, ``oldPolicy``, ``actor`` and ``url``; to webhooks only, and only what is kept."""
    first, second = '{"acls": []}', '{"acls": [], "groups": {}}'
    with receiving() as receiver, receiving() as chat, mailing() as server:
        wanted = (to(receiver), {"kind": "slack", "name": "team"}, by_mail(server, name="mail"))
        here, branch = channels(*wanted), MemoryFetches()
        secret = await here.keep_secret("ops", None, by="ana")
        await here.keep_secret("team", chat.url, by="ana")
        assert secret is not None
        here.past = MemoryJournal()
        async with engine_on(here.past) as engine:
            reconciler = Reconciler(engine, Source.parse("/srv/policy.git"), branch, FakeClock())
            for text in (first, second):
                branch.commit(text)
                await reconciler.sync()
        commits = [one.commit for one in await here.past.history(TailnetName("default"))][::-1]
        data = {"actor": "Ana", "url": "/srv/policy.git"}
        for event, commit in (
            ("policyUpdate", commits[0]),
            ("gitopsRolledBack", commits[1]),
            ("policyUpdate", "f" * 40),
            ("gitopsTestsFailed", commits[1]),
        ):
            told = {"type": event, "message": "m", "data": {**data, "commit": commit}}
            for deliver in here.deliveries.values():
                await deliver("policy", told)
        heard = [checked(secret, headers, body)[0]["data"] for _, headers, body in receiver.took]
        for one in heard:
            del one["commit"]
        assert heard == [
            {**data, "newPolicy": first, "oldPolicy": UNSET},
            {**data, "newPolicy": second, "oldPolicy": first},
            data,
            data,
        ]
        elsewhere = [body for _, _, body in chat.took] + [bytes(mail) for _, _, mail in server.took]
        assert len(elsewhere) == 8
        assert not any(b"acls" in one for one in elsewhere)


@aio
async def test_a_policy_that_is_too_long_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """The change is told all the same; while the database has no answer it is told later."""
    with receiving() as receiver:
        here, branch, journal = channels(to(receiver)), MemoryFetches(), MemoryJournal()
        await here.keep_secret("ops", None, by="ana")
        here.past = journal
        async with engine_on(journal) as engine:
            branch.commit('{"acls": []}' + " " * 100)
            clock = FakeClock()
            await Reconciler(engine, Source.parse("/srv/policy.git"), branch, clock).sync()
            held = engine.snapshot.deployment
        assert held is not None
        monkeypatch.setattr(policies, "MAX_TEXT_BYTES", 99)
        body = {"type": "policyUpdate", "message": "m", "data": {"commit": held.commit}}
        await here.deliveries["ops"]("policy", body)
        assert set(json.loads(receiver.took[0][2])[0]["data"]) == {"commit", "oldPolicy"}

        async def away(*_: object) -> None:
            raise StoreUnavailable("away")

        monkeypatch.setattr(MemoryJournal, "history", away)
        with pytest.raises(Retry, match="the database has no answer"):
            await here.deliveries["ops"]("policy", body)


@aio
async def test_a_channel_hears_of_the_events_it_asks_for() -> None:
    """Others are as good as delivered."""
    with receiving() as receiver:
        here = channels(to(receiver, events=["gitopsSuspended"]))
        await here.keep_secret("ops", None, by="ana")
        await here.deliveries["ops"]("branch", BODY)
        assert receiver.took == []
        await here.deliveries["ops"]("hold", {**BODY, "type": "gitopsSuspended"})
        await here.try_out("ops")
        assert [json.loads(body)[0]["type"] for _, _, body in receiver.took] == [
            "gitopsSuspended",
            "test",
        ]


@pytest.mark.parametrize(
    ("status", "headers", "after_s"),
    [
        (503, {}, None),
        (500, {"retry-after": "later"}, None),
        (429, {"retry-after": "30"}, 30.0),
        (408, {}, None),
    ],
)
@aio
async def test_what_a_receiver_cannot_take_now_is_tried_later(
    status: int, headers: dict[str, str], after_s: float | None
) -> None:
    """After the time that it asks for; nothing that it said is repeated."""
    with receiving() as receiver:
        here = channels(to(receiver))
        await here.keep_secret("ops", None, by="ana")
        receiver.status, receiver.headers, receiver.body = status, headers, CANARY.encode()
        with pytest.raises(Retry) as caught:
            await here.deliveries["ops"]("branch", BODY)
        assert (caught.value.after_s, caught.value.everything) == (after_s, True)
        assert caught.value.message == f"the receiver asks for another time ({status})"


@pytest.mark.parametrize("status", [301, 302, 307, 308, 400, 403, 404, 410])
@aio
async def test_what_a_receiver_never_takes_is_given_up(status: int) -> None:
    """Nobody is followed elsewhere: the place is the operator's choice, not the receiver's."""
    with receiving() as receiver, receiving() as elsewhere:
        here = channels(to(receiver))
        await here.keep_secret("ops", None, by="ana")
        receiver.status, receiver.headers = status, {"location": f"{elsewhere.url}/{CANARY}"}
        with pytest.raises(Undeliverable) as caught:
            await here.deliveries["ops"]("branch", BODY)
        assert CANARY not in str(caught.value)
        assert (len(receiver.took), elsewhere.took) == (1, [])


@aio
async def test_an_answer_without_an_end_is_not_read() -> None:
    """What was taken was taken, however much is said about it."""
    with receiving() as receiver:
        here = channels(to(receiver))
        await here.keep_secret("ops", None, by="ana")
        receiver.body = b"x" * (MAX_ANSWER_BYTES * 200)
        await here.deliveries["ops"]("branch", BODY)
        assert len(receiver.took) == 1


@aio
async def test_nobody_there_is_tried_later_and_named_by_nobody() -> None:
    """The place of a Slack channel is its secret."""
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    here = channels({"kind": "slack", "name": "ops"})
    await here.keep_secret("ops", f"http://127.0.0.1:{port}/{CANARY}", by="ana")
    with pytest.raises(Retry) as caught:
        await here.deliveries["ops"]("branch", BODY)
    assert caught.value.message == "the receiver could not be reached"
    with pytest.raises(Conflict, match='"ops": the receiver could not be reached'):
        await here.try_out("ops")


@aio
async def test_slack_gets_one_line_that_mentions_nobody() -> None:
    """A commit's subject cannot call everybody, or show a link as another."""
    with receiving() as receiver:
        here = channels({"kind": "slack", "name": "ops"})
        assert await here.keep_secret("ops", f"  {receiver.url}/{CANARY}\n", by="ana") is None
        await here.deliveries["ops"]("branch", BODY)
        path, _, body = receiver.took[0]
        assert path == f"/{CANARY}"
        assert json.loads(body) == {
            "text": ":warning: [default] aaaaaaaaaaaa by Ana fails its tests: "
            '&lt;!channel&gt; &amp; "x"',
            "unfurl_links": False,
            "unfurl_media": False,
        }
    quiet = Notice("default", "hold", Event.RESUMED, "followed again", {}, START)
    assert slack.text(quiet) == "[default] followed again"


@aio
async def test_mail_has_its_headers_right() -> None:
    """Plain text, the same Message-ID when it is sent again, and no answers wanted."""
    with mailing() as server:
        here = channels(by_mail(server))
        for _ in range(2):
            await here.deliveries["ops"]("branch", BODY)
        (sender, receivers, message), (_, _, again) = server.took
        assert (sender, receivers) == (
            "mergescale@example.com",
            ["ana@example.com", "bob@example.com"],
        )
        assert {name: message[name] for name in ("From", "To", "Auto-Submitted", "Date")} == {
            "From": "mergescale@example.com",
            "To": "ana@example.com, bob@example.com",
            "Auto-Submitted": "auto-generated",
            "Date": "Thu, 01 Jan 2026 00:00:00 +0000",
        }
        assert (
            "".join(message["Subject"].splitlines()).strip()
            == f"[mergescale default] {BODY['message']}"
        )
        assert message["Message-ID"] == again["Message-ID"]
        assert message["Message-ID"].endswith("@example.com>")
        assert message.get_content_type() == "text/plain"
        text = message.get_payload(decode=True)
        assert isinstance(text, bytes)
        assert text.decode().splitlines() == [
            BODY["message"],
            "",
            "tailnet:        default",
            "event:          gitopsTestsFailed",
            f"commit:         {'a' * 40}",
            "reason:         TestsFailed",
        ]


def test_mail_takes_no_headers_from_commits() -> None:
    """A subject with a line break would be a header of its own; other letters are encoded."""
    channel = _CHANNELS.validate_python([by_mail(MailServer(port=25))])[0]
    assert isinstance(channel, configured.MailChannel)
    told = Notice("default", "x", Event.TEST, "caf\u00e9 \u202e x", {"subject": "y"}, START)
    raw = mail.letter(channel, told).as_bytes()
    assert raw.isascii()
    with pytest.raises(ValueError, match="linefeed"):
        mail.letter(channel, Notice("d", "x", Event.TEST, "a\r\nBcc: eve@x.y", {}, START))


@aio
async def test_mail_is_encrypted_before_anybody_logs_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By STARTTLS with a server that proves who it is; else nothing is said, least the password."""
    files = CertificateFiles(tmp_path / "cert.pem", tmp_path / "key.pem")
    write(files)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files.certificate, files.key)
    vault = MemoryVault()
    with mailing(context) as server, mailing() as plain:
        wanted = by_mail(server, security="starttls", user="ops@example.com")
        here = channels(wanted, vault=vault)
        await here.keep_secret("ops", CANARY, by="ana")
        with contextlib.suppress(KeyError):
            monkeypatch.delenv("SSL_CERT_FILE")
        with pytest.raises(Retry, match="the mail server could not be used"):
            await here.deliveries["ops"]("branch", BODY)
        assert (server.logins, server.took) == ([], [])
        monkeypatch.setenv("SSL_CERT_FILE", str(files.certificate))
        await here.deliveries["ops"]("branch", BODY)
        assert server.logins == [("ops@example.com", CANARY)]
        assert len(server.took) == 1
        # One that does not offer it gets nothing.
        other = channels({**wanted, "port": plain.port}, vault=MemoryVault())
        await other.keep_secret("ops", CANARY, by="ana")
        with pytest.raises(Retry, match="the mail server could not be used"):
            await other.deliveries["ops"]("branch", BODY)
        assert not any(line.startswith(("AUTH", "MAIL", "DATA")) for line in plain.said)


@pytest.mark.parametrize(
    ("word", "answer", "error"),
    [
        ("MAIL", "451 later", Retry("the mail server asks for another time (451)")),
        ("RCPT", f"450 {CANARY}", Retry("the mail server asks for another time (450)")),
        ("RCPT", f"550 {CANARY}", Undeliverable("the mail server does not take it (550)")),
        ("AUTH", f"535 {CANARY}", Retry("the mail server refuses the login")),
        ("DATA", "554 no", Undeliverable("the mail server does not take it (554)")),
        ("EHLO", "421 bye", Retry("the mail server could not be used")),
    ],
)
@aio
async def test_what_a_mail_server_says_is_for_now_or_for_good(
    word: str, answer: str, error: MergescaleError
) -> None:
    """4xx and 5xx; what it says besides is not repeated."""
    with mailing() as server:
        server.answers[word] = answer
        here = channels(by_mail(server, user="ops"))
        await here.keep_secret("ops", "secret", by="ana")
        with pytest.raises(type(error)) as caught:
            await here.deliveries["ops"]("branch", BODY)
        assert caught.value.message == error.message


@aio
async def test_a_secret_is_for_one_place() -> None:
    """Who changes where a channel sends to has to give a secret for it."""
    vault = MemoryVault()
    with receiving() as receiver:
        here = channels(to(receiver), vault=vault)
        await here.keep_secret("ops", None, by="ana")
        assert (await here.told())[0]["secretSince"] == "2026-01-01T00:00:00Z"
        moved = channels(to(receiver, url=f"{receiver.url}/other"), vault=vault)
        assert (await moved.told())[0]["secretSince"] is None
        wanted = "the channel has no secret: mergescale gitops notify"
        with pytest.raises(Retry, match=wanted) as failed:
            await moved.deliveries["ops"]("branch", BODY)
        assert failed.value.longest_s <= 5, "somebody is about to give one"
        assert (vault.kept, receiver.took) == ({}, [])


@aio
async def test_secrets_are_checked_and_never_told() -> None:
    """Of a kind that fits, one line, not endless; what is told of channels holds none."""
    vault = MemoryVault()
    wanted = [
        {"kind": "slack", "name": "team"},
        by_mail(MailServer(port=25), user="ops"),
        {"kind": "webhook", "name": "bot", "url": "https://bot.example.com/hook"},
    ]
    here = channels(*wanted, vault=vault)
    for name, secret in (
        ("team", f"ftp://{CANARY}"),
        ("team", f"http://slack.example.com/{CANARY}"),
        ("team", None),
        ("ops", None),
        ("ops", ""),
        ("ops", f"{CANARY}\nx"),
        ("bot", CANARY * 1000),
    ):
        with pytest.raises(Invalid) as caught:
            await here.keep_secret(name, secret, by="ana")
        assert CANARY not in str(caught.value)
    with pytest.raises(NotFound, match="no such channel"):
        await here.keep_secret("nobody", "x", by="ana")
    with pytest.raises(NotFound, match="no such channel"):
        await here.try_out("nobody")
    await here.keep_secret("ops", CANARY, by="ana")
    told = await here.told()
    assert CANARY not in str(told)
    assert [(one["name"], one["kind"], one["place"]) for one in told] == [
        ("team", "slack", "slack"),
        ("ops", "email", "ops at 127.0.0.1:25"),
        ("bot", "webhook", "https://bot.example.com/hook"),
    ]


@aio
async def test_what_another_version_kept_is_given_up() -> None:
    """It must not be tried for ever, nor break the others."""
    with receiving() as receiver:
        here = channels(to(receiver))
        for body in ({}, {**BODY, "type": "later"}, {**BODY, "data": []}, {**BODY, "data": None}):
            with pytest.raises(Undeliverable):
                await here.deliveries["ops"]("branch", body)
        await asyncio.sleep(0)
        assert receiver.took == []


@pytest.mark.parametrize(
    "wanted",
    [
        {"kind": "webhook", "name": "ops", "url": "http://example.com/"},
        {"kind": "webhook", "name": "ops", "url": "https://user:pw@example.com/"},
        {"kind": "webhook", "name": "ops", "url": "file:///etc/passwd"},
        {"kind": "webhook", "name": "ops", "url": "https://exa mple.com/"},
        {"kind": "webhook", "name": "ops", "url": "https://example.com:99999/"},
        {"kind": "webhook", "name": "ops", "url": "http://127.0.0.1.example.com/"},
        {"kind": "webhook", "name": "Ops!", "url": "https://example.com/"},
        {"kind": "webhook", "name": "ops", "url": "https://example.com/", "events": ["x"]},
        {"kind": "pager", "name": "ops"},
        {"kind": "slack", "name": "ops", "url": "https://hooks.example.com/"},
        by_mail(MailServer(port=25), host="mail.example.com"),
        by_mail(MailServer(port=25), to=[]),
        by_mail(MailServer(port=25), to=["a@b.c\r\nBcc: x@y.z"]),
        by_mail(MailServer(port=25), sender="Ana <ana@example.com>"),
        by_mail(MailServer(port=25), port=0),
    ],
)
def test_a_channel_that_is_not_safe_is_no_setting(wanted: dict[str, Any]) -> None:
    """Said when the server starts, or by ``config check``."""
    with pytest.raises(ValidationError):
        _CHANNELS.validate_python([wanted])


def test_names_of_channels_are_distinct() -> None:
    """They are what secrets and states are kept under."""
    one = {"kind": "slack", "name": "ops"}
    with pytest.raises(ValidationError, match='two channels are called "ops"'):
        _CHANNELS.validate_python([one, one])
