"""The section [mail]: which server takes mail, who sends it, and who gets what of the week's report.

The password is read from a file, each time it is needed.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from ipaddress import ip_address

from agent.errors import SettingsError
from agent.holders.owners import OTHERS
from agent.states import UNATTRIBUTED

PORTS = {"starttls": 587, "tls": 465, "none": 25, "insecure": 25}
"""Ways to secure the connection, and the port that each is usually at."""
OWNER = "{owner}"
"""Stands for the owner in an address that is given for a pattern."""
_LONGEST_ADDRESS = 254
_ADDRESS = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~.-]+@[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?")
_SENDER = re.compile(r"(?:(?P<name>[^<>\"]*?) *<(?P<within>[^<>]*)>|(?P<plain>[^<>]*))")
_NAME_IN_ADDRESS = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]{0,62}[A-Za-z0-9_])?")
_BOUNDS = {
    "port": (0, 65535),
    "timeout_seconds": (1, 600),
    "owner_least_gpu_hours": (0, 1e9),
    "cool_down_days": (0, 366),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class MailSettings:
    """How reports go out by mail; without a host none does.

    `security` is starttls, tls (from the first byte), none (to this machine only) or insecure (unencrypted to
    anywhere); port 0 is the usual one of it. `planners` get the whole report. `owners` tells by owner, or
    pattern with * and ?, the addresses of those who answer for what it held idle: they get their own lines,
    when these are `owner_least_gpu_hours` or more, and not again within `cool_down_days`.
    """

    host: str = ""
    port: int = 0
    security: str = "starttls"
    username: str = ""
    password_file: str = ""
    ca_file: str = ""
    sender: str = ""
    timeout_seconds: float = 30.0
    planners: tuple[str, ...] = ()
    owners: Mapping[str, str] = field(default_factory=dict)
    owner_least_gpu_hours: float = 24.0
    cool_down_days: float = 6.0

    def __post_init__(self) -> None:
        """Refuse values that cannot be meant."""
        for name, (least, most) in _BOUNDS.items():
            if not least <= getattr(self, name) <= most:
                raise SettingsError(f"[mail] {name} must lie between {least} and {most:g}")
        if self.security not in PORTS:
            raise SettingsError(f"[mail] security must be one of {', '.join(PORTS)}")
        if bool(self.username) != bool(self.password_file):
            raise SettingsError("[mail] to log in, give both username and password_file")
        self._check_host()
        self._check_people()
        if self.planners or self.owners or self.host:
            if not self.host:
                raise SettingsError("[mail] host is missing: name the server that takes mail")
            if not self.sender:
                raise SettingsError("[mail] sender is missing: give the address that reports come from")

    def _check_people(self) -> None:
        if not self.sender.isprintable():
            raise SettingsError("[mail] sender must be printable text")
        if self.sender:
            _check(self.sender_address, "sender")
        for address in self.planners:
            _check(address, "planners")
        for owner, text in self.owners.items():
            key = f"owners.{owner if owner.isprintable() else repr(owner)}"
            if not isinstance(text, str):
                raise SettingsError(f"[mail] {key} must be an address in quotes")
            for address in _several(text.replace(OWNER, "x")):
                _check(address, key)

    def _check_host(self) -> None:
        if not self.host.isprintable() or " " in self.host or self.host.count(":") == 1:
            raise SettingsError(
                "[mail] host must be a name such as mail.example.org; port has a key of its own"
            )
        if self.security in ("starttls", "tls") or not self.host:
            return
        if self.security == "none" and not _is_loopback(self.host):
            raise SettingsError(
                f'[mail] security = "none" is for a server on this machine, not {self.host}: use "starttls" '
                'or "tls"; "insecure" sends mail unencrypted all the same'
            )
        if self.username and not _is_loopback(self.host):
            raise SettingsError("[mail] a password is not sent unencrypted: use starttls or tls")

    @property
    def resolved_port(self) -> int:
        """The port: the one set, else the usual one."""
        return self.port or PORTS[self.security]

    @property
    def sender_address(self) -> str:
        """The sender's address without a name."""
        found = _SENDER.fullmatch(self.sender.strip())
        return (found["within"] if found["within"] is not None else found["plain"]) if found else self.sender

    @property
    def sender_name(self) -> str:
        """The sender's name; empty where there is only an address."""
        found = _SENDER.fullmatch(self.sender.strip())
        return (found["name"] or "") if found else ""

    def addresses_of(self, owner: str) -> tuple[str, ...]:
        """Tell who gets the lines of an owner: by its own name, else by the first pattern that matches.

        Time that nobody is named for matches no pattern, and an owner whose name could change the meaning of
        an address is not put into one.
        """
        text = self.owners.get(owner)
        if text is None and owner not in ("", UNATTRIBUTED, OTHERS):
            text = next((to for pattern, to in self.owners.items() if fnmatchcase(owner, pattern)), None)
        if not text or (OWNER in text and not _NAME_IN_ADDRESS.fullmatch(owner)):
            return ()
        return tuple(dict.fromkeys(_several(text.replace(OWNER, owner))))


def _several(text: str) -> list[str]:
    return [part for part in re.split(r"[,;\s]+", text) if part]


def _check(address: str, key: str) -> None:
    if not _ADDRESS.fullmatch(address) or len(address) > _LONGEST_ADDRESS or ".." in address:
        raise SettingsError(f"[mail] {key}: {address!r} is no address such as gpu@example.org")


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"
