"""`gputally completion`: what a shell needs to complete the command's words."""

import argparse

from gputally.cli import COMMANDS, command_line

SHELLS = ("bash", "zsh", "fish")
EPILOG = """\
  gputally completion bash > /etc/bash_completion.d/gputally
  gputally completion zsh > /usr/local/share/zsh/site-functions/_gputally
  gputally completion fish > ~/.config/fish/completions/gputally.fish

once, in this shell:   source <(gputally completion bash)
"""
FOLDERS = ("FOLDER", "DIRECTORY")
"""How options call what they name when it is a folder."""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.epilog = EPILOG
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("shell", choices=SHELLS, help="for which shell")


def execute(options: argparse.Namespace) -> int:
    """Print the script."""
    print(script(options.shell))
    return 0


def script(shell: str) -> str:
    """Give the script of a shell, with all commands, their options and their files."""
    import shtab  # noqa: PLC0415  nothing else needs it

    parser = command_line(COMMANDS)
    for action in _actions(parser):
        if action.metavar in FOLDERS:
            action.complete = shtab.DIRECTORY  # type: ignore[attr-defined]
        elif _names_a_file(action):
            action.complete = shtab.FILE  # type: ignore[attr-defined]
    return str(shtab.complete(parser, shell))


def _names_a_file(action: argparse.Action) -> bool:
    return isinstance(action.metavar, str) and action.metavar.startswith("FILE")


def _actions(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    found: list[argparse.Action] = []
    for action in parser._actions:  # noqa: SLF001  argparse tells of them nowhere else
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001
            found += [one for below in action.choices.values() for one in _actions(below)]
        else:
            found.append(action)
    return found
