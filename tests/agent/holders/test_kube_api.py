"""The API server's word on node and pods: asked seldom, believed with care, done without when it must be."""

import json
import ssl
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.holders import api_client, api_server
from agent.holders.api_client import Client
from agent.holders.api_server import ApiServer, Cluster, PodName
from tests.kubelet.api import NODE, Api, pod

NOBODY = frozenset[PodName]()
TRAIN = PodName("research", "train-0")


@pytest.fixture
def api() -> Iterator[Api]:
    """Give a running API server."""
    with Api().running() as running:
        running.pods = [pod("train-0", "11-22", labels={"team": "vision"})]
        yield running


def about(api: Api, *, timeout_seconds: float = 30, token_file: str = "", node: str = NODE) -> Cluster:
    """Ask once."""
    client = Client(api_server=api.url, token_file=token_file, timeout_seconds=timeout_seconds)
    return ApiServer(client, node).about(NOBODY)


def test_pods_come_with_labels_and_uids(api: Api) -> None:
    """And with nothing else."""
    api.pods += [
        pod("done", "33", phase="Succeeded"),
        pod("static", "44", annotations={"kubernetes.io/config.hash": "55"}),
    ]

    cluster = about(api)

    assert cluster.trouble == ""
    assert {called.name: (one.uids, one.ended) for called, one in cluster.pods.items()} == {
        "train-0": (("11-22",), False),
        "done": (("33",), True),
        "static": (("44", "55"), False),
    }
    assert cluster.pods[TRAIN].labels == {"team": "vision"}


def test_a_list_in_pages_is_read_to_its_end(api: Api) -> None:
    """Each page tells how to go on."""
    api.page = 3
    api.pods = [pod(f"pod-{n}", str(n)) for n in range(10)]

    assert len(about(api).pods) == 10
    assert len(api.asked) == 1 + 4


def test_a_list_without_end_is_trouble(api: Api) -> None:
    """There is a last page, whatever the server says."""
    api.page = 1
    api.pods = [pod(f"pod-{n}", str(n)) for n in range(api_server.MOST_PAGES + 1)]

    assert "pages" in about(api).trouble


@pytest.mark.parametrize(
    ("spec", "drained"),
    [
        ({}, ""),
        ({"unschedulable": True}, "cordoned"),
        ({"unschedulable": "yes"}, ""),
        ({"taints": [{"key": "nvidia.com/gpu", "effect": "NoSchedule"}]}, ""),
        (
            {"taints": [{"key": "node.kubernetes.io/not-ready", "effect": "NoExecute"}]},
            "tainted node.kubernetes.io/not-ready",
        ),
        ({"taints": [{"key": "node.kubernetes.io/not-ready", "effect": "PreferNoSchedule"}]}, ""),
        ({"taints": [{"key": ["x"], "effect": "NoExecute"}, "x", None]}, ""),
        ({"taints": "x"}, ""),
        (
            {
                "unschedulable": True,
                "taints": [
                    {"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"},
                    {"key": "ToBeDeletedByClusterAutoscaler", "effect": "NoSchedule"},
                ],
            },
            "cordoned, tainted ToBeDeletedByClusterAutoscaler",
        ),
    ],
)
def test_what_keeps_work_away_is_told(api: Api, spec: dict[str, object], drained: str) -> None:
    """A taint that keeps pods without GPUs off a GPU node does not drain it."""
    api.node["spec"] = spec

    assert about(api).drained == drained


