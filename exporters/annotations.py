"""Findings as annotations of Grafana: one mark for each, a point while it is open, a range once it closed.

There is one mark and not two, so that a panel shows a finding once: when it closes, or opens once more within
the hour, the mark that it has is written anew, from its first opening to its last end. The last tag is a key,
the same as long as the finding lasts; by it the mark is found again (exporters/grafana.py), however often it
is told and whatever answer was lost. Marks belong to no dashboard: boards ask for TAG.

Grafana shows texts as HTML, so they are escaped, and short: thirty findings at once stay readable.
"""

import html
import json
from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha256

from exporters.message import Message
from exporters.tidings import Tiding

TAG = "gputally"
"""On every mark of ours."""
LONGEST_TAG_BYTES = 80
"""Grafana takes 500 bytes of tags with a mark, and 100 letters of each."""
LONGEST_NAME, LONGEST_SUMMARY = 100, 200
_FINGERPRINT, _KEY_DIGITS = 8, 24
_NOT_IN_TAGS = frozenset("<>&\"'\\:,")
_NOTHING = {"text": ""}
"""What Grafana refuses after it has looked at who asks: so it tells whether marks would be taken."""


def encode(tidings: Sequence[Tiding], labels: Mapping[str, str], at_ms: int) -> Message:
    """Write the mark of a finding; without one what leaves no mark."""
    del labels, at_ms
    if not tidings:
        return Message(json.dumps(_NOTHING).encode(), {})
    (one,) = tidings
    found = one.finding
    gpu = [] if one.gpu is None else [tag("gpu", str(one.gpu))]
    tags = [tag("", found.rule), tag("", found.severity), tag("node", found.node), *gpu, tag("", found.uuid)]
    key = found.node, found.uuid, found.rule, str(found.opened_ms)
    return Message(mark(_text(one), tags, key, found.opened_ms, found.closed_ms), {})


def mark(
    text: str, tags: Iterable[str], key: Iterable[str], begin_ms: int, end_ms: int | None = None
) -> bytes:
    """Write an annotation, of a moment or from one to another, in ms since the epoch.

    `text` is HTML that is shown as it is: put what comes from outside through `shown`. `key` is what makes it
    another than all others.
    """
    digits = sha256(json.dumps(list(key)).encode()).hexdigest()[:_KEY_DIGITS]
    begin_ms = max(1, begin_ms)  # 0 would be now
    told = {
        "time": begin_ms,
        "timeEnd": begin_ms if end_ms is None else max(begin_ms, end_ms),  # clocks may be set back
        "tags": [one for one in dict.fromkeys((TAG, *tags)) if one] + [f"key:{digits}"],
        "text": text,
    }
    return json.dumps(told).encode()


def tag(name: str, value: str) -> str:
    """Give `name:value`, or the value alone, as Grafana keeps it; what has no value is empty.

    What it would cut off (all behind a second colon) or could be taken for markup becomes an underscore; what
    is too long ends in a fingerprint.
    """
    text = "".join(
        "_" if one in _NOT_IN_TAGS or one.isspace() or not one.isprintable() else one for one in value
    )
    head = f"{name}:" if name and text else ""
    most = LONGEST_TAG_BYTES - len(head.encode())
    if len(text.encode()) > most:
        digits = sha256(value.encode(errors="backslashreplace")).hexdigest()[:_FINGERPRINT]
        text = f"{text.encode()[: most - _FINGERPRINT - 1].decode(errors='ignore')}_{digits}"
    return head + text


def shown(text: str, most: int) -> str:
    """Give a text from outside as HTML: one line of at most so many letters, of which none is obeyed."""
    line = " ".join("".join(one if one.isprintable() else " " for one in text[: 4 * most]).split())
    return html.escape(line if len(line) <= most else f"{line[: most - 1]}…")


def _text(one: Tiding) -> str:
    found = one.finding
    what = f"GPU {one.gpu}" if one.gpu is not None else f"GPU {shown(found.uuid, LONGEST_NAME)}"
    where = shown(found.node, LONGEST_NAME) + (f", {what}" if found.uuid else "")
    summary = shown(found.summary or found.rule, LONGEST_SUMMARY)
    held = f"; held by {shown(found.held_by, LONGEST_NAME)}" if found.held_by else ""
    again = f"; opened {found.times} times" if found.times > 1 else ""
    return f"{where}: {summary}{held}{again}"
