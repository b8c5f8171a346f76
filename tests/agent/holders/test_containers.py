"""Names of containers, asked of a stand-in for Docker on a Unix socket that may do anything."""

import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from socketserver import StreamRequestHandler, ThreadingUnixStreamServer

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.holders import containers
from agent.holders.containers import (
    AGAIN_SECONDS,
    LONGEST_TEXT,
    MOST_BYTES,
    MOST_LABELS,
    POSTPONE_SECONDS,
    ContainersWorld,
    _claimant,
)
from agent.holders.contract import Claimant, Question, WorldError
from tests.command.waiting import until

BOX, OTHER, THIRD = (sign * 64 for sign in "abc")
SOON_SECONDS = 30.0
"""Far less than the waits that these tests forbid."""
Reply = Callable[["Runtime", StreamRequestHandler], None]


def page(body: bytes, status: str = "200 OK", length: int | None = None) -> bytes:
    """Make an HTTP answer."""
    size = len(body) if length is None else length
    return (
        f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {size}\r\n\r\n".encode()
        + body
    )


def told(name: str = "/train", image: str = "lab/torch:2", **labels: object) -> bytes:
    """Make what a runtime tells of a container."""
    return json.dumps({"Id": BOX, "Name": name, "Config": {"Image": image, "Labels": labels}}).encode()


