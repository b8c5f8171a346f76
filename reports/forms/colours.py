"""The colours of the report: one for each state, in light and in dark, told apart by the colour-blind.

Text stands on a state's colour in its ink, with a contrast of at least 4.5. The states' colours are those of
Okabe and Ito; what a colour says is always written beside it, too.
"""

from collections.abc import Mapping
from typing import NamedTuple

from agent.tick import State

_BLACK, _WHITE = "#000000", "#ffffff"


class Tone(NamedTuple):
    """A colour, and the ink in which text on it is legible."""

    fill: str
    ink: str


class Scheme(NamedTuple):
    """The colours of the page besides those of the states."""

    page: str
    panel: str
    ink: str
    soft: str
    line: str
    good: str
    bad: str
    link: str
    accent: str


STATES: Mapping[State, Tone] = {
    State.ACTIVE: Tone("#0072b2", _WHITE),
    State.HELD_GAP: Tone("#56b4e9", _BLACK),
    State.HELD_IDLE: Tone("#e69f00", _BLACK),
    State.FREE: Tone("#009e73", _BLACK),
    State.SERVICE: Tone("#cc79a7", _BLACK),
    State.DRAINED: Tone("#f0e442", _BLACK),
    State.DOWN: Tone("#d55e00", _BLACK),
    State.UNKNOWN: Tone("#6b6b6b", _WHITE),
}
RAMP: tuple[Tone, ...] = (
    Tone("#f7fbff", _BLACK),
    Tone("#e3eef9", _BLACK),
    Tone("#cfe1f2", _BLACK),
    Tone("#b5d4e9", _BLACK),
    Tone("#93c3df", _BLACK),
    Tone("#6daed5", _BLACK),
    Tone("#4b97c9", _BLACK),
    Tone("#2370b5", _WHITE),
    Tone("#12579f", _WHITE),
    Tone("#083c7d", _WHITE),
)
"""Shares of 0 to 1 by tenths, from little to much."""
LIGHT = Scheme(
    page="#ffffff",
    panel="#f5f6f7",
    ink="#15191d",
    soft="#565e66",
    line="#cfd4d9",
    good="#00623f",
    bad="#a33b00",
    link="#0b5394",
    accent="#0072b2",
)
DARK = Scheme(
    page="#14171a",
    panel="#1d2125",
    ink="#e7eaed",
    soft="#a3abb3",
    line="#3a4047",
    good="#4cc39a",
    bad="#ff9d5c",
    link="#86bdf2",
    accent="#56b4e9",
)


def luminance(colour: str) -> float:
    """Give the relative luminance of `#rrggbb`, 0 to 1, as WCAG 2 defines it."""
    channels = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [one / 12.92 if one <= 0.04045 else ((one + 0.055) / 1.055) ** 2.4 for one in channels]  # noqa: PLR2004  sRGB
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    """Give the contrast of two colours, 1 to 21, as WCAG 2 defines it."""
    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)
