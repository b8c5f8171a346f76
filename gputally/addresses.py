"""Addresses that people name on the command line."""

import re
from urllib.parse import SplitResult, urlsplit

from agent.errors import SettingsError

HIDDEN = "***"
_USER = re.compile(r"(?<=://)[^/?#\s]*@")
_VALUES = re.compile(r"(?<==)[^&#\s]+")


def address(option: str, url: str) -> SplitResult:
    """Read an address of HTTP without a password. Raises SettingsError."""
    try:
        parts = urlsplit(url)
        is_address = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_address = False
    if not is_address or parts.query or parts.fragment or not url.isprintable() or " " in url:
        raise SettingsError(f"{option} must be an address such as https://grafana.example.org")
    if parts.username is not None or parts.password is not None:
        raise SettingsError(f"{option} must hold no user and no password")
    return parts


def shown(address: str) -> str:
    """Give an address as it may be read by anybody: without user and password, or values behind a `?`."""
    place, mark, query = _USER.sub(f"{HIDDEN}@", address).partition("?")
    return place + mark + (_VALUES.sub(HIDDEN, query) if "://" in place else query)
