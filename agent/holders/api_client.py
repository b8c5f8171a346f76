"""Questions to Kubernetes' API server over HTTPS; all of a session share one bound on time and one on size.

Redirects and proxies are not followed. A name is looked up by the system's resolver, in the resolver's own
time; an address costs none.
"""

import io
import json
import os
import re
import socket
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, cast
from urllib.parse import urlencode, urlsplit

if TYPE_CHECKING:
    from http.client import HTTPResponse

IN_CLUSTER = "in-cluster"
ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})

_CHUNK_BYTES = 65_536
_LONGEST_TOKEN = 16_384
_TOKEN = re.compile(r"[\x21-\x7e]+")
_OK = 200

Hook = Callable[[dict[str, object]], object]


class ApiError(Exception):
    """A question got no usable answer; `status` is HTTP's, 0 where there was none."""

    def __init__(self, reason: str, status: int = 0) -> None:
        super().__init__(reason)
        self.status = status


class Session(Protocol):
    """Questions that share bounds on time and size."""

    def get(self, path: str, query: Mapping[str, str], hook: Hook | None = None) -> object:
        """Give what JSON is at a path; `hook` sees every object as it is read. Raises ApiError."""


class Client:
    """Where the API server is and how it is spoken with.

    `api_server` is a URL, or "in-cluster": then the environment and the files of the pod's service account
    tell. Raises ValueError for a URL that will not do: plain HTTP is only for a proxy on this machine.
    """

    def __init__(
        self, *, api_server: str, token_file: str = "", ca_file: str = "", timeout_seconds: float = 5.0
    ) -> None:
        self._in_cluster = api_server == IN_CLUSTER
        self._url = api_server
        self._token_file = token_file
        self._ca_file = ca_file
        self._timeout_seconds = timeout_seconds
        if not self._in_cluster:
            _parts(api_server)

    def session(self, most_bytes: int) -> Session:
        """Begin a session that ends by itself after the timeout. Raises ApiError."""
        url, token_file, ca_file = self._url, self._token_file, self._ca_file
        if self._in_cluster:
            url = _url_in_cluster()
            token_file = token_file or str(ACCOUNT / "token")
            ca_file = ca_file or str(ACCOUNT / "ca.crt")
        token = _token(Path(token_file)) if token_file else ""
        return _Session(url, token, ca_file, time.monotonic() + self._timeout_seconds, most_bytes)


class _Session:
    def __init__(self, url: str, token: str, ca_file: str, deadline: float, most_bytes: int) -> None:
        self._scheme, self._host, self._port, self._base = _parts(url)
        self._headers = {"Accept": "application/json", "Connection": "close", "User-Agent": "gputally"}
        if token:
            self._headers["Authorization"] = f"Bearer {token}"
        self._ca_file = ca_file
        self._deadline = deadline
        self._left_bytes = most_bytes

    def get(self, path: str, query: Mapping[str, str], hook: Hook | None = None) -> object:
        """Give what JSON is at a path."""
        from http.client import HTTPException  # noqa: PLC0415  only where an API server is to be asked

        try:
            body = self._body(f"{self._base}{path}?{urlencode(query)}" if query else f"{self._base}{path}")
            return json.loads(body, object_hook=hook)
        except HTTPException as error:
            raise ApiError(f"did not speak HTTP to the end ({type(error).__name__})") from None
        except TimeoutError:
            raise ApiError("did not answer in time") from None
        except OSError as error:
            raise ApiError(_why_closed(error)) from None
        except (ValueError, RecursionError):
            raise ApiError("did not answer with JSON that can be read") from None

    def _body(self, target: str) -> bytes:
        from http.client import HTTPConnection  # noqa: PLC0415  only where an API server is to be asked

        with self._connected() as plug:
            connection = HTTPConnection(self._host, self._port)
            connection.sock = cast("socket.socket", _Timely(plug, self._deadline))
            connection.request("GET", target, headers=self._headers)
            with connection.getresponse() as response:
                if response.status != _OK:
                    raise ApiError(f"answered {response.status}", response.status)
                return self._read(response)

    def _read(self, response: "HTTPResponse") -> bytes:
        pieces = []
        while piece := response.read(_CHUNK_BYTES):
            self._left_bytes -= len(piece)
            if self._left_bytes < 0:
                raise ApiError("answered more than is sane")
            pieces.append(piece)
        if response.length:
            raise ApiError("hung up within its answer")
        return b"".join(pieces)

    def _connected(self) -> socket.socket:
        plug = socket.create_connection((self._host, self._port), _left(self._deadline))
        if self._scheme == "http":
            return plug
        import ssl  # noqa: PLC0415  only where an API server is to be asked

        try:
            context = ssl.create_default_context(cafile=self._ca_file or None)
            plug.settimeout(_left(self._deadline))
            return context.wrap_socket(plug, server_hostname=self._host)
        except BaseException:
            plug.close()
            raise


