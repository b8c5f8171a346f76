"""The web-config file of the Prometheus world: TLS, users and headers of the pages, in YAML.

The file, its certificates and its keys are read anew when they change. A new one that is broken changes
nothing and is logged once. Relative paths are relative to the file.
"""

import logging
import os
import ssl
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agent.errors import SettingsError
from exporters.web_auth import Doorkeeper, cost_of

log = logging.getLogger("gputally")

_TOP = ("tls_server_config", "http_server_config", "basic_auth_users")
_TLS = (
    *("cert_file", "key_file", "client_auth_type", "client_ca_file", "client_allowed_sans"),
    *("min_version", "max_version", "cipher_suites", "prefer_server_cipher_suites"),
)
_HTTP = ("http2", "headers")
_HEADERS: Mapping[str, tuple[str, ...]] = {
    "Content-Security-Policy": (),
    "X-Frame-Options": ("deny", "sameorigin"),
    "X-Content-Type-Options": ("nosniff",),
    "X-XSS-Protection": (),
    "Strict-Transport-Security": (),
}
"""Headers that may be set, and the values that each accepts; none named are any."""

_CLIENT_AUTH = {
    "NoClientCert": ssl.CERT_NONE,
    "VerifyClientCertIfGiven": ssl.CERT_OPTIONAL,
    "RequireAndVerifyClientCert": ssl.CERT_REQUIRED,
}
_VERSIONS = {"TLS12": ssl.TLSVersion.TLSv1_2, "TLS13": ssl.TLSVersion.TLSv1_3}
_SUITES = {
    f"TLS_ECDHE_{key}_WITH_{suite}": f"ECDHE-{key}-{openssl}"
    for key in ("ECDSA", "RSA")
    for suite, openssl in (
        ("AES_128_GCM_SHA256", "AES128-GCM-SHA256"),
        ("AES_256_GCM_SHA384", "AES256-GCM-SHA384"),
        ("CHACHA20_POLY1305_SHA256", "CHACHA20-POLY1305"),
    )
}
_Note = Callable[[Path], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class WebConfig:
    """What a file asks for; `allowed_sans` are names of which a client's certificate must have one."""

    tls: ssl.SSLContext | None = None
    allowed_sans: frozenset[str] = frozenset()
    headers: Mapping[str, str] = field(default_factory=dict)
    doorkeeper: Doorkeeper | None = None


class WebConfigFile:
    """A file and what it said when it was last sound; safe to use from several threads."""

    def __init__(self, path: str) -> None:
        """Read the file. Raises SettingsError when it is not sound."""
        self._path = Path(path).absolute()
        self._lock = threading.Lock()
        self._marks: Mapping[Path, tuple[int, ...]] = {}
        try:
            self._config = self._read()
        except ValueError as error:
            raise SettingsError(f"[web] config_file {path}: {error}") from error

    def unchanged(self) -> WebConfig | None:
        """Give what holds now, or None when it has to be read anew."""
        return self._config if all(_mark(path) == mark for path, mark in self._marks.items()) else None

    def current(self) -> WebConfig:
        """Give what holds now; reads the file anew when it or one that it names has changed."""
        config = self.unchanged()
        if config is not None:
            return config
        with self._lock:
            if any(_mark(path) != mark for path, mark in self._marks.items()):
                try:
                    self._config = self._read()
                except ValueError as error:
                    log.warning("web: %s: %s; the old one goes on", self._path, error)
                else:
                    log.info("web: %s was read anew", self._path)
            return self._config

    def _read(self) -> WebConfig:
        marks = {self._path: _mark(self._path)}  # before reading: what changes meanwhile is read again

        def note(path: Path) -> None:
            marks[path] = _mark(path)

        try:
            return _config(_yaml(self._path), self._path.parent, note)
        finally:
            self._marks = marks


def _mark(path: Path) -> tuple[int, ...]:
    try:
        told = os.stat(path)  # noqa: PTH116  at every request, and four times as fast
    except OSError:
        return ()
    return told.st_mtime_ns, told.st_size, told.st_ino


def _yaml(path: Path) -> object:
    import yaml  # noqa: PLC0415  only where a file is named

    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"{error.strerror}: name a file that the service's user may read") from error
    except RecursionError as error:
        raise ValueError("is not YAML that anybody would write: it is nested too deeply") from error
    except (yaml.YAMLError, ArithmeticError, AttributeError, LookupError, TypeError, UnicodeError) as error:
        # The others are what PyYAML raises for tags such as !!int that do not fit.
        raise ValueError(f"is not YAML: {' '.join(str(error).split())}") from error


