"""Values as Grafana writes them. A unit that is not known here is an error."""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial

Format = Callable[[float, int | None, int], str]
"""A value, decimals or None, and now in ms since the epoch."""
MINUTE, HOUR, DAY, WEEK, YEAR = 60, 3600, 86_400, 604_800, 31_536_000
_SI = ("f", "p", "n", "µ", "m", "", "k", "M", "G", "T", "P", "E", "Z", "Y")
_IEC = ("", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei")
_COUNTS = ("", "K", "M", "B", "T")
_SHORT = ("", " K", " Mil", " Bil", " Tri")


def fixed(value: float, decimals: int | None) -> str:
    """Write a number; without decimals told, with three digits that count."""
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else ("∞" if value > 0 else "-∞")
    if decimals is None:
        whole = value == 0 or value % 1 == 0
        decimals = 0 if whole else max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{_half_up(value, decimals):.{decimals}f}"


def _half_up(value: float, decimals: int) -> float:
    """Round as JavaScript does: halves go up."""
    factor = 10.0**decimals
    return math.floor(value * factor + 0.5) / factor


def _scaled(
    value: float,
    decimals: int | None,
    now_ms: int,
    *,
    factor: int,
    suffixes: Sequence[str],
    offset: int = 0,
    prefix: str = "",
) -> str:
    """Choose the prefix by size."""
    del now_ms
    index = 0 if value == 0 else math.floor(math.log(abs(value), factor) + 1e-12)
    index = min(max(index, -offset), len(suffixes) - 1 - offset)
    sign = "-" if prefix and value < 0 else ""
    value = abs(value) if prefix else value
    return f"{sign}{prefix}{fixed(value / float(factor) ** index, decimals)}{suffixes[offset + index]}"


def _si(unit: str, offset: int = 0) -> Format:
    whole = [f" {one}{unit}" for one in _SI]
    return partial(_scaled, factor=1000, suffixes=whole, offset=_SI.index("") + offset)


def _plain(value: float, decimals: int | None, now_ms: int, suffix: str = "") -> str:
    del now_ms
    return fixed(value, decimals) + suffix


def _percent(value: float, decimals: int | None, now_ms: int) -> str:
    del now_ms
    return fixed(value * 100, decimals) + "%"


def _seconds(value: float, decimals: int | None, now_ms: int) -> str:
    del now_ms
    size = abs(value)
    if size == 0:
        return fixed(0, decimals) + " s"
    if size < 1:
        parts = ((1e3, "ms"), (1e6, "µs"), (1e9, "ns"))
        factor, name = next((part for part in parts if size * part[0] >= 1), parts[-1])
        return f"{fixed(value * factor, decimals)} {name}"
    steps = ((YEAR, "year"), (WEEK, "week"), (DAY, "day"), (HOUR, "hour"), (MINUTE, "min"), (1, "s"))
    length, name = next(step for step in steps if size >= step[0])
    several = "s" if length >= HOUR and value != length else ""
    return f"{fixed(value / length, decimals)} {name}{several}"


_AGO: Sequence[tuple[float, int, str]] = (
    (45, 1, "a few seconds"),
    (90, 1, "a minute"),
    (45 * MINUTE, MINUTE, "{} minutes"),
    (90 * MINUTE, 1, "an hour"),
    (22 * HOUR, HOUR, "{} hours"),
    (36 * HOUR, 1, "a day"),
    (26 * DAY, DAY, "{} days"),
    (46 * DAY, 1, "a month"),
    (320 * DAY, 30 * DAY, "{} months"),
)
"""Below so many seconds: the length by which they are counted, and the words."""


def _from_now(value: float, decimals: int | None, now_ms: int) -> str:
    """Tell how long ago a moment in ms was, in words."""
    del decimals
    seconds = (now_ms - value) / 1000
    words = f"{max(round(abs(seconds) / YEAR), 1)} years"
    for below, length, text in _AGO:
        if abs(seconds) < below:
            words = text.format(round(abs(seconds) / length))
            break
    return f"{words} ago" if seconds >= 0 else f"in {words}"


FORMATS: Mapping[str, Format] = {
    "none": _plain,
    "short": partial(_scaled, factor=1000, suffixes=_SHORT),
    "percentunit": _percent,
    "celsius": partial(_plain, suffix=" °C"),
    "s": _seconds,
    "h": lambda value, decimals, now_ms: _seconds(value * HOUR, decimals, now_ms),
    "dateTimeFromNow": _from_now,
    "bytes": partial(_scaled, factor=1024, suffixes=[f" {one}B" for one in _IEC]),
    "Bps": _si("B/s"),
    "hertz": _si("Hz"),
    "watt": _si("W"),
    "watth": _si("Wh"),
    "kwatth": _si("Wh", 1),
    "cps": partial(_scaled, factor=1000, suffixes=[f"{one} c/s" for one in _COUNTS]),
    "currencyUSD": partial(_scaled, factor=1000, suffixes=_COUNTS, prefix="$"),
}
MOMENTS = frozenset({"dateTimeFromNow"})
"""Units of which Grafana reads every text as a time."""
BINARY = frozenset({"bytes"})


def shown(value: float, unit: str, decimals: int | None, now_ms: int) -> str:
    """Write a value in a unit. Raises ValueError for a unit that is not known here."""
    if unit not in FORMATS:
        raise ValueError(f"the unit {unit!r} is not known here: add it to bench/mockup/units.py")
    return FORMATS[unit](value, decimals, now_ms)
