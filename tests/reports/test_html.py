"""The report as a page: the three answers, every figure, why something is absent, names that nobody obeys."""

import re
from base64 import b64encode
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from functools import cache
from hashlib import sha256
from html.parser import HTMLParser
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.states import UNATTRIBUTED
from agent.tally import HOUR_MS
from agent.tick import State
from reports.forms.chapters import _PLANS
from reports.forms.html import to_html
from reports.forms.links import Links
from reports.forms.story import ALONE
from reports.outline import Report
from reports.prices import flat_price
from reports.report import build
from reports.sections import Sections
from reports.sources.identity import Violation
from reports.sums import AccountSum, Amounts
from tests.reports.sample import (
    FROM_MS,
    WINDOW,
    Seat,
    gathered,
    report_of_seats,
    sample_report,
    seats,
)
from tests.reports.sample_sections import sample_sections

HOSTILE = (
    "<script>document.title='owned'</script>",
    "<img src=x onerror=document.title='owned'>",
    "</style><script>document.title='owned'</script>",
    "</title></script><h1>owned",
    "javascript:alert(1)",
    "\" onmouseover=\"document.title='owned'\" x='",
    "a\nb\tc\x1b[31m",
    "\u202eowned\u2066",
    "{{ 7*7 }}{% raw %}",
    "&lt;b&gt;&#60;",
)
TAGS = {
    *(
        "html",
        "head",
        "meta",
        "title",
        "style",
        "body",
        "script",
        "header",
        "main",
        "section",
        "nav",
        "footer",
    ),
    *(
        "a",
        "p",
        "h1",
        "h2",
        "h3",
        "ul",
        "ol",
        "li",
        "dl",
        "dt",
        "dd",
        "div",
        "span",
        "small",
        "strong",
        "i",
        "bdi",
    ),
    *("table", "caption", "thead", "tbody", "tfoot", "tr", "th", "td", "figure", "figcaption"),
    *("svg", "g", "path", "line", "rect", "circle", "text", "tspan"),
}


class Page(HTMLParser):
    """What a parser makes of a page: its elements, its text by element, its addresses."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: Counter[str] = Counter()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.texts: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note an element."""
        self.tags[tag] += 1
        self.elements.append((tag, {name: value or "" for name, value in attrs}))

    def handle_data(self, data: str) -> None:
        """Note a text."""
        self.texts.append(data)

    def values(self, name: str) -> list[str]:
        """Give all values of an attribute."""
        return [attributes[name] for _, attributes in self.elements if name in attributes]

    @property
    def text(self) -> str:
        """All that is to be read, with single spaces."""
        return " ".join(" ".join(self.texts).split())


Deed = tuple[State, str, float]


def week_of(deeds: Mapping[str, Sequence[Deed]], price: float | None = 2.0) -> Report:
    """Build a report of GPUs that did things for some hours each, all in one node."""
    placed = [replace(seat, uuid=uuid) for seat, uuid in zip(seats(1), deeds, strict=False)]
    rows = [
        AccountSum(
            seat.uuid,
            seat.node,
            state,
            owner,
            Amounts(elapsed_ms=int(hours * HOUR_MS), busy_seen_ms=int(hours * HOUR_MS)),
        )
        for seat in placed
        for state, owner, hours in deeds[seat.uuid]
    ]
    found = replace(gathered(placed), rows=rows, spells=[], findings=[])
    return build(found, WINDOW, prices=flat_price(price), now_ms=WINDOW.to_ms)


def two() -> dict[str, Sequence[Deed]]:
    """Two GPUs: 42 h idle and 126 h active, and 84 h each down and free."""
    return {
        "GPU-a": [(State.HELD_IDLE, "alice", 42), (State.ACTIVE, "alice", 126)],
        "GPU-b": [(State.DOWN, "", 84), (State.FREE, "", 84)],
    }


@cache
def whole() -> str:
    """Give the page of the whole sample; made once."""
    report = sample_report()
    return to_html(report, sample_sections(report), links=Links("https://g.example", FROM_MS, WINDOW.to_ms))


