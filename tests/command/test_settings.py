"""The settings: defaults, a file over them, variables over that; whatever is wrong is one clear sentence."""

import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.errors import SettingsError
from agent.holders.owners import OwnerRule
from agent.holders.settings import HolderSettings
from agent.holders.worlds import lookouts
from exporters.catalogue import FAMILIES, GPU_LABELS
from gputally import settings as module
from gputally.settings import (
    FILE_VARIABLE,
    NodeSettings,
    Settings,
    default_journal,
    load,
)

SAMPLE = Path(__file__).parents[2] / "systemd" / "gputally.toml"


def keys_of(section: Any) -> dict[str, Any]:  # noqa: ANN401  any settings struct
    """Give the keys of a section with their values."""
    return {each.name: getattr(section, each.name) for each in fields(section)}


SECTIONS = {each.name: keys_of(getattr(Settings(), each.name)) for each in fields(Settings)}
"""Section → its keys with their defaults."""
OURS = sorted(
    {"job", "instance", "slice", "profile"}.union(
        *(family.labels for family in FAMILIES.values() if family.labels[:1] == GPU_LABELS[:1])
    )
)
"""Labels that no static label may be called: those of GPU series, and those that a scraper sets."""


def loaded(folder: Path, text: str, environment: Mapping[str, str] | None = None) -> Settings:
    """Load the text of a settings file."""
    path = folder / "gputally.toml"
    path.write_text(text, encoding="utf-8")
    return load(path, environment or {})


def refusal(folder: Path, text: str, environment: Mapping[str, str] | None = None) -> str:
    """Give the one sentence with which the text of a settings file is refused."""
    with pytest.raises(SettingsError) as error:
        loaded(folder, text, environment)
    sentence = str(error.value)
    assert "\n" not in sentence
    return sentence


@pytest.fixture
def no_system_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Let the settings of the system be a file of ours, which is not there yet."""
    path = tmp_path / "etc" / "gputally.toml"
    monkeypatch.setattr(module, "SYSTEM_FILE", path)
    return path


@pytest.mark.usefixtures("no_system_file")
def test_without_anything_there_are_defaults() -> None:
    """No file and no variable give the defaults, on loopback."""
    settings = load(None, {"PATH": "/bin"})

    assert settings == Settings()
    assert (settings.web.listen, settings.web.port) == ("127.0.0.1", 9740)
    assert (settings.agent.interval_seconds, settings.journal.sync) == (10.0, "full")


def test_an_empty_file_gives_the_defaults(tmp_path: Path) -> None:
    """An empty file, or one of empty sections, changes nothing."""
    assert loaded(tmp_path, "") == Settings()
    assert loaded(tmp_path, "".join(f"[{name}]\n" for name in SECTIONS)) == Settings()


def test_a_file_wins_over_defaults(tmp_path: Path) -> None:
    """What a file sets is set, with whole numbers taken for numbers; all else stays."""
    settings = loaded(
        tmp_path,
        """
        [node]
        name = "hall2-n017"
        labels = { cluster = "emea", rack = "r7" }
        [agent]
        interval_seconds = 30
        [states]
        service_owners = ["burnin-*", "root"]
        [web]
        port = 9800
        """,
    )

    defaults = Settings()
    assert settings == replace(
        defaults,
        node=NodeSettings(name="hall2-n017", labels={"cluster": "emea", "rack": "r7"}),
        agent=replace(defaults.agent, interval_seconds=30.0),
        states=replace(defaults.states, service_owners=("burnin-*", "root")),
        web=replace(defaults.web, port=9800),
    )


def test_variables_win_over_the_file(tmp_path: Path) -> None:
    """A variable of the environment overrides the same key of the file, whatever its type."""
    settings = loaded(
        tmp_path,
        '[web]\nport = 9800\nlisten = "::1"\n[node]\nname = "a"',
        {
            "GPUTALLY_WEB_PORT": "9900",
            "GPUTALLY_AGENT_INTERVAL_SECONDS": "2.5",
            "GPUTALLY_NODE_LABELS": "cluster=emea,rack=r=7",
            "GPUTALLY_STATES_SERVICE_OWNERS": "root,burnin-*",
            "GPUTALLY_NODE_NAME": "b",
            "HOME": "/root",
        },
    )

    assert (settings.web.port, settings.web.listen, settings.node.name) == (9900, "::1", "b")
    assert settings.agent.interval_seconds == 2.5
    assert settings.node.labels == {"cluster": "emea", "rack": "r=7"}
    assert settings.states.service_owners == ("root", "burnin-*")


def test_which_file_is_read(no_system_file: Path, tmp_path: Path) -> None:
    """The file that is named wins over that of the variable, and that over the system's."""
    no_system_file.parent.mkdir()
    no_system_file.write_text("[web]\nport = 1\n", encoding="utf-8")
    by_variable, named = tmp_path / "variable.toml", tmp_path / "named.toml"
    by_variable.write_text("[web]\nport = 2\n", encoding="utf-8")
    named.write_text("[web]\nport = 3\n", encoding="utf-8")

    assert load(None, {}).web.port == 1
    assert load(None, {FILE_VARIABLE: str(by_variable)}).web.port == 2
    assert load(named, {FILE_VARIABLE: str(by_variable)}).web.port == 3


