"""Names containers through the API that Docker and Podman offer on a Unix socket.

A container is asked about once, by the id that its processes were found under; that nobody knows it is
remembered for some minutes. An answer is bounded in time and size. A socket that may not be read is no error:
containers keep their ids then. Those in pods are left to Kubernetes.
"""

import json
import re
import socket
import time
from collections.abc import Callable, Mapping
from http.client import HTTPConnection, HTTPException
from pathlib import Path

from agent.holders.contract import Answer, Claimant, Question, WorldError
from agent.holders.names import printable

SOCKETS = ("/var/run/docker.sock", "/run/podman/podman.sock")
AGAIN_SECONDS = 300.0
"""For so long nobody is asked again about a container that no runtime knows, nor a socket that is shut."""
POSTPONE_SECONDS = 60.0
"""For so long a container is left alone whose question failed: the others shall have their turn."""
TIMES = 3
"""One look lasts no longer than so many answers may."""
MOST_BYTES = 4 * 2**20
MOST_LABELS = 64
LONGEST_TEXT = 256
_KEY = re.compile(r"container:([0-9a-f]{12,64})")
_OF_A_POD = "io.kubernetes.pod.name"
_FOUND, _ABSENT = 200, 404


class _Failed(Exception):  # noqa: N818  not one that leaves this module
    """A runtime gave no proper answer."""


class _Timed(socket.socket):
    """A socket whose reads all end by the same moment, however slowly its bytes come."""

    until = 0.0

    def recv_into(self, *args: object) -> int:
        """Receive what is there. Raises TimeoutError."""
        left_seconds = self.until - time.monotonic()
        if left_seconds <= 0:
            raise TimeoutError
        self.settimeout(left_seconds)
        return super().recv_into(*args)  # type: ignore[arg-type]


class ContainersWorld:
    """Docker's and Podman's containers on this node."""

    name = "containers"

    def __init__(
        self,
        *,
        sockets: tuple[str, ...] = SOCKETS,
        timeout_seconds: float = 3,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._sockets = sockets
        self._timeout_seconds = timeout_seconds
        self._monotonic = monotonic
        self._known: dict[str, Claimant] = {}
        self._later: dict[str, float] = {}
        self._shut: dict[str, float] = {}
        self._failed: dict[str, str] = {}

    def available(self) -> bool:
        """Tell whether a runtime's socket is there."""
        return bool(self._there())

    def look(self, question: Question) -> Answer:
        """Name the containers that are asked for. Raises WorldError when nothing could be learned at all."""
        ids = {found[1] for key in question.keys if (found := _KEY.fullmatch(key))}
        self._known = {one: claimant for one, claimant in self._known.items() if one in ids}
        self._later = {one: at for one, at in self._later.items() if one in ids}
        unknown = ids - self._known.keys()
        if unknown:
            self._ask_about(unknown)
        else:
            self._failed.clear()
        trouble = "; ".join(self._failed.values())
        if trouble and not self._known:
            raise WorldError(trouble)
        named = {f"container:{one}": claimant for one, claimant in self._known.items()}
        return Answer(named=named, trouble=trouble)

    def close(self) -> None:
        """Nothing is kept open."""

    def _there(self) -> list[str]:
        now = self._monotonic()
        return [path for path in self._sockets if self._shut.get(path, now) <= now and _is_there(path)]

    def _ask_about(self, unknown: set[str]) -> None:
        """Ask about containers in turn, those first that were not asked about before."""
        end = time.monotonic() + TIMES * self._timeout_seconds
        open_ones = self._there()
        self._failed = {path: why for path, why in self._failed.items() if path in open_ones}
        for one in sorted(unknown, key=lambda one: (self._later.get(one, 0.0), one)):
            if not open_ones or time.monotonic() > end or self._later.get(one, 0.0) > self._monotonic():
                break
            self._ask_all(one, open_ones)

    def _ask_all(self, one: str, open_ones: list[str]) -> None:
        """Ask each runtime about a container; one that fails is taken off the list."""
        wait_seconds = 0.0
        for path in tuple(open_ones):
            try:
                claimant = self._ask(path, one)
            except PermissionError:
                self._shut[path] = self._monotonic() + AGAIN_SECONDS
                open_ones.remove(path)
            except _Failed as error:
                self._failed[path] = f"the container runtime at {path} {error}"
                open_ones.remove(path)
                wait_seconds = POSTPONE_SECONDS
            else:
                wait_seconds = wait_seconds or AGAIN_SECONDS
                self._failed.pop(path, None)
                if claimant:
                    self._known[one] = claimant
                    self._later.pop(one, None)
                    return
        if wait_seconds:
            self._later[one] = self._monotonic() + wait_seconds

    def _ask(self, path: str, one: str) -> Claimant | None:
        """Ask a runtime about a container; None when it knows none. Raises _Failed, PermissionError."""
        try:
            status, body = _fetch(path, f"/containers/{one}/json", self._timeout_seconds)
            if status == _ABSENT:
                return None
            if status == _FOUND:
                return _claimant(one, json.loads(body))
        except PermissionError:
            raise
        except TimeoutError as error:
            raise _Failed(
                f"does not answer within {self._timeout_seconds:g} s: see whether it hangs, or restart it"
            ) from error
        except OSError as error:
            raise _Failed(
                f"cannot be reached ({error.strerror or error}): start it, or take it out of the settings"
            ) from error
        except (HTTPException, ValueError, RecursionError, LookupError, TypeError, AttributeError) as error:
            raise _Failed("answers nonsense: see whether the socket is that of Docker or Podman") from error
        raise _Failed(f"answers with status {status}: let it allow GET /containers/ID/json")


def _is_there(path: str) -> bool:
    try:
        return Path(path).is_socket()
    except OSError:  # in a folder that may not be searched
        return False


def _fetch(path: str, target: str, timeout_seconds: float) -> tuple[int, bytes]:
    """Ask for a page over a Unix socket. Raises OSError, HTTPException, ValueError."""
    with _Timed(socket.AF_UNIX, socket.SOCK_STREAM) as link:
        link.until = time.monotonic() + timeout_seconds
        link.settimeout(timeout_seconds)
        link.connect(path)
        http = HTTPConnection("localhost")
        http.sock = link
        http.request("GET", target, headers={"Connection": "close"})
        with http.getresponse() as response:
            if (response.length or 0) > MOST_BYTES:
                raise ValueError("too long")
            body = response.read(MOST_BYTES + 1)
            if len(body) > MOST_BYTES:
                raise ValueError("too long")
            return response.status, body


def _claimant(one: str, told: object) -> Claimant | None:
    """Read what a runtime tells of a container; None for one of a pod. Nonsense raises what it may."""
    if not isinstance(told, dict):
        raise TypeError("no object")
    labels = _labels(told["Config"].get("Labels") or {})
    if _OF_A_POD in labels:
        return None
    return Claimant(
        kind="container",
        name=printable(told["Name"], LONGEST_TEXT).removeprefix("/") or one[:12],
        title=printable(told["Config"].get("Image") or "", LONGEST_TEXT),
        labels=labels,
    )


def _labels(told: Mapping[object, object]) -> dict[str, str]:
    texts = [(key, text) for key, text in told.items() if isinstance(key, str) and isinstance(text, str)]
    return {printable(key, LONGEST_TEXT): printable(text, LONGEST_TEXT) for key, text in texts[:MOST_LABELS]}
