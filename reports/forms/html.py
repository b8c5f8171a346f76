"""The report as one page of HTML that asks nobody for anything: no font, script or picture from elsewhere.

All text is escaped where it is written, names are made printable first. The only script is our own, named by
its hash in the page's policy; without it the page says the same. Needs the extra `report`.
"""

from base64 import b64encode
from functools import cache
from hashlib import sha256
from importlib.resources import files

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from agent.tick import State
from reports.forms.chapters import chapters
from reports.forms.colours import DARK, LIGHT, RAMP, STATES
from reports.forms.headline import headline
from reports.forms.links import Linker, Unlinked
from reports.forms.story import Story
from reports.outline import Report
from reports.sections import Sections
from reports.wording import printable

FILTER_FROM = 16
"""Tables of so many rows get a box to filter them."""
TALL_FROM = 41
"""Tables of so many rows scroll in a box of their own on a screen; on paper they are whole."""


def to_html(report: Report, sections: Sections | None, *, links: Linker | None = None) -> str:
    """Write a report as a page; without sections, chapters that need them say that they are not there."""
    story = Story(
        report=report,
        sections=sections or Sections(),
        has_sections=sections is not None,
        links=links or Unlinked(),
    )
    script = _asset("page.js")
    return (
        _environment()
        .get_template("page.html.j2")
        .render(
            head=headline(story),
            chapters=chapters(story),
            states=[state.value for state in State],
            style=Markup(_style()),  # noqa: S704  our own file
            script=Markup(script),  # noqa: S704  our own file
            policy=_policy(script),
            titled=lambda head: report.prices.title if head.title == "cost" else head.title,
            filter_from=FILTER_FROM,
            tall_from=TALL_FROM,
        )
    )


@cache
def _environment() -> Environment:
    found = Environment(
        loader=PackageLoader("reports.forms"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_shown,
    )
    found.filters["drawing"] = _drawing
    return found


def _shown(value: object) -> object:
    """Make what a template writes printable, unless it is ours."""
    return printable(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _drawing(svg: str) -> Markup:
    """Let a drawing stand as it is: reports.forms.svg wrote it, and escaped all text in it."""
    return Markup(svg)  # noqa: S704


def _policy(script: str) -> str:
    """Say what the page may do: show itself, and run the one script."""
    known = b64encode(sha256(script.encode()).digest()).decode()
    return (
        "default-src 'none'; img-src data:; style-src 'unsafe-inline'; "
        f"script-src 'sha256-{known}'; base-uri 'none'; form-action 'none'"
    )


@cache
def _asset(name: str) -> str:
    return files("reports.forms").joinpath("templates", name).read_text(encoding="utf-8")


def _style() -> str:
    """Give the style sheet, with the colours before it."""
    light = "".join(f"--{name}:{colour};" for name, colour in LIGHT._asdict().items())
    dark = "".join(f"--{name}:{colour};" for name, colour in DARK._asdict().items())
    chips = "".join(
        f".s-{state.value}{{background:{tone.fill};color:{tone.ink}}}\n" for state, tone in STATES.items()
    )
    steps = "".join(f".h{at}{{background:{tone.fill};color:{tone.ink}}}\n" for at, tone in enumerate(RAMP))
    roles = "".join(
        f".f-{name}{{fill:var(--{name})}}.s-{name}{{stroke:var(--{name})}}\n"
        for name in ("ink", "soft", "line", "page", "panel", "good", "bad")
    )
    return (
        f":root{{color-scheme:light dark;{light}}}\n"
        f"@media screen and (prefers-color-scheme:dark){{:root{{{dark}}}}}\n"
        f"{chips}{steps}{roles}{_asset('page.css')}"
    )