def test_an_unknown_section_names_the_known_ones(tmp_path: Path) -> None:
    """A mistyped section is refused with the file and all sections that there are."""
    said = refusal(tmp_path, "[wep]\nport = 1\n")

    assert f"{tmp_path}/gputally.toml" in said
    assert "'wep'" in said
    assert all(name in said for name in SECTIONS)


@pytest.mark.parametrize("section", SECTIONS)
def test_an_unknown_key_names_the_known_ones(tmp_path: Path, section: str) -> None:
    """A mistyped key is refused with the section and all keys that it has."""
    said = refusal(tmp_path, f"[{section}]\nprot = 1\n")

    assert f"[{section}]" in said
    assert "'prot'" in said
    assert all(key in said for key in SECTIONS[section])


def test_an_unknown_variable_names_the_known_ones(tmp_path: Path) -> None:
    """A variable with our prefix and an unknown section is refused with the known ones."""
    said = refusal(tmp_path, "", {"GPUTALLY_WEP_PORT": "1"})

    assert "GPUTALLY_WEP_PORT" in said
    assert all(f"GPUTALLY_{name.upper()}_" in said for name in SECTIONS)


@pytest.mark.parametrize("variable", ["GPUTALLY_WEB_PROT", "GPUTALLY_WEB", "GPUTALLY_WEB_"])
def test_a_variable_with_an_unknown_key_names_the_known_ones(tmp_path: Path, variable: str) -> None:
    """A variable of a known section and an unknown key is refused with the section's keys."""
    said = refusal(tmp_path, "", {variable: "1"})

    assert "[web]" in said
    assert all(key in said for key in SECTIONS["web"])


@pytest.mark.parametrize(
    ("section", "line", "part"),
    [
        ("web", 'port = "9740"', "a whole number"),
        ("web", "port = 9740.5", "a whole number"),
        ("web", "port = true", "a whole number"),
        ("web", "listen = 1", "text in quotes"),
        ("agent", 'interval_seconds = "10"', "a number"),
        ("agent", "interval_seconds = false", "a number"),
        ("agent", "interval_seconds = 2026-01-06", "a number"),
        ("states", 'service_owners = "root"', 'a list like ["a", "b"]'),
        ("states", 'service_owners = ["root", 1]', 'a list like ["a", "b"]'),
        ("node", 'labels = "a=b"', "a table of texts"),
        ("node", "labels = { cluster = 1 }", "text in quotes"),
        ("node", "labels = { cluster = { a = 'b' } }", "text in quotes"),
        ("journal", "max_bytes = 2e9", "a whole number"),
        ("agent", "interval_seconds = 0", "between 1 and 3600"),
        ("agent", "interval_seconds = 3601", "between 1 and 3600"),
        ("agent", "interval_seconds = nan", "between 1 and 3600"),
        ("agent", "interval_seconds = inf", "between 1 and 3600"),
        ("agent", "poll_seconds = 11", "within the interval"),
        ("agent", "poll_seconds = 0.01", "0.1"),
        ("web", "port = 65536", "between 0 and 65535"),
        ("web", "port = -1", "between 0 and 65535"),
        ("states", "active_busy_ratio = 5", "from 0 to 1"),
        ("states", "active_sm_ratio = nan", "from 0 to 1"),
        ("states", "patience_batch_seconds = -1", "must not be negative"),
        ("states", "patience_batch_seconds = nan", "must not be negative"),
        ("states", "patience_batch_seconds = inf", "must not be negative"),
        ("states", 'default_workload = "gaming"', "batch, interactive, serving"),
        ("journal", "max_bytes = 1", "at least 1048576"),
        ("journal", "tick_age_days = 0", "between 0 and"),
        ("journal", "accounts_age_days = nan", "between 0 and"),
        ("journal", 'sync = "off"', '"full" or "normal"'),
        ("report", "price_per_gpu_hour = -1", "must not be negative"),
        ("report", "price_per_gpu_hour = nan", "must not be negative"),
        ("report", 'prices = "yes"', "must be on or off, not 'yes'"),
    ],
)
def test_a_value_that_cannot_be_meant_is_refused(tmp_path: Path, section: str, line: str, part: str) -> None:
    """A wrong type or a value out of range is refused with file, section, key and what is right."""
    said = refusal(tmp_path, f"[{section}]\n{line}\n")

    assert f"{tmp_path}/gputally.toml" in said
    assert f"[{section}]" in said
    assert line.partition(" ")[0] in said
    assert part in said