class Runtime:
    """A stand-in for a container runtime; `asked` are the ids in the order of questions."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)
        self.asked: list[str] = []
        self.requests: list[bytes] = []
        self.boxes: dict[str, bytes] = {BOX: told(owner="vision")}
        self.reply: Reply | None = None
        self.silent_about: set[str] = set()
        self.over = threading.Event()
        runtime = self

        class Handler(StreamRequestHandler):
            """One connection."""

            def handle(self) -> None:
                """Read the question, answer as the test wants."""
                request = b""
                while line := self.rfile.readline().strip():
                    request += line + b"\n"
                with suppress(OSError):
                    runtime.serve(request, self)

        self.server = ThreadingUnixStreamServer(self.path, Handler)
        self.server.daemon_threads = True
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True)
        self.thread.start()

    def serve(self, request: bytes, handler: StreamRequestHandler) -> None:
        """Answer one question."""
        one = request.split()[1].decode().split("/")[2]
        self.requests.append(request)
        self.asked.append(one)
        if one in self.silent_about:
            assert self.over.wait(60)
        elif self.reply:
            self.reply(self, handler)
        else:
            absent = page(b'{"message":"No such container"}', "404 Not Found")
            handler.wfile.write(page(self.boxes[one]) if one in self.boxes else absent)

    def close(self) -> None:
        """End it."""
        self.over.set()
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()
        Path(self.path).unlink(missing_ok=True)


class Time:
    """A clock that the test sets."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        """Tell the time."""
        return self.now


@pytest.fixture
def runtime(tmp_path: Path) -> Iterator[Runtime]:
    """Start a runtime that knows one container."""
    runtime = Runtime(tmp_path / "docker.sock")
    yield runtime
    runtime.close()


@pytest.fixture
def clock() -> Time:
    """Give the clock of the world under test."""
    return Time()


@pytest.fixture
def world(runtime: Runtime, clock: Time) -> ContainersWorld:
    """Give the world that asks the runtime, with all the patience that a slow machine needs."""
    return ContainersWorld(sockets=(runtime.path,), timeout_seconds=SOON_SECONDS, monotonic=clock)


def about(*ids: str) -> Question:
    """Ask about containers, among keys of other worlds."""
    return Question(keys=frozenset({"slurm:4711", "pod:x", *(f"container:{one}" for one in ids)}))


def hurried(runtime: Runtime, clock: Time) -> ContainersWorld:
    """Give a world without patience."""
    return ContainersWorld(sockets=(runtime.path,), timeout_seconds=0.3, monotonic=clock)


def test_a_container_is_named(runtime: Runtime, world: ContainersWorld) -> None:
    """By its name, image and labels."""
    answer = world.look(about(BOX))
    expected = Claimant(kind="container", name="train", title="lab/torch:2", labels={"owner": "vision"})
    assert answer.named == {f"container:{BOX}": expected}
    assert answer.named[f"container:{BOX}"].labels == {"owner": "vision"}
    assert (answer.given, answer.trouble) == ({}, "")
    assert runtime.requests[0].startswith(f"GET /containers/{BOX}/json HTTP/1.1\n".encode())


def test_a_container_is_asked_about_once(runtime: Runtime, world: ContainersWorld) -> None:
    """While it is there; when it returns, again."""
    for _ in range(3):
        assert f"container:{BOX}" in world.look(about(BOX)).named
    assert runtime.asked == [BOX]
    assert world.look(about()).named == {}
    assert f"container:{BOX}" in world.look(about(BOX)).named
    assert runtime.asked == [BOX, BOX]


def test_that_nobody_knows_a_container_is_remembered(
    runtime: Runtime, world: ContainersWorld, clock: Time
) -> None:
    """For some minutes."""
    for _ in range(3):
        assert world.look(about(OTHER)).named == {}
    assert runtime.asked == [OTHER]
    clock.now += AGAIN_SECONDS
    runtime.boxes[OTHER] = told("/late")
    assert world.look(about(OTHER)).named[f"container:{OTHER}"].name == "late"


def test_only_ids_are_asked_about(runtime: Runtime, world: ContainersWorld) -> None:
    """No key makes another request of it."""
    question = Question(
        keys=frozenset({"container:../../images", f"container:{BOX}\r\nX: y", "container:abc"})
    )
    assert world.look(question).named == {}
    assert runtime.asked == []


def test_several_runtimes_are_asked_in_turn(runtime: Runtime, tmp_path: Path) -> None:
    """Each knows its own containers; one without a runtime is passed over."""
    podman = Runtime(tmp_path / "podman.sock")
    podman.boxes = {OTHER: told("web")}
    sockets = (str(tmp_path / "none.sock"), runtime.path, podman.path)
    world = ContainersWorld(sockets=sockets, timeout_seconds=SOON_SECONDS)
    answer = world.look(about(BOX, OTHER, THIRD))
    podman.close()
    assert {one.name for one in answer.named.values()} == {"train", "web"}
    assert runtime.asked == [BOX, OTHER, THIRD]
    assert podman.asked == [OTHER, THIRD]
    assert answer.trouble == ""


def test_a_container_of_a_pod_is_left_to_kubernetes(runtime: Runtime, world: ContainersWorld) -> None:
    """The kubelet knows its name better."""
    runtime.boxes[BOX] = told(**{"io.kubernetes.pod.name": "train-0"})
    for _ in range(2):
        assert world.look(about(BOX)).named == {}
    assert runtime.asked == [BOX]


def test_without_a_socket_there_is_nothing(tmp_path: Path) -> None:
    """A node without containers costs nothing and is no trouble; a plain file is no socket."""
    (tmp_path / "file").touch()
    world = ContainersWorld(sockets=(str(tmp_path / "none"), str(tmp_path / "file"), "\0", "x" * 5000))
    assert not world.available()
    assert world.look(about(BOX)).named == {}
    assert not ContainersWorld(sockets=()).available()
    world.close()


def test_with_a_socket_there_is_a_world(world: ContainersWorld) -> None:
    """Whether it answers shows when it is asked."""
    assert world.available()


def test_a_socket_that_may_not_be_read_is_remembered(
    runtime: Runtime, world: ContainersWorld, clock: Time, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No trouble, and no further try for some minutes."""
    tries = []

    def refuse(path: str, target: str, timeout_seconds: float) -> tuple[int, bytes]:
        tries.append((path, target, timeout_seconds))
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr(containers, "_fetch", refuse)
        for _ in range(3):
            answer = world.look(about(BOX, OTHER))
            assert (answer.named, answer.trouble) == ({}, "")
    assert len(tries) == 1
    assert not world.available()
    clock.now += AGAIN_SECONDS
    assert world.available()
    assert f"container:{BOX}" in world.look(about(BOX, OTHER)).named
    assert runtime.asked == [BOX, OTHER]