def test_the_three_answers_stand_at_the_top() -> None:
    """126 of 336 GPU-hours were wasted, a third of it by alice; reclaiming and repairing come first."""
    page = to_html(week_of(two()), None)
    text = Page(page[: page.index('id="contents-title"')]).text
    assert "How much was wasted? 252.00" in text
    assert "cost of 126.0 GPU-h: 37.5 % of the inventory, as if 0.8 GPUs did nothing" in text
    assert "held_idle 84.00 · 42.0 GPU-h · 12.5 %" in text
    assert "down 168.00 · 84.0 GPU-h · 25.0 %" in text
    assert "Not counted as wasted: free 168.00 · 84.0 GPU-h · 25.0 %" in text
    assert "By whom? alice 84.00 · 42.0 GPU-h · 100.0 % of all idle time" in text
    assert "GPU-b on node hall1-n001 was down 84.0 h: see why, repair or replace it. why 168.00" in text
    assert "168.00 84.0 GPU-h 0.5 GPUs" in text


def test_without_a_price_hours_are_the_answer_and_no_money_is_shown() -> None:
    """No column of money either."""
    page = to_html(week_of(two(), price=None), None)
    text = Page(page).text
    assert "How much was wasted? 126.0 GPU-h 37.5 % of the inventory" in text
    assert "By whom? alice 42.0 GPU-h · 100.0 % of all idle time" in text
    assert "none is set, so no money is shown" in text
    assert "<span>cost</span>" not in page
    assert "<span>cost</span>" in to_html(week_of(two()), None)


def test_a_week_without_waste_blames_nobody() -> None:
    """Nobody, nothing, and nothing to do."""
    text = Page(to_html(week_of({"GPU-a": [(State.ACTIVE, "alice", 168)]}), None)).text
    assert "How much was wasted? 0.00" in text
    assert "By whom? nobody" in text


def test_an_empty_inventory_is_a_page() -> None:
    """No GPU, no division by nothing."""
    text = Page(to_html(week_of({}), None)).text
    assert "0 GPUs · 0.0 GPU-h" in text
    assert "coverage none" in text


def test_all_states_are_listed_and_sum_to_the_inventory() -> None:
    """Those without time, too."""
    page = to_html(week_of(two()), None)
    table = page[page.index("Hours by state") :]
    table = Page(table[: table.index("</table>")]).text
    for state in State:
        assert f" {state.value} " in table
    assert table.endswith("sum 336.0 100.0 % 2.0 - 672.00")


def test_accounts_of_owners_sum_to_the_inventory() -> None:
    """Unattributed has a row even if it held nothing, and so has what nobody held."""
    page = to_html(week_of(two()), None)
    table = page[page.index("Accounts of the owners, most") :]
    text = Page(table[: table.index("</table>")]).text
    assert f"{UNATTRIBUTED} 0.0 0.0 %" in text
    assert "all owners 168.0 50.0 % 126.0 0.0 42.0 0.0 25.0 % 0.0 % - 336.00 84.00" in text
    assert "held by nobody 168.0 50.0 %" in text
    assert "sum 336.0 100.0 %" in text


def test_the_unattributed_row_is_shown_however_many_owners_there_are() -> None:
    """The list of owners is cut, this row is not."""
    many = [(State.HELD_IDLE, f"owner{number}", 0.5) for number in range(250)]
    page = to_html(week_of({"GPU-a": [*many, (State.FREE, "", 43)]}), None)
    table = page[page.index("Accounts of the owners, most") :]
    text = Page(table[: table.index("</section>")]).text
    assert f"{UNATTRIBUTED} 0.0 0.0 %" in text
    assert "50 more owners are not shown; the formats csv and json have all of them." in text


def test_wrong_accounts_are_shouted() -> None:
    """In the badge, in a warning above all, and where the data is judged."""
    report = report_of_seats(seats(1), violations=[Violation("GPU-a", FROM_MS, 3_600_000, 3_599_000)])
    text = Page(to_html(report, None)).text
    assert "identity FAIL 1 GPU-hours do not add up" in text
    assert "Do not rely on this report: its accounts do not add up." in text
    assert "GPU-a 2026-11-15T23:00:00Z 3,600.000 3,599.000" in text
    assert "identity PASS" in Page(whole()).text


