"""Single figures: a stat, as large as its box allows, and bars with their names."""

import math
from collections.abc import Sequence

from bench.mockup.asking import Line
from bench.mockup.drawn import Box, Drawn
from bench.mockup.fields import Json, Shown, shape
from bench.mockup.look import BOLD, largest, told, width_of

LINE = 1.2
WIDE = 2.5
"""A box so much wider than high has its title beside its figure."""
MOST_TITLE = 30.0
SMALLEST = 20.0
"""A figure of fewer pixels is worth a remark."""
SPACING = 8
VALUE_PAD = 10
TITLE_LINE = 1.5
TALL, BESIDE = 100, 40
"""A stat that is higher has more room around it; a bar that is lower has its name beside it."""


def stat(panel: Json, lines: Sequence[Line], box: Box) -> Drawn:
    """Draw the last value of each series; names are there where there are several."""
    values = [(line.name, _last(panel, line, box)) for line in lines]
    if not values:
        no_value = shape(panel).no_value or "No data"
        values, remarks = [("", Shown(no_value, box.look.text))], ["empty"]
    else:
        remarks = []
    if panel["options"]["colorMode"] == "none":
        values = [(name, Shown(one.text, box.look.text)) for name, one in values]
    across = _across(len(values), box)
    down = math.ceil(len(values) / across)
    width = (box.width - SPACING * (across - 1)) / across
    height = (box.height - SPACING * (down - 1)) / down
    drawn = [_stat(name if len(values) > 1 else "", one, values, width, height) for name, one in values]
    smallest = min(size for _, size in drawn)
    if smallest < SMALLEST:
        longest = max((one.text for _, one in values), key=len)
        remarks.append(f"its figure is {smallest:.0f} px small: {longest!r} of {len(values)} in its box")
    return Drawn(f'<div class="stats">{"".join(html for html, _ in drawn)}</div>', remarks)


def _last(panel: Json, line: Line, box: Box) -> Shown:
    value = line.points[-1][1] if line.points else None
    return shape(panel, line.name).number(value, box.look, box.now_ms)


def _across(count: int, box: Box) -> int:
    """Choose how many figures stand side by side, so that they are largest."""

    def side(across: int) -> float:
        down = math.ceil(count / across)
        return min(box.width / across, box.height / down)

    return max(range(1, count + 1), key=lambda across: (side(across), across))


def _stat(
    title: str, value: Shown, values: Sequence[tuple[str, Shown]], width: float, height: float
) -> tuple[str, float]:
    """Draw one figure; give it with the size of its text."""
    pad = 12 if height > TALL else 8
    room, tall = width - 2 * pad, height - 2 * pad
    text = max((one.text for _, one in values), key=lambda one: width_of(one, 14)) or "-"
    names = max((name for name, _ in values), key=len) if title else ""
    text_room = room / BOLD
    wide = width / height > WIDE
    head = 0.0
    if names and wide:
        size = largest(text, text_room * 0.3, tall, LINE)
        head = min(largest(names, room * 0.6, tall, LINE, MOST_TITLE), size * 0.7)
    elif names:
        head = largest(names, room, tall * 0.3, LINE, MOST_TITLE)
        size = largest(text, text_room, tall - head * LINE, LINE)
        head = min(head, size * 0.7)
    else:
        size = largest(text, text_room, tall, LINE)
    flow = ("row" if wide else "column") + (" named" if names else "")
    name = f'<span style="font-size:{head:.1f}px">{told(title)}</span>' if names else ""
    figure = f'<b style="font-size:{size:.1f}px;color:{value.colour}">{told(value.text)}</b>'
    box = f"width:{width:.1f}px;height:{height:.1f}px;padding:{pad}px"
    return f'<div class="stat {flow}" style="{box}">{name}{figure}</div>', size


def bars(panel: Json, lines: Sequence[Line], box: Box) -> Drawn:
    """Draw one bar for each series, from the least of the JSON to the largest value."""
    options, remarks = panel["options"], []
    shapes = [shape(panel, line.name) for line in lines]
    values = [line.points[-1][1] for line in lines]
    if not values:
        text = shape(panel).no_value or "No data"
        return Drawn(f'<div class="nothing">{told(text)}</div>', ["empty"])
    texts = [one.number(value, box.look, box.now_ms) for one, value in zip(shapes, values, strict=True)]
    count = len(lines)
    fair = box.height / count - SPACING + SPACING / count
    height = min(max(fair, options["minVizHeight"]), options["maxVizHeight"])
    if height > fair + 1:
        fitting = int((box.height + SPACING) // (height + SPACING))
        remarks.append(f"scrolls: {fitting} of {count} bars fit")
    names = max((line.name for line in lines), key=lambda one: width_of(one, 14))
    above = height > BESIDE
    title = max(min(height * 0.45, 50), 17) if above else max(height * 0.6, 18)
    size = title / TITLE_LINE
    if "titleSize" in options.get("text", {}):
        size = options["text"]["titleSize"]
        title = size * TITLE_LINE
    side = 0.0 if above else min(width_of(names, size) + 15, box.width * 0.4)
    if not above and width_of(names, size) + 10 > side:
        remarks.append(f"names cut: {names!r} in {side:.0f} px")
    tall = height - title if above else height
    text = max((one.text for one in texts), key=lambda one: width_of(one, 14))
    figure = max(min(box.width * 0.2, 150), width_of(text, max(size, 12)) + 2 * VALUE_PAD)
    font = options.get("text", {}).get("valueSize") or largest(text, figure - 2 * VALUE_PAD, tall, 1.0)
    room = box.width - figure - side
    least = shapes[0].least if shapes[0].least is not None else min(values)
    most = shapes[0].most if shapes[0].most is not None else max(values)
    html = []
    for line, value, one in zip(lines, values, texts, strict=True):
        share = min((value - least) / (most - least), 1.0) if most > least else 0.0
        name = f'<div class="name" style="font-size:{size:.1f}px;width:{side or box.width:.1f}px'
        name += f'{"" if above else ";text-align:right;padding-right:10px"}">{told(line.name)}</div>'
        bar = f"width:{max(share * room, 1):.1f}px;background:{one.colour}59;"
        bar += f"border-right:2px solid {one.colour}"
        html.append(
            f'<div class="bar {"above" if above else "beside"}" style="height:{height:.1f}px">{name}'
            f'<div class="track" style="height:{tall:.1f}px"><div style="{bar}"></div><i></i>'
            f'<b style="width:{figure:.1f}px;font-size:{font:.1f}px;color:{one.colour}">{told(one.text)}</b>'
            "</div></div>"
        )
    return Drawn(f'<div class="bars" style="height:{box.height:.1f}px">{"".join(html)}</div>', remarks)
