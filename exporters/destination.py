"""Where an exporter sends to: its settings, and what of them every connection needs.

Secrets are read from files, each time they are needed, so that a rotated token needs no restart; they are
never logged.
"""

import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from agent.errors import SettingsError
from exporters.proxy import proxy_of

TELLING = ("alertmanager", "webhook", "grafana")
"""Kinds that are told what rules found; all others get every tick."""
KINDS = ("influx", "influx1", "remote_write", "otlp", *TELLING)
LONGEST_SECRET = 64 * 1024
_OF_STORES = ("org", "bucket", "database", "most_bytes", "order")
_BOUNDS = {"timeout_seconds": (1, 600), "spread_seconds": (0, 60), "most_bytes": (65_536, 2**30)}


@dataclass(frozen=True, slots=True, kw_only=True)
class ExporterSettings:
    """One [[exporters.to]]: a store that gets every tick, or a receiver that is told of findings.

    `kind` is influx (the v2 write API: InfluxDB 2 and 3, and VictoriaMetrics under /influx), influx1 (/write
    of InfluxDB 1.x), remote_write (Prometheus, Mimir, Thanos, VictoriaMetrics, Grafana Cloud) or otlp
    (OpenTelemetry's protocol over HTTP). alertmanager, webhook and grafana are told what rules found, and get
    no ticks. `url` is the server's for influx, influx1, alertmanager and grafana, the whole address of the
    endpoint for the others. `spread_seconds` is the most that a node waits before it sends, since all end
    their intervals together.
    """

    name: str = ""
    kind: str = ""
    url: str = ""
    org: str = ""
    bucket: str = ""
    database: str = ""
    token_file: str = ""
    username: str = ""
    password_file: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    ca_file: str = ""
    cert_file: str = ""
    key_file: str = ""
    proxy: str = ""
    timeout_seconds: float = 30.0
    most_bytes: int = 4 * 1024 * 1024
    order: str = ""
    spread_seconds: float = 4.0

    def __post_init__(self) -> None:
        """Refuse values that cannot be meant."""
        where = f"[[exporters.to]] {self.name}".rstrip()
        if not self.name or not self.name.replace("-", "_").isidentifier():
            raise SettingsError(f"{where}: give it a name of letters, digits, - and _")
        if self.kind not in KINDS:
            raise SettingsError(f"{where}: kind must be one of {', '.join(KINDS)}")
        if not _is_address(self.url):
            raise SettingsError(f"{where}: url must be an address such as https://store.example.org:8086")
        needed = {"influx": "bucket", "influx1": "database"}.get(self.kind)
        if needed and not getattr(self, needed):
            raise SettingsError(f"{where}: kind {self.kind} needs {needed}")
        if self.order not in ("", "newest_first", "oldest_first"):
            raise SettingsError(f"{where}: order must be newest_first or oldest_first")
        for key in _OF_STORES if self.tells else ():
            if getattr(self, key) != type(self).__dataclass_fields__[key].default:
                raise SettingsError(f"{where}: kind {self.kind} has no {key}: it gets findings, not ticks")
        for name, (least, most) in _BOUNDS.items():
            if not least <= getattr(self, name) <= most:
                raise SettingsError(f"{where}: {name} must lie between {least} and {most}")
        self._check_connection(where)

    def _check_connection(self, where: str) -> None:
        parts = urlsplit(self.url)
        if self.kind == "grafana" and (parts.query or parts.fragment or parts.username is not None):
            raise SettingsError(f"{where}: url must be Grafana's own address, without ?, # or user")
        try:
            proxy_of(self.proxy)
        except ValueError as error:
            raise SettingsError(f"{where}: {error}") from error
        if bool(self.cert_file) != bool(self.key_file):
            raise SettingsError(f"{where}: a client certificate needs cert_file and key_file")
        if bool(self.username) != bool(self.password_file):
            raise SettingsError(f"{where}: basic authentication needs username and password_file")

    @property
    def tells(self) -> bool:
        """Whether it is told of findings instead of ticks."""
        return self.kind in TELLING

    @property
    def newest_first(self) -> bool:
        """Whether new ticks go before old ones; stores that want samples in order take them as they were."""
        return (self.order or _USUAL_ORDER[self.kind]) == "newest_first"


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportersSettings:
    """All stores: the list of [[exporters.to]]."""

    to: tuple[ExporterSettings, ...] = ()

    def __post_init__(self) -> None:
        """Refuse two of one name: each keeps its cursor by it."""
        names = [one.name for one in self.to]
        if len(set(names)) != len(names):
            raise SettingsError("[[exporters.to]] must have different names")


_USUAL_ORDER = {
    "influx": "newest_first",
    "influx1": "newest_first",
    "remote_write": "oldest_first",
    "otlp": "oldest_first",
}


def _is_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def secret(path: str) -> str:
    """Read a secret from a file. Raises OSError, ValueError."""
    with Path(path).open("rb") as file:
        text = file.read(LONGEST_SECRET).decode().strip()
    if not text.isprintable():
        raise ValueError(f"{path} holds more than one line")
    return text


def tls(settings: ExporterSettings) -> ssl.SSLContext:
    """Make the context of encrypted connections. Raises OSError, ssl.SSLError."""
    context = ssl.create_default_context(cafile=settings.ca_file or None)
    if settings.cert_file:
        context.load_cert_chain(settings.cert_file, settings.key_file)
    return context
