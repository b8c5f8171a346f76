"""The settings as a whole: defaults, then a TOML file, then environment variables.

Each package keeps its own struct; here they get their sections. An unknown section or key is an error that
names the known ones. GPUTALLY_WEB_PORT=9800 sets `port` of `[web]`.
"""

import os
import socket
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, is_dataclass
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from agent.cadence import SamplerSettings
from agent.errors import SettingsError
from agent.holders.names import printable
from agent.holders.settings import HolderSettings
from agent.journal import JournalSettings
from agent.states import StateSettings
from exporters import dcgm
from exporters.catalogue import FAMILIES
from exporters.destination import ExportersSettings
from exporters.web import WebSettings
from gputally import schedule
from gputally.mail_settings import MailSettings

SYSTEM_FILE = Path("/etc/gputally/gputally.toml")
PREFIX = "GPUTALLY_"
FILE_VARIABLE = "GPUTALLY_SETTINGS"
MOST_GPUS = 1024
_LONGEST_NAME = 100
_OF_STORES = {"job", "instance", "time", "db", "_field", "_measurement"}
"""Labels that a store sets itself or refuses."""
_RESERVED = {"slice", "profile", *_OF_STORES, *dcgm.LABELS}.union(
    *(family.labels for family in FAMILIES.values())
)
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeSettings:
    """Who this node is. `labels` are put on every GPU series, e.g. cluster, pool, rack.

    `labels_command` is a program with its arguments that prints more of them (gputally/labels.py).
    `kernel_log` is read for XIDs that NVML did not tell; empty for not at all. `gpus` is how many it should
    have; 0 for as many as were seen.
    """

    name: str = ""
    kernel_log: str = "/dev/kmsg"
    gpus: int = 0
    labels: Mapping[str, str] = field(default_factory=dict)
    labels_command: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse names and labels that Prometheus would not take or that we need."""
        if not self.name.isprintable():
            raise SettingsError("[node] name must be printable text")
        if not 0 <= self.gpus <= MOST_GPUS:
            raise SettingsError(f"[node] gpus must lie between 0 and {MOST_GPUS}")
        for key, value in self.labels.items():
            called = printable(key, _LONGEST_NAME)
            if not isinstance(value, str) or not value.isprintable():
                raise SettingsError(f"[node] labels.{called} must be printable text in quotes")
            if not key.isidentifier() or not key.isascii() or key.startswith("__") or key in _RESERVED:
                raise SettingsError(
                    f"[node] labels.{called}: choose a name of letters, digits and _ that is not ours"
                )

    def resolved(self) -> str:
        """Give the node's name: the one set, else the host's."""
        return self.name or socket.gethostname()


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportSettings:
    """What a report needs besides the journal.

    One price above 0 goes before a file of prices, and that before public defaults; `prices` is on or off.
    """

    price_per_gpu_hour: float = 0.0
    prices_file: str = ""
    prices: str = "on"
    timezone: str = "UTC"
    pool_label: str = "pool"
    grafana_url: str = ""
    grafana_token_file: str = ""
    grafana_ca_file: str = ""
    archive_folder: str = ""
    source: str = ""
    database: str = ""
    token_file: str = ""
    ca_file: str = ""
    tenant: str = ""
    schedule: str = ""
    schedule_folder: str = ""
    schedule_formats: tuple[str, ...] = ("html", "json")
    schedule_mail: str = "off"

    def __post_init__(self) -> None:
        """Refuse values that cannot be meant."""
        if not 0 <= self.price_per_gpu_hour < 1e6:  # noqa: PLR2004
            raise SettingsError("[report] price_per_gpu_hour must not be negative")
        if self.prices not in ("on", "off"):
            raise SettingsError(f"[report] prices must be on or off, not {self.prices!r}")
        if self.grafana_token_file and not self.grafana_url:
            raise SettingsError("[report] grafana_token_file needs grafana_url: the Grafana that it is for")
        schedule.check(self.schedule, self.schedule_folder, self.schedule_formats, self.schedule_mail)


@dataclass(frozen=True, slots=True, kw_only=True)
class RulesSettings:
    """Where rules of one's own stand: they change those that are built in key by key, or add to them."""

    file: str = ""

    @property
    def path(self) -> Path | None:
        """That file; None where there is none."""
        return Path(self.file) if self.file else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """All sections."""

    node: NodeSettings = field(default_factory=NodeSettings)
    agent: SamplerSettings = field(default_factory=SamplerSettings)
    states: StateSettings = field(default_factory=StateSettings)
    holders: HolderSettings = field(default_factory=HolderSettings)
    journal: JournalSettings = field(default_factory=JournalSettings)
    web: WebSettings = field(default_factory=WebSettings)
    report: ReportSettings = field(default_factory=ReportSettings)
    mail: MailSettings = field(default_factory=MailSettings)
    rules: RulesSettings = field(default_factory=RulesSettings)
    exporters: ExportersSettings = field(default_factory=ExportersSettings)


def load(path: Path | None, environment: Mapping[str, str]) -> Settings:
    """Read the settings. Without a path: GPUTALLY_SETTINGS, else /etc/gputally/gputally.toml if it exists.

    Raises SettingsError that names the file or variable, the key, and the choices.
    """
    path = file_of(path, environment)
    tables = _read(path) if path else {}
    hints = get_type_hints(Settings)
    _know(str(path), "section", tables, hints)
    for name, table in tables.items():
        if not isinstance(table, dict):
            raise SettingsError(f"{path}: {name} must be a section: write [{name}]")
    overrides = _overrides(environment, hints)
    return Settings(
        **{
            name: _section(kind, name, tables.get(name, {}), overrides[name], path)
            for name, kind in hints.items()
        }
    )


