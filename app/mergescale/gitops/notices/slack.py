"""Events as a line in a Slack channel, by an incoming webhook."""

from __future__ import annotations

import msgspec

from mergescale.gitops.notices.events import BAD, Notice
from mergescale.gitops.notices.posting import post


def text(notice: Notice) -> str:
    """Return the line.

    SPEC(Slack, formatting text): `&`, `<` and `>` are escaped, or a commit's subject could mention
    everybody or show one link as another.
    """
    line = f"[{notice.tailnet}] {notice.message}"
    for char, escaped in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;")):
        line = line.replace(char, escaped)
    return f":warning: {line}" if notice.event in BAD else line


async def send(url: str, notice: Notice) -> None:
    """Deliver it.

    Args:
        url: of the incoming webhook; whoever has it may write there.
        notice: what to tell.

    Raises:
        Retry: it may work later.
        Undeliverable: it will not.
    """
    # Nothing of it is a link that Slack would go and read.
    body = msgspec.json.encode({"text": text(notice), "unfurl_links": False, "unfurl_media": False})
    headers = {"content-type": "application/json", "user-agent": "mergescale"}
    await post(url, body, headers, notice.at)
