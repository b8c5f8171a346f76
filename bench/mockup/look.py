"""Colours and text of Grafana's two themes: names of colours, its palette, and how wide a text is."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

_NAMED: Mapping[str, tuple[str, str]] = {
    "green": ("#73bf69", "#73bf69"),
    "red": ("#f2495c", "#e02f44"),
    "orange": ("#ff9830", "#ff780a"),
    "blue": ("#5794f2", "#5794f2"),
    "yellow": ("#fade2a", "#fade2a"),
    "purple": ("#b877d9", "#b877d9"),
}
"""In the dark and in the light theme."""
_PALETTE: Sequence[str] = (
    *("#73bf69", "#f2cc0c", "#8ab8ff", "#ff780a", "#f2495c", "#5794f2", "#b877d9", "#705da0"),
    *("#37872d", "#fade2a", "#447ebc", "#c15c17", "#890f02", "#0a437c", "#6d1f62", "#584477"),
    *("#b7dbab", "#f4d598", "#70dbed", "#f9ba8f", "#f29191", "#82b5d8", "#e5a8e2", "#aea2e0"),
)
"""In the order in which lines without a colour of their own are coloured."""
_WIDE: Mapping[str, float] = {
    **dict.fromkeys("il.,:;'|!I", 0.27),
    **dict.fromkeys("fjrt()/[]{} ", 0.35),
    **dict.fromkeys("abcdeghknopqsuvxyz_-", 0.575),
    **dict.fromkeys("0123456789$?", 0.62),
    **dict.fromkeys("ABCDEFGHJKLNOPQRSTUVXYZ#", 0.69),
    **dict.fromkeys("mwMW%@", 0.88),
}
_OTHER = 0.6
BOLD = 1.04
"""So much wider is a text of medium weight."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """One theme."""

    name: str
    canvas: str
    panel: str
    border: str
    text: str
    faint: str
    link: str
    grid: str
    raised: str

    def colour(self, told: str) -> str:
        """Give a colour of the JSON as CSS. Raises ValueError for a name that is not known."""
        if told.startswith("#"):
            return told
        if told not in _NAMED:
            raise ValueError(f"the colour {told!r} is not known here")
        return _NAMED[told][self.name == "light"]


DARK = Look(
    name="dark",
    canvas="#111217",
    panel="#181b1f",
    border="rgba(204,204,220,.12)",
    text="#ccccdc",
    faint="rgba(204,204,220,.65)",
    link="#6e9fff",
    grid="rgba(240,250,255,.09)",
    raised="#22252b",
)
LIGHT = Look(
    name="light",
    canvas="#f4f5f5",
    panel="#ffffff",
    border="rgba(36,41,46,.12)",
    text="#24292e",
    faint="rgba(36,41,46,.75)",
    link="#1f62e0",
    grid="rgba(0,10,23,.09)",
    raised="#f4f5f5",
)
LOOKS: Mapping[str, Look] = {look.name: look for look in (DARK, LIGHT)}


def nth(number: int) -> str:
    """Give the colour of a line by its number, from 0."""
    return _PALETTE[number % len(_PALETTE)]


def width_of(text: str, size: float) -> float:
    """Tell how wide a text is in Inter, in pixels: good to some percent."""
    return size * sum(_WIDE.get(letter, _OTHER) for letter in text)


def largest(text: str, width: float, height: float, line: float, most: float = 1000.0) -> float:
    """Give the size in pixels at which a text fills a box, as Grafana measures it at 14 px."""
    by_width = width / (width_of(text, 14) + 2) * 14
    return max(min(by_width, height / line, most), 0.0)


def told(text: object) -> str:
    """Make a text safe in HTML and SVG."""
    return escape(str(text), quote=True)
