"""Sends batches by the v2 write API, through influxdb-client.

InfluxDB 2 and 3 speak it, and VictoriaMetrics under /influx.
"""

import gzip
from typing import Any

import urllib3
from influxdb_client.client.influxdb_client import InfluxDBClient
from influxdb_client.rest import ApiException
from influxdb_client.service.write_service import WriteService

from exporters.connections import connections, failure
from exporters.destination import ExporterSettings, secret
from exporters.http_store import authorization
from exporters.settle import DELIVERED, Outcome, Verdict, settled, tidy


class InfluxStore:
    """One store; the client is made anew after each failure, since secrets and certificates change."""

    def __init__(self, settings: ExporterSettings) -> None:
        self._settings = settings
        self._client: Any = None
        self._write: Any = None

    def send(self, body: bytes) -> Outcome:
        """Send a batch of line protocol in milliseconds; whatever goes wrong is an outcome."""
        settings = self._settings
        try:
            self._open()
            self._write.post_write(
                org=settings.org,
                bucket=settings.bucket,
                body=gzip.compress(body, compresslevel=1),  # the client's own way takes the slowest level
                precision="ms",
                content_encoding="gzip",
                content_type="text/plain; charset=utf-8",
                _preload_content=False,  # else it fails on an answer that is no UTF-8
            )
        except ApiException as error:
            self.close()
            body = error.body or b""
            if not error.status:  # the client's way of saying that TLS failed
                return Outcome(Verdict.UNREACHABLE, tidy(error.reason or "the connection failed"))
            headers: Any = error.headers or {}
            return settled(int(error.status), body.decode(errors="replace"), headers.get("Retry-After"))
        except (urllib3.exceptions.HTTPError, OSError, ValueError) as error:
            self.close()
            return failure(error)
        return DELIVERED

    def _open(self) -> None:
        if self._client is not None:
            return
        settings = self._settings
        client: Any = InfluxDBClient(
            url=settings.url,
            token=secret(settings.token_file) if settings.token_file else "",
            org=settings.org,
            timeout=round(settings.timeout_seconds * 1000),
            retries=False,
        )
        client.api_client.rest_client.pool_manager = connections(settings)
        for name, text in {**settings.headers, **authorization(settings)}.items():
            client.api_client.set_default_header(name, text)
        self._client, self._write = client, WriteService(client.api_client)  # type: ignore[no-untyped-call]

    def close(self) -> None:
        """Let go of connections."""
        if self._client is not None:
            self._client.close()
        self._client = self._write = None
