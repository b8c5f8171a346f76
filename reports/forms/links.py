"""Where Grafana shows more of what a report says: addresses of its dashboards, with the same window."""

from dataclasses import dataclass
from typing import Protocol
from urllib.parse import quote, urlencode, urlsplit

from agent.errors import ReportError

_SCHEMES = ("http", "https")


class Linker(Protocol):
    """Tells where more is said of something; None where there is no such place."""

    def gpu(self, uuid: str) -> str | None:
        """Give the address of a GPU's view."""

    def owner(self, name: str) -> str | None:
        """Give the address of an owner's view."""

    def node(self, name: str) -> str | None:
        """Give the address of a node's view."""


class Unlinked:
    """Knows no place."""

    def gpu(self, uuid: str) -> str | None:  # noqa: ARG002  the protocol's
        """Give nothing."""
        return None

    def owner(self, name: str) -> str | None:  # noqa: ARG002  the protocol's
        """Give nothing."""
        return None

    def node(self, name: str) -> str | None:  # noqa: ARG002  the protocol's
        """Give nothing."""
        return None


@dataclass(frozen=True, slots=True)
class Links:
    """Addresses below that of a Grafana, for [from_ms, to_ms) in ms since the epoch.

    Raises ReportError for a base that is no plain http or https address.
    """

    base_url: str
    from_ms: int
    to_ms: int

    def __post_init__(self) -> None:
        try:
            parts = urlsplit(self.base_url)
            sound = parts.scheme in _SCHEMES and bool(parts.hostname) and (parts.port or 1) > 0
        except ValueError:
            sound = False
        plain = (
            self.base_url.isascii() and self.base_url.isprintable() and not set(' "<>\\') & {*self.base_url}
        )
        if (
            not (sound and plain)
            or parts.username is not None
            or "?" in self.base_url
            or "#" in self.base_url
        ):
            raise ReportError(
                f"{self.base_url!r} is no address of a Grafana: write it as https://grafana.example/path, "
                "without a user, a query or a fragment"
            )

    def gpu(self, uuid: str) -> str | None:
        """Give the address of a GPU's view."""
        return self._view("gpu", uuid)

    def owner(self, name: str) -> str | None:
        """Give the address of an owner's view."""
        return self._view("owner", name)

    def node(self, name: str) -> str | None:
        """Give the address of a node's view."""
        return self._view("node", name)

    def fleet(self) -> str:
        """Give the address of the view of all."""
        return self._url("fleet")

    def idle(self) -> str:
        """Give the address of the view of who holds GPUs idle."""
        return self._url("idle")

    def _view(self, board: str, name: str) -> str | None:
        return self._url(board, **{board if board != "gpu" else "uuid": name}) if name else None

    def _url(self, board: str, **variables: str) -> str:
        asked = {f"var-{key}": value for key, value in variables.items()}
        asked |= {"from": str(self.from_ms), "to": str(self.to_ms)}
        query = urlencode(asked, quote_via=quote, safe="", errors="replace")
        return f"{self.base_url.rstrip('/')}/d/gputally-{board}?{query}"
