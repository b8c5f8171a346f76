"""`gputally report --mail`: who gets what of a week's report, and what became of it.

Planners get the whole report, owners who held GPUs idle get their own lines. Nobody gets a letter of a week
twice unless told so, and an owner none for some days after the last; one that is refused stops no other.
"""

import argparse
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, assert_never

from agent.errors import ReportError, SettingsError
from agent.tally import HOUR_MS
from agent.tick import State
from gputally import mail_record
from gputally.mail import Post, Refused, Taken, Unsure
from gputally.mail_contents import Maker, whose
from gputally.mail_record import DAY_MS, Record, Sent
from gputally.mail_settings import MailSettings
from gputally.settings import Settings, journal_path
from reports.outline import Report
from reports.wording import printable

_WEEK = re.compile(r"week (\d{4}-W\d{2})")
Say = Callable[[str], None]


class Planned(NamedTuple):
    """A letter that may go out; `why_not` is empty if it does."""

    letter: Sent
    why_not: str


class Told(NamedTuple):
    """What became of a letter."""

    text: str
    is_well: bool = True


def mail_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of mail, and of what else becomes of a report."""
    which = parser.add_mutually_exclusive_group()
    which.add_argument(
        "--mail", action="store_true", help="send the report of a week to whom [mail] of the settings names"
    )
    which.add_argument(
        "--mail-dry-run", action="store_true", help="say what would be sent to whom, and send nothing"
    )
    which.add_argument(
        "--scheduled",
        action="store_true",
        help="write the files and send the mail that [report] of the settings wants of each week",
    )
    parser.add_argument(
        "--annotate", action="store_true", help="mark in the Grafana of [report] that the report was made"
    )
    parser.add_argument(
        "--mail-again", action="store_true", help="send also what was sent already of this week"
    )


def week_of(report: Report) -> str:
    """Name the week of a report, such as 2026-W47. Raises ReportError for another window, or one not over."""
    found = _WEEK.fullmatch(report.window.label)
    if found is None:
        raise ReportError("only reports of a week are mailed: name one with --week 2026-W47")
    if report.window.to_ms > report.made_ms:
        raise ReportError(f"week {found[1]} is not over: its report is mailed then")
    return found[1]


def mail(
    report: Report,
    settings: Settings,
    *,
    at_ms: int,
    again: bool = False,
    dry_run: bool = False,
    folder: Path | None = None,
    say: Say = print,
    complain: Say = print,
) -> int:
    """Send what is to be sent; 1 when a letter was not taken.

    `folder` has the record of what was sent; by default that in which the settings have the journal.
    Raises ReportError, SettingsError.
    """
    if not settings.mail.host:
        raise SettingsError("there is no mail server: name it, a sender and who gets mail in [mail]")
    week, folder = week_of(report), folder or journal_path(None, settings).parent
    make = Maker(report, week, settings, at_ms)
    with mail_record.read(folder) if dry_run else mail_record.opened(folder) as record:
        everything = planned(report, settings.mail, record, week, at_ms=at_ms, again=again)
        wanted = [one.letter for one in everything if not one.why_not]
        for text in (*(_not_sent(one) for one in everything if one.why_not), *make.ready(wanted)):
            say(text)
        if not wanted:
            say("nobody is to be mailed")
        if dry_run:
            for letter in wanted:
                say(make.told(letter))
            _tell_nameless(report, settings.mail, say)
        if dry_run or not wanted:
            return 0
        code = 0
        for told in _sent(wanted, settings.mail, record, make):
            (say if told.is_well else complain)(told.text)
            code = code if told.is_well else 1
        return code


def planned(
    report: Report, settings: MailSettings, record: Record, week: str, *, at_ms: int, again: bool = False
) -> list[Planned]:
    """Tell who gets a letter, and who does not and why: planners first, then owners, most idle first."""
    found = []
    for address in dict.fromkeys(settings.planners):
        letter = Sent(kind="planner", owner="", address=address, week=week, at_ms=at_ms)
        found.append(Planned(letter, _why_not(letter, record, again=again)))
    for owner, _ in _idle(report, settings.owner_least_gpu_hours):
        cool = "" if report.identity_ok else "the accounts of this week do not add up"
        last_ms = record.last_ms(owner, week)
        if last_ms is not None and 0 <= at_ms - last_ms < settings.cool_down_days * DAY_MS:
            cool = f"the last one about {printable(owner)} went out {(at_ms - last_ms) / DAY_MS:.1f} days ago"
        for address in settings.addresses_of(owner):
            letter = Sent(kind="owner", owner=owner, address=address, week=week, at_ms=at_ms)
            found.append(Planned(letter, cool or _why_not(letter, record, again=again)))
    return found


def _why_not(letter: Sent, record: Record, *, again: bool) -> str:
    return "it was sent already" if record.has(letter) and not again else ""


def _idle(report: Report, least_gpu_hours: float) -> list[tuple[str, int]]:
    lines = [(line.owner, line.sums.elapsed_ms(State.HELD_IDLE)) for line in report.owners]
    kept = [(owner, idle_ms) for owner, idle_ms in lines if idle_ms and idle_ms >= least_gpu_hours * HOUR_MS]
    return sorted(kept, key=lambda one: (-one[1], one[0]))


def _not_sent(one: Planned) -> str:
    return f"no mail to {one.letter.address} ({whose(one.letter)}): {one.why_not}"


def _tell_nameless(report: Report, settings: MailSettings, say: Say) -> None:
    owners = [owner for owner, _ in _idle(report, settings.owner_least_gpu_hours)]
    nameless = [printable(owner) for owner in owners if not settings.addresses_of(owner)]
    if nameless:
        say(f"no address in [mail] owners for: {', '.join(nameless)}")


def _sent(letters: Sequence[Sent], settings: MailSettings, record: Record, make: Maker) -> Iterator[Told]:
    """Hand letters over; tell of each what became of it."""
    with Post(settings) as post:
        for letter in letters:
            content = make(letter)
            who = f"{letter.address} ({whose(letter)})"
            record.note(letter)
            outcome = post.send(letter.address, content)
            match outcome:
                case Taken():
                    yield Told(f"mailed {who}: {content['Subject']}")
                case Refused(reason):
                    record.take_back(letter)
                    yield Told(f"not mailed to {who}: {reason}", is_well=False)
                case Unsure(reason):
                    again = "--mail-again sends everything of the week once more"
                    yield Told(f"{who} may have got it or not: {reason}; {again}", is_well=False)
                case _:
                    assert_never(outcome)
