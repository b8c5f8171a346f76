"""An API server of Kubernetes on loopback, with one node and its pods."""

import json
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

NODE = "node-1"


def pod(
    name: str,
    uid: str,
    *,
    namespace: str = "research",
    labels: dict[str, str] | None = None,
    annotations: dict[str, str] | None = None,
    phase: str = "Running",
) -> dict[str, Any]:
    """Make a pod as the API server gives it, with more in it than anyone asked for."""
    return {
        "metadata": {
            "name": name,
            "namespace": namespace,
            "uid": uid,
            "labels": labels or {},
            "annotations": annotations or {},
            "managedFields": [{"manager": "kubelet", "fieldsV1": {"f:metadata": {"f:labels": {}}}}],
        },
        "spec": {
            "nodeName": NODE,
            "containers": [{"name": "main"}],
            "volumes": [
                {"ephemeral": {"volumeClaimTemplate": {"metadata": {"labels": {"a": "b"}}, "spec": {}}}}
            ],
        },
        "status": {"phase": phase, "conditions": [{"type": "Ready", "status": "True"}]},
    }


class Api:
    """What it knows and does may be changed while it runs; `asked` are the paths of the questions."""

    def __init__(self) -> None:
        self.url = ""
        self.token = ""
        self.node: dict[str, Any] = {"kind": "Node", "metadata": {"name": NODE}, "spec": {}}
        self.pods: list[dict[str, Any]] = []
        self.page = 500
        self.asked: list[str] = []
        self.statuses: dict[str, int] = {}
        self.raw: dict[str, list[bytes]] = {}
        self.pause_seconds = 0.0
        self.over = threading.Event()

    @contextmanager
    def running(self, tls: ssl.SSLContext | None = None) -> Iterator["Api"]:
        """Serve on a port of its own."""
        api = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                with suppress(OSError):
                    api.serve(self)

            def log_message(self, *_: object) -> None:
                pass

        with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
            if tls:
                server.socket = tls.wrap_socket(server.socket, server_side=True)
            server.handle_error = lambda *_: None  # type: ignore[method-assign]
            self.url = f"{'https' if tls else 'http'}://127.0.0.1:{server.server_port}"
            thread = threading.Thread(
                target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
            )
            thread.start()
            try:
                yield self
            finally:
                self.over.set()
                server.shutdown()
                thread.join(30)

    def serve(self, handler: BaseHTTPRequestHandler) -> None:
        """Answer one question."""
        where = urlsplit(handler.path)
        self.asked.append(handler.path)
        kind = "pods" if where.path == "/api/v1/pods" else "nodes"
        if kind in self.raw:
            for piece in self.raw[kind]:
                handler.wfile.write(piece)
                self.over.wait(self.pause_seconds)
            return
        status = self.statuses.get(kind, 200)
        if self.token and handler.headers.get("Authorization") != f"Bearer {self.token}":
            status = 401
        if where.path not in {"/api/v1/pods", f"/api/v1/nodes/{NODE}"}:
            status = 404
        body = json.dumps(self._list(parse_qs(where.query)) if kind == "pods" else self.node).encode()
        handler.send_response(status)
        handler.send_header("Content-Type", "application/json")
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    def _list(self, query: dict[str, list[str]]) -> dict[str, Any]:
        assert query["fieldSelector"] == [f"spec.nodeName={NODE}"]
        begin = int(query.get("continue", ["0"])[0])
        end = begin + min(self.page, int(query["limit"][0]))
        more = {"continue": str(end)} if end < len(self.pods) else {}
        return {"kind": "PodList", "metadata": more, "items": self.pods[begin:end]}
