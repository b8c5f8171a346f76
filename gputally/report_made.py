"""Makes a report as the options ask for it: from its source, with the weeks before it and all sections."""

import argparse
import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from agent.clock import now_ms
from agent.errors import ReportError, SettingsError
from gputally.journals import journals_of, opened
from gputally.progress import Progress
from gputally.settings import Settings, journal_path
from gputally.sources import JournalSource, Source, StoreSource, Told
from reports.content.assemble import sections
from reports.content.decisions import decide
from reports.content.past import nearly_whole
from reports.content.weeks import WEEKS_BEFORE, week_of
from reports.facts import Week
from reports.price_file import price_book
from reports.prices import PriceBook
from reports.report import Report, build
from reports.window import Asked, Span, Window, before, resolve, week_to_compare

if TYPE_CHECKING:
    from agent.store import Store

QUIET_SECONDS = 2.0
MOST_WEEKS = 60
NOTHING = "none"
"""What --compare names to compare with nothing."""
LONGEST_ANSWER = 1 << 28
"""Bytes of one answer of a store; with 10 000 GPUs it takes some ten million."""
NO_FINDINGS = "another exporter's store holds no findings of gputally's rules"


class _Past(NamedTuple):
    """What is read of the time before a window: so many weeks, and another one to compare with."""

    weeks: int
    other: Window | None
    missing: Mapping[str, str]


def made(options: argparse.Namespace, settings: Settings) -> Report:
    """Make the report. Raises SettingsError, ReportError, JournalError, StoreError."""
    book = _book(options, settings)
    asked = asked_of(options, settings)
    at_ms = now_ms()
    with _source(options, settings, asked, at_ms) as source:
        window = resolve(source.spans, asked, now_ms=at_ms)
        past = _past(options, window, source.spans)
        return _Maker(source, book).report(window, past, at_ms)


def asked_of(options: argparse.Namespace, settings: Settings) -> Asked:
    """Give the window as the options word it."""
    return Asked(
        week=options.week,
        last=options.last,
        since=options.since,
        until=options.until,
        everything=options.all,
        timezone=options.timezone or settings.report.timezone,
    )


def _book(options: argparse.Namespace, settings: Settings) -> PriceBook:
    """Settle on prices: those of the options, else those of the settings, else public defaults."""
    chosen, file = settings.report, options.prices
    if options.no_prices or options.price is not None or file:
        shown = not options.no_prices and options.price != 0
        own = Path(chosen.prices_file) if chosen.prices_file else None
        return price_book(price=options.price or 0.0, file=file or own, shown=shown)
    file = Path(chosen.prices_file) if chosen.prices_file else None
    return price_book(price=chosen.price_per_gpu_hour, file=file, shown=chosen.prices != "off")


def _past(options: argparse.Namespace, window: Window, spans: Sequence[Span]) -> _Past:
    """Tell what of the past is asked for, and why there is none if there is none."""
    weeks = _weeks(options)
    missing = {} if weeks else dict.fromkeys(("weeks", "last"), "no weeks before were asked for")
    if options.compare == NOTHING:
        missing["last"] = "no comparison was asked for"
    return _Past(weeks, _other(options, window, spans), missing)


def _other(options: argparse.Namespace, window: Window, spans: Sequence[Span]) -> Window | None:
    """Find the week that is to be compared with, if it is not simply the one before."""
    named = options.compare not in ("", NOTHING)
    return week_to_compare(options.compare, window, spans) if named else None


def _weeks(options: argparse.Namespace) -> int:
    """Tell how many weeks before are asked for: another exporter's are read sample by sample."""
    if options.compare == NOTHING:
        if options.weeks:
            raise SettingsError("--compare none reads no weeks before: leave out one of it and --weeks")
        return 0
    if options.weeks is None:
        return 1 if options.schema else WEEKS_BEFORE
    if not 0 <= options.weeks <= MOST_WEEKS:
        raise SettingsError(f"--weeks must lie between 0 and {MOST_WEEKS}")
    return int(options.weeks)


