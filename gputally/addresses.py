"""Addresses that people name on the command line."""

from urllib.parse import SplitResult, urlsplit

from agent.errors import SettingsError


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