def test_a_folder_that_may_not_be_searched_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """Podman's belongs to root alone."""

    def refuse(_: Path) -> bool:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "is_socket", refuse)
    assert not ContainersWorld().available()


def test_a_silent_runtime_is_left_after_its_time(runtime: Runtime, clock: Time) -> None:
    """The rest of the look asks it nothing more, the next one begins with other containers."""
    runtime.silent_about = {BOX, OTHER}
    world = hurried(runtime, clock)
    before = time.monotonic()
    with pytest.raises(WorldError, match=r"docker\.sock does not answer within 0\.3 s: see whether it hangs"):
        world.look(about(BOX, OTHER))
    assert time.monotonic() - before < SOON_SECONDS
    with pytest.raises(WorldError, match="does not answer"):
        world.look(about(BOX, OTHER))
    until(lambda: sorted(runtime.asked) == [BOX, OTHER], "one question in each look")


def test_bytes_that_drip_are_not_waited_for(runtime: Runtime, clock: Time) -> None:
    """However many there are to come, in headers or in the body."""

    def drip(runtime: Runtime, handler: StreamRequestHandler) -> None:
        if len(runtime.asked) == 1:
            handler.wfile.write(page(b"", length=1000))
        while not runtime.over.wait(0.02):
            handler.wfile.write(b"H")

    runtime.reply = drip
    world = hurried(runtime, clock)
    for _ in range(2):
        before = time.monotonic()
        with pytest.raises(WorldError, match="does not answer within"):
            world.look(about(BOX, OTHER))
        assert time.monotonic() - before < SOON_SECONDS
    until(lambda: sorted(runtime.asked) == [BOX, OTHER], "one question in each look")


def test_one_container_that_hangs_the_runtime_keeps_no_other_from_its_name(
    runtime: Runtime, clock: Time
) -> None:
    """It is left alone for a while; the trouble is told beside what is known."""
    runtime.boxes[OTHER] = told("/other")
    runtime.silent_about = {BOX}
    world = hurried(runtime, clock)
    with pytest.raises(WorldError):
        world.look(about(BOX, OTHER))
    until(lambda: runtime.asked == [BOX], "the question that hangs")
    world._timeout_seconds = SOON_SECONDS
    for _ in range(2):
        assert world.look(about(BOX, OTHER)).named[f"container:{OTHER}"].name == "other"
    assert runtime.asked == [BOX, OTHER]
    world._timeout_seconds = 0.3
    clock.now += POSTPONE_SECONDS
    answer = world.look(about(BOX, OTHER))
    assert "does not answer" in answer.trouble
    assert f"container:{OTHER}" in answer.named
    until(lambda: runtime.asked == [BOX, OTHER, BOX], "another try")


def sending(reply: bytes) -> Reply:
    """Answer everything so."""

    def send(_: Runtime, handler: StreamRequestHandler) -> None:
        handler.wfile.write(reply)

    return send


