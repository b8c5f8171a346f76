"""A real InfluxDB 1.x: takes line protocol, answers InfluxQL."""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NotRequired, TypedDict
from urllib.parse import urlencode

from tests.stores.samples import Samples, series_of
from tests.stores.server import Reply, Server, folder_of, program

DATABASE = "gputally"
LINES = f"/write?db={DATABASE}&precision=ms"
CONFIG = """\
reporting-disabled = true
bind-address = "127.0.0.1:0"
[meta]
  dir = "{folder}/meta"
[data]
  dir = "{folder}/data"
  wal-dir = "{folder}/wal"
  query-log-enabled = false
  validate-keys = {validate_keys}
[monitor]
  store-enabled = false
[continuous_queries]
  enabled = false
[http]
  bind-address = "{address}"
  log-enabled = false
  max-body-size = 25000000
"""


class Answer(TypedDict):
    """One series of an answer."""

    name: str
    tags: NotRequired[dict[str, str]]
    columns: list[str]
    values: list[list[Any]]


class Influx(Server):
    """InfluxDB 1.x with one database."""

    def write_lines(self, body: bytes) -> Reply:
        """Send line protocol with times in milliseconds."""
        return self.ask("POST", LINES, body)

    def samples(self, measurement: str = "/.*/", where: str = "true") -> Samples:
        """Give all fields of a measurement, with its name before the field's as the other stores have it."""
        found: Samples = {}
        for series in self.query(f"SELECT * FROM {measurement} WHERE {where} GROUP BY *"):  # noqa: S608  a test's own words
            for place, field in enumerate(series["columns"][1:], 1):
                name = series_of({**series.get("tags", {}), "__name__": f"{series['name']}_{field}"})
                points = [(row[0], float(row[place])) for row in series["values"] if row[place] is not None]
                if points:
                    found[name] = points
        return found

    def ports(self) -> list[int]:
        """Give the port of HTTP: it has another one, which answers nobody."""
        found = re.findall(r"Listening on HTTP.* addr=[^ ]*:(\d+)", self.log.read_text(errors="replace"))
        return [int(port) for port in found]

    def query(self, text: str) -> list[Answer]:
        """Ask in InfluxQL; times come in milliseconds."""
        path = "/query?" + urlencode({"db": DATABASE, "epoch": "ms", "q": text})
        result = json.loads(self.ask("POST", path).good())["results"][0]
        assert "error" not in result, result
        found: list[Answer] = result.get("series", [])
        return found


@contextmanager
def influx(*, validate_keys: bool = False) -> Iterator[Influx]:
    """Run an InfluxDB 1.x; `validate_keys` makes it refuse what cannot be printed."""
    binary = program("influxd", "influxdb")
    with folder_of("influx") as folder:

        def command(address: str) -> list[str]:
            config = folder / "influxdb.conf"
            text = CONFIG.format(folder=folder, address=address, validate_keys=str(validate_keys).lower())
            config.write_text(text, encoding="utf-8")
            return [binary, "run", "-config", str(config)]

        server = Influx(command, folder, "/ping")
        try:
            server.start()
            server.query(f"CREATE DATABASE {DATABASE}")
            yield server
        finally:
            server.stop()