def test_what_could_not_be_read_is_shouted() -> None:
    """At the top that it is missing, below what and why; so is a window that is only partly covered."""
    report = replace(week_of(two()), unread=("n7.db: is no journal",), remarks=("an estimate <only>",))
    report = replace(report, covered=replace(report.covered, from_ms=FROM_MS + HOUR_MS))
    text = Page(to_html(report, None)).text
    assert "The GPUs of a journal are missing from all sums" in text
    assert "Not in this report: n7.db: is no journal" in text
    assert "An estimate <only>" in text
    assert "Only a part of the window is accounted for: Mon 2026-11-16 01:00" in text


@pytest.mark.parametrize(
    ("unknown", "said"),
    [
        (3, "coverage 98.2 % of the time was seen"),
        (10, "coverage 94.0 % was seen: mind the bounds"),
        (42, "coverage 75.0 % was seen: too little to compare weeks"),
    ],
)
def test_coverage_says_how_far_to_trust(unknown: float, said: str) -> None:
    """Sound from 98 %, poor below 90 %."""
    deeds = [(State.ACTIVE, "alice", 168 - unknown), (State.UNKNOWN, "", unknown)]
    assert said in Page(to_html(week_of({"GPU-a": deeds}), None)).text


def test_without_sections_each_chapter_says_why_it_is_empty() -> None:
    """And the contents say which."""
    page = to_html(week_of(two()), None)
    needing = [plan for plan in _PLANS if plan.has]
    assert Page(page).text.count(f"Not shown: {ALONE}.") == len(needing)
    assert page.count("(absent)") == len(needing)


@pytest.mark.parametrize("name", [one.name for one in fields(Sections) if one.name != "absent"] + ["queue"])
def test_no_section_is_missing_without_a_word(name: str) -> None:
    """The reason why it is absent is on the page, once."""
    page = to_html(week_of(two()), Sections(absent={name: f"no {name} <was> told"}))
    assert Page(page).text.count(f"no {name} <was> told") == 1


def test_a_section_that_has_something_says_what_it_lacks() -> None:
    """A scorecard without a week before is shown, and why there is no week."""
    score = sample_sections(week_of(two())).scores[0]
    page = to_html(week_of(two()), Sections(scores=(score,), absent={"scores": "there is no week before"}))
    text = Page(page).text
    assert "In part only: there is no week before" in text
    assert "availability neither down nor drained" in text


def test_empty_sections_say_what_that_means() -> None:
    """Nothing to show and no reason given: there is a sentence in every chapter."""
    page = to_html(week_of(two()), Sections())
    for chapter in page.split('<section id="')[3:]:
        anchor = chapter[: chapter.index('"')]
        body = Page(chapter[chapter.index('class="question"') :]).text
        assert len(body.split(">", 1)[1].split()) > 6, anchor


def test_every_chapter_is_in_the_contents() -> None:
    """Each link leads to an anchor that is there once, and chapters come in the order of the contents."""
    page = Page(whole())
    ids = page.values("id")
    assert len(ids) == len(set(ids))
    links = [one.removeprefix("#") for one in page.values("href") if one.startswith("#")]
    assert set(links) <= set(ids)
    order = [one for one in links if one in {plan.anchor for plan in _PLANS} | {"quality", "method"}]
    assert list(dict.fromkeys(order[-len(_PLANS) - 2 :])) == [
        *(plan.anchor for plan in _PLANS),
        "quality",
        "method",
    ]


def test_the_page_can_be_read_aloud() -> None:
    """Landmarks, headings in order, a caption for each table, words for each drawing."""
    page = Page(whole())
    for landmark in ("header", "main", "nav", "footer", "h1"):
        assert page.tags[landmark] == 1
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch(r"h[1-6]", tag)]
    assert all(later <= earlier + 1 for earlier, later in pairwise(levels))
    drawings = [attributes for tag, attributes in page.elements if tag == "svg"]
    assert len(drawings) == 8
    assert all(one["role"] == "img" and re.search(r"\d", one["aria-label"]) for one in drawings)
    plain = [one for tag, one in page.elements if tag == "table" and "mini" not in one.get("class", "")]
    assert page.tags["caption"] == len(plain)
    assert all("scope" in one for tag, one in page.elements if tag == "th")
    assert page.elements[0] == ("html", {"lang": "en"})


