"""The web-config file: TLS, users and headers; what is read anew, and what a broken file changes."""

import base64
import contextlib
import http.client
import logging
import os
import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import bcrypt
import pytest

from agent.errors import SettingsError
from exporters import web_auth, web_server
from exporters.page import Pages
from exporters.web import Web, WebSettings
from exporters.web_auth import MOST_WAITING, Doorkeeper, Verdict, cost_of
from exporters.web_config import WebConfigFile
from tests.command.waiting import until
from tests.exporters.views import view

LOOPBACK = "127.0.0.1"
SECONDS = 30.0
SECRET = "correct horse"  # noqa: S105
CHEAP = bcrypt.hashpw(SECRET.encode(), b"$2b$04$gputallygputallygputae").decode()
OTHER = bcrypt.hashpw(b"other", bcrypt.gensalt(5)).decode()
USERS = f"basic_auth_users:\n  alice: {CHEAP}\n  bob: {OTHER}\n"


class Certificates(NamedTuple):
    """A CA of our own, and a folder with what it signed: NAME.crt and NAME.key."""

    folder: Path

    def made(self, name: str) -> tuple[str, str]:
        """Give the paths of a certificate and its key."""
        return str(self.folder / f"{name}.crt"), str(self.folder / f"{name}.key")


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """Make a CA, two certificates of servers and one of a client."""
    if shutil.which("openssl") is None:
        missing = "openssl is not installed: apt-get install -y --no-install-recommends openssl (Debian)"
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(missing)
    folder = tmp_path_factory.mktemp("certificates")
    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    openssl(folder, "req", "-x509", *key, "-subj", "/CN=ca", "-keyout", "ca.key", "-out", "ca.crt")
    for name, san in (("one", "IP:127.0.0.1"), ("two", "IP:127.0.0.1"), ("client", "DNS:prometheus.lan")):
        openssl(
            folder,
            *("req", "-x509", "-CA", "ca.crt", "-CAkey", "ca.key", *key, "-subj", f"/CN={name}"),
            *("-addext", f"subjectAltName={san}", "-addext", "basicConstraints=CA:FALSE"),
            *("-keyout", f"{name}.key", "-out", f"{name}.crt"),
        )
    return Certificates(folder)


def openssl(folder: Path, *arguments: str) -> None:
    """Run openssl."""
    tool = str(shutil.which("openssl"))
    subprocess.run([tool, *arguments], cwd=folder, check=True, capture_output=True, timeout=60)


@contextlib.contextmanager
def serving(config: Path) -> Iterator[int]:
    """Serve pages with a web-config file."""
    pages = Pages({}, "1.2.3", lambda: 0.0)
    pages.publish(view())
    web = Web(WebSettings(port=0, config_file=str(config)), pages, "1.2.3")
    try:
        web.start()
        yield web.port
    finally:
        web.stop()


def ask(
    port: int,
    path: str = "/metrics",
    user: str = "",
    password: str = SECRET,
    tls: ssl.SSLContext | None = None,
) -> http.client.HTTPResponse:
    """Ask for a page as a well-behaved client does, and read it."""
    headers = {}
    if user:
        headers["Authorization"] = basic(user, password)
    if tls is None:
        connection = http.client.HTTPConnection(LOOPBACK, port, timeout=SECONDS)
    else:
        connection = http.client.HTTPSConnection(LOOPBACK, port, timeout=SECONDS, context=tls)
    with closing(connection):
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        answer.read()
        return answer


def basic(user: str, password: str) -> str:
    """Give the value of an Authorization header."""
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def tls_file(certificates: Certificates, name: str = "one", more: str = "") -> str:
    """Give a web-config file's section for TLS."""
    certificate, key = certificates.made(name)
    return f"tls_server_config:\n  cert_file: {certificate}\n  key_file: {key}\n{more}"


def trusting(certificates: Certificates) -> ssl.SSLContext:
    """Give what a client needs to trust our CA."""
    return ssl.create_default_context(cafile=certificates.made("ca")[0])


