"""What a panel becomes: HTML for a box of pixels, and remarks on what a reader would miss."""

from collections.abc import Sequence
from typing import NamedTuple

from bench.mockup.fields import Json
from bench.mockup.look import Look, told

EMPTY = "empty"


class Box(NamedTuple):
    """The room inside a panel, and how it looks at a moment."""

    width: float
    height: float
    look: Look
    from_ms: int
    now_ms: int


class Drawn(NamedTuple):
    """HTML, and remarks."""

    html: str
    remarks: Sequence[str] = ()


def nothing(panel: Json) -> Drawn:
    """Draw a panel that has no data."""
    text = panel["fieldConfig"]["defaults"].get("noValue") or "No data"
    return Drawn(f'<div class="nothing">{told(text)}</div>', [EMPTY])