def test_the_page_asks_nobody_for_anything() -> None:
    """No address but those of links; the only script is the one that the policy names."""
    text = whole()
    page = Page(text)
    assert not {"link", "img", "iframe", "object", "embed", "base", "form", "image", "use"} & set(page.tags)
    assert not page.values("src")
    assert not re.search(r"url\(|@import|@font-face", text)
    assert all(one.startswith(("#", "https://g.example/d/gputally-")) for one in page.values("href"))
    assert page.tags["script"] == 1
    script = text[text.index("<script>") + 8 : text.index("</script>")]
    policy = next(one["content"] for _, one in page.elements if "http-equiv" in one)
    assert policy == (
        "default-src 'none'; img-src data:; style-src 'unsafe-inline'; "
        f"script-src 'sha256-{b64encode(sha256(script.encode()).digest()).decode()}'; "
        "base-uri 'none'; form-action 'none'"
    )
    assert not re.search(r"\b(eval|Function|fetch|XMLHttpRequest|innerHTML|import)\b", script)


def hostile_page(names: Sequence[str] = HOSTILE) -> str:
    """Give a page on which everything that comes from outside has a hostile name."""
    placed = [
        Seat(
            uuid=f"{name}#{number}",
            node=names[(number + 1) % len(names)],
            position=number,
            serial=name,
            pool=replace(seat.pool, model=names[(number + 2) % len(names)]),
            owner=names[(number + 3) % len(names)],
        )
        for number, (name, seat) in enumerate(zip(names, seats(2), strict=False))
    ]
    report = report_of_seats(placed)
    sections = sample_sections(report)
    sections = replace(
        sections,
        absent={names[0]: names[1]},
        quality=replace(sections.quality, remarks=tuple(names)),
        waste=tuple(replace(one, holder=names[0]) for one in sections.waste),
        sizes=tuple(replace(one, holder=names[0], advice=names[1]) for one in sections.sizes),
        assets=tuple(
            replace(one, moves=((names[0], 0, HOUR_MS),), state=names[2]) for one in sections.assets
        ),
    )
    found = tuple(
        replace(one, rule=names[0], severity=names[1], summary=names[2], action=names[5])
        for one in report.findings
    )
    report = replace(report, findings=found, unread=tuple(names))
    return to_html(report, sections, links=Links("https://g.example", FROM_MS, WINDOW.to_ms))


def test_no_name_becomes_an_element_or_an_attribute() -> None:
    """Only our elements, one script, one style sheet, no handler, no address of another kind."""
    text = hostile_page()
    page = Page(text)
    assert set(page.tags) <= TAGS
    assert (page.tags["script"], page.tags["style"], page.tags["h1"]) == (1, 1, 1)
    assert Page(text[: text.index("<body>")]).tags["title"] == 1
    assert not [name for _, one in page.elements for name in one if name.startswith("on")]
    assert all(one.startswith(("#", "https://g.example/")) for one in page.values("href"))
    assert "<script>document.title='owned'</script>" in page.text
    assert "{{ 7*7 }}{% raw %}" in page.text


def test_no_name_speaks_to_the_reader_in_controls() -> None:
    """Marks of direction and control characters are written out, also in drawings."""
    text = hostile_page()
    assert not [char for char in text if not (char.isprintable() or char == "\n")]
    assert "\\u202eowned\\u2066" in text
    assert r"a\nb\tc\x1b[31m" in text


@settings(max_examples=12)
@given(st.lists(st.text(min_size=1, max_size=30), min_size=1, max_size=3))
def test_no_name_whatsoever_becomes_an_element(names: list[str]) -> None:
    """For any names of GPUs and owners there are our elements only, and all of the text is shown."""
    deeds: Sequence[Deed] = [(State.HELD_IDLE, name, 10) for name in dict.fromkeys(names)]
    page = Page(to_html(week_of({names[0]: deeds}), None))
    assert set(page.tags) <= TAGS
    assert page.tags["script"] == 1