@pytest.mark.parametrize(
    ("reply", "told"),
    [
        (b"", "cannot be reached"),
        (b"\x00\xff garbage\r\n\r\n", "nonsense"),
        (page(b"{"), "nonsense"),
        (page(b"[]"), "nonsense"),
        (page(b"null"), "nonsense"),
        (page(b"{}"), "nonsense"),
        (page(b'{"Name": 7, "Config": {}}'), "nonsense"),
        (page(b'{"Name": "x", "Config": []}'), "nonsense"),
        (page(b'{"Name": "x", "Config": {"Labels": "y"}}'), "nonsense"),
        (page(b"[" * 100_000), "nonsense"),
        (page(b"\xff\xfe"), "nonsense"),
        (page(b"1" * 10_000), "nonsense"),
        (page(b"{}", length=2**30), "nonsense"),
        (page(b" " * (MOST_BYTES + 1)), "nonsense"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", "nonsense"),
        (b"HTTP/1.1 200 OK\r\n\r\n" + b" " * (MOST_BYTES + 1), "nonsense"),
        (b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 1000, "nonsense"),
        (page(b"no", "500 Internal Server Error"), "status 500"),
        (page(b"no", "403 Forbidden"), "status 403: let it allow GET /containers/ID/json"),
    ],
)
def test_an_answer_that_is_none_is_a_trouble(
    runtime: Runtime, world: ContainersWorld, reply: bytes, told: str
) -> None:
    """The sentence names the socket and says what to do; afterwards all is well."""
    runtime.reply = sending(reply)
    with pytest.raises(WorldError, match=told) as raised:
        world.look(about(BOX))
    assert runtime.path in str(raised.value)
    runtime.reply = None
    assert world.look(about()).trouble == ""
    assert f"container:{BOX}" in world.look(about(BOX)).named


def test_a_chunked_answer_is_read(runtime: Runtime, world: ContainersWorld) -> None:
    """Docker sends long ones so."""
    body = told("/long")
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    chunks = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
    runtime.reply = sending(head + chunks)
    assert world.look(about(BOX)).named[f"container:{BOX}"].name == "long"


def test_a_runtime_that_ended_is_a_trouble(runtime: Runtime, world: ContainersWorld) -> None:
    """Its socket is still there; what was known stays known."""
    world.look(about(BOX))
    runtime.server.shutdown()
    runtime.server.server_close()
    answer = world.look(about(BOX, OTHER))
    assert f"container:{BOX}" in answer.named
    assert "cannot be reached (Connection refused): start it" in answer.trouble
    os.unlink(runtime.path)  # noqa: PTH108
    assert world.look(about(BOX, THIRD)).trouble == ""


def test_hostile_names_are_harmless(runtime: Runtime, world: ContainersWorld) -> None:
    """Control characters, what turns text around, halves of characters; long texts and many labels."""
    labels = {f"label{number}": "x" * 1000 for number in range(100)}
    body = told(
        "/a\n\x1b[31m\u202eb\ud800", "image\x00" + "y" * 1000, **{"number": 7, "Größe\n": "ü"}, **labels
    )
    runtime.boxes[BOX] = body
    claimant = world.look(about(BOX)).named[f"container:{BOX}"]
    assert claimant.name == "a??[31m?b?"
    assert claimant.title == ("image?" + "y" * 1000)[:LONGEST_TEXT]
    assert claimant.labels["Größe?"] == "ü"
    assert len(claimant.labels) == MOST_LABELS
    assert max(map(len, claimant.labels.values())) == LONGEST_TEXT


def test_a_container_without_a_name_has_its_id(runtime: Runtime, world: ContainersWorld) -> None:
    """And no labels are none."""
    runtime.boxes[BOX] = json.dumps({"Name": "/", "Config": {"Image": None, "Labels": None}}).encode()
    claimant = world.look(about(BOX)).named[f"container:{BOX}"]
    assert claimant == Claimant(kind="container", name=BOX[:12])
    assert claimant.labels == {}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["Name", "Config", "Image", "Labels"]) | st.text(), inner, max_size=4
        )
    ),
    max_leaves=12,
)


@given(JSON)
def test_whatever_a_runtime_tells_is_read_or_refused(anything: object) -> None:
    """By errors that are known to mean nonsense."""
    try:
        claimant = _claimant(BOX, anything)
    except (TypeError, ValueError, LookupError, AttributeError):
        return
    assert claimant
    assert claimant.name.isprintable()
    assert 0 < len(claimant.name) <= LONGEST_TEXT
