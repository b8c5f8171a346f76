"""The kernel's log as a source of XIDs: what it says; reading it never waits, raises or runs away."""

import errno
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent import kernel_log
from agent.kernel_log import (
    BEHIND_CALLS,
    HISTORY_CALLS,
    MOST_RECORDS,
    KernelLog,
    log_began_ms,
    normal_pci,
    parse_line,
    same_pci,
)
from agent.tick import Xid

BOOT_MS = 1_760_000_000_000
NOW_MS = BOOT_MS + 3_600_000
FELL = "NVRM: Xid (PCI:0000:1b:00): 79, pid=4711, name=python3, GPU has fallen off the bus."
FELL_AGAIN = "NVRM: GPU 0000:1b:00.0: GPU has fallen off the bus."


def record(text: str, sequence: int = 1, seconds: float = 3599.0) -> str:
    """Write a record as the kernel does."""
    return f"3,{sequence},{round(seconds * 1e6)},-;{text}\n"


def append(path: Path, *records: str) -> None:
    """Let the kernel say something more."""
    with path.open("a", encoding="utf-8") as log:
        log.writelines(records)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Stand in for /dev/kmsg."""
    path = tmp_path / "kmsg"
    path.touch()
    return path


@pytest.fixture
def log(path: Path) -> Iterator[KernelLog]:
    """Open the log at its end."""
    log = KernelLog(path)
    assert log.open() == ""
    yield log
    log.close()


# What a line says


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (FELL, ("0000:1b:00", 79, "pid=4711, name=python3, GPU has fallen off the bus.")),
        ("NVRM: Xid (PCI:0000:1B:00.0): 48, pid='<unknown>'", ("0000:1b:00", 48, "pid='<unknown>'")),
        ("NVRM: Xid (0000:03:00): 31, Ch 00000003", ("0000:03:00", 31, "Ch 00000003")),
        ("NVRM: Xid (PCI:0000:1b:00 GPU-I:05): 94, pid=7194", ("0000:1b:00", 94, "pid=7194")),
        ("NVRM: Xid (PCI:0000:1b:00 GPU-I:05 GPU-CI:00): 13, pid=7", ("0000:1b:00", 13, "pid=7")),
        ("NVRM: Xid (GPU-2a4f0b1c): 62, halted", ("GPU-2a4f0b1c", 62, "halted")),
        ("NVRM: Xid (PCI:0000:1b:00): 61", ("0000:1b:00", 61, "")),
        (
            "NVRM: Xid (PCI:0018:01:00): 145, RLW_RXPIPE Nonfatal XC0 i0 Link 13 (0x0409a0c2 0x00000008)",
            ("0018:01:00", 145, "RLW_RXPIPE Nonfatal XC0 i0 Link 13 (0x0409a0c2 0x00000008)"),
        ),
        (
            "NVRM: Xid (PCI:0000:dc:00): 45, pid=18, name=a b, Ch 00000001 caused by previous Xid 149",
            ("0000:dc:00", 45, "pid=18, name=a b, Ch 00000001 caused by previous Xid 149"),
        ),
        (FELL_AGAIN, ("0000:1b:00", 79, "GPU 0000:1b:00.0: GPU has fallen off the bus.")),
        (
            "NVRM: GPU at 0000:01:00.0 has fallen off the bus.",
            ("0000:01:00", 79, "GPU at 0000:01:00.0 has fallen off the bus."),
        ),
        (
            (
                r"NVRM: The NVIDIA GPU 0000:b3:00.0\x0aNVRM: (PCI ID: 10de:2330) installed in this system has"
                r"\x0aNVRM: fallen off the bus and is not responding to commands."
            ),
            (
                "0000:b3:00",
                79,
                (
                    "The NVIDIA GPU 0000:b3:00.0 (PCI ID: 10de:2330) installed in this system has"
                    " fallen off the bus and is not responding to commands."
                ),
            ),
        ),
        ("NVRM: fallen off the bus and is not responding to commands.", ("", 79, None)),
    ],
)
def test_a_line_about_an_xid_is_understood(line: str, expected: tuple[str, int, str | None]) -> None:
    """Where, which number, and what else the driver said; also where the number is not written."""
    told = parse_line(line)

    assert told is not None
    assert told[:2] == expected[:2]
    assert expected[2] in (None, told[2])


@pytest.mark.parametrize(
    "line",
    [
        "",
        "eth0: link up",
        "NVRM: loading NVIDIA UNIX Open Kernel Module for x86_64  570.158.01",
        "NVRM: GPU at PCI:0000:84:00: GPU-2a4f0b1c-0000-0000-0000-000000000000",
        "nvidia-nvswitch0: SXid (PCI:0000:c1:00.0): 12028, Non-fatal, Link 32",
        f"audit: somebody wrote {FELL}",
        "NVRM: Xid (PCI:0000:1b:00): none",
        "mlx5_core 0000:1b:00.0: fallen off the bus",
    ],
)
def test_any_other_line_is_not(line: str) -> None:
    """Neither switches' errors, nor what others quote, nor other cards."""
    assert parse_line(line) is None


