"""The command `gputally`."""

import sys

from gputally.cli import main as run


def main() -> int:
    """Run the command with the process's arguments; give its exit code."""
    return run(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
