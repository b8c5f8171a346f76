"""The chapters on what the page rests on: the quality of its data, its method, its words."""

from collections.abc import Collection, Iterator

from reports.content.quality import FULL
from reports.forms.cells import GLOSSARY, price_of
from reports.forms.grid import Block, Cell, Head, Note, Row, Table, Terms, hours_cell, percent_cell
from reports.forms.story import MOST_ROWS, Story, local
from reports.window import rfc3339
from reports.wording import percent

METHOD = (
    (
        "accounts",
        "Each node adds up what each GPU did, in whole ms by hour, state and owner; none is sampled later.",
    ),
    ("ratios", "All are ratios of sums, never means of means. What is not known is shown as -, never as 0."),
    ("coverage", "1 - unknown / (inventory - down)."),
    ("effective", "Busy time over the inventory; the two bounds count what was not seen as 0 and as 1."),
    ("busy", "A kernel was resident, by the driver's counters; over the time for which it was seen."),
    ("wasted", "Held idle and down. Free, drained and unknown time is stated beside it, and is not in it."),
    ("as GPUs", "GPU-hours over the length of the accounted time: so many GPUs did nothing else."),
    ("cost", "GPU-hours times the price; free, down and unknown hours cost as much as active ones."),
    ("patience", "Held time without activity is a gap up to the patience of its class, and idle beyond it."),
    ("headroom", "Usable GPUs less the 95th percentile of those held, over the hours of the window."),
    ("forecast", "Trend of the weekly 95th percentiles by the median of their slopes; 80 % interval."),
)


def quality(story: Story, told: Collection[str]) -> Iterator[Block]:
    """Say what to distrust; `told` are the absent sections that say so in their own place."""
    report = story.report
    if not report.identity_ok:
        sentence = (
            f"The states of a GPU do not sum to its time in {report.violation_count:,} GPU-hours: "
            "the accounts or the inventory were changed outside gputally, or it has a defect."
        )
        yield Note(sentences=[sentence], warning=True)
        yield _violations(story)
    if report.unread:
        yield Note(sentences=[f"Not in this report: {sentence}" for sentence in report.unread], warning=True)
    yield Note(sentences=list(_remarks(story)))
    nodes = story.sections.quality.nodes
    if nodes:
        rows: list[Row] = [
            [
                story.node_cell(one.node),
                hours_cell(one.inventory_ms),
                hours_cell(one.unknown_ms),
                percent_cell(one.coverage_ratio),
            ]
            for one in nodes[:MOST_ROWS]
        ]
        yield Table(
            caption="Nodes that were seen worst",
            heads=[Head("node", "name"), Head("GPU-h"), Head("unknown GPU-h"), Head("coverage")],
            rows=rows,
            left_out=max(0, len(nodes) - MOST_ROWS),
            what="nodes",
        )
    absent = [(name, why) for name, why in story.sections.absent.items() if name not in told]
    if absent:
        yield Note(sentences=["What else is not in this report, and why:"])
        yield Terms(items=[(name.replace("_", " "), why) for name, why in absent])


def _violations(story: Story) -> Table:
    report = story.report
    return Table(
        caption="Hours that do not add up",
        heads=[Head("GPU", "id"), Head("hour", "moment"), Head("was there s"), Head("its states sum to s")],
        rows=[
            [
                story.gpu_cell(row.uuid),
                Cell(rfc3339(row.hour_ms), row.hour_ms),
                Cell(f"{row.owed_ms / 1000:,.3f}", row.owed_ms),
                Cell(f"{row.entered_ms / 1000:,.3f}", row.entered_ms),
            ]
            for row in report.violations
        ],
        left_out=report.violation_count - len(report.violations),
        what="hours",
    )


def _remarks(story: Story) -> Iterator[str]:
    report = story.report
    if report.identity_ok:
        yield "Identity: PASS. The states of each GPU sum to its time in each hour."
    if report.span.first_ms > report.span.enrolled_ms >= 0:
        first, enrolled = rfc3339(report.span.first_ms), rfc3339(report.span.enrolled_ms)
        yield f"GPUs are known since {enrolled}, their accounts reach back to {first}."
    if story.sections.quality.remarks:
        yield from story.sections.quality.remarks
    else:
        yield from _seen(story)


def _seen(story: Story) -> Iterator[str]:
    """Say how much was seen, where the section on quality does not."""
    report = story.report
    low, high = report.effective_ratio
    yield (
        f"Coverage {percent(report.coverage_ratio)}; effective use lies between {percent(low)} and "
        f"{percent(high)} of the inventory."
    )
    share = report.energy_seen_ratio
    if share is None or share < FULL:
        yield f"Energy was seen for {percent(share)} of the time; the rest is missing, not 0."


def method(story: Story) -> Iterator[Block]:
    """Say how figures are made, and what words mean."""
    report = story.report
    terms = [
        ("window", local(report.window)),
        ("price", price_of(report)),
        *METHOD,
        *((state.value, text) for state, text in GLOSSARY.items()),
    ]
    yield Terms(items=terms)