def test_it_is_asked_once_a_minute(api: Api) -> None:
    """And sooner for a pod that is new on a GPU, but once for each."""
    now = 1000.0
    server = ApiServer(Client(api_server=api.url, timeout_seconds=30), NODE, monotonic=lambda: now)
    asked = []
    for passed, holding in (
        (0, NOBODY),
        (59, NOBODY),
        (1, NOBODY),
        (14, {TRAIN}),
        (1, {PodName("a", "b")}),
        (20, {PodName("a", "b")}),
    ):
        now += passed
        server.about(frozenset(holding))
        asked.append(len(api.asked) // 2)

    assert asked == [1, 1, 2, 2, 3, 3]


def test_what_it_said_holds_while_it_does_not_answer(api: Api) -> None:
    """Labels do not go because a server does; after a quarter of an hour they might have."""
    now = 1000.0
    server = ApiServer(Client(api_server=api.url, timeout_seconds=30), NODE, monotonic=lambda: now)
    api.node["spec"] = {"unschedulable": True}
    server.about(NOBODY)
    api.statuses = {"pods": 500, "nodes": 500}

    now += api_server.REFRESH_SECONDS
    held = server.about(NOBODY)
    now += api_server.HOLDS_SECONDS
    gone = server.about(NOBODY)

    assert (set(held.pods), held.drained) == ({TRAIN}, "cordoned")
    assert "500" in held.trouble
    assert (set(gone.pods), gone.drained) == (set(), "")


@pytest.mark.parametrize(
    ("statuses", "words"),
    [
        ({"pods": 403}, ["forbids to list pods", "ClusterRole"]),
        ({"nodes": 403}, ["forbids to get nodes", "ClusterRole"]),
        ({"nodes": 403, "pods": 403}, ["get nodes", "list pods"]),
        ({"pods": 401}, ["refuses the token", "token_file"]),
        ({"pods": 302}, ["answered 302"]),
        ({"pods": 410}, ["answered 410"]),
    ],
)
def test_refusals_say_which_right_is_missing(api: Api, statuses: dict[str, int], words: list[str]) -> None:
    """What is allowed is told all the same."""
    api.node["spec"] = {"unschedulable": True}
    api.statuses = statuses

    cluster = about(api)

    assert [word for word in words if word not in cluster.trouble] == []
    assert bool(cluster.drained) == ("nodes" not in statuses)
    assert bool(cluster.pods) == ("pods" not in statuses)


def test_a_node_of_another_name_is_told(api: Api) -> None:
    """The setting to change is named."""
    client = Client(api_server=api.url, timeout_seconds=30)

    assert "knows no node 'a/b?c'" in ApiServer(client, "a/b?c").about(NOBODY).trouble
    assert api.asked[0].startswith("/api/v1/nodes/a%2Fb%3Fc?")


def test_the_token_is_read_anew_and_never_told(api: Api, tmp_path: Path) -> None:
    """A service account's token is replaced every hour."""
    now = 1000.0
    path = tmp_path / "token"
    server = ApiServer(
        Client(api_server=api.url, token_file=str(path), timeout_seconds=30), NODE, monotonic=lambda: now
    )
    for text, token, word in (
        ("secret-one\n", "secret-one", ""),
        ("secret-two", "secret-one", "401"),
        ("secret-two", "secret-two", ""),
        ("secret\nInjected: x", "", "holds no token"),
        ("secr\u00e9t", "", "holds no token"),
        ("s" * 20_000, "", "holds no token"),
        ("", "", "holds no token"),
    ):
        now += api_server.REFRESH_SECONDS
        path.write_text(text)
        api.token = token
        trouble = server.about(NOBODY).trouble
        assert bool(trouble) == bool(word)
        assert word in trouble
        assert "secr" not in trouble
    path.unlink()
    now += api_server.REFRESH_SECONDS
    assert "cannot be read" in server.about(NOBODY).trouble


OK_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"


@pytest.mark.parametrize(
    "said",
    [
        [b""],
        [b"garbage\r\n\r\n"],
        [b"\x16\x03\x01\x00"],
        [OK_HEAD, b"Content-Length: 100\r\n\r\n", b"{}"],
        [OK_HEAD, b"Content-Length: 1\r\n\r\n", b"{}"],
        [OK_HEAD, b"Content-Length: x\r\n\r\n", b"{"],
        [OK_HEAD, b"Content-Length: 99999999999999\r\n\r\n", b"{}"],
        [OK_HEAD, b"Transfer-Encoding: chunked\r\n\r\n", b"zz\r\n{}"],
        [OK_HEAD, b"Transfer-Encoding: chunked\r\n\r\n", b"5\r\n{}"],
        [OK_HEAD, b"\r\n", b"[" * 200_000],
        [OK_HEAD, b"\r\n", b"9" * 10_000],
        [OK_HEAD, b"\r\n", b"\xff\xfe\xfd"],
        [OK_HEAD, b"\r\n", b"null"],
        [OK_HEAD, b"\r\n", b"[]"],
        [OK_HEAD, b"\r\n", b'{"items": 3, "spec": 3}'],
        [OK_HEAD, b"\r\n", b'{"items": [], "metadata": {"continue": 3}}'],
        [b"HTTP/1.1 200 OK\r\n", b"a: b\r\n" * 500],
        [b"HTTP/1.1 200 OK\r\na: ", b"b" * 100_000],
    ],
    ids=range(18),
)
@pytest.mark.parametrize("kind", ["nodes", "pods"])
def test_garbage_is_trouble_and_nothing_else(api: Api, said: list[bytes], kind: str) -> None:
    """Wrong lengths, wrong types, wrong everything."""
    api.raw[kind] = said

    assert about(api).trouble.startswith("the API server ")


def test_pods_that_are_none_are_passed_over(api: Api) -> None:
    """What is in the list besides is not believed to be a pod."""
    items: list[object] = [
        1,
        None,
        [],
        {},
        {"metadata": 3},
        {"metadata": {"labels": 3, "annotations": []}, "status": 3},
        pod("real", "1"),
    ]
    api.raw["pods"] = [OK_HEAD, b"\r\n", json.dumps({"items": items}).encode()]

    assert PodName("research", "real") in about(api).pods


def test_what_is_said_is_short_and_printable(api: Api) -> None:
    """Labels are chosen by users, and what claims to be an API server may say anything."""
    hostile = 'a\n"\x1b[31m' + "\u202e" * 500
    api.pods = [
        pod(hostile, "1", namespace=hostile, labels={f"{hostile[:20]}{n}": hostile for n in range(1000)})
    ]

    ((called, one),) = about(api).pods.items()

    assert len(one.labels) == api_server.MOST_LABELS
    texts = [*called, *one.labels.keys(), *one.labels.values()]
    assert all(text.isascii() and text.isprintable() and len(text) <= 320 for text in texts)


def test_a_label_may_be_called_metadata(api: Api) -> None:
    """Objects are told apart by more than a name that anyone may choose."""
    api.pods = [pod("train-0", "1", labels={"metadata": "x", "items": "y", "phase": "z"})]

    assert about(api).pods[TRAIN].labels == {"metadata": "x", "items": "y", "phase": "z"}


def test_a_slow_server_costs_its_timeout(api: Api) -> None:
    """Drop by drop is no way around it, in head or body."""
    for said in ([b"H"] * 10_000, [OK_HEAD, b"\r\n", *[b" "] * 10_000]):
        api.raw["nodes"] = said
        api.pause_seconds = 0.02
        before = time.monotonic()

        assert "in time" in about(api, timeout_seconds=0.3).trouble
        assert time.monotonic() - before < 15


def test_an_answer_larger_than_sane_is_trouble(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bound is on all pages together."""
    monkeypatch.setattr(api_server, "MOST_BYTES", 20_000)
    api.page = 10
    api.pods = [pod(f"pod-{n}", str(n)) for n in range(100)]

    assert "more than is sane" in about(api).trouble


def test_nobody_there_is_trouble() -> None:
    """With the reason that the system gives."""
    with Api().running() as api:
        pass

    assert "cannot be reached" in about(api).trouble


@pytest.mark.parametrize(
    "url",
    [
        "http://10.0.0.1:8080",
        "http://example.com",
        "ftp://127.0.0.1",
        "127.0.0.1:6443",
        "",
        "https://",
        "https://a:b@c/",
        "https://a?b",
        "https://a:99999",
        "https://[a",
    ],
)
def test_urls_that_will_not_do_are_refused(url: str) -> None:
    """A token in clear goes nowhere but to this machine."""
    with pytest.raises(ValueError, match="api_server is"):
        Client(api_server=url)


def test_in_a_cluster_the_pod_itself_knows_where(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Environment and files are those of a service account."""
    monkeypatch.setattr(api_client, "ACCOUNT", tmp_path)
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    client = Client(api_server="in-cluster")
    server = ApiServer(client, NODE)
    assert "in-cluster is for an agent that runs in a pod" in server.about(NOBODY).trouble

    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "::1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "1")
    assert "token" in ApiServer(client, NODE).about(NOBODY).trouble
    (tmp_path / "token").write_text("secret")
    (tmp_path / "ca.crt").write_text("")
    assert "cannot be" in ApiServer(client, NODE).about(NOBODY).trouble


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a certificate for this machine, with its key in the same file."""
    path = tmp_path_factory.mktemp("tls") / "both.pem"
    command = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
        "-days",
        "2",
    ]
    command += [
        "-subj",
        "/CN=localhost",
        "-addext",
        "subjectAltName=IP:127.0.0.1",
        "-keyout",
        str(path),
        "-out",
        "-",
    ]
    done = subprocess.run(command, capture_output=True, timeout=60, check=True)
    path.write_bytes(path.read_bytes() + done.stdout)
    return path


def test_tls_needs_the_certificate_of_the_cluster(certificate: Path) -> None:
    """With ca_file it is trusted, without it is not; and what is no TLS at all is told."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    with Api().running(context) as api:
        trusted = ApiServer(Client(api_server=api.url, ca_file=str(certificate), timeout_seconds=30), NODE)
        stranger = ApiServer(Client(api_server=api.url, timeout_seconds=30), NODE)

        assert trusted.about(NOBODY).trouble == ""
        assert "set ca_file" in stranger.about(NOBODY).trouble
    with Api().running() as api:
        plain = Client(api_server=api.url.replace("http", "https"), timeout_seconds=30)
        assert "over TLS" in ApiServer(plain, NODE).about(NOBODY).trouble
    missing = Client(api_server="https://127.0.0.1:1", ca_file="/nowhere", timeout_seconds=30)
    assert "cannot be reached" in ApiServer(missing, NODE).about(NOBODY).trouble