def test_a_long_detail_is_cut() -> None:
    """What the driver writes ends in events; nothing makes them endless."""
    told = parse_line(FELL + "x" * 10_000)

    assert told is not None
    assert len(told[2]) == 300


@given(st.text())
def test_no_text_breaks_the_reader(text: str) -> None:
    """Whatever stands behind the driver's name."""
    for line in (text, "NVRM: " + text, "NVRM: Xid (" + text, "NVRM: Xid (PCI:0000:1b:00): " + text):
        told = parse_line(line)
        assert told is None or told[1] >= 0


@pytest.mark.parametrize(
    ("name", "normal"),
    [
        ("00000000:1B:00.0", "0000:1b:00"),
        ("0000:1b:00", "0000:1b:00"),
        ("PCI:0000:1b:00", "0000:1b:00"),
        ("1b:00.0", "0000:1b:00"),
        ("00000019:01:00.0", "0019:01:00"),
        ("00010000:01:00.0", "10000:01:00"),
        (" Elsewhere ", "elsewhere"),
        ("", ""),
    ],
)
def test_a_pci_name_has_one_form(name: str, normal: str) -> None:
    """NVML and the kernel name the same device differently."""
    assert normal_pci(name) == normal
    assert normal_pci(normal) == normal


def test_two_names_of_one_device_are_the_same() -> None:
    """And those of two devices are not."""
    assert same_pci("00000000:1B:00.0", "0000:1b:00")
    assert not same_pci("00000000:1B:00.0", "0001:1b:00")


# What is read


def test_only_what_comes_after_opening_is_told(path: Path) -> None:
    """An error of yesterday is not one of now."""
    append(path, record(FELL, 1))
    log = KernelLog(path)
    log.open()
    append(path, record("eth0: link up", 2), record("NVRM: Xid (PCI:0000:3d:00): 48, DBE", 3))

    assert log.read(NOW_MS, BOOT_MS) == [
        Xid(NOW_MS - 1000, "", 48, source="kernel", text="DBE", pci_bus="0000:3d:00")
    ]
    assert log.read(NOW_MS, BOOT_MS) == []
    log.close()


def test_what_came_while_the_agent_was_down_is_told(path: Path) -> None:
    """With the moment of the last tick, the log is read from then on."""
    append(path, record(FELL, 1, 100), record("NVRM: Xid (PCI:0000:3d:00): 48, DBE", 2, 200))
    log = KernelLog(path)
    log.open(since_ms=BOOT_MS + 150_000)

    assert [(xid.number, xid.at_ms) for xid in log.read(NOW_MS, BOOT_MS)] == [(48, BOOT_MS + 200_000)]
    log.close()


