"""The version, said once in pyproject.toml."""

from importlib.metadata import PackageNotFoundError, version


def own_version() -> str:
    """Give the installed version; a tree that is not installed has none."""
    try:
        return version("gputally")
    except PackageNotFoundError:
        return "0+tree"
