"""What letters say: the answers to planners, to an owner its own lines alone, and nothing that acts."""

import re
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.tally import HOUR_MS
from gputally.letter import Answer, Block, Head, Letter, to_html, to_text
from gputally.letters import to_owner, to_planners
from reports.outline import OwnerLine, Report
from reports.prices import Price, PriceBook
from reports.window import Asked
from tests.reports.sample import sample_report
from tests.reports.sample_sections import sample_sections
from tests.reports.small import ALICE, BOB, MONDAY_MS, Small, gpu, report_of

USD = PriceBook(prices=(Price(per_gpu_hour=2.0),), currency="USD")
HOSTILE = "<script>alert(1)</script>\x1b[31m\n\u202e&amp; {{ 7 * 7 }} <img src=http://x.org/p.png onerror=a>"
WHY = "You get this because."


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """Write 40 hours of week 47: one GPU works for bob, one is held idle by alice's job 4711.

    Her first half hour is a pause; 39.5 of the 80 GPU-hours are idle, 40 active.
    """
    path = tmp_path / "j.db"
    one = Small(path)
    for _ in range(80):
        one.pass_by(
            HOUR_MS // 2,
            {
                gpu(0): (BOB, {"busy_ratio": 0.8, "power_watts": 500.0}),
                gpu(1): (ALICE, {"busy_ratio": 0.0, "power_watts": 100.0}),
            },
        )
    one.save()
    return path


def week_of(path: Path, prices: PriceBook | None = None) -> Report:
    """Report the week, after its end."""
    report = report_of(path, Asked(week="2026-W47"), prices=prices)
    return replace(report, made_ms=MONDAY_MS + 7 * 24 * HOUR_MS)


def line_of(report: Report, owner: str) -> OwnerLine:
    """Find the line of an owner."""
    return next(line for line in report.owners if line.owner == owner)


@pytest.fixture(scope="module")
def sample() -> Report:
    """Give a report of fifty nodes with all its sections."""
    report = sample_report()
    return replace(report, sections=sample_sections(report))


# Subjects


@pytest.mark.parametrize(
    ("prices", "money"),
    [
        (None, ""),
        (PriceBook(prices=USD.prices), " (cost 79)"),
        (USD, " (USD 79)"),
        (replace(USD, is_default=True), " (USD 79, default prices)"),
    ],
)
def test_the_subject_has_the_answer(small: Path, prices: PriceBook | None, money: str) -> None:
    """Half of 80 GPU-hours worked, 39.5 were held idle at 2 each: 79."""
    letter = to_planners(week_of(small, prices), "2026-W47")

    assert letter.subject == f"GPU week 2026-W47: 50 % of 80 GPU-hours worked, 40 held idle{money}"


def test_the_subject_says_if_accounts_do_not_add_up(small: Path) -> None:
    """Before any figure."""
    letter = to_planners(replace(week_of(small), violation_count=3), "2026-W47")

    assert letter.subject.startswith("GPU week 2026-W47: accounts do not add up; 50 % of")
    assert "Do not rely on this report: its accounts do not add up." in letter.alerts


def test_an_owners_subject_has_its_own_answer(small: Path) -> None:
    """What it held idle, and what that cost."""
    report = week_of(small, USD)

    assert to_owner(report, "2026-W47", line_of(report, "alice"), WHY).subject == (
        "GPUs held idle by alice, week 2026-W47: 40 GPU-hours (USD 79)"
    )


def test_a_long_name_leaves_room_in_the_subject(small: Path) -> None:
    """Its middle is left out; the letter itself has all of it."""
    report = week_of(small)
    line = replace(line_of(report, "alice"), owner="a" * 300)
    letter = to_owner(report, "2026-W47", line, WHY)

    assert letter.subject == f"GPUs held idle by {'a' * 29}…{'a' * 30}, week 2026-W47: 40 GPU-hours"
    assert "a" * 300 in letter.title


# What an owner is told


def test_an_owner_is_told_its_hours_spells_and_what_to_do(small: Path) -> None:
    """Alice held 40 hours, of them 0.5 a pause; job 4711 on n1 GPU 1 had not ended. Bob is not in it."""
    report = week_of(small, USD)
    letter = to_owner(report, "2026-W47", line_of(report, "alice"), WHY)
    hours, spells = letter.blocks

    assert letter.answers == (
        Answer(
            "Held without using them:",
            "39.5 GPU-h",
            "cost 79.00 USD; 98.8 % of 40.0 GPU-hours held",
            bad=True,
        ),
    )
    assert hours.rows == (
        ("active", "0.0 GPU-h"),
        ("normal pauses", "0.5 GPU-h"),
        ("idle", "39.5 GPU-h"),
        ("busy", "0.0 % of the time that was seen"),
        ("cost", "80.00 USD, of it for idle time 79.00"),
    )
    assert spells.rows == (("n1 GPU 1", "job 4711", "-", "Mon 16 Nov 00:00", "40.0", "39.5 so far"),)
    assert letter.deeds[0] == (
        "job 4711 on n1 GPU 1: without activity for 40.0 h, and it had not ended when this was written. "
        "Use it or end it."
    )
    assert letter.notes[-1] == WHY
    assert "bob" not in to_html(letter) + to_text(letter)


def test_without_prices_no_money_is_told(small: Path) -> None:
    """Neither to owners nor to planners."""
    report = week_of(small)
    owner, planner = (
        to_owner(report, "2026-W47", line_of(report, "alice"), WHY),
        to_planners(report, "2026-W47"),
    )

    assert "cost" not in to_text(owner)
    assert [head.title for block in planner.blocks for head in block.heads] == [
        *("state", "GPU-h", "share"),
        *("owner", "idle GPU-h", "active GPU-h"),
    ]


