"""What differs between settings in force and new ones, by section and key. Values may be secret."""

from collections.abc import Collection, Iterator
from dataclasses import fields

from agent.errors import SettingsError
from gputally.settings import Settings

AT_START_ONLY = frozenset(
    {
        ("node", "name"),  # the accounts go on under it
        ("node", "kernel_log"),  # where it was read up to is known to who reads it
        ("journal", "path"),
        ("journal", "sync"),
    }
)
"""What a running agent cannot change: it would have to begin anew."""


def changed(before: Settings, after: Settings) -> frozenset[tuple[str, str]]:
    """Name what differs. Raises SettingsError if anything does that needs a new start."""
    found = frozenset(_changed(before, after))
    fixed = sorted(found & AT_START_ONLY)
    if fixed:
        raise SettingsError(f"{in_words(fixed)} can be changed by a restart only")
    return found


def _changed(before: Settings, after: Settings) -> Iterator[tuple[str, str]]:
    for section in fields(Settings):
        old, new = getattr(before, section.name), getattr(after, section.name)
        for key in fields(old):
            if getattr(old, key.name) != getattr(new, key.name):
                yield section.name, key.name


def in_words(keys: Collection[tuple[str, str]]) -> str:
    """Say which keys."""
    return ", ".join(f"[{section}] {key}" for section, key in sorted(keys))
