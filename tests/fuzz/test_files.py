"""Files and words that others write: each is understood, or refused in a sentence."""

import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from agent.errors import SettingsError
from agent.holders.names import printable
from exporters.proxy import proxy_of
from exporters.web_auth import Doorkeeper, Verdict
from exporters.web_config import WebConfigFile
from gputally.cli import main
from gputally.labels import LONGEST_VALUE, MOST_LABELS, labelled
from gputally.settings import Settings
from tests.command.processes import gputally
from tests.fuzz.spoilt import examples, hold, spoilt

HASH = "$2b$04$" + "." * 53
USERS = f"""\
basic_auth_users:
  me: "{HASH}"
http_server_config:
  headers:
    X-Frame-Options: deny
"""
TLS = """\
tls_server_config:
  cert_file: a.crt
  key_file: a.key
  client_auth_type: NoClientCert
  min_version: TLS12
  cipher_suites: [TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256]
"""
HEADERS = "http_server_config: {http2: true, headers: {Strict-Transport-Security: max-age=1}}"
WEB = (USERS.encode(), TLS.encode(), HEADERS.encode())
LABELS = (b"pool=train\nrack = r7\n# nothing\n\ncluster=c1\n",)
WHO = (b"Basic bWU6c2VjcmV0", b"Bearer x", b"basic  OmE=", b"Basic =")
PROXIES = (b"http://me:p%40ss@proxy.example.org:3128", b"https://[::1]:8080/", b"")
SHORT_TEXT = re.compile(r"^[a-z_]\w*$")


@examples
def test_web_config(examples: int, tmp_path: Path) -> None:
    """The YAML of TLS, users and headers."""
    path = tmp_path / "web.yml"

    def check(said: bytes) -> None:
        path.write_bytes(said)
        try:
            config = WebConfigFile(str(path)).current()
        except SettingsError:
            return
        for name, value in config.headers.items():
            assert not set("\r\n") & set(name + value)

    hold(spoilt(WEB), examples, check)


@pytest.mark.parametrize("said", ["[" * 3000, '!!int ""', "!!timestamp x", "!!float [1]", "2026-99-99"])
def test_web_config_that_trips_its_reader(said: str, tmp_path: Path) -> None:
    """Found by the one above, or known of PyYAML: errors that are none of its own."""
    path = tmp_path / "web.yml"
    path.write_text(said, encoding="utf-8")
    with pytest.raises(SettingsError, match=r"web\.yml"):
        WebConfigFile(str(path))


@examples
def test_labels(examples: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the program for labels prints."""
    settings = Settings()
    settings = replace(settings, node=replace(settings.node, labels_command=("labels",)))

    def check(said: bytes) -> None:
        done = type("Done", (), {"code": 0, "text": said.decode(errors="replace"), "words": ""})
        monkeypatch.setattr("gputally.labels.run_command", lambda *_, **__: done)
        told: Mapping[str, str] = {}
        refused = ""
        try:
            told = labelled(settings).node.labels
        except SettingsError as error:
            refused = str(error)
        assert refused == printable(refused, 2000)
        assert len(told) <= MOST_LABELS
        for name, value in told.items():
            assert SHORT_TEXT.match(name.lower())
            assert len(value) <= LONGEST_VALUE

    hold(spoilt(LABELS), examples, check)


@examples
def test_who_is_asking(examples: int) -> None:
    """A header of basic authentication: nobody comes in but who knows the password."""
    keeper = Doorkeeper({"nobody-knows": HASH})

    def check(said: bytes) -> None:
        assert keeper.recall(said.decode("latin-1")) is not Verdict.WELCOME

    hold(spoilt(WHO), examples, check)


@examples
def test_proxies(examples: int) -> None:
    """The address of a proxy out of the settings or the environment; its password is in no error."""

    def check(said: bytes) -> None:
        with suppress(ValueError):
            proxy = proxy_of(said.decode(errors="replace"))
            assert proxy is None or "@" not in proxy.url

    hold(spoilt(PROXIES), examples, check)


@pytest.fixture(scope="module")
def journal(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Give the bytes of a sound journal, of seconds of two GPUs."""
    path = tmp_path_factory.mktemp("sound") / "j.db"
    words = ("--simulate", "t4x2:mixed", "--interval", "1", "--port", "0", "--for", "4")
    assert gputally(path.parent, "run", *words, "--journal", path).code == 0
    return path.read_bytes()


@examples
def test_journals(examples: int, tmp_path: Path, journal: bytes, capsys: pytest.CaptureFixture[str]) -> None:
    """A journal that was carried here on a bad disk: what reads it says so, and never fails otherwise."""
    path = tmp_path / "spoilt.db"

    def check(said: bytes) -> None:
        path.write_bytes(said)
        for command in ("status", "findings", "report"):
            assert main([command, "--journal", str(path)]) in (0, 1, 2)
        told = capsys.readouterr()
        assert "Traceback" not in told.out + told.err

    hold(spoilt([journal]), min(examples, 400), check)