@pytest.mark.parametrize("value", ["nan", "inf", "-1.0"])
def test_the_kept_spell_has_a_length(tmp_path: Path, value: str) -> None:
    """The shortest spell that is kept is a finite time that is not negative."""
    assert "[journal] spell_kept_seconds" in refusal(tmp_path, f"[journal]\nspell_kept_seconds = {value}\n")


@pytest.mark.parametrize(
    ("section", "key", "text"),
    [
        ("web", "port", "many"),
        ("web", "port", "9740.5"),
        ("agent", "interval_seconds", "ten"),
        ("web", "port", ""),
    ],
)
def test_a_variable_of_the_wrong_type_is_refused(tmp_path: Path, section: str, key: str, text: str) -> None:
    """A variable that should be a number and is none is refused by its name."""
    variable = f"GPUTALLY_{section.upper()}_{key.upper()}"

    assert refusal(tmp_path, "", {variable: text}).startswith(f"{variable} must be a ")


@pytest.mark.parametrize("text", ["port = 1\n", "web = 1\n", "[[web]]\nport = 1\n", "web = 2026-01-06\n"])
def test_keys_outside_a_section_are_refused(tmp_path: Path, text: str) -> None:
    """A key without a section, or a list of sections, is refused."""
    assert "section" in refusal(tmp_path, text)


@pytest.mark.parametrize(
    "text",
    [
        "[web",
        "port",
        "[web]\nport = \n",
        "[web]\nport = 1\nport = 2\n",
        "\ufeff[web]\n",
        "[node]\nname = 'two\nlines'",
        '[node]\nname = "\\ud800"\n',
        "[report]\nx = 2026-02-30\n",
    ],
)
def test_what_is_no_toml_is_refused(tmp_path: Path, text: str) -> None:
    """Text that is no TOML is refused with the file's name."""
    assert f"{tmp_path}/gputally.toml is no TOML" in refusal(tmp_path, text)


@pytest.mark.parametrize(
    "text",
    [
        f"[agent]\ninterval_seconds = 1{'0' * 400}\n",
        f"[web]\nport = {'1' * 5000}\n",
        f"[web]\nport = {'[' * 20_000}\n",
    ],
    ids=["beyond floats", "beyond whole numbers", "deep"],
)
def test_extreme_toml_is_refused(tmp_path: Path, text: str) -> None:
    """Numbers of hundreds of digits and lists of thousands of levels are refused like any other mistake."""
    refusal(tmp_path, text)


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    """A missing file, a directory and a file that is not UTF-8 are each named with the reason."""
    latin = tmp_path / "latin.toml"
    latin.write_bytes(b'[node]\nname = "Z\xfcrich"\n')
    for path, reason in (
        (tmp_path / "missing.toml", "No such file"),
        (tmp_path, "Is a directory"),
        (latin, "utf-8"),
    ):
        with pytest.raises(SettingsError, match=re.escape(f"cannot read the settings {path}")) as error:
            load(path, {})
        assert reason in str(error.value)


