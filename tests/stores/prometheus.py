"""A real Prometheus: takes remote write, or scrapes, and answers PromQL."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from urllib.parse import urlencode

from tests.stores.samples import Samples, series_of
from tests.stores.server import Reply, Server, folder_of, program

REMOTE = "/api/v1/write"
CONFIG = """\
global:
  scrape_interval: 1s
storage:
  tsdb:
    out_of_order_time_window: {out_of_order}
scrape_configs: {scrapes}
"""
FAR_MS = 4_000_000_000_000


class Prometheus(Server):
    """Prometheus with a receiver of remote write."""

    def write_remote(self, body: bytes, headers: Mapping[str, str]) -> Reply:
        """Send a body of remote write."""
        return self.ask("POST", REMOTE, body, headers)

    def samples(self, match: str = '{__name__!=""}', until_ms: int = FAR_MS, days: int = 36_500) -> Samples:
        """Give everything that a selector matches, as it is stored."""
        asked = {"query": f"{match}[{days}d]", "time": f"{until_ms / 1000:.3f}"}
        told = json.loads(self.ask("GET", "/api/v1/query?" + urlencode(asked)).good())
        return {
            series_of(one["metric"]): [(round(at * 1000), float(value)) for at, value in one["values"]]
            for one in told["data"]["result"]
        }


@contextmanager
def prometheus(
    *arguments: str, out_of_order: str = "0s", scrapes: Sequence[Mapping[str, object]] = ()
) -> Iterator[Prometheus]:
    """Run a Prometheus; `out_of_order` says how much older than its latest a sample may be."""
    binary = program("prometheus", "prometheus")
    with folder_of("prometheus") as folder:
        config = folder / "prometheus.yml"
        text = CONFIG.format(out_of_order=out_of_order, scrapes=json.dumps(list(scrapes)))
        config.write_text(text, encoding="utf-8")

        def command(address: str) -> list[str]:
            return [
                binary,
                f"--config.file={config}",
                f"--storage.tsdb.path={folder / 'data'}",
                "--storage.tsdb.retention.time=100y",
                f"--web.listen-address={address}",
                "--web.enable-remote-write-receiver",
                "--log.level=warn",
                *arguments,
            ]

        server = Prometheus(command, folder, "/-/ready")
        try:
            server.start()
            yield server
        finally:
            server.stop()
