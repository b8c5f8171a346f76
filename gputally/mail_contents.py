"""What letters about a week hold: for planners the report with files, for owners their own lines."""

from collections.abc import Iterable, Iterator, Mapping
from email.message import EmailMessage
from functools import cached_property
from types import ModuleType
from typing import NamedTuple

from agent.errors import SettingsError
from gputally.mail import message
from gputally.mail_record import Sent
from gputally.report_forms import SUFFIXES, needs_extra, written
from gputally.settings import Settings
from reports.outline import Report
from reports.wording import printable

MOST_ATTACHED_BYTES = 8 * 1024 * 1024
COLUMNS = 100
ATTACHED = {"pdf": ("application", "pdf"), "csv": ("text", "csv")}
"""Forms that planners get as files."""
WHY = (
    "You get this because the settings of gputally name you for this owner; tell your operators if they "
    "should not."
)


class Files(NamedTuple):
    """What is attached, by file name; and of each file that is not why, for readers and in full."""

    contents: Mapping[str, tuple[bytes, tuple[str, str]]]
    left_out: Mapping[str, tuple[str, str]]


def whose(letter: Sent) -> str:
    """Say why somebody gets a letter."""
    return "planner" if letter.kind == "planner" else f"for owner {printable(letter.owner)}"


class Maker:
    """Writes letters; what all planners get is made once."""

    def __init__(self, report: Report, week: str, settings: Settings, at_ms: int) -> None:
        self._report = report
        self._week = week
        self._settings = settings
        self._at_ms = at_ms

    def __call__(self, letter: Sent) -> EmailMessage:
        """Write one. Raises SettingsError where what it needs is not installed."""
        return self._planner(letter.address) if letter.kind == "planner" else self._owner(letter)

    def told(self, letter: Sent) -> str:
        """Say what would be sent."""
        content = self(letter)
        names = [name for part in content.iter_attachments() if (name := part.get_filename())]
        return (
            f"would mail {letter.address} ({whose(letter)}): {content['Subject']} "
            f"[{len(content.as_bytes()) / 1024:,.0f} KiB{''.join(f', {name}' for name in names)}]"
        )

    def ready(self, letters: Iterable[Sent]) -> Iterator[str]:
        """Make what takes long, before a server waits for it; say what cannot be attached, and why."""
        if any(letter.kind == "planner" for letter in letters):
            files = self._for_planners[-1]
            yield from (f"not attached: {name}, {why}" for name, (_, why) in files.left_out.items())

    def _planner(self, address: str) -> EmailMessage:
        subject, text, html, files = self._for_planners
        content = self._begun(address, subject, text, html)
        for name, (data, (kind, below)) in files.contents.items():
            content.add_attachment(data, maintype=kind, subtype=below, filename=name)
        return content

    @cached_property
    def _for_planners(self) -> tuple[str, str, str, Files]:
        letters, letter = _writers()
        files = self._files()
        missing = tuple(f"{name}, {why}" for name, (why, _) in files.left_out.items())
        told = letters.to_planners(self._report, self._week, missing)
        text = written(self._report, "text", COLUMNS).decode()
        text += "".join(f"\nNot attached: {one}.\n" for one in missing)
        return told.subject, text, letter.to_html(told), files

    def _files(self) -> Files:
        contents, left_out, sum_bytes = {}, {}, 0
        for form, kind in ATTACHED.items():
            name = f"gpu-report-{self._week}{SUFFIXES[form]}"
            try:
                data = written(self._report, form, COLUMNS, self._settings.report.grafana_url)
            except SettingsError as error:
                left_out[name] = "since what writes it is not installed", f"since {printable(str(error))}"
                continue
            if sum_bytes + len(data) > MOST_ATTACHED_BYTES:
                why = f"since its {len(data) / 1024**2:,.1f} MiB are too much for mail"
                left_out[name] = why, why
                continue
            contents[name] = (data, kind)
            sum_bytes += len(data)
        return Files(contents, left_out)

    def _owner(self, asked: Sent) -> EmailMessage:
        letters, letter = _writers()
        line = next(line for line in self._report.owners if line.owner == asked.owner)
        told = letters.to_owner(self._report, self._week, line, WHY)
        return self._begun(asked.address, told.subject, letter.to_text(told), letter.to_html(told))

    def _begun(self, address: str, subject: str, text: str, html: str) -> EmailMessage:
        content = message(self._settings.mail, address, subject, self._at_ms)
        content.set_content(text)
        content.add_alternative(html, subtype="html")
        return content


def _writers() -> tuple[ModuleType, ModuleType]:
    try:
        from gputally import letter, letters  # noqa: PLC0415  they need the extra
    except ImportError as error:
        raise needs_extra(error) from error
    return letters, letter
