"""Tables for terminals, and the words in them."""

from collections.abc import Collection, Sequence

from agent.tally import DAY_MS, HOUR_MS

NONE = "-"


def columns(head: Sequence[str], rows: Sequence[Sequence[str]], right: Collection[str] = ()) -> str:
    """Lay out rows under a head; those named in `right` end at the same place."""
    lines = [head, *rows]
    widths = [max(len(line[at]) for line in lines) for at in range(len(head))]
    texts = []
    for line in lines:
        cells = [
            cell.rjust(width) if name in right else cell.ljust(width)
            for cell, width, name in zip(line, widths, head, strict=True)
        ]
        texts.append("  ".join(cells).rstrip())
    return "\n".join(texts)


def duration(length_ms: int) -> str:
    """Say a length of time in its two largest units."""
    minutes, hours, days = length_ms // 60_000, length_ms // HOUR_MS, length_ms // DAY_MS
    if days:
        return f"{days} d {hours % 24} h"
    if hours:
        return f"{hours} h {minutes % 60:02d} min"
    return f"{minutes} min" if minutes else f"{length_ms // 1000} s"


def share(ratio: float | None) -> str:
    """Say a share in per cent."""
    return NONE if ratio is None else f"{ratio:.1%}"


def hours(number: float) -> str:
    """Say GPU-hours, with more digits when they are few."""
    return f"{number:.4f}" if number < 1 else f"{number:,.2f}"


def energy(kwh: float) -> str:
    """Say energy in the unit that fits."""
    return f"{kwh * 1000:.1f} Wh" if kwh < 1 else f"{kwh:,.2f} kWh"


def tidy(text: str) -> str:
    """Keep control characters of foreign names away from the terminal."""
    return "".join(one if one.isprintable() else "?" for one in text)
