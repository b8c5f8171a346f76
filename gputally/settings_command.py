"""`gputally settings`: whether settings are right, what is in force and by what, and an example."""

import argparse
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, fields, is_dataclass
from pathlib import Path
from typing import Any

from agent.errors import SettingsError
from agent.holders.worlds import lookouts
from gputally.addresses import HIDDEN, shown
from gputally.settings import FILE_VARIABLE, PREFIX, Settings, file_of, load, sources
from rules.load import load as load_rules

EPILOG = """\
  gputally settings check new.toml && cp new.toml /etc/gputally/gputally.toml && systemctl reload gputally
  gputally settings show             what differs from the defaults, and where it comes from
  gputally settings show --effective all of it
  gputally settings example > gputally.toml

environment variables go before the file: GPUTALLY_WEB_PORT=9800 is port of [web]
"""
_FILES = ("_file", "file")
"""How keys end that name a file; a drain file need not be there."""
_EXAMPLES = (
    Path(__file__).with_name("example.toml"),
    Path(__file__).parents[1] / "systemd" / "gputally.toml",
)
"""In what is installed, and in the source."""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.epilog = EPILOG
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    check = actions.add_parser("check", help="whether settings are right: 0, or 2 and what is wrong")
    check.add_argument("file", nargs="?", type=Path, metavar="FILE", help="default: what the agent reads")
    show = actions.add_parser("show", help="what is in force, and where it comes from; secrets are hidden")
    show.add_argument("file", nargs="?", type=Path, metavar="FILE", help="default: what the agent reads")
    show.add_argument("--effective", action="store_true", help="all keys, also those with their default")
    show.add_argument("--json", action="store_true", help="for programs")
    actions.add_parser("example", help="a file with every key, its meaning and its default")


def execute(options: argparse.Namespace) -> int:
    """Do it. Raises SettingsError that says what is wrong."""
    if options.action == "example":
        print(example(), end="")
        return 0
    settings = load(options.file, os.environ)
    if options.action == "check":
        return _check(options.file, settings)
    told = sources(options.file, os.environ)
    if options.json:
        print(json.dumps(_plain(settings, told, effective=options.effective), indent=2))
        return 0
    print("\n".join(_toml(settings, told, effective=options.effective)))
    return 0


def example() -> str:
    """Give the commented sample. Raises SettingsError where it was not installed."""
    for path in _EXAMPLES:
        if path.exists():
            return path.read_text(encoding="utf-8")
    raise SettingsError("the example was not installed: see systemd/gputally.toml of the source")


def _check(file: Path | None, settings: Settings) -> int:
    """Read all that the settings name, as the agent does when it starts."""
    load_rules(settings.rules.path)
    for world in lookouts(settings.holders):
        world.close()
    for where, named, why in _missing(settings, sources(file, os.environ)):
        print(f"warning: {where} names {named}, which cannot be read here: {why}")
    path = file_of(file, os.environ)
    what = f"{path} is right" if path else "there is no file; the defaults are right"
    by_variables = sorted(name for name in os.environ if name.startswith(PREFIX) and name != FILE_VARIABLE)
    print(what + (f", with {', '.join(by_variables)}" if by_variables else ""))
    return 0


def _missing(settings: Settings, told: Mapping[tuple[str, str], str]) -> Iterator[tuple[str, str, str]]:
    """Give each file that is named and cannot be read by who asks: where, its path, and why."""
    for where, path in _named_files(settings, told):
        try:
            with Path(path).open("rb"):
                pass
        except OSError as error:
            yield where, path, error.strerror or str(error)


def _named_files(settings: Settings, told: Mapping[tuple[str, str], str]) -> Iterator[tuple[str, str]]:
    for section, key, value in _shown(settings, told, effective=False):
        if isinstance(value, str) and value and key.endswith(_FILES) and key != "drain_file":
            yield f"[{section}] {key}", value
    for one in settings.exporters.to:
        for key in fields(one):
            value = getattr(one, key.name)
            if isinstance(value, str) and value and key.name.endswith("_file"):
                yield f"[[exporters.to]] {one.name}, {key.name}", value


def _shown(settings: Settings, told: Mapping[tuple[str, str], str], *, effective: bool) -> Iterator[Any]:
    """Give section, key and value of what is to be shown."""
    for section in fields(settings):
        struct = getattr(settings, section.name)
        for key in fields(struct):
            if effective or (section.name, key.name) in told:
                yield section.name, key.name, getattr(struct, key.name)


def _plain(
    settings: Settings, told: Mapping[tuple[str, str], str], *, effective: bool
) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for section, key, value in _shown(settings, told, effective=effective):
        source = told.get((section, key), "default")
        found.setdefault(section, {})[key] = {"value": hidden(value), "source": source}
    return found


def hidden(value: Any) -> Any:  # noqa: ANN401  any value of settings
    """Give a value as JSON holds it, without what is secret: passwords in addresses, and headers."""
    if is_dataclass(value) and not isinstance(value, type):
        plain = asdict(value)
        plain |= {key: dict.fromkeys(plain[key], HIDDEN) for key in ("headers",) if plain.get(key)}
        return {key: hidden(one) for key, one in plain.items()}
    if isinstance(value, str):
        return shown(value)
    if isinstance(value, list | tuple):
        return [hidden(one) for one in value]
    if isinstance(value, Mapping):
        return {str(key): hidden(one) for key, one in value.items()}
    return value


def _toml(settings: Settings, told: Mapping[tuple[str, str], str], *, effective: bool) -> Iterator[str]:
    """Write TOML; behind each key where it comes from. Sections of a list stand last."""
    last, lists = "", []
    for section, key, value in _shown(settings, told, effective=effective):
        plain = hidden(value)
        source = told.get((section, key), "default")
        if isinstance(plain, list) and any(isinstance(one, dict) for one in plain):
            lists += [(f"{section}.{key}", one, source) for one in plain]
            continue
        if section != last:
            yield f"{'' if not last else chr(10)}[{section}]"
            last = section
        yield f"{key} = {written(plain)}  # {source}"
    for name, table, source in lists:
        yield f"\n[[{name}]]  # {source}"
        yield from (f"{key} = {written(one)}" for key, one in table.items())
    if not last and not lists:
        yield "# nothing differs from the defaults: see --effective"


def written(value: Any) -> str:  # noqa: ANN401  what JSON holds
    """Write a value as TOML."""
    if isinstance(value, dict):
        return f"{{{', '.join(f'{_quoted(key)} = {written(one)}' for key, one in value.items())}}}"
    if isinstance(value, list):
        return f"[{', '.join(map(written, value))}]"
    if isinstance(value, str):
        return _quoted(value)
    return json.dumps(value)


def _quoted(text: str) -> str:
    """Write text as JSON does, but for DEL, which TOML wants escaped."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