def _config(body: object, folder: Path, note: _Note) -> WebConfig:
    top = _mapping(body, "the file", _TOP)
    if not top:
        raise ValueError(f"the file is empty; it may have {', '.join(_TOP)}")
    http = _mapping(top.get("http_server_config"), "http_server_config", _HTTP)
    headers = _mapping(http.get("headers"), "headers", tuple(_HEADERS))
    tls = _mapping(top.get("tls_server_config"), "tls_server_config", _TLS)
    users = _mapping(top.get("basic_auth_users"), "basic_auth_users", None)
    for name, hashed in users.items():
        try:
            cost_of(str(hashed))
        except ValueError as error:
            raise ValueError(f"basic_auth_users: the password of {name} {error}") from error
    return WebConfig(
        tls=_context(tls, folder, note) if tls else None,
        allowed_sans=frozenset(map(str, _list(tls, "client_allowed_sans"))),
        headers={name: _header(name, value) for name, value in headers.items() if value},
        doorkeeper=Doorkeeper({name: str(hashed) for name, hashed in users.items()}) if users else None,
    )


def _mapping(body: object, where: str, known: tuple[str, ...] | None) -> Mapping[str, Any]:
    if body is None:
        return {}
    if not isinstance(body, dict):
        raise ValueError(f"{where} must hold keys and values")  # noqa: TRY004  the file is wrong, not the code
    named = {str(key): value for key, value in body.items()}
    for key in named if known is not None else ():
        if key not in (known or ()):
            raise ValueError(f"{where}: unknown key {key!r}; known are {', '.join(known or ())}")
    return named


def _list(section: Mapping[str, Any], key: str) -> list[object]:
    value = section.get(key) or []
    if not isinstance(value, list):
        raise ValueError(f"{key} must be a list")  # noqa: TRY004
    return value


def _one_of(section: Mapping[str, Any], key: str, known: Mapping[str, Any], default: str) -> Any:  # noqa: ANN401
    name = str(section.get(key) or default)
    if name not in known:
        raise ValueError(f"{key} {name} is not known or not safe; choose one of {', '.join(known)}")
    return known[name]


def _header(name: str, value: object) -> str:
    text, allowed = str(value), _HEADERS[name]
    if not text.isprintable() or not text.isascii() or (allowed and text.lower() not in allowed):
        raise ValueError(f"headers: {name} cannot be {text!r}; {' or '.join(allowed) or 'use plain text'}")
    return text


def _context(tls: Mapping[str, Any], folder: Path, note: _Note) -> ssl.SSLContext:
    for key in ("cert_file", "key_file"):
        if not tls.get(key):
            raise ValueError(f"tls_server_config: {key} is missing")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = _one_of(tls, "min_version", _VERSIONS, "TLS12")
    context.maximum_version = _one_of(tls, "max_version", _VERSIONS, "TLS13")
    if not tls.get("prefer_server_cipher_suites", True):
        context.options &= ~ssl.OP_CIPHER_SERVER_PREFERENCE
    suites = [_suite(str(name)) for name in _list(tls, "cipher_suites")]
    if suites:
        context.set_ciphers(":".join(suites))
    certificate, key_file = _paths(tls, ("cert_file", "key_file"), folder, note)
    try:
        context.load_cert_chain(certificate, key_file, password=_no_password)
    except (OSError, ValueError) as error:
        raise ValueError(f"cert_file {certificate} and key_file {key_file}: {_said(error)}") from error
    _clients(context, tls, folder, note)
    return context


def _clients(context: ssl.SSLContext, tls: Mapping[str, Any], folder: Path, note: _Note) -> None:
    mode = _one_of(tls, "client_auth_type", _CLIENT_AUTH, "NoClientCert")
    if bool(tls.get("client_ca_file")) != (mode != ssl.CERT_NONE):
        raise ValueError(
            "client_ca_file and a client_auth_type that verifies belong together: set both or none"
        )
    if tls.get("client_allowed_sans") and mode != ssl.CERT_REQUIRED:
        raise ValueError("client_allowed_sans needs client_auth_type RequireAndVerifyClientCert")
    if mode == ssl.CERT_NONE:
        return
    (authority,) = _paths(tls, ("client_ca_file",), folder, note)
    try:
        context.load_verify_locations(authority)
    except OSError as error:
        raise ValueError(f"client_ca_file {authority}: {_said(error)}") from error
    context.verify_mode = mode


def _paths(tls: Mapping[str, Any], keys: Iterable[str], folder: Path, note: _Note) -> list[Path]:
    paths = [folder / str(tls[key]) for key in keys]
    for path in paths:
        note(path)
    return paths


def _suite(name: str) -> str:
    if name not in _SUITES:
        raise ValueError(f"cipher_suites: {name} is not known or not safe; known are {', '.join(_SUITES)}")
    return _SUITES[name]


def _said(error: Exception) -> str:
    if isinstance(error, ssl.SSLError):
        return f"{error.reason or error}: they must be PEM files that belong together"
    if isinstance(error, OSError):
        return f"{error.strerror}: name a file that the service's user may read"
    return str(error)


def _no_password() -> str:
    raise ValueError("the key has a password, and nobody is here to type it: use one without")
