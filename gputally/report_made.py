"""Makes a report as the options ask for it: from its source, with the weeks before it and all sections."""

import argparse
import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from agent.clock import now_ms
from agent.errors import ReportError, SettingsError
from gputally.journals import journals_of, opened
from gputally.progress import Progress
from gputally.settings import Settings, journal_path
from gputally.sources import JournalSource, Source, StoreSource
from reports.assemble import sections
from reports.facts import Week
from reports.report import Report, build
from reports.weeks import WEEKS_BEFORE, week_of
from reports.window import Asked, Window, before, resolve

QUIET_SECONDS = 2.0
MOST_WEEKS = 60
LONGEST_ANSWER = 1 << 28
"""Bytes of one answer of a store; with 10 000 GPUs it takes some ten million."""


def made(options: argparse.Namespace, settings: Settings) -> Report:
    """Make the report. Raises SettingsError, ReportError, JournalError, StoreError."""
    price = options.price if options.price is not None else settings.report.price_per_gpu_hour
    asked = Asked(
        week=options.week,
        last=options.last,
        since=options.since,
        until=options.until,
        everything=options.all,
        timezone=options.timezone or settings.report.timezone,
    )
    at_ms = now_ms()
    if options.source and options.all:
        raise ReportError(
            "--all is for journals: nobody knows since when a store holds accounts; name a --week"
        )
    with _source(options, settings, asked, at_ms) as source:
        window = resolve(source.spans, asked, now_ms=at_ms)
        return _report(source, window, price or None, _weeks(options), at_ms)


def _weeks(options: argparse.Namespace) -> int:
    """Tell how many weeks before are asked for: another exporter's are read sample by sample."""
    if options.weeks is None:
        return 1 if options.schema else WEEKS_BEFORE
    if not 0 <= options.weeks <= MOST_WEEKS:
        raise SettingsError(f"--weeks must lie between 0 and {MOST_WEEKS}")
    return int(options.weeks)


def _report(source: Source, window: Window, price: float | None, weeks: int, at_ms: int) -> Report:
    """Read the window and those before it, as far as the source has them."""
    progress = Progress("reading", weeks + 1, "weeks", quiet_seconds=QUIET_SECONDS)
    told = source.read(window, progress)
    report = build(
        told.gathered,
        window,
        price_per_gpu_hour=price,
        now_ms=at_ms,
        unread=tuple(dict.fromkeys(source.unread)),
    )
    report = replace(report, remarks=tuple(source.remarks))
    facts = replace(told.facts, weeks=tuple(_weeks_before(source, window, price, weeks, progress)))
    progress(weeks + 1)
    return replace(report, sections=sections(report, facts))


def _weeks_before(
    source: Source, window: Window, price: float | None, most: int, progress: Progress
) -> Iterator[Week]:
    """Give the weeks before one, latest first, up to the first of which there is nothing."""
    for number in range(1, most + 1):
        window = before(window)
        if all(window.to_ms <= span.first_ms for span in source.spans):
            return
        try:
            told = source.read(window, lambda share, number=number: progress(number + share))  # type: ignore[misc]
        except ReportError:
            return
        yield week_of(build(told.gathered, window, price_per_gpu_hour=price, now_ms=window.to_ms), told.facts)


@contextlib.contextmanager
def _source(options: argparse.Namespace, settings: Settings, asked: Asked, at_ms: int) -> Iterator[Source]:
    """Open where the report comes from."""
    if not options.source:
        for name in ("database", "schema", "token_file", "ca_file"):
            if getattr(options, name):
                raise SettingsError(f"--{name.replace('_', '-')} is for a store: name it with --source URL")
        with _journals(journals_of(journal_path(options.journal, settings)), settings) as source:
            yield source
    elif options.schema:
        with _foreign(options, settings, asked, at_ms) as source:
            yield source
    else:
        yield _store(options, settings, at_ms)


@contextlib.contextmanager
def _journals(
    paths: Sequence[Path], settings: Settings, remarks: Sequence[str] = ()
) -> Iterator[JournalSource]:
    with opened(paths) as journals:
        yield JournalSource(journals, settings.report.pool_label, remarks)


def _store(options: argparse.Namespace, settings: Settings, at_ms: int) -> StoreSource:
    label = settings.report.pool_label
    files = {"token_file": options.token_file, "ca_file": options.ca_file, "longest": LONGEST_ANSWER}
    if options.database:
        from reports.influx_ledger import InfluxLedger  # noqa: PLC0415  it needs urllib3
        from reports.influxql import Influx  # noqa: PLC0415

        return StoreSource(InfluxLedger(Influx(options.source, options.database, **files), label), at_ms)
    from agent.store import Store  # noqa: PLC0415
    from reports.prom_ledger import PromLedger  # noqa: PLC0415

    return StoreSource(PromLedger(Store(options.source, **files), label), at_ms)


@contextlib.contextmanager
def _foreign(
    options: argparse.Namespace, settings: Settings, asked: Asked, at_ms: int
) -> Iterator[JournalSource]:
    """Make a journal of what another exporter told, and read that."""
    from agent.store import Store  # noqa: PLC0415  it needs urllib3
    from gputally.foreign import foreign_journal, remarks_of  # noqa: PLC0415
    from reports.window import Span  # noqa: PLC0415

    window = resolve([Span(first_ms=0, last_ms=at_ms, enrolled_ms=0)], asked, now_ms=at_ms)
    first = window
    for _ in range(_weeks(options)):
        first = before(first)
    store = Store(options.source, token_file=options.token_file, ca_file=options.ca_file)
    progress: list[Progress] = []

    def show(done: int, total: int) -> None:
        if not progress:
            progress.append(Progress("reading", total, "nodes", quiet_seconds=QUIET_SECONDS))
        progress[0](done)

    with (
        foreign_journal(store, options.schema, first.from_ms, window.to_ms, settings, progress=show) as path,
        _journals([path], settings) as source,
    ):
        source.remarks = remarks_of(source.first)
        yield source