class _Timely:
    """A socket as http.client wants one, but with one deadline for all of its operations.

    Whoever made the socket closes it: http.client would, before it has read the answer.
    """

    def __init__(self, plug: socket.socket, deadline: float) -> None:
        self._plug = plug
        self._deadline = deadline

    def sendall(self, data: bytes) -> None:
        self._plug.settimeout(_left(self._deadline))
        self._plug.sendall(data)

    def makefile(self, _mode: str) -> io.BufferedReader:
        return io.BufferedReader(_TimelyReader(self._plug, self._deadline))

    def close(self) -> None:
        pass


class _TimelyReader(io.RawIOBase):
    def __init__(self, plug: socket.socket, deadline: float) -> None:
        super().__init__()
        self._plug = plug
        self._deadline = deadline

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        self._plug.settimeout(_left(self._deadline))
        return self._plug.recv_into(buffer)


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


def _parts(url: str) -> tuple[str, str, int, str]:
    """Take a URL apart: scheme, host, port, path. Raises ValueError."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        parts, host, port = urlsplit(""), "", None
    if parts.scheme not in {"http", "https"} or not host or parts.username or parts.query or parts.fragment:
        raise ValueError(f"api_server is {url!r}: it must be https://HOST:PORT or {IN_CLUSTER}")
    if parts.scheme == "http" and host not in LOOPBACK:
        raise ValueError(
            f"api_server is {url!r}: without TLS only this machine may be asked, 127.0.0.1 or ::1"
        )
    return parts.scheme, host, port or (443 if parts.scheme == "https" else 80), parts.path.rstrip("/")


def _url_in_cluster() -> str:
    host, port = (os.environ.get(f"KUBERNETES_SERVICE_{word}", "") for word in ("HOST", "PORT"))
    if not host:
        raise ApiError("is in no environment of this process: in-cluster is for an agent that runs in a pod")
    url = f"https://{f'[{host}]' if ':' in host else host}:{port or 443}"
    try:
        _parts(url)
    except ValueError:
        raise ApiError(
            "has no usable address in KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT"
        ) from None
    return url


def _token(path: Path) -> str:
    """Read the token; nothing that is said of it tells any of it."""
    try:
        with path.open("rb") as file:
            text = file.read(_LONGEST_TOKEN + 1).decode("ascii").strip()
    except OSError as error:
        raise ApiError(f"was not asked: the token in {path} cannot be read ({error.strerror})") from None
    except ValueError:
        text = ""
    if not _TOKEN.fullmatch(text) or len(text) > _LONGEST_TOKEN:
        raise ApiError(f"was not asked: {path} holds no token")
    return text


def _why_closed(error: OSError) -> str:
    kind = type(error).__name__
    if kind == "SSLCertVerificationError":
        return "shows a certificate that is not trusted: set ca_file to the cluster's"
    if kind.startswith("SSL"):
        return f"cannot be spoken with over TLS ({kind})"
    return f"cannot be reached ({error.strerror or kind})"
