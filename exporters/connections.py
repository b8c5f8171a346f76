"""Connections to a store: TLS, the proxy, and answers that are bounded in bytes and in time.

The timeout of a connection is for each piece of an answer, so that a store which drips could hold an exporter
for hours; here an answer as a whole has that time.
"""

import io
import ssl
import time
from typing import Any

import urllib3

from exporters.destination import ExporterSettings, tls
from exporters.proxy import proxy_of
from exporters.settle import Outcome, failed

LONGEST_ANSWER = 64 * 1024
_PIECE = 8192


class _Bounded(urllib3.PoolManager):
    """Reads each answer whole before it gives it. Raises TimeoutError besides what urllib3 raises."""

    answer_seconds = 0.0

    def urlopen(self, method: str, url: str, redirect: bool = True, **more: Any) -> urllib3.HTTPResponse:  # type: ignore[override]  # noqa: ANN401, FBT001, FBT002
        """Make a request."""
        end = time.monotonic() + self.answer_seconds
        answer = super().urlopen(method, url, redirect=redirect, **{**more, "preload_content": False})
        said = b""
        while len(said) < LONGEST_ANSWER and (piece := answer.read1(_PIECE)):
            said += piece
            if time.monotonic() > end:
                answer.close()
                raise TimeoutError(f"HTTP {answer.status}, but the answer does not end")
        if len(said) < LONGEST_ANSWER:
            answer.release_conn()
        else:
            answer.close()
        return urllib3.HTTPResponse(io.BytesIO(said), answer.headers, answer.status, reason=answer.reason)


class _BoundedByProxy(_Bounded, urllib3.ProxyManager):
    """Likewise, through a proxy."""


def connections(settings: ExporterSettings) -> urllib3.PoolManager:
    """Make the connections that the settings name. Raises OSError, ValueError, ssl.SSLError."""
    options: dict[str, Any] = {
        "timeout": urllib3.Timeout(total=settings.timeout_seconds),
        "retries": False,
        "maxsize": 1,
        "ssl_context": tls(settings) if settings.url.startswith("https") else None,
    }
    proxy = proxy_of(settings.proxy)
    if proxy and proxy.url.startswith("https"):
        options["proxy_ssl_context"] = ssl.create_default_context(cafile=settings.ca_file or None)
    found = (
        _BoundedByProxy(proxy.url, proxy_headers=proxy.headers, **options) if proxy else _Bounded(**options)
    )
    found.answer_seconds = settings.timeout_seconds
    return found


def failure(error: Exception) -> Outcome:
    """Settle a batch whose sending failed, with what went wrong at the proxy, if it did there."""
    if isinstance(error, urllib3.exceptions.ProxyError):
        return failed(ConnectionError(f"the proxy: {error.original_error}"))
    return failed(error)
