"""Proxies: every kind goes through them, trusts the store's certificate alone, and keeps their secrets."""

import gzip
import logging
import socket
import ssl
import subprocess
from collections.abc import Callable
from pathlib import Path
from shutil import which

import pytest

from agent.errors import SettingsError
from exporters import destination
from exporters.settle import Verdict
from tests.exporters import test_transports
from tests.exporters.proxy import Handler, proxying
from tests.exporters.test_transports import BODY, sent, standing, transport

SECRET = "s3cr3t"  # noqa: S105  no secret of ours
KINDS = tuple(kind for kind in destination.KINDS if kind != "grafana")
"""Those that send a batch by one request; Grafana has tests of its own."""
Issue = Callable[[str], tuple[Path, ssl.SSLContext]]


def well(handler: test_transports.Handler) -> None:
    """Take a batch, as a store does."""
    handler.say(204)


def plain(body: bytes) -> bytes:
    """Give a body as it was before it was packed."""
    return gzip.decompress(body) if body[:2] == b"\x1f\x8b" else body


@pytest.fixture(scope="module")
def issue(tmp_path_factory: pytest.TempPathFactory) -> Issue:
    """Make certificates that sign themselves, for a name."""
    openssl = which("openssl")
    if openssl is None:
        pytest.skip("not installed: openssl")

    def make(name: str) -> tuple[Path, ssl.SSLContext]:
        folder = tmp_path_factory.mktemp("tls")
        command = (
            "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout key -out cert -days 2 "
            f"-subj /CN={name} -addext subjectAltName=DNS:{name}"
        )
        subprocess.run([openssl, *command.split()], cwd=folder, check=True, capture_output=True)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(folder / "cert", folder / "key")
        return folder / "cert", context

    return make


@pytest.mark.parametrize("kind", KINDS)
def test_batches_go_through_it(kind: str) -> None:
    """The proxy is asked for the whole address, and the store gets what it would get without one."""
    with standing(well) as store, proxying() as proxy:
        one = transport(kind, store.url, proxy=proxy.url)
        outcomes = [one.send(BODY) for _ in range(3)]
        one.close()
        assert sent(kind, store.url).verdict is Verdict.DELIVERED
    assert {outcome.verdict for outcome in outcomes} == {Verdict.DELIVERED}
    assert {method for method, _ in proxy.asked} == {"POST"}
    assert {target.startswith(store.url) for _, target in proxy.asked} == {True}
    assert len(proxy.asked) == 3
    (path, headers, body), (path_without, _, body_without) = store.requests[0], store.requests[3]
    assert path == path_without
    assert "proxy-connection" not in headers
    assert plain(body) == plain(body_without) == BODY


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_store_answers_is_settled_as_ever(kind: str) -> None:
    """A refusal of the store is one, and no trouble of the proxy."""
    with standing(lambda handler: handler.say(400, "bad line")) as store, proxying() as proxy:
        outcome = sent(kind, store.url, proxy=proxy.url)
    assert outcome.verdict is Verdict.REFUSED
    assert outcome.reason == "HTTP 400: bad line"


@pytest.mark.parametrize("kind", KINDS)
def test_tls_goes_to_the_store_in_a_tunnel(kind: str, issue: Issue, tmp_path: Path) -> None:
    """The proxy sees the name of the store and nothing else; one tunnel serves many batches."""
    authority, context = issue("localhost")
    (tmp_path / "password").write_text(SECRET)
    more = {"username": "ada", "password_file": str(tmp_path / "password"), "ca_file": str(authority)}
    with standing(well, context) as store, proxying(wants=f"hall2:{SECRET}") as proxy:
        one = transport(kind, store.url, proxy=proxy.with_user(f"hall2:{SECRET}"), **more)
        outcomes = [one.send(BODY) for _ in range(3)]
        one.close()
    assert {outcome.verdict for outcome in outcomes} == {Verdict.DELIVERED}
    assert set(proxy.asked) == {("CONNECT", store.url.removeprefix("https://"))}
    for _, headers, _ in store.requests:
        assert headers["authorization"].startswith("Basic ")
        assert "proxy-authorization" not in headers


