"""Labels that a program tells: where a fleet keeps rack, pool or cluster in an inventory of its own."""

import os
from dataclasses import replace

from agent.errors import SettingsError
from agent.holders.names import printable
from agent.programs import ProgramError, run_command
from gputally.settings import Settings

MOST_LABELS = 32
LONGEST_VALUE = 256
MOST_BYTES = 65_536
_LONGEST_WORDS = 200
_KEPT_VARIABLES = ("PATH", "HOME", "LANG", "LD_LIBRARY_PATH", "HTTPS_PROXY", "NO_PROXY")
"""What of our environment it gets: nothing that names a secret of ours."""


def labelled(settings: Settings) -> Settings:
    """Run the command of [node] labels_command, if any, and add what it says to the labels.

    It prints a NAME=VALUE in each line; empty lines and those that begin with # say nothing. Labels of the
    settings win. Raises SettingsError where it fails, or says what is no label.
    """
    command = settings.node.labels_command
    if not command:
        return settings
    where = f"[node] labels_command {command[0]}"
    kept = {name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ}
    try:
        done = run_command(command, kept, most_bytes=MOST_BYTES)
    except ProgramError as error:
        raise SettingsError(f"[node] labels_command: {error}") from error
    if done.code:
        words = printable(done.words.strip().rpartition("\n")[2], _LONGEST_WORDS) or f"exit code {done.code}"
        raise SettingsError(f"{where} failed ({words}): run it by hand as the agent's user")
    told = _read(done.text, where)
    try:
        return replace(settings, node=replace(settings.node, labels={**told, **settings.node.labels}))
    except SettingsError as error:
        raise SettingsError(f"{where} says what is no label: {error}") from error


def _read(text: str, where: str) -> dict[str, str]:
    told: dict[str, str] = {}
    for line in text.splitlines():
        name, equals, value = (part.strip() for part in line.partition("="))
        if not name or name.startswith("#"):
            continue
        if not equals or len(value) > LONGEST_VALUE:
            said = printable(line, _LONGEST_WORDS)
            raise SettingsError(f"{where} says {said!r}: a line must be NAME=VALUE")
        told[name] = value
        if len(told) > MOST_LABELS:
            raise SettingsError(f"{where} tells more than {MOST_LABELS} labels")
    return told