def test_default_prices_are_called_that(small: Path) -> None:
    """Else somebody takes them for a contract's."""
    report = week_of(small, replace(USD, is_default=True))

    assert "default price, not your contract" in to_text(to_owner(report, "2026-W47", report.owners[0], WHY))


def test_no_owner_is_told_of_another(sample: Report) -> None:
    """No name, holder, user or GPU of another is in its letter, in either form; of its own there are some."""
    spells = {
        line.owner: [one for one in sample.spells if one.spell.owner == line.owner] for line in sample.owners
    }
    for line in sample.owners:
        letter = to_owner(sample, "2026-W47", line, WHY)
        for text in (to_html(letter), to_text(letter)):
            words = set(re.findall(r"[\w/-]+", text))
            foreign = [one.spell for owner, held in spells.items() if owner != line.owner for one in held]
            secrets = {other.owner for other in sample.owners if other is not line}
            secrets |= {word for one in foreign for word in (one.holder, one.user, one.uuid)}
            assert words & secrets == set()
            assert line.owner in words
            assert not spells[line.owner] or spells[line.owner][0].spell.holder in words


def test_the_fleet_is_no_owners_concern(sample: Report) -> None:
    """Neither how many GPUs there are, nor what all of them cost."""
    letter = to_owner(sample, "2026-W47", line_of(sample, "robotics"), WHY)
    text = to_text(letter)

    assert "400" not in re.findall(r"\d+", text)
    assert "67,200" not in text
    assert "184,800" not in text


def test_planners_are_told_the_answers_states_and_owners(sample: Report) -> None:
    """What a planner reads first, with all eight states; owners are cut to the worst."""
    letter = to_planners(sample, "2026-W47", ("x.pdf, since it is gone",))
    states, owners = letter.blocks

    assert [answer.question for answer in letter.answers] == [
        *("How much was wasted?", "By whom?", "How much did work?")
    ]
    assert [row[0] for row in states.rows] == [line.state.value for line in sample.states]
    assert owners.rows[0][0] == letter.answers[1].figure == "robotics"
    assert letter.notes[0] == "Not attached: x.pdf, since it is gone."


# How it is written


class Tags(HTMLParser):
    """Reads a page: its tags, and what is written between them."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Keep a tag."""
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        """Keep a text."""
        self.text += data


OURS = {
    *("html", "head", "meta", "title", "body", "table", "tr", "td", "th", "h1", "h2", "p", "div", "ol", "li"),
}


def letters(sample: Report) -> Iterator[Letter]:
    """Give letters of all kinds."""
    yield to_planners(sample, "2026-W47")
    yield to_owner(sample, "2026-W47", line_of(sample, "interactive"), WHY)


def test_mail_clients_show_it_as_it_is(sample: Report) -> None:
    """Tables and styles in the tags only: no style sheet, script, picture or link."""
    for letter in letters(sample):
        page = to_html(letter)
        found = Tags(page)
        assert {tag for tag, _ in found.tags} <= OURS
        assert {name for _, attributes in found.tags for name in attributes} <= {
            *("lang", "charset", "name", "content", "role", "cellpadding", "cellspacing", "border", "width"),
            *("align", "style"),
        }
        assert not re.search(r"url\(|https?:|//|var\(|grid|flex", page)
        assert len(page) < 100_000  # Gmail cuts what is longer than 102 kB


def hostile(text: str) -> Letter:
    """Make a letter in which everything but the heads of columns is called so."""
    return Letter(
        subject=text,
        title=text,
        below=text,
        alerts=(text,),
        answers=(Answer(text, text, text),),
        deeds=(text,),
        blocks=(
            Block(title=text, rows=((text, text),)),
            Block(title=text, heads=(Head("a"), Head("b", "amount")), rows=((text, text),), note=text),
        ),
        notes=(text,),
    )


@given(st.text(min_size=1, max_size=200) | st.just(HOSTILE))
def test_no_name_does_anything(text: str) -> None:
    """The tags are the same whatever names are, and nothing that is not printable gets through."""
    page, words = to_html(hostile(text)), to_text(hostile(text))

    assert [tag for tag, _ in Tags(page).tags] == [tag for tag, _ in Tags(to_html(hostile("x"))).tags]
    assert all(char.isprintable() or char == "\n" for char in page + words)
    page.encode()
    words.encode()


def test_a_hostile_name_is_shown_as_it_is() -> None:
    """With its signs escaped, and no template in it is run."""
    found = Tags(to_html(hostile(HOSTILE))).text

    assert "<script>alert(1)</script>\\x1b[31m\\n\\u202e&amp; {{ 7 * 7 }} <img src=" in found


def test_plain_text_is_laid_out() -> None:
    """Paragraphs, a numbered list, a table whose amounts stand right, names and what is said of them."""
    letter = Letter(
        subject="s",
        title="Title",
        below="below",
        alerts=("Mind this.",),
        answers=(Answer("How much?", "5", "of 7"),),
        deeds=("Do this.", "And that."),
        blocks=(
            Block(title="Facts", rows=(("one", "1 h"),), note="A note."),
            Block(
                title="Rows", heads=(Head("name"), Head("h", "amount")), rows=(("a", "1.0"), ("bc", "10.5"))
            ),
        ),
        notes=("The end.",),
    )

    assert to_text(letter) == (
        "Title\nbelow\n\n! Mind this.\n\nHow much? 5\n  of 7\n\nWhat to do\n  1. Do this.\n  2. And that.\n\n"
        "Facts\n  one: 1 h\n\nA note.\n\nRows\n  name     h\n  a      1.0\n  bc    10.5\n\nThe end.\n"
    )
