"""A real Alertmanager, and amtool to look at it."""

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.stores.server import Server, folder_of, program

PACKAGE = "prometheus-alertmanager"
CONFIG = """\
route:
  receiver: nobody
  group_by: [alertname, uuid]
  group_wait: 1s
receivers:
  - name: nobody
"""


class Alertmanager(Server):
    """Alertmanager by itself, without a cluster."""

    def alerts(self, *matchers: str, silenced: bool = True) -> list[dict[str, Any]]:
        """Give the alerts that are active, as amtool tells them, by their label rule."""
        more = ("--silenced",) if silenced else ()
        found = json.loads(self.amtool("alert", "query", "--active", *more, *matchers, "-o", "json"))
        return sorted(found, key=lambda one: str(one["labels"]))

    def rules(self) -> list[str]:
        """Give the rules that alerts are of."""
        return sorted(one["labels"]["rule"] for one in self.alerts())

    def amtool(self, *arguments: str) -> str:
        """Ask it by its own tool."""
        command = [program("amtool", PACKAGE), f"--alertmanager.url={self.url}", *arguments]
        done = subprocess.run(
            command, cwd=self.folder, env={"HOME": str(self.folder)}, capture_output=True, check=True
        )
        return done.stdout.decode()


@contextmanager
def alertmanager() -> Iterator[Alertmanager]:
    """Run an Alertmanager."""
    binary = program("prometheus-alertmanager", PACKAGE)
    with folder_of("alertmanager") as folder:
        config = folder / "alertmanager.yml"
        config.write_text(CONFIG, encoding="utf-8")

        def command(address: str) -> list[str]:
            return [
                binary,
                f"--config.file={config}",
                f"--storage.path={folder / 'data'}",
                f"--web.listen-address={address}",
                "--cluster.listen-address=",
                "--log.level=warn",
            ]

        server = Alertmanager(command, folder, "/-/ready")
        try:
            server.start()
            yield server
        finally:
            server.stop()