def test_a_link_that_is_no_web_address_is_not_made() -> None:
    """Whoever makes links, only http and https become some."""

    class Bad:
        def gpu(self, uuid: str) -> str | None:
            return f"javascript:alert('{uuid}')"

        owner = node = gpu

    page = Page(to_html(week_of(two()), None, links=Bad()))
    assert all(one.startswith("#") for one in page.values("href"))


def test_rows_lead_to_grafana_with_the_window() -> None:
    """Of a GPU, its node and its owner; without a Grafana nowhere."""
    page = to_html(week_of(two()), None, links=Links("https://g.example", 1, 2))
    hrefs = set(Page(page).values("href"))
    assert "https://g.example/d/gputally-gpu?var-uuid=GPU-a&from=1&to=2" in hrefs
    assert "https://g.example/d/gputally-node?var-node=hall1-n001&from=1&to=2" in hrefs
    assert "https://g.example/d/gputally-owner?var-owner=alice&from=1&to=2" in hrefs
    assert all(one.startswith("#") for one in Page(to_html(week_of(two()), None)).values("href"))


def test_amounts_are_sorted_by_their_value_and_not_by_their_text() -> None:
    """1,299.6 is more than 909.7; what is not known has no value."""
    page = whole()
    assert re.search(r'<td class="amount" data-value="1299\.\d+">1,299\.6', page)
    assert re.search(r'<td class="amount">-</td>', page)
    assert not re.search(r'data-value="-?(nan|inf|None)', page)


def test_long_tables_show_the_worst_and_count_the_others() -> None:
    """240 GPUs: 200 rows, those that lost most first."""
    page = to_html(sample_report(30), None)
    table = page[page.index("GPUs by time held idle, down or unknown") :]
    table = table[: table.index("</section>")]
    assert table.count("<tr>") == 1 + 200
    assert "40 more GPUs are not shown; the formats csv and json have all of them." in table


def test_ten_thousand_gpus_fit_in_a_mail() -> None:
    """Less than 1.5 MB with links in every row."""
    report = sample_report(1250)
    page = to_html(report, sample_sections(report), links=Links("https://g.example", FROM_MS, WINDOW.to_ms))
    assert report.inventory.gpus == 10_000
    assert len(page.encode()) < 1_500_000


def test_the_same_report_makes_the_same_page() -> None:
    """To the byte."""
    report = sample_report(3)
    sections = sample_sections(report)
    assert to_html(report, sections) == to_html(report, sections)


def test_the_figures_of_all_sections_are_on_the_page() -> None:
    """One of each, as the sections hold it."""
    report = sample_report()
    sections = sample_sections(report)
    text = Page(whole()).text
    assert sections.energy
    assert sections.energy.carbon_kg
    assert sections.reliability
    expected = [
        f"{sections.capacity[0].headroom:,.1f} {sections.capacity[0].returnable}",
        f"{sections.energy.carbon_kg:,.1f} kg",
        f"{sections.energy.peak_kilowatts:,.1f} kW",
        f"{sections.reliability.between_failures_hours:,.1f}",
        sections.sizes[0].advice,
        sections.assets[0].serial,
        sections.quality.remarks[1],
        "hall1 · NVIDIA H100 80GB HBM3 +905.0",
        "This week beside week 2026-W46",
        "sw_thermal 14.0, sw_power_cap 11.0, hw_thermal 0.1",
        "2 of them to be sent back (RMA)",
        "not in 3 years",
        "on weekdays 56.1 %, at the weekend 43.2 % of the inventory",
    ]
    for one in expected:
        assert one in text, one


def test_verdicts_say_which_way_and_whether_it_is_better() -> None:
    """Less idle time is better; what was not compared has no arrow."""
    text = Page(whole()).text
    assert re.search(
        r"idle share held idle, of the inventory 11\.3 % 12\.8 % .1\.5 pp .{1,40} ▼ better", text
    )
    assert re.search(r"incidents failures of GPUs 4 2 \+2 3 0\.0 ▲ worse", text)
    assert "297.9 kWh unknown" in text


def test_the_hour_in_which_clocks_changed_is_marked() -> None:
    """It has a ring, in both maps; a cell of which nothing is known has no colour."""
    page = whole()
    assert page.count(" ring") - page.count(".ring") == 2
    assert len(re.findall(r"<td>-</td>", page[page.index('class="map"') :])) >= 1
