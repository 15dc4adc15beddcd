"""Deliveries of webhooks as each forge signs them, written down from its documentation."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Callable
from typing import Any

Headers = dict[str, str]
#: (secret, body, id of the delivery, seconds since 1970) -> headers.
Signs = Callable[[str, bytes, str, int], Headers]

SECRET = "whsec_" + base64.b64encode(bytes(range(32))).decode()
OTHER = "whsec_" + base64.b64encode(bytes(range(32, 64))).decode()

PUSH = json.dumps({"ref": "refs/heads/main", "after": "a" * 40}).encode()


def _hex(secret: str, body: bytes) -> str:
    return hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


def github(secret: str, body: bytes, number: str, now_s: int = 0, event: str = "push") -> Headers:
    return {
        "X-GitHub-Event": event,
        "X-GitHub-Delivery": number,
        "X-Hub-Signature-256": f"sha256={_hex(secret, body)}",
    }


def gitlab_token(secret: str, body: bytes, number: str, now_s: int = 0) -> Headers:
    return {"X-Gitlab-Event": "Push Hook", "Idempotency-Key": number, "X-Gitlab-Token": secret}


def gitlab_signed(secret: str, body: bytes, number: str, now_s: int = 0) -> Headers:
    key = base64.b64decode(secret.removeprefix("whsec_"))
    signed = hmac.new(key, f"{number}.{now_s}.".encode() + body, hashlib.sha256).digest()
    return {
        "X-Gitlab-Event": "Push Hook",
        "webhook-id": number,
        "webhook-timestamp": str(now_s),
        "webhook-signature": f"v1,{base64.b64encode(signed).decode()}",
    }


def gitea(secret: str, body: bytes, number: str, now_s: int = 0) -> Headers:
    return {
        **github(secret, body, number),
        "X-Gitea-Event": "push",
        "X-Gitea-Delivery": number,
        "X-Gitea-Signature": _hex(secret, body),
    }


def forgejo(secret: str, body: bytes, number: str, now_s: int = 0) -> Headers:
    return {
        **gitea(secret, body, number),
        "X-Forgejo-Event": "push",
        "X-Forgejo-Delivery": number,
        "X-Forgejo-Signature": _hex(secret, body),
    }


def generic(secret: str, body: bytes, number: str, now_s: int = 0) -> Headers:
    return {"X-Delivery-Id": number, "X-Signature": f"sha256={_hex(secret, body)}"}


FORGES: dict[str, Signs] = {
    "github": github,
    "gitlab-token": gitlab_token,
    "gitlab-signed": gitlab_signed,
    "gitea": gitea,
    "forgejo": forgejo,
    "generic": generic,
}


def low(headers: Headers) -> Headers:
    """Return the headers as the server has them."""
    return {name.lower(): value for name, value in headers.items()}


def payload(value: Any) -> bytes:
    return json.dumps(value).encode()
