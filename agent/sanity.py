"""What can be believed: bounds by unit, so that a driver's sentinels and garbage never become figures.

A value outside is dropped and counted, never clamped and never zero. The bounds are far outside of what any
GPU does; they are there for all-ones words, negative numbers and shares above the whole.
"""

from agent.pieces import PARTS, SLICE_QUANTITIES
from agent.quantities import QUANTITIES

PETABYTE = 2.0**50
SENTINEL = 2.0**62
"""No counter comes near: NVML's blanks are 2^63 and 2^64 less a little, in 64 bits."""

_BOUNDS = {
    "_ratio": (0.0, 1.0),
    "_bytes": (0.0, PETABYTE),
    "_watts": (0.0, 100_000.0),
    "_celsius": (-273.0, 300.0),
    "_hertz": (0.0, 100e9),
    "_seconds": (0.0, SENTINEL),
    "_total": (0.0, SENTINEL),
    "_flag": (0.0, 1.0),
    "_code": (0.0, 1_000.0),
    "_generation": (0.0, 100.0),
    "_lanes": (0.0, 1_000.0),
    "_links": (0.0, 1_000.0),
    "_banks": (0.0, 1e6),
    "_processes": (0.0, 1e6),
}
_OTHERWISE = {
    "temperature_celsius": (0.0, 200.0),
    "memory_temperature_celsius": (0.0, 200.0),
    **dict.fromkeys(("fan_speed_ratio", "fan_speed_least_ratio", "fan_speed_most_ratio"), (0.0, 2.0)),
}
"""A board in use is never below freezing: negative numbers are errors of the sensor or of the driver. A fan
may turn faster than its nominal highest speed."""


def _bounds_of(name: str) -> tuple[float, float]:
    return _OTHERWISE.get(name) or next(both for end, both in _BOUNDS.items() if name.endswith(end))


BOUNDS = {name: _bounds_of(name) for name in (*QUANTITIES, *SLICE_QUANTITIES, *PARTS)}
"""The least and the largest value that is believed of each quantity."""


def believed(name: str, value: float) -> bool:
    """Tell whether a value may be one of this quantity; not a number never is."""
    least, most = BOUNDS[name]
    return least <= value <= most