def test_a_past_longer_than_a_call_is_read_in_several(path: Path) -> None:
    """What the agent missed is not passed over because a host has much to say at boot."""
    append(path, *(record("eth0: link up", number, 1) for number in range(5 * MOST_RECORDS)), record(FELL))
    log = KernelLog(path, monotonic_ns=lambda: 0)
    log.open(since_ms=BOOT_MS)

    calls = [log.read(NOW_MS, BOOT_MS) for _ in range(6)]

    assert [len(call) for call in calls] == [0, 0, 0, 0, 0, 1]
    assert log.skipped == 0
    log.close()


def test_live_records_are_of_the_time_between_two_calls(log: KernelLog, path: Path) -> None:
    """After weeks the log's clock is seconds off, the one that nobody sets; the calls know better."""
    log.read(NOW_MS, BOOT_MS)
    append(path, record(FELL, 1, 3500), record("NVRM: Xid (PCI:0000:3d:00): 48, DBE", 2, 3700))

    assert [xid.at_ms for xid in log.read(NOW_MS + 1000, BOOT_MS)] == [NOW_MS, NOW_MS + 1000]


def test_a_clock_that_is_set_back_hides_nothing(path: Path) -> None:
    """The moment of the last tick counts only until the past is read."""
    log = KernelLog(path)
    log.open(since_ms=NOW_MS)
    log.read(NOW_MS, BOOT_MS)
    append(path, record(FELL, 1, 3601))
    earlier_ms = 3_000_000

    told = log.read(NOW_MS + 2000 - earlier_ms, BOOT_MS - earlier_ms)

    assert [xid.at_ms for xid in told] == [NOW_MS + 2000 - earlier_ms]
    log.close()


def test_continuation_lines_are_no_records(log: KernelLog, path: Path) -> None:
    """The kernel adds the device behind a record; those lines begin with a space."""
    append(path, record(FELL), " SUBSYSTEM=pci\n", f" {FELL}\n", " DEVICE=+pci:0000:1b:00.0\n")

    assert [xid.number for xid in log.read(NOW_MS, BOOT_MS)] == [79]


def test_a_record_in_two_pieces_is_one(log: KernelLog, path: Path) -> None:
    """A pipe or file may end in the middle of a line."""
    whole = record(FELL)
    append(path, whole[:30])
    assert log.read(NOW_MS, BOOT_MS) == []
    append(path, whole[30:])

    assert [xid.number for xid in log.read(NOW_MS, BOOT_MS)] == [79]


def test_one_fall_off_the_bus_told_by_two_lines_is_one(log: KernelLog, path: Path) -> None:
    """The driver writes an XID and, right after it, the same without a number."""
    append(path, record(FELL, 1), record(FELL_AGAIN, 2))
    assert len(log.read(NOW_MS, BOOT_MS)) == 1

    append(path, record(FELL_AGAIN.replace("1b", "3d"), 3), record(FELL.replace("1b", "3d"), 4))
    assert len(log.read(NOW_MS, BOOT_MS)) == 1


def test_two_numbered_falls_are_two(log: KernelLog, path: Path) -> None:
    """NVML tells each of them too; only the line without a number is a repetition."""
    append(path, record(FELL, 1), record(FELL_AGAIN, 2), record(FELL, 3), record(FELL_AGAIN, 4))

    assert len(log.read(NOW_MS, BOOT_MS)) == 2


def test_a_later_fall_without_a_number_is_another(log: KernelLog, path: Path) -> None:
    """Some drivers write only the line without."""
    append(path, record(FELL_AGAIN, 1, 3000), record(FELL_AGAIN, 2, 3400))

    assert len(log.read(NOW_MS, BOOT_MS)) == 2


