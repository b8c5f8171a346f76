"""Makes drawings fit to stand in a page: only shapes and text, in colours that follow the page's scheme.

Of what a renderer wrote, only elements and attributes that are named here pass; all text is escaped. What a
mark says of itself becomes its title, which browsers show under the pointer without any script.
"""

from collections.abc import Iterator, Mapping
from html import escape
from xml.etree import ElementTree as ET

_SVG = "{http://www.w3.org/2000/svg}"
_SHAPES = {"path", "line", "rect", "circle"}
_ELEMENTS = _SHAPES | {"g", "text", "tspan"}
_ATTRIBUTES = (
    "transform",
    "d",
    "x",
    "y",
    "x1",
    "x2",
    "y1",
    "y2",
    "cx",
    "cy",
    "r",
    "width",
    "height",
    "fill",
    "stroke",
    "stroke-width",
    "stroke-dasharray",
    "fill-opacity",
    "stroke-opacity",
    "opacity",
    "text-anchor",
    "font-size",
    "font-weight",
)
_IMPLIED = {("opacity", "1"), ("stroke-width", "0"), ("font-weight", "normal")}
_NOTHING = "M0,0h0v0h0Z"


def tidy(drawn: str, alt: str, roles: Mapping[str, str]) -> str:
    """Rewrite a drawing as an image that is called `alt`; a colour that has a role gets its class, too.

    The classes are `f-ROLE` for what is filled and `s-ROLE` for what is drawn as a line.
    """
    root = ET.fromstring(drawn)  # noqa: S314  what our own renderer wrote
    width, height = root.get("width", "0"), root.get("height", "0")
    body = "".join(piece for child in root for piece in _written(child, roles))
    size = f'viewBox="0 0 {escape(width)} {escape(height)}" width="{escape(width)}" height="{escape(height)}"'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" role="img" aria-label="{escape(alt)}" {size} '
        f'font-family="system-ui, sans-serif">{body}</svg>'
    )


def _written(element: ET.Element, roles: Mapping[str, str]) -> Iterator[str]:
    name = element.tag.removeprefix(_SVG)
    if name not in _ELEMENTS or element.get("display") == "none" or element.get("d") in ("", _NOTHING):
        return
    inside = "".join(piece for child in element for piece in _written(child, roles))
    if name in ("text", "tspan"):
        inside = escape(element.text or "", quote=False) + inside
    if name not in _SHAPES and not inside:
        return
    label = element.get("aria-label")
    if label and name != "g":
        inside = f"<title>{escape(label, quote=False)}</title>{inside}"
    head = f"<{name}{_attributes(element, roles)}"
    yield f"{head}>{inside}</{name}>" if inside else f"{head}/>"


def _attributes(element: ET.Element, roles: Mapping[str, str]) -> str:
    kept = [
        (name, value)
        for name in _ATTRIBUTES
        if (value := element.get(name)) is not None and (name, value) not in _IMPLIED
    ]
    classes = [
        f"{letter}-{roles[value]}"
        for letter, name in (("f", "fill"), ("s", "stroke"))
        if (value := element.get(name, "")) in roles
    ]
    if classes:
        kept.append(("class", " ".join(classes)))
    return "".join(f' {name}="{escape(value)}"' for name, value in kept)