def test_a_file_that_a_variable_names_must_be_there(tmp_path: Path) -> None:
    """A missing file is an error when it was asked for, by option or by variable."""
    with pytest.raises(SettingsError, match="No such file"):
        load(None, {FILE_VARIABLE: str(tmp_path / "missing.toml")})


@pytest.mark.parametrize("label", ["1st", "rack-row", "rack row", "", "größe", "__name__", "a.b"])
def test_a_label_that_prometheus_would_not_take_is_refused(tmp_path: Path, label: str) -> None:
    """A static label has a name of ASCII letters, digits and _, without two in front."""
    assert f"labels.{label}" in refusal(tmp_path, f'[node]\nlabels = {{ "{label}" = "x" }}\n')


@pytest.mark.parametrize("label", OURS)
def test_a_label_that_is_ours_is_refused(tmp_path: Path, label: str) -> None:
    """No static label has the name of a label of a GPU series, or of one that every scraper sets."""
    assert f"labels.{label}" in refusal(tmp_path, f'[node]\nlabels = {{ {label} = "x" }}\n')


@pytest.mark.parametrize("label", ["cluster", "pool", "rack", "_row", "team2", "Site"])
def test_ordinary_labels_are_taken(tmp_path: Path, label: str) -> None:
    """Labels of one's own are taken with any value."""
    assert loaded(tmp_path, f"[node]\nlabels = {{ {label} = '\"x' }}\n").node.labels == {label: '"x'}


def test_the_node_is_called_as_the_host_unless_told() -> None:
    """An empty name becomes the host's."""
    assert NodeSettings(name="n1").resolved() == "n1"
    assert NodeSettings().resolved()


def test_the_journal_lies_where_the_service_or_the_user_keeps_state(monkeypatch: pytest.MonkeyPatch) -> None:
    """The state directory of systemd wins over XDG's, and that over the home."""
    monkeypatch.setenv("HOME", "/home/ada")
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    assert default_journal() == Path("/home/ada/.local/state/gputally/journal.db")
    monkeypatch.setenv("XDG_STATE_HOME", "/data/state")
    assert default_journal() == Path("/data/state/gputally/journal.db")
    monkeypatch.setenv("STATE_DIRECTORY", "/var/lib/gputally:/var/lib/other")
    assert default_journal() == Path("/var/lib/gputally/journal.db")


def test_the_sample_file_is_only_comments(tmp_path: Path) -> None:
    """The sample file as it is changes nothing."""
    assert loaded(tmp_path, SAMPLE.read_text(encoding="utf-8")) == Settings()
    for line in SAMPLE.read_text(encoding="utf-8").splitlines():
        assert re.fullmatch(r"|##.*|\[[a-z]+\]|#[a-z_]+ = .+", line), line


