"""HTTP without TLS, to servers on loopback."""

from __future__ import annotations

import ssl
from typing import Final

#: Trusts nobody. A client of httpx that is not told whom to trust reads all of the system's
#: authorities: 25 ms of processor time, at each look of a test that waits for something.
PLAIN: Final = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
