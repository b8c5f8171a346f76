"""Mail to a real server, and to rude ones: settings, headers, encryption, and what is said when it fails."""

import smtplib
from collections.abc import Callable, Mapping
from dataclasses import replace
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.errors import SettingsError
from agent.tally import HOUR_MS
from gputally.mail import MailError, Outcome, Post, Refused, Taken, Unsure, message
from gputally.mail_record import DAY_MS
from gputally.mail_settings import MailSettings
from tests.command.post_office import (
    GREETING,
    PASSWORD,
    USER,
    Certificates,
    Office,
    office,
    plain,
    rude,
    says,
)
from tests.reports.small import MONDAY_MS

SENT_MS = MONDAY_MS + 7 * DAY_MS + 6 * HOUR_MS


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """Make certificates, each once."""
    return Certificates(tmp_path_factory.mktemp("certificates"))


def letter(settings: MailSettings, subject: str = "A subject") -> EmailMessage:
    """Make a short letter."""
    made = message(settings, "ann@example.org", subject, SENT_MS)
    made.set_content("Text.\n.\nWith a dot alone on a line.\n")
    return made


def handed(settings: MailSettings) -> Outcome:
    """Hand one letter over."""
    with Post(settings) as post:
        return post.send("ann@example.org", letter(settings))


# Settings


