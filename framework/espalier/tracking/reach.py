"""Check within seconds whether a server can be reached, because W&B's library would wait a minute for it."""

from __future__ import annotations

import socket
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

_SECONDS = 5.0


def is_reachable(url: str, *, seconds: float = _SECONDS) -> bool:
    """Whether a TCP connection to the host of `url`, or to the proxy configured for it, succeeds."""
    parts = urlsplit(url)
    proxy = "" if proxy_bypass(parts.hostname or "") else getproxies().get(parts.scheme, "")
    if proxy:
        parts = urlsplit(proxy if "//" in proxy else f"//{proxy}")
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        socket.create_connection((parts.hostname or "", port), seconds).close()
    except OSError:
        return False
    return True