class _Maker:
    """Makes reports of a source by a price book."""

    def __init__(self, source: Source, book: PriceBook) -> None:
        self._source = source
        self._book = book

    def report(self, window: Window, past: _Past, at_ms: int) -> Report:
        """Read the window and those before it, as far as the source has them."""
        reads = 1 + past.weeks + (past.other is not None)
        progress = Progress("reading", reads, "weeks", quiet_seconds=QUIET_SECONDS)
        told = self._read(window, progress)
        report = replace(
            self._built(told, window, at_ms, tuple(dict.fromkeys(self._source.unread))),
            remarks=tuple(self._source.remarks),
        )
        weeks = tuple(self._weeks_before(window, past.weeks, progress))
        facts = replace(
            told.facts,
            weeks=weeks,
            compared=self._compared(past.other, weeks),
            missing={**told.facts.missing, **past.missing},
        )
        progress(reads)
        report = replace(report, sections=sections(report, facts))
        return replace(report, decisions=decide(report))

    def _read(self, window: Window, share: Callable[[float], None]) -> Told:
        return self._source.read(window, share, self._book.cuts(window.from_ms, window.to_ms))

    def _built(self, told: Told, window: Window, at_ms: int, unread: Sequence[str] = ()) -> Report:
        return build(
            told.gathered, window, prices=self._book, pools=told.facts.pools, now_ms=at_ms, unread=unread
        )

    def _weeks_before(self, window: Window, most: int, progress: Progress) -> Iterator[Week]:
        """Give the weeks before one, latest first, up to the first that the source has not nearly whole."""
        for number in range(1, most + 1):
            window = before(window)
            if all(window.to_ms <= span.first_ms for span in self._source.spans):
                return
            try:
                told = self._read(window, lambda share, number=number: progress(number + share))  # type: ignore[misc]
            except ReportError:
                return
            report = self._built(told, window, window.to_ms)
            if not nearly_whole(report):
                return
            yield week_of(report, told.facts)

    def _compared(self, window: Window | None, weeks: Sequence[Week]) -> Week | None:
        """Give the week that is compared with. Raises ReportError where there is nothing of it."""
        if window is None:
            return None
        edges = window.from_ms, window.to_ms
        known = next((week for week in weeks if (week.window.from_ms, week.window.to_ms) == edges), None)
        if known is not None:
            return known
        try:
            return self._week(self._read(window, lambda _: None), window)
        except ReportError as error:
            raise ReportError(f"cannot compare with {window.label}: {error}") from error

    def _week(self, told: Told, window: Window) -> Week:
        return week_of(self._built(told, window, window.to_ms), told.facts)


class _Place(NamedTuple):
    """Where a store is, and what it is asked with."""

    url: str
    database: str
    token_file: Path | None
    ca_file: Path | None
    tenant: str


def _place(options: argparse.Namespace, settings: Settings) -> _Place | None:
    """Find the store that is meant: by the options, else by the settings; None where journals are."""
    if options.source:
        return _Place(options.source, options.database, options.token_file, options.ca_file, options.tenant)
    for name in ("database", "token_file", "ca_file", "tenant"):
        if getattr(options, name):
            raise SettingsError(f"--{name.replace('_', '-')} is for a store: name it with --source URL")
    told = settings.report
    if options.journal is None and told.source:
        files = [Path(name) if name else None for name in (told.token_file, told.ca_file)]
        return _Place(told.source, told.database, files[0], files[1], told.tenant)
    if options.schema:
        raise SettingsError("--schema is for a store: name it with --source URL")
    return None


@contextlib.contextmanager
def _source(options: argparse.Namespace, settings: Settings, asked: Asked, at_ms: int) -> Iterator[Source]:
    """Open where the report comes from."""
    place = _place(options, settings)
    if place is None:
        with _journals(journals_of(journal_path(options.journal, settings)), settings) as source:
            yield source
        return
    if options.all:
        raise ReportError(
            "--all is for journals: nobody knows since when a store has accounts; name a --week"
        )
    if options.schema:
        with _foreign(place, options, settings, asked, at_ms) as source:
            yield source
    else:
        yield _store(place, settings, at_ms)


@contextlib.contextmanager
def _journals(
    paths: Sequence[Path], settings: Settings, missing: Mapping[str, str] | None = None
) -> Iterator[JournalSource]:
    with opened(paths) as journals:
        yield JournalSource(journals, settings.report.pool_label, missing or {})


def _store_at(place: _Place, longest: int | None = None) -> "Store":
    from agent.store import Store  # noqa: PLC0415  it needs urllib3

    return Store(
        place.url,
        token_file=place.token_file,
        ca_file=place.ca_file,
        tenant=place.tenant,
        longest=longest,
    )


def _store(place: _Place, settings: Settings, at_ms: int) -> StoreSource:
    label = settings.report.pool_label
    if place.database:
        from reports.sources.influx_ledger import InfluxLedger  # noqa: PLC0415  it needs urllib3
        from reports.sources.influxql import Influx  # noqa: PLC0415

        database = Influx(
            place.url,
            place.database,
            token_file=place.token_file,
            ca_file=place.ca_file,
            longest=LONGEST_ANSWER,
        )
        return StoreSource(InfluxLedger(database, label), at_ms)
    from reports.sources.prom_ledger import PromLedger  # noqa: PLC0415

    store = _store_at(place, LONGEST_ANSWER)
    return StoreSource(PromLedger(store, label), at_ms)


@contextlib.contextmanager
def _foreign(
    place: _Place, options: argparse.Namespace, settings: Settings, asked: Asked, at_ms: int
) -> Iterator[JournalSource]:
    """Make a journal of what another exporter told, and read that."""
    from gputally.foreign import foreign_journal, remarks_of  # noqa: PLC0415

    spans = [Span(first_ms=0, last_ms=at_ms, enrolled_ms=0)]
    window = resolve(spans, asked, now_ms=at_ms)
    first = window
    for _ in range(_weeks(options)):
        first = before(first)
    other = _other(options, window, spans) or first
    store = _store_at(place)
    progress: list[Progress] = []

    def show(done: int, total: int) -> None:
        if not progress:
            progress.append(Progress("reading", total, "nodes", quiet_seconds=QUIET_SECONDS))
        progress[0](done)

    with (
        foreign_journal(
            store,
            options.schema,
            min(first.from_ms, other.from_ms),
            window.to_ms,
            settings,
            progress=show,
        ) as path,
        _journals([path], settings, {"findings": NO_FINDINGS}) as source,
    ):
        source.remarks = remarks_of(source.first)
        yield source
