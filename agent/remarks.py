"""What people say of findings: silences and acknowledgements, in tables of their own in the journal.

- A silence is about a rule, a GPU, both, or everything, and ends by itself.
- An acknowledgement is about one finding, and holds while that comes and goes; a new finding has none.
- Neither changes what is found: they only say who wants to hear of it.

Whoever writes has a connection and a short transaction of its own, beside the agent. Functions that take a
connection raise sqlite3.Error.
"""

import sqlite3
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from agent.errors import JournalError
from agent.holders.names import printable
from agent.journal_file import connect, translated
from agent.tick import Finding

LONGEST_REASON, LONGEST_AUTHOR = 500, 100
_SILENCES = """SELECT id, rule, uuid, from_ms, until_ms, author, reason FROM silence
    WHERE until_ms > ? ORDER BY id"""
_SILENCE = """INSERT INTO silence (rule, uuid, from_ms, until_ms, author, reason)
    VALUES (?, ?, ?, ?, ?, ?)"""
_END = "UPDATE silence SET until_ms = ? WHERE id = ? AND until_ms > ?"
_ACKNOWLEDGE = (
    "INSERT OR REPLACE INTO acknowledgement (finding_id, at_ms, author, reason) VALUES (?, ?, ?, ?)"
)
_ACKNOWLEDGED = """SELECT node.name, rule, coalesce(uuid, ''), opened_ms, at_ms, author, reason
    FROM acknowledgement JOIN finding ON finding.id = finding_id
    JOIN node ON node.id = node_id LEFT JOIN gpu ON gpu.id = gpu_id WHERE closed_ms IS NULL"""
