"""What becomes of a report besides being shown: mail, a mark, with --scheduled what [report] wants weekly."""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from agent.errors import ReportError, SettingsError
from gputally.annotations import annotate, grafana_of, whence
from gputally.output import whole_file
from gputally.report_forms import SUFFIXES, written
from gputally.report_mail import mail, week_of
from gputally.settings import Settings
from reports.outline import Report

COLUMNS = 100


def is_delivered(options: argparse.Namespace, settings: Settings) -> bool:
    """Tell whether the options want a report delivered. Raises SettingsError where the settings do not."""
    wanted = settings.report
    if options.scheduled and not wanted.schedule_folder and wanted.schedule_mail == "off":
        raise SettingsError(
            '[report] of the settings wants nothing: set schedule_folder, or schedule_mail = "on"'
        )
    if options.annotate and options.mail_dry_run:
        raise SettingsError("--mail-dry-run sends nothing: leave out --annotate")
    if options.annotate:
        grafana_of(wanted)
    mails = options.mail or options.mail_dry_run or (options.scheduled and wanted.schedule_mail == "on")
    if mails and not settings.mail.host:
        raise SettingsError("there is no mail server: name it, a sender and who gets mail in [mail]")
    return bool(mails or options.scheduled)


def delivered(options: argparse.Namespace, report: Report, settings: Settings, *, at_ms: int) -> int:
    """Deliver a report as the options ask; 1 when some of it failed. Raises ReportError, SettingsError."""
    if options.scheduled:
        source = whence(options, settings)
        return deliver(report, settings, at_ms=at_ms, source=source, complain=_complain)
    return mail(
        report,
        settings,
        at_ms=at_ms,
        again=options.mail_again,
        dry_run=options.mail_dry_run,
        complain=_complain,
    )


def marked(options: argparse.Namespace, report: Report, settings: Settings) -> None:
    """Mark in Grafana that a report was made, if the options want it and no schedule does it anyway."""
    if options.annotate and not options.scheduled:
        source = whence(options, settings)
        annotate(report, settings, source, options.out, say=_complain, complain=_complain)


def deliver(
    report: Report,
    settings: Settings,
    *,
    at_ms: int,
    source: str = "",
    say: Callable[[str], None] = print,
    complain: Callable[[str], None] = print,
) -> int:
    """Write the files, send the mail, mark it in Grafana; 1 when some of the first two failed.

    What fails stops nothing else. `source` names what the report is made of. Raises ReportError where the
    report is not of a whole week.
    """
    wanted = settings.report
    week, code = week_of(report), 0
    files: list[Path] = []
    for form in wanted.schedule_formats if wanted.schedule_folder else ():
        path = Path(wanted.schedule_folder) / f"gpu-report-{week}{SUFFIXES[form]}"
        try:
            _save(path, written(report, form, COLUMNS, wanted.grafana_url))
            files.append(path)
            say(f"wrote {path}")
        except (ReportError, SettingsError) as error:
            complain(f"not written: {path}: {error}")
            code = 1
    if wanted.schedule_mail == "on":
        try:
            code |= mail(report, settings, at_ms=at_ms, say=say, complain=complain)
        except (ReportError, SettingsError) as error:
            complain(str(error))
            code = 1
    if wanted.grafana_token_file and (files or not code):
        annotate(report, settings, source, files[0] if files else None, say=say, complain=complain)
    return code


def _complain(text: str) -> None:
    print(f"gputally: {text}", file=sys.stderr)


def _save(path: Path, content: bytes) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(path) as out:
            out.write(content)
    except OSError as error:
        raise ReportError(error.strerror or str(error)) from error
