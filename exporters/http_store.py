"""Sends batches by HTTP: to InfluxDB 1.x, and to what takes Prometheus remote write."""

import base64
import gzip
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

import urllib3

from exporters.destination import ExporterSettings, secret, tls
from exporters.settle import Outcome, failed, settled

LONGEST_ANSWER = 64 * 1024
USER_AGENT = "gputally"


class HttpStore:
    """One store. `fixed` are headers of the protocol; `zipped` says that bodies go gzipped."""

    def __init__(
        self,
        settings: ExporterSettings,
        path: str = "",
        fixed: Mapping[str, str] | None = None,
        *,
        zipped: bool,
    ) -> None:
        self._settings = settings
        self._url = settings.url.rstrip("/") + path if path else settings.url
        self._fixed = dict(fixed or {})
        self._zipped = zipped
        self._pool: urllib3.PoolManager | None = None

    def send(self, body: bytes) -> Outcome:
        """Send a batch; whatever goes wrong is an outcome."""
        headers = {"User-Agent": USER_AGENT, **self._fixed, **self._settings.headers}
        if self._zipped:
            body = gzip.compress(body, compresslevel=1)
            headers["Content-Encoding"] = "gzip"
        try:
            headers |= authorization(self._settings)
            answer = self._connections().request(
                "POST", self._url, body=body, headers=headers, redirect=False, preload_content=False
            )
            try:
                text = answer.read(LONGEST_ANSWER).decode(errors="replace")
            finally:
                answer.release_conn()
        except (urllib3.exceptions.HTTPError, OSError, ValueError) as error:
            self.close()  # a certificate may be renewed, an address changed
            return failed(error)
        return settled(answer.status, text, answer.headers.get("Retry-After"))

    def _connections(self) -> urllib3.PoolManager:
        if self._pool is None:
            settings = self._settings
            options: dict[str, Any] = {
                "timeout": urllib3.Timeout(total=settings.timeout_seconds),
                "retries": False,
                "maxsize": 1,
                "ssl_context": tls(settings) if settings.url.startswith("https") else None,
            }
            if settings.proxy:
                self._pool = urllib3.ProxyManager(settings.proxy, **options)
            else:
                self._pool = urllib3.PoolManager(**options)
        return self._pool

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
