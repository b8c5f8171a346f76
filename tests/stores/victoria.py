"""A real VictoriaMetrics: takes line protocol and remote write, answers MetricsQL."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from urllib.parse import urlencode

from tests.stores.samples import Samples, series_of
from tests.stores.server import Reply, Server, folder_of, program

LINES, REMOTE = "/write?precision=ms", "/api/v1/write"
TOLERANCE = 1e-12
"""It keeps decimals, of numbers with more digits than 15 only the first 12: so far off may a value be,
measured by the largest of its series. Whole numbers and few decimals are exact."""


class Victoria(Server):
    """VictoriaMetrics, single node."""

    def write_lines(self, body: bytes) -> Reply:
        """Send line protocol with times in milliseconds."""
        return self.ask("POST", LINES, body)

    def write_remote(self, body: bytes, headers: Mapping[str, str]) -> Reply:
        """Send a body of remote write."""
        return self.ask("POST", REMOTE, body, headers)

    def samples(self, match: str = '{__name__!=""}') -> Samples:
        """Give everything that a selector matches, as it is stored."""
        self.ask("GET", "/internal/force_flush").good()
        path = "/api/v1/export?" + urlencode({"match[]": match, "start": "0", "end": "4000000000"})
        found: Samples = {}
        for line in self.ask("GET", path).good().splitlines():
            told = json.loads(line)
            points = zip(told["timestamps"], told["values"], strict=True)
            found.setdefault(series_of(told["metric"]), []).extend(points)
        return {series: sorted(points) for series, points in found.items()}

    def refused(self) -> int:
        """Tell how many lines, bodies and labels it could not take: it answers 204 all the same."""
        page = self.ask("GET", "/metrics").good().decode()
        names = ("vm_rows_invalid_total", "vm_http_request_errors_total", "vm_too_long_label_values_total")
        return sum(int(line.split()[-1]) for line in page.splitlines() if line.startswith(names))


@contextmanager
def victoria(*arguments: str) -> Iterator[Victoria]:
    """Run a VictoriaMetrics that takes times of all ages and keeps one of two identical points."""
    binary = program("victoria-metrics", "victoria-metrics")
    with folder_of("victoria") as folder:

        def command(address: str) -> list[str]:
            return [
                binary,
                f"-httpListenAddr={address}",
                f"-storageDataPath={folder / 'data'}",
                "-retentionPeriod=100y",
                "-dedup.minScrapeInterval=1ms",
                "-search.disableCache",
                "-search.latencyOffset=0s",
                "-memory.allowedBytes=256MB",
                "-loggerLevel=WARN",
                *arguments,
            ]

        server = Victoria(command, folder, "/health")
        try:
            server.start()
            yield server
        finally:
            server.stop()