def test_a_uuid_instead_of_a_pci_name_is_passed_on_as_such(log: KernelLog, path: Path) -> None:
    """Nobody need look it up."""
    append(path, record("NVRM: Xid (GPU-2a4f0b1c): 62, halted"))

    assert [(xid.uuid, xid.pci_bus) for xid in log.read(NOW_MS, BOOT_MS)] == [("GPU-2a4f0b1c", "")]


def test_a_fifo_is_read_without_waiting(tmp_path: Path) -> None:
    """Nothing in it is nothing to tell."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    log = KernelLog(fifo)
    assert log.open() == ""
    writer = os.open(fifo, os.O_WRONLY)
    try:
        assert log.read(NOW_MS, BOOT_MS) == []
        os.write(writer, record(FELL).encode())
        assert [xid.number for xid in log.read(NOW_MS, BOOT_MS)] == [79]
        assert log.read(NOW_MS, BOOT_MS) == []
    finally:
        os.close(writer)
        log.close()


# What may go wrong


def test_a_missing_log_is_told_in_one_sentence(tmp_path: Path) -> None:
    """In a container without the host's log."""
    log = KernelLog(tmp_path / "none")

    assert "is missing" in log.open()
    assert log.trouble
    assert log.read(NOW_MS, BOOT_MS) == []