@pytest.mark.parametrize(
    ("told", "said"),
    [
        ({"host": "mail.example.org"}, "sender is missing"),
        ({"sender": "a@example.org", "planners": ("b@example.org",)}, "host is missing"),
        ({"host": "mail.example.org:587", "sender": "a@example.org"}, "port has a key of its own"),
        ({"host": "mail example", "sender": "a@example.org"}, "host must be a name"),
        ({"security": "ssl"}, "security must be one of starttls, tls, none, insecure"),
        ({"host": "mail.example.org", "security": "none"}, "is for a server on this machine"),
        (
            {"host": "x", "security": "insecure", "username": "a", "password_file": "/p"},
            "not sent unencrypted",
        ),
        ({"username": "a"}, "give both username and password_file"),
        ({"port": 70_000}, "port must lie between 0 and 65535"),
        ({"timeout_seconds": 0.0}, "timeout_seconds must lie between 1 and 600"),
        ({"cool_down_days": float("nan")}, "cool_down_days must lie between 0 and 366"),
        ({"owner_least_gpu_hours": -1.0}, "owner_least_gpu_hours must lie"),
        ({"sender": "nobody"}, "sender: 'nobody' is no address"),
        ({"sender": "x\r\nBcc: all@example.org <a@example.org>"}, "sender must be printable"),
        ({"planners": ("a@example.org, b@example.org",)}, "planners: 'a@example.org, b@example.org' is no"),
        ({"planners": ("a@example.org\nBcc: c@example.org",)}, "planners: "),
        ({"planners": ("ä@example.org",)}, "planners: 'ä@example.org' is no address"),
        ({"owners": {"vision": "vision at example"}}, "owners.vision: 'vision' is no address"),
        ({"owners": {"vision": 5}}, "owners.vision must be an address in quotes"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(told: dict[str, object], said: str) -> None:
    """With the key, in one sentence."""
    with pytest.raises(SettingsError) as error:
        MailSettings(**told)  # type: ignore[arg-type]
    assert said in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("security", "port"), [("starttls", 587), ("tls", 465), ("insecure", 25)])
def test_the_port_is_the_usual_one_unless_told(security: str, port: int) -> None:
    """By the way that connections are secured."""
    settings = MailSettings(host="mail.example.org", security=security, sender="a@example.org")

    assert settings.resolved_port == port
    assert replace(settings, port=2525).resolved_port == 2525


@pytest.mark.parametrize(
    ("sender", "name", "address"),
    [
        ("gpu@example.org", "", "gpu@example.org"),
        ("GPU report <gpu@example.org>", "GPU report", "gpu@example.org"),
        ("Größe, AG <gpu@example.org>", "Größe, AG", "gpu@example.org"),
        ("<gpu@example.org>", "", "gpu@example.org"),
    ],
)
def test_a_sender_may_have_a_name(sender: str, name: str, address: str) -> None:
    """Both are told apart, and stand in the header as they were meant."""
    settings = MailSettings(sender=sender)
    assert (settings.sender_name, settings.sender_address) == (name, address)

    (header,) = message_from_bytes(letter(settings).as_bytes(), policy=default)["From"].addresses
    assert (header.display_name, header.addr_spec) == (name, address)


OWNERS: Mapping[str, str] = {
    "vision": "v1@example.org, v2@example.org",
    "guests": "",
    "team-*": "{owner}@example.org",
    "*": "rest@example.org",
}


@pytest.mark.parametrize(
    ("owner", "addresses"),
    [
        ("vision", ("v1@example.org", "v2@example.org")),
        ("guests", ()),
        ("team-a", ("team-a@example.org",)),
        ("team-a b", ()),
        ("team-x@evil.org,", ()),
        ("team-x>\r\nBcc: y", ()),
        ("team-.", ()),
        ("speech", ("rest@example.org",)),
        ("VISION", ("rest@example.org",)),
        ("unattributed", ()),
        ("other", ()),
        ("", ()),
    ],
)
def test_who_answers_for_an_owner(owner: str, addresses: tuple[str, ...]) -> None:
    """The owner's own line wins, then the first pattern; no name may change an address."""
    assert MailSettings(host="localhost", sender="a@b.org", owners=OWNERS).addresses_of(owner) == addresses


# Headers


def test_headers_say_that_a_machine_wrote_it() -> None:
    """So that nobody's out-of-office answers, and lists can be sorted; the date is that of sending."""
    made = letter(plain(25))

    assert made["Auto-Submitted"] == "auto-generated"
    assert made["X-Auto-Response-Suppress"] == "All"
    assert made["List-Id"] == "GPU report <gputally.example.org>"
    assert made["Date"] == "Mon, 23 Nov 2026 06:00:00 +0000"
    assert made["Message-ID"].endswith(".gputally@example.org>")
    assert made["Message-ID"] != letter(plain(25))["Message-ID"]


HOSTILE = st.text(max_size=300) | st.sampled_from(
    [
        "x\r\nBcc: all@example.org",
        "x\n\n<script>",
        "\u202eevil",
        "=?utf-8?q?=0ABcc:_a=40b?=",
        "é" * 250,
        "\udcff",
    ]
)


@given(HOSTILE)
def test_no_name_in_a_subject_makes_a_header(name: str) -> None:
    """Whatever an owner is called: there are the same headers, one of each, and lines are short and ASCII."""
    content = letter(plain(25), f"GPUs held idle by {name}").as_bytes()
    head, _, _ = content.partition(b"\r\n\r\n")
    read = message_from_bytes(content, policy=default)

    assert sorted(read.keys()) == sorted(letter(plain(25)).keys())
    assert head.isascii()
    assert max(map(len, head.split(b"\r\n"))) <= 998
    assert read["Subject"].startswith("GPUs held idle by ")
    assert read["Subject"].isprintable()
    assert read["To"] == "ann@example.org"


# Encryption and who is let in


@pytest.mark.parametrize("security", ["tls", "starttls"])
def test_mail_goes_encrypted(security: str, certificates: Certificates) -> None:
    """The server's certificate is checked against the authority that is named."""
    ca_file, context = certificates.make()
    with office(**{security: context}) as post:
        settings = replace(plain(post.port), security=security, ca_file=ca_file)
        assert handed(settings) == Taken()
    (got,) = post.got
    assert got.is_encrypted
    assert (got.sender, got.to) == ("gpu@example.org", ("ann@example.org",))
    assert got.text() == "Text.\n.\nWith a dot alone on a line.\n"


@pytest.mark.parametrize("security", ["tls", "starttls"])
@pytest.mark.parametrize(
    ("made", "is_trusted", "said"),
    [
        ((2, "localhost"), False, "self-signed certificate"),
        ((2, "elsewhere"), True, "Hostname mismatch"),
        ((-1, "localhost"), True, "certificate has expired"),
    ],
)
def test_a_certificate_that_does_not_fit_gets_nothing(
    security: str,
    made: tuple[int, str],
    is_trusted: bool,  # noqa: FBT001  a parameter
    said: str,
    certificates: Certificates,
) -> None:
    """Neither a letter nor a password; the sentence says what to name."""
    ca_file, context = certificates.make(*made)
    with office(**{security: context}) as post:
        settings = replace(plain(post.port), security=security, ca_file=ca_file if is_trusted else "")
        with pytest.raises(MailError, match=f"is not trusted .*{said}.*ca_file"):
            handed(settings)
    assert post.got == []


def test_a_server_without_starttls_gets_nothing() -> None:
    """Mail is not sent unencrypted because an answer is missing."""
    with office() as post, pytest.raises(MailError, match=r"offers no STARTTLS, so nothing was sent"):
        handed(replace(plain(post.port), security="starttls"))
    assert post.got == []


def test_tls_to_a_port_that_speaks_plain_text_says_so() -> None:
    """The port and the way are named."""
    with office() as post, pytest.raises(MailError, match=rf'is port {post.port} of "tls"\?'):
        handed(replace(plain(post.port), security="tls"))


def test_a_server_that_wants_encryption_is_obeyed(certificates: Certificates) -> None:
    """What it says is passed on."""
    _, context = certificates.make()
    with office(starttls=context) as post:
        outcome = handed(plain(post.port))
    assert isinstance(outcome, Refused)
    assert "530 Must issue a STARTTLS command first" in outcome.reason


def password_file(folder: Path, content: str = PASSWORD + "\n") -> str:
    """Write a password down."""
    path = folder / "password"
    path.write_text(content)
    return str(path)


def test_a_password_comes_from_its_file(tmp_path: Path, certificates: Certificates) -> None:
    """It is sent over an encrypted connection alone."""
    ca_file, context = certificates.make()
    with office(starttls=context, auth_required=True) as post:
        settings = plain(post.port, username=USER, password_file=password_file(tmp_path), ca_file=ca_file)
        assert handed(replace(settings, security="starttls")) == Taken()
    assert [(one.user, one.is_encrypted) for one in post.got] == [(USER, True)]


def refusal_of(password: str, certificates: Certificates) -> str:
    """Log in with what stands in a file; give the sentence with which that fails."""
    ca_file, context = certificates.make()
    with office(starttls=context, auth_required=True) as post:
        settings = plain(post.port, username=USER, password_file=password, ca_file=ca_file)
        with pytest.raises((MailError, SettingsError)) as error:
            handed(replace(settings, security="starttls"))
    assert post.got == []
    return str(error.value)


def test_a_wrong_password_is_told_without_it(tmp_path: Path, certificates: Certificates) -> None:
    """The server's words are there, the password is not."""
    said = refusal_of(password_file(tmp_path, "geheim"), certificates)

    assert f"lets {USER} not in: 535 5.7.8 Authentication credentials invalid" in said
    assert "geheim" not in said


@pytest.mark.parametrize(
    ("content", "said"),
    [(None, "cannot read password_file"), ("two\nlines", "cannot read password_file"), ("pä", "ASCII")],
)
def test_a_password_that_cannot_be_used_is_told(
    content: str | None, said: str, tmp_path: Path, certificates: Certificates
) -> None:
    """Before or as it would be sent, and never with it."""
    file = password_file(tmp_path, content) if content else str(tmp_path / "missing")
    found = refusal_of(file, certificates)

    assert said in found
    assert content is None or content not in found


def test_a_server_that_takes_no_logins_is_told(tmp_path: Path) -> None:
    """It is asked for one, but has none."""
    with office() as post, pytest.raises(MailError, match="AUTH extension not supported"):
        handed(plain(post.port, username=USER, password_file=password_file(tmp_path)))


def test_an_authority_that_is_not_there_is_told(tmp_path: Path) -> None:
    """With the name of the file."""
    settings = replace(plain(25), security="tls", ca_file=str(tmp_path / "missing"))
    with pytest.raises(SettingsError, match=r"cannot use ca_file .*missing"):
        handed(settings)


# Rude servers


def test_nobody_at_the_door_is_told() -> None:
    """With the address."""
    with rude(says()) as port:
        pass
    with pytest.raises(
        MailError, match=rf"the mail server localhost:{port} cannot be reached: Connection refused"
    ):
        handed(plain(port))


@pytest.mark.parametrize(
    ("script", "said"),
    [
        (says(then="hang"), "did not answer within 1 s"),
        (says(), "closed the connection"),
        (says("554 go away"), "refused: 554 go away"),
        (says("220 post", then="hang"), "did not answer within 1 s"),
        (says("220 post", "250 post", then="hang"), "did not answer within 1 s"),
        (says("nonsense"), "refused: -1"),
        (says("554 \x1b[31mred\x07"), r"refused: 554 \x1b[31mred\x07"),
    ],
)
def test_a_server_that_does_not_answer_as_it_should(script: Callable[..., None], said: str) -> None:
    """It costs a second, and its words cannot speak to a terminal."""
    with rude(script) as port:
        settings = plain(port, timeout_seconds=1.0)
        try:
            outcome = handed(settings)
        except MailError as error:
            found = str(error)
        else:
            assert isinstance(outcome, Refused)
            found = outcome.reason
    assert said in found
    assert found.isprintable()


@pytest.mark.parametrize(
    ("replies", "said"),
    [
        (("550 no",), "refused it: 550 no"),
        (("250 ok", "550 no such user"), "refused it: 550 no such user"),
        (("250 ok", "421 too much of you"), "refused it: 421 too much of you"),
        (("250 ok", "250 ok", "554 no"), "refused it: 554 no"),
        (("250 ok", "250 ok", "354 go", "552 too big"), "refused it: 552 too big"),
        (("250 ok",), "closed the connection"),
        (("250 ok", "250 ok", "250 what"), "refused it: 250 what"),
    ],
)
def test_what_is_certainly_not_taken_is_refused(replies: tuple[str, ...], said: str) -> None:
    """Whatever a server says before it has the whole letter, and its no afterwards."""
    with rude(says(*GREETING, *replies)) as port:
        outcome = handed(plain(port))
    assert isinstance(outcome, Refused)
    assert said in outcome.reason


@pytest.mark.parametrize(("then", "said"), [("close", "closed the connection"), ("hang", "within 1 s")])
def test_a_server_that_has_the_letter_and_says_nothing_leaves_it_open(then: str, said: str) -> None:
    """It may have taken it: only this is unsure."""
    with rude(says(*GREETING, "250 ok", "250 ok", "354 go", then=then)) as port:
        outcome = handed(plain(port, timeout_seconds=1.0))
    assert isinstance(outcome, Unsure)
    assert said in outcome.reason


def test_after_a_connection_that_broke_the_next_letter_has_another() -> None:
    """A refusal with 421 ends one; the letter behind it is taken over a new one."""
    taken = says(*GREETING, "250 ok", "250 ok", "354 go", "250 taken", "221 bye")
    with rude(says(*GREETING, "250 ok", "421 bye"), taken) as port, Post(plain(port)) as post:
        first = post.send("ann@example.org", letter(plain(port)))
        second = post.send("bob@example.org", letter(plain(port)))
    assert isinstance(first, Refused)
    assert second == Taken()


def test_a_letter_that_is_too_large_is_refused_before_it_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    """The server said what it takes, and is told the size first."""
    monkeypatch.setattr(smtplib.SMTP, "data", lambda *_: pytest.fail("it was sent"))
    with office(data_size_limit=100) as post:
        outcome = handed(plain(post.port))
    assert isinstance(outcome, Refused)
    assert "552 Error: message size exceeds fixed maximum" in outcome.reason


def test_an_office_knows_its_own() -> None:
    """The server of these tests keeps what it gets."""
    with office() as post:
        assert handed(plain(post.port)) == Taken()
    assert isinstance(post, Office)
    assert post.got[0].letter["Subject"] == "A subject"