def written(path: Path, text: str) -> Path:
    """Write a file in one step, as those that care do."""
    fresh = path.with_suffix(".new")
    fresh.write_text(text, encoding="utf-8")
    fresh.replace(path)
    return path


@pytest.mark.parametrize("path", ["/", "/metrics", "/metrics/dcgm", "/-/healthy", "/-/ready", "/nothing"])
def test_every_page_wants_a_password(tmp_path: Path, path: str) -> None:
    """Without a password, with a wrong one or as nobody known, there is 401 and nothing else."""
    with serving(written(tmp_path / "web.yml", USERS)) as port:
        for user, password in (("", ""), ("alice", "wrong"), ("eve", SECRET), ("bob", SECRET)):
            answer = ask(port, path, user, password)
            assert answer.status == 401
            assert answer.getheader("WWW-Authenticate") == 'Basic realm="gputally"'
        assert ask(port, path, "alice").status == (404 if path == "/nothing" else 200)
        assert ask(port, path, "bob", "other").status != 401


@pytest.mark.parametrize(
    "header",
    [
        "",
        "Basic",
        "Basic !!!",
        "Basic " + base64.b64encode(b"alice").decode(),
        "Basic " + base64.b64encode(b"\xff:x").decode(),
        "Bearer abc",
        basic("alice", "x" * 500),
        basic("alice", SECRET + "\0"),
    ],
)
def test_a_header_that_makes_no_sense_is_refused(header: str) -> None:
    """Whatever stands in the header, the answer is no."""
    assert Doorkeeper({"alice": CHEAP}).judge(header) is Verdict.REFUSED


def test_a_right_password_is_computed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first scrape pays for bcrypt, later ones do not; each user has a password of his own."""
    calls = counting(monkeypatch)
    keeper = Doorkeeper({"alice": CHEAP, "bob": OTHER})
    for _ in range(5):
        assert keeper.judge(basic("alice", SECRET)) is Verdict.WELCOME
    assert len(calls) == 1
    assert keeper.judge(basic("bob", SECRET)) is Verdict.REFUSED
    assert len(calls) == 2


def test_nobody_takes_as_long_as_somebody(monkeypatch: pytest.MonkeyPatch) -> None:
    """For an unknown user a hash of the dearest cost is computed too, so that time tells no names."""
    calls = counting(monkeypatch)
    keeper = Doorkeeper({"alice": CHEAP, "bob": OTHER})
    assert keeper.judge(basic("eve", "any")) is Verdict.REFUSED
    assert [cost_of(hashed.decode()) for hashed in calls] == [5]


def test_many_wrong_passwords_are_told_to_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """One check runs at a time, few wait, the rest hears at once to come back; who is known gets in."""
    keeper = Doorkeeper({"alice": CHEAP})
    assert keeper.judge(basic("alice", SECRET)) is Verdict.WELCOME
    go_on, running, most = threading.Event(), [0], [0]

    def slow(_password: bytes, _hashed: bytes) -> bool:
        running[0] += 1
        most[0] = max(most[0], running[0])
        assert go_on.wait(SECONDS)
        running[0] -= 1
        return False

    monkeypatch.setattr(keeper, "_check", slow)
    with ThreadPoolExecutor(MOST_WAITING) as crowd:
        waiting = [crowd.submit(keeper.judge, basic("alice", f"guess {n}")) for n in range(MOST_WAITING)]
        until(lambda: keeper._seats._value == 0, "a full house")
        assert keeper.judge(basic("alice", "one more")) is Verdict.BUSY
        assert keeper.judge(basic("alice", SECRET)) is Verdict.WELCOME
        monkeypatch.setattr(web_auth, "_PAUSE_TIMES", 0)
        go_on.set()
        assert {one.result() for one in waiting} == {Verdict.REFUSED}
    assert most == [1]


def counting(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """Note the hashes that are computed."""
    calls: list[bytes] = []
    real = bcrypt.checkpw

    def check(password: bytes, hashed: bytes) -> bool:
        calls.append(hashed)
        return real(password, hashed)

    monkeypatch.setattr(bcrypt, "checkpw", check)
    return calls


def test_it_speaks_tls(tmp_path: Path, certificates: Certificates) -> None:
    """With a certificate the pages come over TLS, with users over TLS to those; plain HTTP gets nothing."""
    config = written(tmp_path / "web.yml", tls_file(certificates) + USERS)
    with serving(config) as port:
        assert ask(port, tls=trusting(certificates), user="alice").status == 200
        assert ask(port, tls=trusting(certificates)).status == 401
        with pytest.raises((http.client.HTTPException, ConnectionError)):
            ask(port)
        assert ask(port, tls=trusting(certificates), user="alice").status == 200


def test_paths_are_relative_to_the_file(
    tmp_path: Path, certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A certificate beside the file is found from wherever the agent was started."""
    for path in certificates.made("one"):
        shutil.copy(path, tmp_path)
    text = "tls_server_config: {cert_file: one.crt, key_file: one.key, min_version: TLS13}\n"
    config = written(tmp_path / "web.yml", text)
    monkeypatch.chdir("/")
    with serving(config) as port:
        assert ask(port, tls=trusting(certificates)).status == 200