def test_the_sample_file_tells_every_default(tmp_path: Path) -> None:
    """The sample file with its keys uncommented sets every key of every section, to the default."""
    text = re.sub(r"^#(?=[a-z_]+ = )", "", SAMPLE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    sections = {
        name: set(re.findall(r"^([a-z_]+) = ", part, flags=re.MULTILINE))
        for name, part in re.findall(r"^\[([a-z]+)\]\n((?:(?!\[).*\n?)*)", text, flags=re.MULTILINE)
    }

    assert loaded(tmp_path, text) == Settings()
    assert sections == {name: set(keys) for name, keys in SECTIONS.items()}


_WORDS = st.sampled_from(
    [*SECTIONS, *(key for keys in SECTIONS.values() for key in keys), "cluster", "a", '"x.y"', "''"]
)
_VALUES = st.one_of(
    st.integers().map(str),
    st.integers(0, 6000).map(lambda digits: "1" + "0" * digits),
    st.floats().map(str),
    st.sampled_from(
        ["true", "1979-05-27", "07:32:00", "1979-05-27T07:32:00Z", "[]", "{}", '["a"]', "[1]", "0xff"]
    ),
    st.text(max_size=8).map(repr),
    st.integers(1, 3000).map(lambda levels: "[" * levels + "]" * levels),
    st.tuples(_WORDS, st.text(max_size=4)).map(lambda pair: f"{{ {pair[0]} = {pair[1]!r} }}"),
)
_LINES = st.one_of(
    _WORDS.map(lambda name: f"[{name}]"),
    st.tuples(_WORDS, _VALUES).map(" = ".join),
    st.text(max_size=12),
)


@st.composite
def _sections(draw: st.DrawFn) -> str:
    section = draw(st.sampled_from(sorted(SECTIONS)))
    keys = draw(st.lists(st.sampled_from(sorted(SECTIONS[section])), max_size=3, unique=True))
    return "\n".join([f"[{section}]", *(f"{key} = {draw(_VALUES)}" for key in keys)])


@given(
    data=st.one_of(
        st.binary(max_size=200),
        st.lists(_LINES, max_size=8).map(lambda lines: "\n".join(lines).encode(errors="replace")),
        _sections().map(lambda text: text.encode(errors="replace")),
    ),
    environment=st.dictionaries(
        st.sampled_from(
            [f"GPUTALLY_{name}_{key}".upper() for name, keys in SECTIONS.items() for key in keys]
            + ["GPUTALLY_X", "PATH"]
        ),
        st.text(max_size=6) | st.floats().map(str) | st.integers().map(str),
        max_size=2,
    ),
)
def test_no_text_makes_anything_but_settings_or_a_refusal(
    tmp_path_factory: pytest.TempPathFactory, data: bytes, environment: dict[str, str]
) -> None:
    """Whatever a file and the environment hold, they are settings or one sentence, never another error."""
    path = tmp_path_factory.getbasetemp() / "any.toml"
    path.write_bytes(data)
    with suppress(SettingsError):
        assert isinstance(load(path, environment), Settings)


# Rules of owners


def test_rules_are_read_in_their_order(tmp_path: Path) -> None:
    """Each [[holders.map]] is a rule; labels are a table, and keys with dots are written in quotes."""
    text = """
[holders]
refresh_seconds = 5
[[holders.map]]
kind = "pod"
label = { "example.org/team" = "vis*" }
owner_label = "example.org/team"
[[holders.map]]
account = "night-*"
workload = "serving"
cost_centre = "4711"
"""
    assert loaded(tmp_path, text).holders == HolderSettings(
        refresh_seconds=5.0,
        map=(
            OwnerRule(kind="pod", label={"example.org/team": "vis*"}, owner_label="example.org/team"),
            OwnerRule(account="night-*", workload="serving", cost_centre="4711"),
        ),
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            '[[holders.map]]\nkindd = "pod"\nowner = "x"',
            r"\[holders\] map: unknown key 'kindd'; known are",
        ),
        ('[[holders.map]]\nkind = 5\nowner = "x"', r"\[holders\] map kind must be text in quotes, not 5"),
        ('[[holders.map]]\nkind = "pod"', "must give owner, owner_label, workload or cost_centre"),
        ('[holders]\nmap = ["x"]', "must be written as"),
        ('[holders]\nslurm = "yes"', "slurm must be one of auto, off"),
        ("[holders]\nrefresh_seconds = 300", "refresh_seconds must lie between 1 and 60"),
        ("[holders]\nmost_owners = 0", "most_owners must be at least 1"),
    ],
)
def test_a_rule_that_cannot_be_meant_says_what_to_write(tmp_path: Path, text: str, message: str) -> None:
    """The sentence names the section, the key and the choices."""
    with pytest.raises(SettingsError, match=message):
        loaded(tmp_path, text)


def test_rules_cannot_stand_in_the_environment() -> None:
    """A list of rules is no text: the sentence says where it belongs."""
    with pytest.raises(SettingsError, match=r"write \[\[holders.map\]\] sections"):
        load(None, {"GPUTALLY_HOLDERS_MAP": "x"})


def test_an_api_server_that_cannot_be_meant_is_refused() -> None:
    """Before anything starts, with the name of the setting."""
    with pytest.raises(SettingsError, match=r"\[holders\] api_server"):
        lookouts(HolderSettings(api_server="ftp://example.org"))
