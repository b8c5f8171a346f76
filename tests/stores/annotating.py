"""A stand-in of Grafana's annotations, on a free port of loopback: it takes what is documented, no more."""

import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

TOKEN = "glsa_s3cr3t"  # noqa: S105  of nothing
PREFIX = "/grafana"
PATH = f"{PREFIX}/api/annotations"
KEYS = ["time", "timeEnd", "tags", "text"]
LEAST_MS, MOST_MS = 10**12, 10**14
"""Times in seconds or microseconds lie outside."""
LONGEST_TAGS, LONGEST_TAG = 500, 100
"""What Grafana's database and its setting `tags_length` take, in bytes and in letters."""
NO_KEY, MAY_NOT, BAD = (
    (401, "Invalid API key"),
    (
        403,
        "You'll need additional permissions to perform this action. Permissions needed: annotations:create",
    ),
    (400, "bad request data"),
)
Act = Callable[["Asked"], tuple[int, str] | None]
"""May answer instead of the stand-in, by a status and a message; None lets it answer."""


class RefusedError(Exception):
    """An answer that is none of the good ones."""


class Annotating:
    """What it holds, what it was asked, and how it answers.

    `role` is that of the token. `loses` is how many answers to what changes something get lost, though what
    was asked is done. `finds` is what it says instead of what it finds.
    """

    def __init__(self) -> None:
        self.marks: dict[int, dict[str, Any]] = {}
        self.asked: list[str] = []
        self.role = "Editor"
        self.loses = 0
        self.finds = ""
        self.act: Act = lambda _: None
        self.url = ""

    def told(self) -> list[dict[str, Any]]:
        """Give what it holds, oldest first."""
        return [mark for _, mark in sorted(self.marks.items())]


class Asked(BaseHTTPRequestHandler):
    """A request."""

    grafana: Annotating
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Find annotations."""
        self._answer(self._found)

    def do_POST(self) -> None:
        """Add one."""
        self._answer(self._added)

    def do_PUT(self) -> None:
        """Replace one."""
        self._answer(self._replaced)

    def _answer(self, do: Callable[[bytes], object]) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.grafana.asked.append(f"{self.command} {self.path}")
        try:
            self._check()
            status, said = 200, do(body)
        except RefusedError as refused:
            status, message = refused.args
            said = {"message": message}
        if self.command != "GET" and status == 200 and self.grafana.loses:
            self.grafana.loses -= 1
            self.close_connection = True
            return
        content = json.dumps(said).encode()
        if self.command == "GET" and self.grafana.finds:
            content = self.grafana.finds.encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json; charset=UTF-8")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def _check(self) -> None:
        """Refuse who is nobody, or what the test wants refused."""
        instead = self.grafana.act(self)
        if instead:
            raise RefusedError(*instead)
        if self.headers["Authorization"] != f"Bearer {TOKEN}":
            raise RefusedError(*NO_KEY)

    def _found(self, body: bytes) -> object:
        parts = urlsplit(self.path)
        query = parse_qs(parts.query, strict_parsing=True)
        if parts.path != PATH or body:
            raise RefusedError(404, "Not found")
        if not query.keys() <= {"from", "to", "tags", "type", "limit"} or query["type"] != ["annotation"]:
            raise RefusedError(*BAD)
        from_ms, to_ms = (int(query.get(name, ["0"])[0]) for name in ("from", "to"))
        found = [
            {"id": number, **mark, "login": "sa-gputally", "dashboardId": 0}
            for number, mark in sorted(self.grafana.marks.items(), reverse=True)
            if (not from_ms or not to_ms or (mark["time"] <= to_ms and mark["timeEnd"] >= from_ms))
            and all(_has(mark["tags"], wanted) for wanted in query["tags"])
        ]
        return found[: int(query["limit"][0])]

    def _added(self, body: bytes) -> object:
        if self.path != PATH:
            raise RefusedError(404, "Not found")
        mark = self._mark(body)
        number = len(self.grafana.marks) + 1
        self.grafana.marks[number] = mark
        return {"message": "Annotation added", "id": number}

    def _replaced(self, body: bytes) -> object:
        found = re.fullmatch(rf"{PATH}/([1-9]\d*)", self.path)
        if not found or int(found[1]) not in self.grafana.marks:
            raise RefusedError(404, "Could not find annotation to update")
        self.grafana.marks[int(found[1])] = self._mark(body)
        return {"message": "Annotation updated"}

    def _mark(self, body: bytes) -> dict[str, Any]:
        """Read an annotation, after who asks; whatever is not as documented is refused."""
        if self.grafana.role == "Viewer":
            raise RefusedError(*MAY_NOT)
        if self.headers["Content-Type"] != "application/json":
            raise RefusedError(415, "Bad Content-Type")
        try:
            told: Any = json.loads(body)
        except ValueError:
            raise RefusedError(*BAD) from None
        if not isinstance(told, dict) or not told.get("text"):
            raise RefusedError(400, "Failed to save annotation")
        if list(told) != KEYS or not isinstance(told["text"], str):
            raise RefusedError(*BAD)
        if not all(type(told[key]) is int and LEAST_MS < told[key] < MOST_MS for key in ("time", "timeEnd")):
            raise RefusedError(*BAD)
        if told["timeEnd"] < told["time"] or not _are_sound(told["tags"]):
            raise RefusedError(*BAD)
        return told

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def _has(tags: list[str], wanted: str) -> bool:
    """Tell whether a filter finds tags: a name alone stands for all its values, and must be there once."""
    return [one for one in tags if wanted in (one, one.partition(":")[0])] == [wanted]


def _are_sound(tags: object) -> bool:
    """Tell whether Grafana keeps tags as they are."""
    if not isinstance(tags, list) or not all(isinstance(one, str) and one.strip() == one for one in tags):
        return False
    lengths = [len(one.encode()) + len('"",') for one in tags]
    return (
        all(one and one.count(":") <= 1 and len(one) <= LONGEST_TAG for one in tags)
        and len(set(tags)) == len(tags)
        and sum(lengths) + len("[]") <= LONGEST_TAGS
    )


@contextmanager
def annotating() -> Iterator[Annotating]:
    """Run a stand-in of a Grafana."""
    grafana = Annotating()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Asked,), {"grafana": grafana}))
    server.daemon_threads = True
    grafana.url = f"http://127.0.0.1:{server.server_address[1]}{PREFIX}"
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield grafana
    finally:
        server.shutdown()
        server.server_close()
