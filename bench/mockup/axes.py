"""Scales and ticks as Grafana's plots have them: where they end, and how far apart ticks are."""

import math
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from bench.mockup.fields import Shape
from bench.mockup.look import width_of
from bench.mockup.units import BINARY, MINUTE, shown

TICK = 12
"""Size of the text of ticks."""
LOW, CLOSE, APART = 150, 15, 30
"""Up to which height ticks may stand close, and how far apart they are then and else, in pixels."""
_NEARLY = 1e-9
_STEPS_S = (1, 5, 10, 15, 30, 60, 300, 600, 900, 1800, 3600, 7200, 10_800, 14_400, 21_600, 28_800, 43_200)
_DAY_S = 86_400


def scale(values: Iterable[float], shape: Shape) -> tuple[float, float]:
    """Give the ends of the vertical scale: a tenth of room on each side, or what the JSON says."""
    finite = list(values)
    finite += [shape.custom[name] for name in ("axisSoftMin", "axisSoftMax") if name in shape.custom]
    low, high = min(finite, default=0.0), max(finite, default=0.0)
    low = shape.least if shape.least is not None else low
    high = shape.most if shape.most is not None else max(high, low)
    delta = high - low
    size = delta or max(abs(low), abs(high)) or 1000.0
    unit = 10 ** math.floor(math.log10(size)) / 10
    pad = size * 0.1 if delta else size * (0.1 if low == 0 else 1)
    if shape.least is None:
        padded = math.floor((low - pad) / unit + 1e-9) * unit
        low = 0.0 if low >= 0 and padded <= 0 else padded
    if shape.most is None:
        high = math.ceil((high + pad) / unit - 1e-9) * unit
    return (low, high) if high > low else (low, low + 100)


def ticks(low: float, high: float, height: float, shape: Shape, now_ms: int) -> list[tuple[float, str]]:
    """Give ticks of a vertical scale, with their texts."""
    space = CLOSE if height <= LOW else APART
    least = (high - low) * space / max(height, 1)
    if shape.unit in BINARY:
        step = 2.0 ** math.ceil(math.log2(least))
    else:
        power = 10.0 ** math.floor(math.log10(least))
        step = next(one * power for one in (1, 2, 2.5, 5, 10) if one * power >= least * (1 - 1e-9))
    found = []
    value = math.ceil(low / step - 1e-9) * step
    decimals = max(0, -math.floor(math.log10(step) + 1e-9) + (1 if str(step).endswith("25") else 0))
    while value <= high + step * 1e-9:
        if shape.decimals != 0 or abs(value - round(value)) < _NEARLY:
            found.append((value, _text(0.0 if abs(value) < step / 1e6 else value, shape, decimals, now_ms)))
        value += step
    return found


def _text(value: float, shape: Shape, decimals: int, now_ms: int) -> str:
    """Write a tick; zeros that no decimals of the JSON ask for are left out."""
    if shape.decimals is not None:
        return shown(value, shape.unit, shape.decimals, now_ms)
    text = shown(value, shape.unit, decimals if decimals > 0 else None, now_ms)
    number = text.lstrip("-$")
    digits = number[: next((at for at, one in enumerate(number) if one not in "0123456789."), len(number))]
    bare = digits.rstrip("0").rstrip(".") if "." in digits else digits
    return text.replace(digits, bare, 1)


def moments(from_ms: int, until_ms: int, width: float) -> list[tuple[int, str]]:
    """Give ticks of time, in UTC."""
    length_s = (until_ms - from_ms) / 1000
    guess = length_s / (width / 40)
    space = width_of(_moment(from_ms, length_s, guess), TICK) + 18
    least = length_s * space / width
    steps: Sequence[int] = (*_STEPS_S, *(_DAY_S * days for days in (1, 2, 3, 4, 5, 7, 14, 28)))
    step = next((one for one in steps if one >= least), steps[-1])
    first = math.ceil(from_ms / 1000 / step) * step
    return [
        (at_s * 1000, _moment(at_s * 1000, length_s, step))
        for at_s in range(first, until_ms // 1000 + 1, step)
    ]


def _moment(at_ms: int, length_s: float, step_s: float) -> str:
    if step_s <= MINUTE:
        form = "%H:%M:%S"
    elif length_s <= _DAY_S:
        form = "%H:%M"
    else:
        form = "%m/%d %H:%M" if step_s <= _DAY_S else "%m/%d"
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime(form)
