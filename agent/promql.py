"""How durations and texts are written in PromQL."""

import json

_UNITS = ((86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1000, "s"), (1, "ms"))


def span(milliseconds: int) -> str:
    """Write a duration: `9m55s`."""
    text = ""
    for unit_ms, unit in _UNITS:
        times, milliseconds = divmod(milliseconds, unit_ms)
        text += f"{times}{unit}" if times else ""
    return text


def quoted(text: str) -> str:
    """Write a text with its quotes."""
    return json.dumps(text, ensure_ascii=False)
