"""A node on a stage: its page is served interval by interval, and real servers scrape and judge it."""

import json
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlencode

from agent.scene import Scene
from tests.rules.unit_tests import Open, samples_of, series_name
from tests.stores.server import Server, folder_of, program

FIRING = 'count by (rule, uuid) (ALERTS{alertstate="firing"})'
SCRAPES = """\
global:
  scrape_interval: {seconds}s
  scrape_timeout: {seconds}s
  evaluation_interval: {seconds}s
{rules}
scrape_configs:
  - job_name: gputally
    honor_labels: true
    static_configs: [{{targets: ["127.0.0.1:{port}"]}}]
"""


class Player:
    """Serves a history; None is an agent that does not answer."""

    def __init__(self, history: Sequence[Scene | None], seconds: float) -> None:
        self.pages = [
            "".join(f"{series_name(*key)} {value!r}\n" for key, value in samples_of(scene).items())
            if scene
            else None
            for scene in history
        ]
        self._seconds, self._began = seconds, time.monotonic()
        self.port = 0

    def begin(self) -> float:
        """Begin with the first interval; give the time of day."""
        self._began = time.monotonic()
        return time.time()

    def is_over(self) -> bool:
        """Tell whether the last interval has been on for six."""
        return time.monotonic() - self._began > (len(self.pages) + 6) * self._seconds

    def page(self) -> str | None:
        """Give the page of the present interval."""
        turn = int((time.monotonic() - self._began) / self._seconds)
        return self.pages[min(turn, len(self.pages) - 1)]


@contextmanager
def playing(player: Player) -> Iterator[Player]:
    """Serve it."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            page = player.page()
            self.send_response(503 if page is None else 200)
            self.send_header("Content-Type", "text/plain; version=0.0.4")
            self.end_headers()
            self.wfile.write((page or "").encode())

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    player.port = server.server_port
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield player
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def _running(folder: Path, ready: str, *command: str) -> Iterator[Server]:
    """Run a program; `{address}` in its command line is where it listens."""
    server = Server(lambda address: [one.replace("{address}", address) for one in command], folder, ready)
    try:
        server.start()
        yield server
    finally:
        server.stop()


@contextmanager
def prometheus(rules: Path, port: int, seconds: int) -> Iterator[Server]:
    """Run a Prometheus that scrapes a port and judges by a file of rules."""
    with folder_of("prometheus") as folder:
        config = folder / "prometheus.yml"
        named = f"rule_files: [{json.dumps(str(rules))}]"
        config.write_text(SCRAPES.format(seconds=seconds, port=port, rules=named), encoding="utf-8")
        command = (
            program("prometheus", "prometheus"),
            f"--config.file={config}",
            f"--storage.tsdb.path={folder / 'data'}",
            "--web.listen-address={address}",
            "--log.level=warn",
        )
        with _running(folder, "/-/ready", *command) as server:
            yield server


@contextmanager
def victoria_with_vmalert(rules: Path, port: int, seconds: int) -> Iterator[Server]:
    """Run a VictoriaMetrics that scrapes a port, and a vmalert that judges what is in it; give the store."""
    with folder_of("victoria") as folder, folder_of("vmalert") as beside:
        config = folder / "scrape.yml"
        config.write_text(SCRAPES.format(seconds=seconds, port=port, rules=""), encoding="utf-8")
        config.write_text(config.read_text().replace(f"  evaluation_interval: {seconds}s\n", ""))
        store = (
            program("victoria-metrics", "victoria-metrics"),
            "-httpListenAddr={address}",
            f"-storageDataPath={folder / 'data'}",
            f"-promscrape.config={config}",
            "-search.latencyOffset=0s",
            "-search.disableCache",
            "-memory.allowedBytes=256MB",
            "-loggerLevel=WARN",
        )
        with _running(folder, "/health", *store) as server:
            alert = (
                program("vmalert", "victoria-metrics"),
                "-httpListenAddr={address}",
                f"-rule={rules}",
                f"-datasource.url={server.url}",
                f"-remoteWrite.url={server.url}",
                "-remoteWrite.flushInterval=200ms",
                "-notifier.url=http://127.0.0.1:9",
                "-loggerLevel=FATAL",
            )
            with _running(beside, "/health", *alert):
                yield server


def firing(server: Server, from_seconds: float, count: int) -> list[Open]:
    """Give what fired in each second of a time."""
    asked = {"query": FIRING, "start": from_seconds, "end": from_seconds + count - 1, "step": 1}
    told = json.loads(server.ask("GET", f"/api/v1/query_range?{urlencode(asked)}").good())
    found: list[set[tuple[str, str]]] = [set() for _ in range(count)]
    for one in told["data"]["result"]:
        for at, _ in one["values"]:
            found[round(at - from_seconds)].add((one["metric"]["rule"], one["metric"]["uuid"]))
    return [frozenset(one) for one in found]
