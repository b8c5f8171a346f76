"""The catalogue of XIDs: complete, of one form, and graver by the driver's text where only that tells."""

from collections import Counter

import pytest

from agent import xid_catalogue
from agent.xid_catalogue import (
    BY_TEXT,
    FOLLOWERS,
    HARDWARE,
    SEVERITIES,
    XIDS,
    follows,
    meaning_of,
    rank_of,
)

NUMBER_UNTOLD = 999


def test_every_number_the_driver_knows_is_in_the_catalogue() -> None:
    """From 1 to 176 there is no hole, and NVML's 999 is known too."""
    assert set(XIDS) == {*range(1, 177), NUMBER_UNTOLD}


def test_no_number_is_in_two_rows() -> None:
    """A later row would silently win over an earlier one."""
    numbers = Counter(
        number for row in xid_catalogue._ROWS for number in xid_catalogue._expanded(row.numbers)
    )

    assert [number for number, times in numbers.items() if times > 1] == []


@pytest.mark.parametrize("number", sorted(XIDS))
def test_entries_are_of_one_form(number: int) -> None:
    """Each says something short, in words that can stand inside a sentence, and what to do."""
    entry = XIDS[number]

    for text in (entry.meaning, entry.action):
        assert 5 < len(text) < 110
        assert not text.endswith(".")
        assert ";" not in text
        assert text == text.strip()
    assert entry.action[0].islower()
    assert entry.severity in SEVERITIES
    assert entry.audience == ("owner" if entry.severity == "user" else "operator")


@pytest.mark.parametrize(
    ("severity", "numbers"),
    [
        ("critical", {46, 48, 54, 62, 64, 74, 79, 95, 109, 110, 119, 120, 136, 140, 143}),
        ("critical", {155, 158, 167, 169, 171, 172, 173}),
        ("warning", {38, 44, 45, 63, 78, 92, 94, 121, 151, 156, 157, 159, 160, 161, 163, 164, 165}),
        ("warning", {166, 168, 170, 175, 176}),
        ("user", {8, 11, 13, 25, 31, 32, 37, 39, 43, 60, 68, 69, 80, 82, 86, 98, 105, 108, 135, 137, 142}),
        ("information", {1, 14, 61, 66, 67, 93, 106, 107, 118, 125, 138, 141, 152, 153, 162, 174}),
    ],
)
def test_severities_are_as_agreed(severity: str, numbers: set[int]) -> None:
    """NVIDIA's catalogue decides, not the older tools' tables."""
    assert {number: XIDS[number].severity for number in numbers} == dict.fromkeys(numbers, severity)


def test_a_number_that_nobody_knows_is_a_warning() -> None:
    """A newer driver may tell errors that this version does not know."""
    entry = meaning_of(4711)

    assert entry.meaning == "not in the catalogue"
    assert (entry.severity, entry.audience) == ("warning", "operator")
    assert "dmesg" in entry.action
    assert "support" in entry.action


def test_followers_and_hardware_do_not_overlap() -> None:
    """Nothing is at once the cause and what follows from it."""
    assert FOLLOWERS.isdisjoint(HARDWARE)


def test_what_is_critical_is_hardware_but_for_a_hanging_job() -> None:
    """A critical error explains what the jobs meet; only a context switch may time out by a job's fault."""
    critical = {number for number, entry in XIDS.items() if entry.severity == "critical"}

    assert critical - HARDWARE == {109}


@pytest.mark.parametrize(
    ("number", "other", "belongs"),
    [
        (13, 48, True),
        (31, 79, True),
        (43, 95, True),
        (45, 48, True),
        (45, 13, True),
        (45, 109, True),
        (13, 109, False),
        (45, 45, False),
        (45, 154, False),
        (13, 45, False),
        (48, 79, False),
    ],
)
def test_what_belongs_to_what(number: int, other: int, *, belongs: bool) -> None:
    """Jobs' errors belong to hardware's; removed channels to whatever else there is."""
    assert follows(number, other) == belongs


@pytest.mark.parametrize(
    ("text", "severity"),
    [
        ("", "warning"),
        ("NETIR_LINK_EVT Fatal XC0 i0 Link 00 (0x025001c6 0x00000000)", "critical"),
        ("NETIR_LINK_DOWN Link Fatal XC0 i0 Link 03", "critical"),
        ("RLW_RXPIPE Nonfatal XC0 i0 Link 13 (0x0409a0c2 0x00000008)", "information"),
        ("SAW_MVB Non-fatal XC0 i0 Link 0", "information"),
        ("NETIR_BER_EVENT Nonfatal XC0 i0 Link 4", "warning"),
        ("words that nobody foresaw", "warning"),
    ],
)
def test_an_nvlink_error_is_as_grave_as_its_text_says(text: str, severity: str) -> None:
    """The numbers 144 to 150 stand for a counter that ticked and for a dead link alike."""
    assert {meaning_of(number, text).severity for number in range(144, 151)} == {severity}


@pytest.mark.parametrize(
    ("advice", "severity", "word"),
    [
        ("0x0 (None) to 0x1 (GPU Reset Required)", "critical", "reset"),
        ("0x0 (None) to 0x2 (Node Reboot Required)", "critical", "reboot"),
        ("0x0 (None) to 0x3 (Drain P2P)", "warning", "drain"),
        ("0x3 (Drain P2P) to 0x4 (Drain and Reset)", "critical", "reset"),
        ("0x2 (Node Reboot Required) to 0x0 (None)", "information", "ignore"),
        ("0x0 (None) to 0x9 (Something New)", "warning", "recovery action"),
    ],
)
def test_a_changed_advice_is_as_grave_as_the_new_one(advice: str, severity: str, word: str) -> None:
    """XID 154 repeats what the driver recommends now."""
    entry = meaning_of(154, f"GPU recovery action changed from {advice}")

    assert entry.severity == severity
    assert word in entry.action


def test_a_text_changes_no_other_number() -> None:
    """The word fatal in a process's name makes no user error critical."""
    for number in XIDS.keys() - BY_TEXT:
        assert meaning_of(number, "pid=4711, name=fatal, Fatal") == XIDS[number]


def test_severities_rank_from_the_gravest() -> None:
    """Budgets are spent on the gravest first."""
    assert [rank_of(severity) for severity in SEVERITIES] == [0, 1, 2, 3]
