"""The proxy on the way to a store: only the settings name one, the environment does not.

Its address may hold a user and a password; they go to the proxy alone, and into no error.
"""

import base64
from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import unquote, urlsplit


class Proxy(NamedTuple):
    """A proxy's address without secrets, and the headers that are for it alone."""

    url: str
    headers: Mapping[str, str]


def proxy_of(address: str) -> Proxy | None:
    """Take the address of a proxy apart; None for none. Raises ValueError.

    An error tells nothing of the address: a character that was not escaped may make a part of the password
    look like a host or a port.
    """
    if not address:
        return None
    try:
        parts = urlsplit(address)
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    behind = parts.path + parts.query + parts.fragment if host else ""
    if not host or parts.scheme not in ("http", "https") or behind not in ("", "/"):
        raise ValueError("proxy is no address such as http://user:password@proxy.example.org:3128")
    place = f"[{host}]" if ":" in host else host
    url = f"{parts.scheme}://{place}:{port}" if port else f"{parts.scheme}://{place}"
    if parts.username is None:
        return Proxy(url, {})
    pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
    given = base64.b64encode(pair.encode()).decode()
    return Proxy(url, {"Proxy-Authorization": f"Basic {given}"})
