"""Findings as annotations of Grafana: what a mark says, to the letter, and no name from outside harms it."""

import html
import json
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from agent.tick import Finding
from exporters.annotations import LONGEST_TAG_BYTES, encode, mark, shown, tag
from exporters.tidings import Tiding

OPENED_MS = 1_767_657_620_000
LOST = Finding(
    rule="gpu_down",
    severity="critical",
    node="hall2-n017",
    uuid="GPU-5c1b0e4a-0001",
    opened_ms=OPENED_MS,
    summary="the GPU does not answer",
    action="drain the node",
    held_by="job 4711 of vision",
)
# printf '["hall2-n017", "GPU-5c1b0e4a-0001", "gpu_down", "1767657620000"]' | sha256sum | cut -c 1-24
KEY = "key:56fc003f182e4d9294654400"


def told(one: Finding, gpu: int | None = 1) -> Any:  # noqa: ANN401  JSON
    """Read the mark of a finding."""
    body, more = encode([Tiding(number=7, finding=one, gpu=gpu)], {"cluster": "emea"}, 0)
    assert not more
    return json.loads(body)


def test_an_open_finding_is_a_point() -> None:
    """These bytes, and no others."""
    body, more = encode([Tiding(number=7, finding=LOST, gpu=1)], {}, 0)
    assert more == {}
    assert body.decode() == (
        '{"time": 1767657620000, "timeEnd": 1767657620000, "tags": ["gputally", "gpu_down", "critical", '
        f'"node:hall2-n017", "gpu:1", "GPU-5c1b0e4a-0001", "{KEY}"], "text": '
        '"hall2-n017, GPU 1: the GPU does not answer; held by job 4711 of vision"}'
    )


def test_a_closed_one_is_a_range_under_the_same_key() -> None:
    """All else is the same; one that opened several times says so."""
    point = told(LOST)
    assert told(replace(LOST, closed_ms=OPENED_MS + 90_000)) == {**point, "timeEnd": OPENED_MS + 90_000}
    again = told(replace(LOST, times=3))
    assert again == {**point, "text": f"{point['text']}; opened 3 times"}


def test_other_findings_have_other_keys() -> None:
    """Of another node, GPU, rule or time."""
    changes: list[dict[str, Any]] = [{"node": "n"}, {"uuid": "u"}, {"rule": "r"}, {"opened_ms": 5}]
    keys = {told(replace(LOST, **change))["tags"][-1] for change in ({}, *changes)}
    assert len(keys) == 5


def test_a_finding_about_the_node_names_no_gpu() -> None:
    """Nor one of a GPU whose place is not known an index."""
    one = told(replace(LOST, uuid="", held_by=""), gpu=None)
    assert one["tags"][:4] == ["gputally", "gpu_down", "critical", "node:hall2-n017"]
    assert one["text"] == "hall2-n017: the GPU does not answer"
    assert told(LOST, gpu=None)["text"].startswith("hall2-n017, GPU GPU-5c1b0e4a-0001: ")


def test_a_clock_that_was_set_back_makes_no_range_that_ends_before_it_begins() -> None:
    """It is a point then; the beginning of time is a moment, for 0 would be now."""
    one = told(replace(LOST, closed_ms=OPENED_MS - 1))
    assert (one["time"], one["timeEnd"]) == (OPENED_MS, OPENED_MS)
    assert told(replace(LOST, opened_ms=0))["time"] == 1


def test_nothing_is_what_no_grafana_takes() -> None:
    """It has no text."""
    assert encode((), {}, 0) == (b'{"text": ""}', {})


def test_hostile_names_are_shown_and_not_obeyed() -> None:
    """Not as HTML, not as a second line, not as a second tag, not as letters that turn the others round."""
    one = told(
        replace(
            LOST,
            node="<img src=x onerror=alert(1)>",
            held_by='a" onclick="b\n\x1b[31m\u202ec',
            summary="1 < 2 & 'so'\ton",
            rule="a:b:c",
            uuid=" x,y ",
        )
    )
    assert one["text"] == (
        "&lt;img src=x onerror=alert(1)&gt;, GPU 1: 1 &lt; 2 &amp; &#x27;so&#x27; on; "
        "held by a&quot; onclick=&quot;b [31m c"
    )
    assert one["tags"][1] == "a_b_c"
    assert one["tags"][3:6] == ["node:_img_src=x_onerror=alert(1)_", "gpu:1", "_x_y_"]


def test_long_names_are_cut_and_stay_apart() -> None:
    """To 80 bytes with a fingerprint; a text is as long as it is, then it is cut."""
    first, second = (tag("node", "n" * 200 + end) for end in "ab")
    assert first != second
    assert first.startswith("node:" + "n" * 66 + "_")
    assert {len(first), len(second)} == {LONGEST_TAG_BYTES}
    assert tag("node", "n" * 75) == "node:" + "n" * 75
    assert tag("node", "") == ""
    assert shown("x" * 20, 20) == "x" * 20
    assert shown("x" * 21, 20) == "x" * 19 + "…"
    assert len(told(replace(LOST, summary="s" * 9000, held_by="h" * 9000, node="n" * 9000))["text"]) < 450


class Seen(HTMLParser):
    """What a browser would make of a text."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.text = ""
        self.others: list[str] = []

    def handle_data(self, data: str) -> None:
        """Take a text."""
        self.text += data

    def handle_starttag(self, tag: str, _: object) -> None:
        """Take a tag."""
        self.others.append(tag)

    def handle_comment(self, data: str) -> None:
        """Take a comment."""
        self.others.append(data)


NAMES = st.text(st.characters(exclude_categories=()), max_size=300)


@given(node=NAMES, rule=NAMES, severity=NAMES, uuid=NAMES, held_by=NAMES, summary=NAMES)
def test_whatever_names_are_a_mark_is_one_that_grafana_takes(**names: str) -> None:
    """At most 500 bytes of tags, each once and with one colon; text that is text, on one line."""
    one = told(replace(LOST, **names))  # type: ignore[arg-type]
    tags = one["tags"]
    assert tags[0] == "gputally"
    assert len(set(tags)) == len(tags)
    assert len(json.dumps(tags, ensure_ascii=False, separators=(",", ":")).encode()) <= 500
    assert all(each.count(":") <= 1 and each.isprintable() and each.strip() == each != "" for each in tags)
    seen = Seen()
    seen.feed(one["text"])
    seen.close()
    assert seen.others == []
    assert seen.text == html.unescape(one["text"])
    assert one["text"].isprintable()


@given(st.lists(st.tuples(NAMES, st.integers(0, 2**53)), min_size=2, max_size=2, unique=True))
def test_keys_tell_marks_apart(pair: list[tuple[str, int]]) -> None:
    """Two that differ in a name or a time have two."""
    first, second = (json.loads(mark("t", (), (name, str(at_ms)), 1))["tags"][-1] for name, at_ms in pair)
    assert first != second