def file_of(path: Path | None, environment: Mapping[str, str]) -> Path | None:
    """Tell which file is read: the one named, that of GPUTALLY_SETTINGS, that of the system, or none."""
    if path is None and environment.get(FILE_VARIABLE):
        path = Path(environment[FILE_VARIABLE])
    if path is None and SYSTEM_FILE.exists():
        path = SYSTEM_FILE
    return path


def sources(path: Path | None, environment: Mapping[str, str]) -> Mapping[tuple[str, str], str]:
    """Tell by section and key where a value comes from that is not the default. Raises SettingsError."""
    path = file_of(path, environment)
    tables = _read(path) if path else {}
    found = {(name, key): str(path) for name, table in tables.items() for key in table}
    for name, texts in _overrides(environment, get_type_hints(Settings)).items():
        found |= {(name, key): f"{PREFIX}{name.upper()}_{key.upper()}" for key in texts}
    return found


def _read(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            return tomllib.load(file)
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(
            f"cannot read the settings {path}: {getattr(error, 'strerror', error)}"
        ) from error
    except (ValueError, RecursionError) as error:  # TOMLDecodeError, and numbers and depth beyond Python's
        raise SettingsError(f"{path} is no TOML: {error}") from error


def _know(where: str, what: str, given: Mapping[str, Any], known: Mapping[str, Any]) -> None:
    for name in given:
        if name not in known:
            raise SettingsError(f"{where}: unknown {what} {name!r}; known are {', '.join(known)}")


def _overrides(environment: Mapping[str, str], sections: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = {name: {} for name in sections}
    for variable, text in environment.items():
        if not variable.startswith(PREFIX) or variable == FILE_VARIABLE:
            continue
        section, _, key = variable.removeprefix(PREFIX).lower().partition("_")
        if section not in sections:
            choices = ", ".join(f"{PREFIX}{name.upper()}_…" for name in sections)
            raise SettingsError(f"environment variable {variable} is unknown; known are {choices}")
        found[section][key] = text
    return found


def _section(
    kind: type[T], name: str, table: Mapping[str, Any], texts: Mapping[str, str], path: Path | None
) -> T:
    hints = get_type_hints(kind)
    _know(f"{path}: [{name}]", "key", table, hints)
    _know(f"environment variable for [{name}]", "key", texts, hints)
    values = {key: _typed(value, hints[key], f"{path}: [{name}] {key}") for key, value in table.items()}
    for key, text in texts.items():
        values[key] = _parsed(text, hints[key], f"{PREFIX}{name.upper()}_{key.upper()}")
    try:
        return kind(**values)
    except SettingsError as error:
        raise SettingsError(f"{path}: {error}" if path and table else str(error)) from error


def _typed(value: Any, hint: Any, where: str) -> Any:  # noqa: ANN401  whatever TOML held
    if hint is float and isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63:
        return float(value)
    if hint == tuple[str, ...] and isinstance(value, list) and all(isinstance(one, str) for one in value):
        return tuple(value)
    if hint == Mapping[str, str] and isinstance(value, dict):
        return value
    if _is_list_of_sections(hint) and isinstance(value, list):
        return tuple(_listed(get_args(hint)[0], one, where) for one in value)
    if isinstance(hint, type) and isinstance(value, hint) and not isinstance(value, bool):
        return value
    raise SettingsError(f"{where} must be {_said(hint)}, not {value!r}")


def _is_list_of_sections(hint: Any) -> bool:  # noqa: ANN401
    return get_origin(hint) is tuple and is_dataclass(get_args(hint)[0])


def _listed(kind: Any, table: Any, where: str) -> Any:  # noqa: ANN401
    """Make one of several sections of the same name."""
    if not isinstance(table, dict):
        raise SettingsError(f"{where} must be written as {_brackets(where)} sections")
    hints = get_type_hints(kind)
    _know(where, "key", table, hints)
    return kind(**{key: _typed(value, hints[key], f"{where} {key}") for key, value in table.items()})


def _brackets(where: str) -> str:
    """Give the head of a section of a list by where it is written: `FILE: [holders] map`."""
    section, _, key = where.rpartition("] ")
    return f"[[{section.rpartition('[')[2]}.{key}]]"


def _parsed(text: str, hint: Any, where: str) -> Any:  # noqa: ANN401
    try:
        if hint in (int, float):
            return hint(text)
    except ValueError:
        raise SettingsError(f"{where} must be {_said(hint)}, not {text!r}") from None
    if hint == tuple[str, ...]:
        return tuple(part for part in text.split(",") if part)
    if hint == Mapping[str, str]:
        pairs = [part.partition("=") for part in text.split(",") if part]
        return {key: value for key, _, value in pairs}
    if _is_list_of_sections(hint):
        section, _, key = where.removeprefix(PREFIX).lower().partition("_")
        raise SettingsError(
            f"{where} cannot be set so: write [[{section}.{key}]] sections in the settings file"
        )
    return text


def _said(hint: Any) -> str:  # noqa: ANN401
    names = {int: "a whole number", float: "a number", str: "text in quotes"}
    return names.get(hint, 'a list like ["a", "b"]' if hint == tuple[str, ...] else "a table of texts")


def journal_path(named: Path | None, settings: Settings) -> Path:
    """Tell which journal is meant: one named by the user, else the settings', else the default."""
    return named or (Path(settings.journal.path) if settings.journal.path else default_journal())


def default_journal() -> Path:
    """Where the journal lies unless told: the service's state directory, else the user's."""
    service = os.environ.get("STATE_DIRECTORY")
    if service:
        return Path(service.partition(":")[0]) / "journal.db"
    return state_folder() / "journal.db"


def state_folder() -> Path:
    """Give the user's folder for state, by the XDG convention."""
    state = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
    return Path(state).expanduser() / "gputally"
