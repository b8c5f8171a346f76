"""Sends by HTTP: to InfluxDB 1.x, and to what takes Prometheus remote write, OTLP, alerts or messages."""

import base64
import gzip
from collections.abc import Callable, Mapping
from urllib.parse import urlencode

import urllib3

from exporters.connections import connections, failure
from exporters.destination import ExporterSettings, secret
from exporters.settle import Outcome, Verdict, settled

USER_AGENT = "gputally"


class HttpStore:
    """One store. `fixed` are headers of the protocol; `zipped` says that bodies go gzipped.

    `taken` settles a batch by the body of an answer that took it, where the protocol says something there.
    """

    def __init__(
        self,
        settings: ExporterSettings,
        path: str = "",
        fixed: Mapping[str, str] | None = None,
        *,
        zipped: bool,
        taken: Callable[[bytes], Outcome] | None = None,
    ) -> None:
        self._settings = settings
        self._url = settings.url.rstrip("/") + path if path else settings.url
        self._fixed = dict(fixed or {})
        self._zipped = zipped
        self._taken = taken
        self._pool: urllib3.PoolManager | None = None

    def send(self, body: bytes, more: Mapping[str, str] | None = None) -> Outcome:
        """Send a batch, with headers that are of it alone; whatever goes wrong is an outcome."""
        headers = {"User-Agent": USER_AGENT, **self._fixed, **self._settings.headers, **(more or {})}
        if self._zipped:
            body = gzip.compress(body, compresslevel=1)
            headers["Content-Encoding"] = "gzip"
        try:
            headers |= authorization(self._settings)
            if self._pool is None:
                self._pool = connections(self._settings)
            answer = self._pool.request("POST", self._url, body=body, headers=headers, redirect=False)
        except (urllib3.exceptions.HTTPError, OSError, ValueError) as error:
            self.close()  # a certificate may be renewed, an address changed
            return failure(error)
        said = answer.data
        outcome = settled(answer.status, said.decode(errors="replace"), answer.headers.get("Retry-After"))
        return self._taken(said) if self._taken and outcome.verdict is Verdict.DELIVERED else outcome

    def close(self) -> None:
        """Let go of connections."""
        if self._pool is not None:
            self._pool.clear()
        self._pool = None


def authorization(settings: ExporterSettings) -> dict[str, str]:
    """Make the header that says who we are. Raises OSError, ValueError where a secret cannot be read."""
    if settings.token_file:
        scheme = "Token" if settings.kind.startswith("influx") else "Bearer"
        return {"Authorization": f"{scheme} {secret(settings.token_file)}"}
    if settings.username:
        pair = f"{settings.username}:{secret(settings.password_file)}"
        return {"Authorization": f"Basic {base64.b64encode(pair.encode()).decode()}"}
    return {}


def influx1(settings: ExporterSettings) -> HttpStore:
    """Make the transport to an InfluxDB 1.x."""
    query = urlencode({"db": settings.database, "precision": "ms"})
    return HttpStore(settings, f"/write?{query}", {"Content-Type": "text/plain; charset=utf-8"}, zipped=True)
