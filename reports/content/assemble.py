"""Computes all sections of a report, and says of those that cannot be made why."""

from collections.abc import Iterator, Mapping

from reports.content.bridge import bridge
from reports.content.capacity import capacity
from reports.content.forecast import LEAST_WEEKS, forecast, is_week
from reports.content.fragments import fragments
from reports.content.groups import groups
from reports.content.heat import energy, heat
from reports.content.quality import quality
from reports.content.register import assets
from reports.content.reliability import reliability
from reports.content.scorecard import scores
from reports.content.shape import days, heat_map
from reports.content.sizes import sizes
from reports.content.waste import waste
from reports.facts import Facts
from reports.outline import Report
from reports.sections import Sections

NEEDS: Mapping[str, tuple[str, ...]] = {
    "scores": ("last",),
    "bridge": ("last",),
    "days": ("hours",),
    "capacity": ("hours",),
    "fragments": ("hours",),
    "sizes": ("tenures", "memory_bytes"),
    "heat_map": ("hours",),
    "heat": ("gpus",),
    "reliability": ("findings",),
    "findings": ("findings",),
    "assets": ("stays",),
    "forecast": ("weeks", "hours"),
}
"""Section → the fields of Facts, or `findings`, without which it cannot be made, or in part only."""
_LACKS = {
    "last": "there is no week before this one to compare with",
    "weeks": "there is no week before this one",
    "hours": "the source does not tell what happened hour by hour",
    "tenures": "the source does not tell what each holder had",
    "memory_bytes": "the source does not tell how much memory the models have",
    "gpus": "the source does not tell temperatures and lowered clocks by GPU",
    "stays": "the source does not tell where GPUs were over their lives",
}


def sections(report: Report, facts: Facts) -> Sections:
    """Compute all sections."""
    absent = dict(_absent(report, facts))
    return Sections(
        scores=scores(report, facts),
        last=None if facts.last is None else facts.last.window,
        bridge=bridge(report, facts),
        groups=groups(report, facts),
        days=days(report, facts),
        capacity=capacity(report, facts),
        fragments=fragments(report, facts),
        waste=waste(report, facts),
        sizes=sizes(report, facts),
        heat_map=heat_map(report, facts),
        heat=heat(report, facts),
        energy=energy(report, facts),
        reliability=None if "reliability" in absent else reliability(report, facts),
        assets=assets(report, facts),
        forecast=forecast(report, facts),
        quality=quality(report, facts),
        absent=absent,
    )


def _absent(report: Report, facts: Facts) -> Iterator[tuple[str, str]]:
    """Give a sentence for each section that cannot be made; what merely has nothing to tell is there."""
    for section, needs in NEEDS.items():
        sentence = next((told for need in needs if (told := _lack(facts, need))), "")
        if not sentence and section == "forecast":
            sentence = _no_forecast(report, facts)
        elif not sentence and section == "capacity" and not capacity(report, facts):
            sentence = "no whole hour of the window is accounted for"
        elif not sentence and section == "fragments" and not fragments(report, facts):
            sentence = "no GPU was free"
        if sentence:
            yield section, sentence


def _lack(facts: Facts, need: str) -> str:
    """Say why a field is empty; a source that says that it lacks and yet has some is believed to have it."""
    if need == "findings":
        return facts.missing.get(need, "")
    return "" if getattr(facts, need) else facts.missing.get(need, _LACKS[need])


def _no_forecast(report: Report, facts: Facts) -> str:
    if not is_week(report.window):
        return "a trend is told of weeks, and this window is not one"
    if forecast(report, facts):
        return ""
    weeks = len(facts.weeks) + 1
    if weeks < LEAST_WEEKS:
        return f"a trend needs {LEAST_WEEKS} weeks, and there {'is' if weeks == 1 else 'are'} {weeks}"
    return f"no group of GPUs has the {LEAST_WEEKS} well covered weeks that a trend needs"