def test_a_log_that_may_not_be_read_says_what_to_do(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel asks for CAP_SYSLOG."""

    def refuse(*_: object) -> int:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    with monkeypatch.context() as patch:
        patch.setattr("agent.kernel_log.os.open", refuse)
        reason = KernelLog(path).open()
    assert "CAP_SYSLOG" in reason


def test_a_log_that_breaks_is_given_up_with_a_reason(log: KernelLog, monkeypatch: pytest.MonkeyPatch) -> None:
    """The agent goes on with what NVML tells; opening anew is possible."""

    def fail(*_: object) -> bytes:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr("agent.kernel_log.os.read", fail)
        assert log.read(NOW_MS, BOOT_MS) == []
    assert "Input/output error" in log.trouble
    assert log.read(NOW_MS, BOOT_MS) == []
    assert log.open() == ""
    assert log.trouble == ""


class Device:
    """/dev/kmsg in memory: one record per read, and errors where the kernel gives them."""

    def __init__(self, *answers: bytes | int) -> None:
        self.answers = list(answers)

    def __call__(self, _descriptor: int, _most: int) -> bytes:
        """Answer a read."""
        answer = self.answers.pop(0) if self.answers else errno.EAGAIN
        if isinstance(answer, int):
            raise OSError(answer, os.strerror(answer))
        return answer


Answer = Callable[..., None]


@pytest.fixture
def answer(monkeypatch: pytest.MonkeyPatch) -> Answer:
    """Let the device answer so."""
    return lambda *answers: monkeypatch.setattr("agent.kernel_log.os.read", Device(*answers))


def test_what_the_kernel_overwrote_is_counted_by_the_numbers(log: KernelLog, answer: Answer) -> None:
    """The number of the next record says how many there were."""
    answer(record("a", 10).encode() + b" SUBSYSTEM=pci\n", errno.EPIPE, record(FELL, 51).encode())

    assert [xid.number for xid in log.read(NOW_MS, BOOT_MS)] == [79]
    assert log.skipped == 40


def test_an_overrun_without_numbers_counts_as_one(log: KernelLog, answer: Answer) -> None:
    """At least one record was lost, and nobody can say more."""
    answer(errno.EPIPE, record(FELL, 51).encode())
    log.read(NOW_MS, BOOT_MS)

    assert log.skipped == 1


def test_a_record_too_large_is_stepped_over(log: KernelLog, answer: Answer) -> None:
    """The next one is told all the same."""
    answer(errno.EINVAL, record(FELL).encode())

    assert [xid.number for xid in log.read(NOW_MS, BOOT_MS)] == [79]
    assert log.skipped == 1


def test_a_call_reads_a_bounded_number_of_records(log: KernelLog, path: Path) -> None:
    """However much there is."""
    append(path, *(record(FELL, number) for number in range(MOST_RECORDS + 1)))
    log._monotonic_ns = lambda: 0

    assert len(log.read(NOW_MS, BOOT_MS)) == MOST_RECORDS
    assert len(log.read(NOW_MS, BOOT_MS)) == 1


def test_a_call_takes_a_bounded_time(path: Path) -> None:
    """By the clock: here every look at it takes a millisecond."""
    append(path, *(record(FELL, number) for number in range(500)))
    passed = iter(range(0, 10**12, 1_000_000))
    log = KernelLog(path, monotonic_ns=lambda: next(passed))
    log.open(since_ms=0)

    assert len(log.read(NOW_MS, BOOT_MS)) == 20
    log.close()


def test_a_log_that_runs_away_is_left_behind_and_counted(log: KernelLog, path: Path) -> None:
    """After a few calls reading goes on at the end, and the next record tells what was missed."""
    total = (BEHIND_CALLS + 5) * MOST_RECORDS
    append(path, *(record(FELL, number) for number in range(total)))
    log._monotonic_ns = lambda: 0

    told = [len(log.read(NOW_MS, BOOT_MS)) for _ in range(BEHIND_CALLS + 1)]
    assert told == [MOST_RECORDS] * BEHIND_CALLS + [0]
    assert log.skipped > 0

    append(path, record("NVRM: Xid (PCI:0000:3d:00): 48, DBE", total))
    assert [xid.number for xid in log.read(NOW_MS, BOOT_MS)] == [48]
    assert log.skipped == 5 * MOST_RECORDS


def test_even_the_past_ends_when_the_log_runs_away(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A log that grows faster than it is read is not read for ever."""
    monkeypatch.setattr(kernel_log, "MOST_RECORDS", 1)
    append(path, *(record(FELL, number) for number in range(2 * HISTORY_CALLS)))
    log = KernelLog(path)
    log.open(since_ms=0)

    told = sum(len(log.read(NOW_MS, BOOT_MS)) for _ in range(2 * HISTORY_CALLS))

    assert told == HISTORY_CALLS
    assert log.skipped > 0
    log.close()


def test_a_line_without_end_is_dropped(log: KernelLog, path: Path) -> None:
    """Memory stays bounded, and the loss is counted."""
    append(path, "x" * 300_000, "\n", record(FELL))
    told = [xid.number for _ in range(3) for xid in log.read(NOW_MS, BOOT_MS)]

    assert told == [79]
    assert log.skipped > 0


@given(
    content=st.lists(
        st.one_of(
            st.binary(max_size=200),
            st.sampled_from([b"\n", b" ", b";", b"3,1,2,-;NVRM: Xid (PCI:", record(FELL).encode()]),
        ),
        max_size=30,
    ).map(b"".join),
    boot_ms=st.integers(min_value=-(10**15), max_value=10**15),
)
def test_no_bytes_break_the_reader(
    content: bytes, boot_ms: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Whatever the log holds: nothing raises, and nothing is told from later than now."""
    path = tmp_path_factory.getbasetemp() / "any"
    path.write_bytes(content)
    log = KernelLog(path)
    assert log.open(since_ms=-(10**16)) == ""

    told = log.read(NOW_MS, boot_ms)

    assert len(told) <= content.count(b"\n")
    assert all(xid.at_ms <= NOW_MS and xid.source == "kernel" for xid in told)
    log.close()


def test_closing_twice_is_closing_once(log: KernelLog) -> None:
    """And a closed log tells nothing."""
    log.close()
    log.close()

    assert log.read(NOW_MS, BOOT_MS) == []


def test_the_logs_clock_began_when_the_host_did() -> None:
    """By the clock that nobody sets."""
    now_ms = time.time_ns() // 1_000_000
    uptime_ms = time.monotonic_ns() // 1_000_000

    assert abs(now_ms - uptime_ms - log_began_ms(now_ms)) < 3_600_000