_FOUND = """SELECT finding.id FROM finding JOIN node ON node.id = node_id LEFT JOIN gpu ON gpu.id = gpu_id
    WHERE node.name = ? AND rule = ? AND coalesce(uuid, '') = ? AND opened_ms = ?"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Silence:
    """Nobody wants to hear of a rule or a GPU until then; an empty rule or UUID means all of them."""

    number: int = 0
    rule: str = ""
    uuid: str = ""
    from_ms: int
    until_ms: int
    author: str
    reason: str

    def covers(self, one: Finding) -> bool:
        """Tell whether it is about a finding."""
        return self.rule in ("", one.rule) and self.uuid in ("", one.uuid)


@dataclass(frozen=True, slots=True, kw_only=True)
class Acknowledgement:
    """Somebody knows of a finding, by its number."""

    finding: int
    at_ms: int
    author: str
    reason: str


class Remarks(NamedTuple):
    """What a new journal takes over from a broken one: silences, and what is said of open findings."""

    silences: tuple[Silence, ...] = ()
    acknowledged: tuple[tuple[str, str, str, int, int, str, str], ...] = ()


NOTHING_SAID = Remarks()


def silences(db: sqlite3.Connection, at_ms: int) -> list[Silence]:
    """Read the silences that have not ended by a moment, oldest first; by 0 none has."""
    return [
        Silence(
            number=int(number),
            rule=str(rule),
            uuid=str(uuid),
            from_ms=int(from_ms),
            until_ms=int(until_ms),
            author=str(author),
            reason=str(reason),
        )
        for number, rule, uuid, from_ms, until_ms, author, reason in db.execute(_SILENCES, (at_ms,))
    ]


def silence_of(one: Finding, known: Iterable[Silence]) -> Silence | None:
    """Give the silence that is about a finding, the one that lasts longest; None when there is none."""
    return max((each for each in known if each.covers(one)), key=lambda each: each.until_ms, default=None)


def silenced(db: sqlite3.Connection, at_ms: int) -> Callable[[Finding], bool]:
    """Read the silences of a moment once; what is given tells of any finding whether one is about it."""
    known = silences(db, at_ms)
    return lambda one: is_silenced(one, known, at_ms)


def is_silenced(one: Finding, known: Iterable[Silence], at_ms: int) -> bool:
    """Tell whether one of some silences is about a finding at a moment."""
    return any(each.from_ms <= at_ms < each.until_ms and each.covers(one) for each in known)


def acknowledgements(db: sqlite3.Connection) -> dict[int, Acknowledgement]:
    """Read what is acknowledged, by the number of the finding."""
    rows = db.execute("SELECT finding_id, at_ms, author, reason FROM acknowledgement")
    return {
        number: Acknowledgement(finding=number, at_ms=at_ms, author=author, reason=reason)
        for number, at_ms, author, reason in rows
    }


@contextmanager
def writing(path: Path) -> Iterator[sqlite3.Connection]:
    """Open a journal to write remarks in one transaction, which is undone on any error.

    Raises JournalError, with who may write where this user may not.
    """
    with closing(connect(path)):
        pass  # it is there and of our schema: what is opened for writing would be made
    try:
        with closing(connect(path, writable=True)) as db:
            db.execute("BEGIN IMMEDIATE")
            try:
                yield db
                db.execute("COMMIT")
            except BaseException:
                with suppress(sqlite3.Error):
                    db.execute("ROLLBACK")
                raise
    except sqlite3.Error as error:
        raise _in_words(error, path) from error


def _in_words(error: sqlite3.Error, path: Path) -> JournalError:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM):
        return JournalError(
            f"this user may read the journal {path} but not write it: do it as {_owner(path)}, "
            "the user whom the agent runs as"
        )
    if code == sqlite3.SQLITE_BUSY:
        return JournalError(f"the journal {path} is being written for long: try again")
    return translated(error, path)


def _owner(path: Path) -> str:
    try:
        return path.owner()
    except (OSError, KeyError):
        return "its owner"


def cleaned(text: str, longest: int) -> str:
    """Make one line of what somebody wrote, of what prints."""
    return printable(" ".join(text[: 4 * longest].split()), longest)


def silence(db: sqlite3.Connection, one: Silence) -> int:
    """Write a silence; give its number."""
    author, reason = cleaned(one.author, LONGEST_AUTHOR), cleaned(one.reason, LONGEST_REASON)
    written = db.execute(_SILENCE, (one.rule, one.uuid, one.from_ms, one.until_ms, author, reason))
    return written.lastrowid or 0


def end_silence(db: sqlite3.Connection, number: int, at_ms: int) -> bool:
    """End a silence before its time; False when none of that number holds."""
    return db.execute(_END, (at_ms, number, at_ms)).rowcount > 0


def acknowledge(
    db: sqlite3.Connection, numbers: Collection[int], *, at_ms: int, author: str, reason: str
) -> None:
    """Write who knows of findings and what is done, in place of what was said before."""
    author, reason = cleaned(author, LONGEST_AUTHOR), cleaned(reason, LONGEST_REASON)
    db.executemany(_ACKNOWLEDGE, [(number, at_ms, author, reason) for number in numbers])


def withdraw(db: sqlite3.Connection, number: int) -> bool:
    """Take an acknowledgement back; False when there is none."""
    return db.execute("DELETE FROM acknowledgement WHERE finding_id = ?", (number,)).rowcount > 0


def salvage(db: sqlite3.Connection, at_ms: int) -> Remarks:
    """Read what can still be read of a journal that went bad; nothing where it cannot."""
    try:
        said = [
            (str(node), str(rule), str(uuid), int(opened_ms), int(at_ms), str(author), str(reason))
            for node, rule, uuid, opened_ms, at_ms, author, reason in db.execute(_ACKNOWLEDGED)
        ]
        return Remarks(tuple(silences(db, at_ms)), tuple(said))
    except (sqlite3.Error, ValueError, TypeError, OverflowError):
        return NOTHING_SAID


def carry_over(db: sqlite3.Connection, kept: Remarks) -> None:
    """Write what was salvaged into a new journal, whose findings have other numbers."""
    with suppress(OverflowError):  # a broken file may hold any number
        for one in kept.silences:
            silence(db, one)
        for *whose, at_ms, author, reason in kept.acknowledged:
            for (number,) in db.execute(_FOUND, whose).fetchall():
                acknowledge(db, [number], at_ms=at_ms, author=author, reason=reason)


def silenced_in(journal: Path, findings: Sequence[Finding], at_ms: int) -> Sequence[Finding]:
    """Tell which findings somebody silenced; a journal that cannot be read tells of none."""
    if not findings:
        return ()
    try:
        with closing(connect(journal)) as db:
            return tuple(filter(silenced(db, at_ms), findings))
    except (JournalError, sqlite3.Error):
        return ()
