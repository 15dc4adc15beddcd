"""Whether a webhook's delivery comes from whoever holds one of the secrets; pure.

    forge      proof                                                    id of the delivery
    Forgejo    X-Forgejo-Signature: <hex>                               X-Forgejo-Delivery
    Gitea      X-Gitea-Signature: <hex>                                 X-Gitea-Delivery
    GitLab     webhook-signature: v1,<base64> [v1,<base64> ...]         webhook-id
               over ``<webhook-id>.<webhook-timestamp>.<body>``
    GitLab     X-Gitlab-Token: the secret itself                        Idempotency-Key
    GitHub     X-Hub-Signature-256: sha256=<hex>                        X-GitHub-Delivery
    any other  X-Signature: sha256=<hex>                                X-Delivery-Id

Everywhere else the HMAC-SHA256 is over the body alone. A secret is a text ``whsec_<base64>``: what it
decodes to is the key of GitLab's signatures (SPEC(standard webhooks)), the text itself that of
all others, so that one secret suits every forge.

INVARIANT(no payload): a delivery says that something moved, and nothing else of it is believed. What
to fetch from where is configured, so the body is proof and is never parsed, kept or logged.
"""

from __future__ import annotations

import binascii
import hashlib
import hmac
from base64 import b64decode
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

#: LIMIT: bytes of a delivery; a push of 2,000 commits has some 2 MB, GitHub itself stops at 25 MB.
MAX_BODY_BYTES: Final = 3 << 20
#: LIMIT: characters of one header that is looked at; the longest honest one is GitLab's with some
#: signatures of 48 characters.
MAX_HEADER_CHARS: Final = 1024
#: SPEC(standard webhooks): seconds that a signed time may differ from ours.
REPLAY_S: Final = 300
#: LIMIT: deliveries that are remembered; three a second for as long as they are.
REMEMBERED: Final = 1024

SECRET_PREFIX: Final = "whsec_"  # noqa: S105 - says what a secret looks like

#: INVARIANT(strongest): the first of these that is there is the one that counts, whatever else is.
_PROOFS: Final = (
    "x-forgejo-signature",
    "x-gitea-signature",
    "webhook-signature",
    "x-gitlab-token",
    "x-hub-signature-256",
    "x-signature",
)
#: Where each of them names the delivery, and what happened.
_ID: Final = {
    "x-forgejo-signature": "x-forgejo-delivery",
    "x-gitea-signature": "x-gitea-delivery",
    "webhook-signature": "webhook-id",
    "x-gitlab-token": "idempotency-key",
    "x-hub-signature-256": "x-github-delivery",
    "x-signature": "x-delivery-id",
}
_EVENT: Final = {"x-hub-signature-256": "x-github-event"}


@dataclass(frozen=True, slots=True)
class Delivery:
    """A delivery that was proved.

    Attributes:
        names: what tells it from others; a delivery of which one was seen before is a repetition.
        ping: the forge only tries whether somebody is there.
    """

    names: tuple[str, ...]
    ping: bool


def prove(
    headers: Mapping[str, str], body: bytes, secrets: Sequence[str], now_s: float
) -> Delivery | None:
    """Return the delivery if one of the secrets made its proof, else None.

    All secrets are tried whatever comes of the first, each compared in constant time.

    Args:
        headers: by lower-case name; of one that was sent twice, both values with a comma between.
        body: at most `MAX_BODY_BYTES`, as it came.
        secrets: texts as `SECRET_PREFIX` says; any of them is good.
        now_s: seconds since 1970.
    """
    found = next((name for name in _PROOFS if name in headers), None)
    if found is None or len(headers[found]) > MAX_HEADER_CHARS:
        return None
    named = headers.get(_ID[found], "")
    if len(named) > MAX_HEADER_CHARS:
        return None
    good = _check(found)
    # All of them first: to stop at the first good one would tell by the time which it was.
    tried = [good(headers, body, secret, now_s) for secret in secrets]
    if True not in tried:
        return None
    ping = headers.get(_EVENT.get(found, ""), "") == "ping"
    return Delivery(_names(found, named, body), ping)


class Seen:
    """Remembers deliveries for as long as a signature with a time would be good.

    In memory, and of this process only: a repetition that slips through costs one look that finds
    nothing, which is what the poll does all day. Only who holds a secret gets anything in here.
    """

    def __init__(self) -> None:
        self._seen: OrderedDict[bytes, float] = OrderedDict()

    def __len__(self) -> int:
        return len(self._seen)

    def repeats(self, delivery: Delivery, now_s: float) -> bool:
        """Say whether it was here before; it was from now on.

        Args:
            delivery: the one.
            now_s: monotonic seconds.
        """
        names = [hashlib.sha256(name.encode()).digest() for name in delivery.names]
        repeats = any(now_s - self._seen.get(name, -REPLAY_S) < REPLAY_S for name in names)
        for name in names:
            # Not moved by a repetition: or who sends one for ever is never forgotten.
            if not repeats:
                self._seen.pop(name, None)
                self._seen[name] = now_s
        while len(self._seen) > REMEMBERED:
            self._seen.popitem(last=False)
        return repeats


_Check = Callable[[Mapping[str, str], bytes, str, float], bool]


def _check(found: str) -> _Check:
    match found:
        case "webhook-signature":
            return _signed_with_time
        case "x-gitlab-token":
            return lambda headers, _, secret, __: _same(headers["x-gitlab-token"], secret)
        case "x-forgejo-signature" | "x-gitea-signature":
            return lambda headers, body, secret, _: _same(headers[found], _hex(secret, body))
        case _:
            return lambda headers, body, secret, _: _same(
                headers[found], f"sha256={_hex(secret, body)}"
            )


def _signed_with_time(headers: Mapping[str, str], body: bytes, secret: str, now_s: float) -> bool:
    named, when = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
    if not named or not (when.isascii() and when.isdigit() and len(when) <= 12):
        return False
    try:
        key = b64decode(secret.removeprefix(SECRET_PREFIX), validate=True)
    except binascii.Error:
        return False
    signed = f"{named}.{when}.".encode("utf-8", "surrogatepass") + body
    made = binascii.b2a_base64(hmac.digest(key, signed, "sha256"), newline=False)
    good = [_same(one, f"v1,{made.decode()}") for one in headers["webhook-signature"].split(" ")]
    return any(good) and abs(now_s - int(when)) <= REPLAY_S


def _names(found: str, named: str, body: bytes) -> tuple[str, ...]:
    """Return what a repetition has in common with the first.

    Where the signature covers the body alone, the id beside it can be exchanged by whoever repeats
    it, so the body counts as well. GitLab's old form signs nothing; who repeats it has the secret.
    """
    names = [f"{found}:{named}"] if named else []
    if found != "webhook-signature" and not (found == "x-gitlab-token" and named):
        names.append(f"body:{hashlib.sha256(body).hexdigest()}")
    return tuple(names)


def _hex(secret: str, body: bytes) -> str:
    return hmac.digest(secret.encode(), body, "sha256").hex()


def _same(given: str, wanted: str) -> bool:
    # Bytes: of texts, `compare_digest` takes ASCII only.
    return hmac.compare_digest(given.encode("utf-8", "surrogatepass"), wanted.encode())