def test_a_client_needs_a_certificate(tmp_path: Path, certificates: Certificates) -> None:
    """Where certificates of clients are required, who has none of that CA or not that name gets nothing."""
    more = "  client_auth_type: RequireAndVerifyClientCert\n"
    more += f"  client_ca_file: {certificates.made('ca')[0]}\n"
    config = written(tmp_path / "web.yml", tls_file(certificates, more=more))
    known = trusting(certificates)
    known.load_cert_chain(*certificates.made("client"))
    with serving(config) as port:
        assert ask(port, tls=known).status == 200
        with pytest.raises(OSError, match=r".*"):
            ask(port, tls=trusting(certificates))

        named = more + "  client_allowed_sans: [prometheus.lan]\n"
        written(config, tls_file(certificates, more=named))
        assert ask(port, tls=known).status == 200
        written(config, tls_file(certificates, more=named.replace("prometheus", "nobody")))
        with pytest.raises((OSError, http.client.HTTPException)):
            ask(port, tls=known)


def test_tls_clients_that_say_nothing_keep_nobody_waiting(
    tmp_path: Path, certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A handshake that never ends holds one thread at most for as long as any client may take."""
    monkeypatch.setattr(web_server, "CLIENT_SECONDS", 1.0)
    with (
        serving(written(tmp_path / "web.yml", tls_file(certificates))) as port,
        socket.create_connection((LOOPBACK, port), timeout=SECONDS) as slow,
    ):
        slow.sendall(b"\x16\x03\x01")
        assert ask(port, tls=trusting(certificates)).status == 200
        with contextlib.suppress(ConnectionError):
            assert slow.recv(100) == b""


def test_tls_clients_that_drip_hold_no_thread(tmp_path: Path, certificates: Certificates) -> None:
    """Twice as many as there are workers begin a handshake and do not end it; others are served."""
    with (
        serving(written(tmp_path / "web.yml", tls_file(certificates))) as port,
        contextlib.ExitStack() as stack,
    ):
        for _ in range(2 * web_server.THREADS):
            slow = socket.create_connection((LOOPBACK, port), timeout=SECONDS)
            stack.enter_context(slow).sendall(b"\x16\x03\x01")
        with contextlib.closing(
            http.client.HTTPSConnection(
                LOOPBACK, port, timeout=web_server.CLIENT_SECONDS / 2, context=trusting(certificates)
            )
        ) as connection:
            connection.request("GET", "/metrics")
            assert connection.getresponse().status == 200


def test_a_known_password_waits_for_no_worker() -> None:
    """Who was let in before is known at once, a header without sense refused; a new one must be checked."""
    keeper = Doorkeeper({"alice": CHEAP})
    assert keeper.recall(basic("alice", SECRET)) is None
    assert keeper.recall("Basic !!!") is Verdict.REFUSED
    assert keeper.judge(basic("alice", SECRET)) is Verdict.WELCOME
    assert keeper.recall(basic("alice", SECRET)) is Verdict.WELCOME
    assert keeper.recall(basic("alice", "wrong")) is None


def test_a_new_certificate_is_used_without_a_restart(tmp_path: Path, certificates: Certificates) -> None:
    """When the files are replaced, the next connection gets the new certificate."""
    for name, path in zip(("server.crt", "server.key"), certificates.made("one"), strict=True):
        shutil.copy(path, tmp_path / name)
    text = "tls_server_config: {cert_file: server.crt, key_file: server.key}\n"
    with serving(written(tmp_path / "web.yml", text)) as port:
        first = seen(port)
        for name, path in zip(("server.crt", "server.key"), certificates.made("two"), strict=True):
            written(tmp_path / name, Path(path).read_text())
        assert seen(port) != first
        assert ask(port, tls=trusting(certificates)).status == 200


def seen(port: int) -> str:
    """Give the certificate that a server shows."""
    return ssl.get_server_certificate((LOOPBACK, port), timeout=SECONDS)


@pytest.mark.parametrize("broken", ["", "basic_auth_users: [", "basic_auth_users: {alice: plain}", None])
def test_a_broken_file_keeps_the_old_one_and_is_logged_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, broken: str | None
) -> None:
    """Emptied, broken or deleted it changes nothing, which is said once; when it is whole it is read."""
    config = written(tmp_path / "web.yml", USERS)
    with serving(config) as port, caplog.at_level(logging.INFO):
        if broken is None:
            config.unlink()
        else:
            written(config, broken)
        for _ in range(3):
            assert ask(port).status == 401
            assert ask(port, user="alice").status == 200
        assert [record.levelname for record in caplog.records] == ["WARNING"]
        assert "the old one goes on" in caplog.text

        written(config, f"basic_auth_users: {{carol: {CHEAP}}}\n")
        assert ask(port, user="alice").status == 401
        assert ask(port, user="carol").status == 200
        assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]


def test_headers_are_added_and_win(tmp_path: Path) -> None:
    """Headers of the file come with every answer, in place of ours."""
    text = "http_server_config:\n  http2: true\n  headers:\n    X-Frame-Options: deny\n"
    text += "    Content-Security-Policy: frame-ancestors 'none'\n    X-XSS-Protection:\n"
    with serving(written(tmp_path / "web.yml", text)) as port:
        answer = ask(port, "/nothing")
    assert answer.getheader("X-Frame-Options") == "deny"
    assert answer.getheader("Content-Security-Policy") == "frame-ancestors 'none'"
    assert answer.getheader("X-Content-Type-Options") == "nosniff"
    assert answer.getheader("X-XSS-Protection") is None


TLS = "tls_server_config: {cert_file: one.crt, key_file: one.key, %s}"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "the file is empty; it may have tls_server_config"),
        ("[]", "the file must hold keys"),
        ("a: [", "is not YAML"),
        ("x: !!python/object/apply:os.getpid []", "is not YAML"),
        ("tls: {}", "unknown key 'tls'; known are tls_server_config, http_server_config, basic_auth_users"),
        ("tls_server_config: {certfile: x}", "unknown key 'certfile'; known are cert_file, key_file"),
        ("tls_server_config: {cert_file: x}", "key_file is missing"),
        ("tls_server_config: {cert_file: no.crt, key_file: no.key}", "No such file.*user may read"),
        (
            "tls_server_config: {cert_file: one.crt, key_file: two.key}",
            "must be PEM files that belong together",
        ),
        ("tls_server_config: {cert_file: web.yml, key_file: one.key}", "must be PEM files"),
        (
            TLS % "min_version: TLS10",
            "min_version TLS10 is not known or not safe; choose one of TLS12, TLS13",
        ),
        (TLS % "client_auth_type: RequireAnyClientCert", "choose one of NoClientCert, Verify"),
        (TLS % "client_auth_type: RequireAndVerifyClientCert", "belong together"),
        (TLS % "client_ca_file: ca.crt", "belong together"),
        (TLS % "client_allowed_sans: [x]", "client_allowed_sans needs"),
        (
            TLS % "client_ca_file: no.crt, client_auth_type: VerifyClientCertIfGiven",
            "client_ca_file .*No such",
        ),
        (TLS % "cipher_suites: [TLS_RSA_WITH_RC4_128_SHA]", "TLS_RSA_WITH_RC4_128_SHA is not known"),
        (TLS % "cipher_suites: x", "cipher_suites must be a list"),
        (
            "http_server_config: {headers: {X-Powered-By: x}}",
            "unknown key 'X-Powered-By'; known are Content-",
        ),
        ("http_server_config: {headers: {X-Frame-Options: allow}}", "cannot be 'allow'; deny or sameorigin"),
        ('http_server_config: {headers: {X-XSS-Protection: "1\\r\\nA: b"}}', "use plain text"),
        ("basic_auth_users: [alice]", "basic_auth_users must hold keys"),
        ("basic_auth_users: {alice: secret}", "the password of alice is not a bcrypt hash.*htpasswd"),
        (f"basic_auth_users: {{alice: '{CHEAP.replace('$04$', '$31$')}'}}", "cost of 31; choose 10 to 16"),
    ],
)
def test_a_file_that_cannot_be_meant_is_refused(
    tmp_path: Path, certificates: Certificates, text: str, why: str
) -> None:
    """A broken file is an error that names it, what is wrong, and what to do; no secret is in it."""
    for name in ("one", "two", "ca"):
        for path in certificates.made(name):
            shutil.copy(path, tmp_path)
    config = written(tmp_path / "web.yml", text)
    with pytest.raises(SettingsError, match=why) as error:
        WebConfigFile(str(config))
    assert str(error.value).startswith(f"[web] config_file {config}: ")
    assert "\n" not in str(error.value)
    assert "secret" not in str(error.value)


def test_a_file_that_is_not_there_is_said(tmp_path: Path) -> None:
    """A web server with a file that cannot be read does not start unprotected."""
    settings = WebSettings(port=0, config_file=str(tmp_path / "no.yml"))
    with pytest.raises(SettingsError, match=r"no\.yml: No such file.*user may read"):
        Web(settings, Pages({}, "1.2.3", lambda: 0.0), "1.2.3")


def test_a_key_with_a_password_is_refused(tmp_path: Path, certificates: Certificates) -> None:
    """Nobody is asked for the password of a key on the terminal."""
    certificate, key = certificates.made("one")
    arguments = ("ec", "-in", key, "-aes256", "-passout", "pass:x", "-out", str(tmp_path / "shut.key"))
    openssl(tmp_path, *arguments)
    text = f"tls_server_config: {{cert_file: {certificate}, key_file: shut.key}}"
    with pytest.raises(SettingsError, match="use one without"):
        WebConfigFile(str(written(tmp_path / "web.yml", text)))


def test_suites_and_preference_are_applied(tmp_path: Path, certificates: Certificates) -> None:
    """Suites are named as the conventions have them and hold for TLS 1.2."""
    more = "  max_version: TLS12\n  cipher_suites: [TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384]\n"
    more += "  prefer_server_cipher_suites: false\n"
    with (
        serving(written(tmp_path / "web.yml", tls_file(certificates, more=more))) as port,
        socket.create_connection((LOOPBACK, port), timeout=SECONDS) as plain,
        trusting(certificates).wrap_socket(plain, server_hostname=LOOPBACK) as secure,
    ):
        cipher = secure.cipher()
    assert cipher is not None
    assert cipher[:2] == ("ECDHE-ECDSA-AES256-GCM-SHA384", "TLSv1.2")