@pytest.mark.parametrize("kind", KINDS)
def test_the_stores_certificate_is_checked_through_a_tunnel(kind: str, issue: Issue) -> None:
    """A proxy that answers in the store's place is not believed, nor is one of another name."""
    authority, _ = issue("localhost")
    _, strangers = issue("localhost")
    others, of_another_name = issue("store.example.org")
    with proxying() as proxy:
        for context, believed in ((strangers, authority), (of_another_name, others)):
            with standing(well, context) as store:
                outcome = sent(kind, store.url, proxy=proxy.url, ca_file=str(believed))
            assert outcome.verdict is Verdict.UNREACHABLE
            assert "certificate" in outcome.reason.lower()
            assert "HTTP 0" not in outcome.reason
            assert store.requests == []


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("secure", [False, True], ids=["http", "https"])
def test_a_proxy_may_be_spoken_to_by_tls(kind: str, secure: bool, issue: Issue) -> None:  # noqa: FBT001
    """Its certificate is checked as the store's is."""
    authority, context = issue("localhost")
    _, strangers = issue("localhost")
    with standing(well, context if secure else None) as store:
        with proxying(wants="ada:pw", context=context) as proxy:
            more = {"proxy": proxy.with_user("ada:pw"), "ca_file": str(authority)}
            assert sent(kind, store.url, **more).verdict is Verdict.DELIVERED
        assert [method for method, _ in proxy.asked] == ["CONNECT" if secure else "POST"]
        with proxying(wants="ada:pw", context=strangers) as stranger:
            more = {"proxy": stranger.with_user("ada:pw"), "ca_file": str(authority)}
            outcome = sent(kind, store.url, **more)
        assert outcome.verdict is Verdict.UNREACHABLE
        assert "certificate" in outcome.reason.lower()
        assert stranger.asked == []


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("written", "meant"),
    [("ada:s3cr3t", "ada:s3cr3t"), ("ada:p%40ss%3A%2Fword", "ada:p@ss:/word"), ("j%C3%BCrgen:", "jürgen:")],
)
def test_credentials_are_those_of_its_address(kind: str, written: str, meant: str) -> None:
    """Percent signs stand for what an address cannot hold; the store never sees them."""
    with standing(well) as store, proxying(wants=meant) as proxy:
        assert sent(kind, store.url, proxy=proxy.with_user(written)).verdict is Verdict.DELIVERED
    ((_, headers, _),) = store.requests
    assert "proxy-authorization" not in headers


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("secure", [False, True], ids=["http", "https"])
def test_wrong_credentials_are_said_without_them(
    kind: str,
    secure: bool,  # noqa: FBT001
    issue: Issue,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The batch is kept; neither reason nor log holds the password."""
    caplog.set_level(logging.DEBUG)
    authority, context = issue("localhost")
    with standing(well, context if secure else None) as store, proxying(wants="ada:other") as proxy:
        user = proxy.with_user(f"ada:{SECRET}")
        outcome = sent(kind, store.url, proxy=user, ca_file=str(authority))
        nobody = sent(kind, store.url, proxy=proxy.url, ca_file=str(authority))
    for one in (outcome, nobody):
        assert one.verdict is Verdict.UNREACHABLE
        assert "407" in one.reason
    assert store.requests == []
    assert SECRET not in outcome.reason + caplog.text


def _closes(handler: Handler) -> None:
    handler.connection.shutdown(socket.SHUT_RDWR)


def _resets(handler: Handler) -> None:
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    handler.connection.close()


def _hangs(handler: Handler) -> None:
    handler.rfile.read(1)


def _forbids(handler: Handler) -> None:
    handler.say(403, "not from here")


def _fails(handler: Handler) -> None:
    handler.say(502, "the store does not answer")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("secure", [False, True], ids=["http", "https"])
@pytest.mark.parametrize(
    ("refuses", "words"),
    [(_forbids, "403"), (_fails, "502"), (_closes, ""), (_resets, ""), (_hangs, "timed out")],
    ids=["403", "502", "closes", "resets", "hangs"],
)
def test_a_proxy_that_refuses_is_unreachable(
    kind: str,
    secure: bool,  # noqa: FBT001
    refuses: Callable[[Handler], None],
    words: str,
    issue: Issue,
) -> None:
    """With a reason, in time, and without going past it; it is asked again for the next batch."""
    authority, context = issue("localhost")
    more = {"ca_file": str(authority), "timeout_seconds": 1.0}
    with standing(well, context if secure else None) as store, proxying(refuses=refuses) as proxy:
        one = transport(kind, store.url, proxy=proxy.with_user(f"ada:{SECRET}"), **more)
        outcome = one.send(BODY)
        assert store.requests == []
        proxy.refuses, proxy.wants = None, f"ada:{SECRET}"
        again = one.send(BODY)
        one.close()
    assert outcome.verdict is Verdict.UNREACHABLE
    assert outcome.reason.isprintable()
    assert words in outcome.reason
    assert len(outcome.reason) > 10
    assert SECRET not in outcome.reason
    assert again.verdict is Verdict.DELIVERED


@pytest.mark.parametrize("kind", KINDS)
def test_a_proxy_that_is_not_there_is_unreachable(kind: str) -> None:
    """The store is not asked past it."""
    with standing(well) as store:
        for proxy in ("http://ada:s3cr3t@127.0.0.1:9", "http://ada:s3cr3t@no-such-name.invalid:3128"):
            outcome = sent(kind, store.url, proxy=proxy)
            assert outcome.verdict is Verdict.UNREACHABLE
            assert "proxy" in outcome.reason
            assert SECRET not in outcome.reason
    assert store.requests == []


@pytest.mark.parametrize(
    "proxy",
    [
        "http://ada:s3cr3t/x@proxy:3128",
        "http://ada:12#s3cr3t@proxy:3128",
        "http://ada:s3cr3t?@proxy:3128",
        "http://ada:s3cr3t@proxy:99999",
        "http://ada:s3cr3t@[proxy:3128",
        "socks5://ada:s3cr3t@proxy:1080",
        "ada:s3cr3t@proxy:3128",
        "http://ada:s3cr3t@",
    ],
)
def test_what_is_no_address_of_a_proxy_is_refused(proxy: str) -> None:
    """Nothing of it is told, since a part of the password may look like a host."""
    with pytest.raises(SettingsError, match="proxy is no address such as http://") as caught:
        sent("influx1", "http://127.0.0.1:9", proxy=proxy)
    assert not [part for part in (SECRET, "ada") if part in str(caught.value)]


@pytest.mark.parametrize("kind", KINDS)
def test_the_environment_names_no_proxy(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the settings do: variables set for others neither send batches elsewhere nor keep them here."""
    with standing(well) as store, proxying() as asked, proxying() as unasked:
        for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, unasked.url)
        assert sent(kind, store.url).verdict is Verdict.DELIVERED
        for name in ("NO_PROXY", "no_proxy"):
            monkeypatch.setenv(name, "*")
        assert sent(kind, store.url, proxy=asked.url).verdict is Verdict.DELIVERED
    assert unasked.asked == []
    assert len(asked.asked) == 1
    assert len(store.requests) == 2
