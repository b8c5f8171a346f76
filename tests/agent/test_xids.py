"""The book of XIDs: every error counts once, all are counted, and few words are made of many of them."""

import itertools
import random
import time
import tracemalloc
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.tick import Event, Gpu, Xid
from agent.xid_bursts import bursts_of
from agent.xid_catalogue import HARDWARE, XIDS
from agent.xid_news import GPU_EVENTS, NODE_EVENTS
from agent.xid_pairs import KEPT_MS, WINDOW_MS, Pairs
from agent.xids import BEYOND, MOST_GPUS, MOST_NUMBERS, XidBook, XidRow

NODE = "hall2-n017"
T0 = 1_760_000_000_000
GPUS = tuple(
    Gpu(
        uuid=f"GPU-{index}",
        index=index,
        model="NVIDIA H100 80GB HBM3",
        pci_bus=f"00000000:{index + 27:02X}:00.0",
    )
    for index in range(8)
)
SOURCES = ("nvml", "kernel")


def nvml(number: int, after_ms: int = 0, gpu: int = 0) -> Xid:
    """Give an XID as NVML tells it."""
    return Xid(T0 + after_ms, f"GPU-{gpu}", number)


def kernel(number: int, after_ms: int = 0, gpu: int = 0, text: str = "pid=4711") -> Xid:
    """Give an XID as the kernel's log tells it."""
    return Xid(T0 + after_ms, "", number, "kernel", text, f"0000:{gpu + 27:02x}:00")


@pytest.fixture
def book() -> XidBook:
    """Give an empty book that knows eight GPUs."""
    return known_book()


def known_book(rows: Iterable[XidRow] = (), boot_id: str = "boot-2") -> XidBook:
    """Give a book that knows eight GPUs and what the journal holds."""
    book = XidBook(boot_id, NODE)
    book.know(GPUS)
    book.restore(rows)
    return book


def numbers(book: XidBook) -> dict[tuple[str, int], int]:
    """Give the counts alone."""
    return {key: count.count for key, count in book.counts.items()}


def texts(events: Iterable[Event]) -> list[str]:
    """Give what events say."""
    return [event.text for event in events]


# What is said


def test_the_first_of_an_error_is_said_at_once(book: XidBook) -> None:
    """What it is, how grave, what to do, and what the driver said."""
    events = book.take([kernel(79, text="pid=4711, GPU has fallen off the bus.")], T0 + 500)

    assert events == [
        Event(
            at_ms=T0,
            node=NODE,
            kind="xid",
            uuid="GPU-0",
            text="XID 79: the GPU fell off the bus; critical;"
            " drain the node and reboot it, and check power, heat and the PCIe seat if it comes again;"
            " pid=4711, GPU has fallen off the bus.",
        )
    ]


def test_an_unknown_gpu_is_named_by_its_place(book: XidBook) -> None:
    """Nobody knows its UUID, and each such GPU is one of its own."""
    events = book.take([kernel(62, gpu=20), kernel(62, gpu=21), Xid(T0, "", 62)], T0)

    assert [event.uuid for event in events] == ["", "", ""]
    assert sorted(text.rpartition(" (")[2] for text in texts(events)) == [
        "GPU at 0000:2f:00)",
        "GPU at 0000:30:00)",
        "GPU unknown)",
    ]
    assert numbers(book) == {("", 62): 3}


def test_a_gpu_that_is_gone_keeps_its_name(book: XidBook) -> None:
    """The error by which it went comes when the driver lists it no more."""
    book.know(GPUS[1:])

    assert [event.uuid for event in book.take([kernel(79)], T0)] == ["GPU-0"]


def test_repeats_are_said_once_when_their_minute_is_over(book: XidBook) -> None:
    """However many."""
    first = book.take([nvml(95)] * 80_000, T0)
    assert len(first) == 1
    assert book.take([], T0 + 59_999) == []

    (event,) = book.take([], T0 + 60_000)

    assert event.text == "XID 95 came 79 999 more times in 60 s"
    assert (event.uuid, event.at_ms) == ("GPU-0", T0 + 60_000)
    assert book.take([], T0 + 180_000) == []


def test_repeats_are_said_at_the_end(book: XidBook) -> None:
    """An agent that is told to stop does not keep them to itself."""
    book.take([nvml(95), nvml(95, 10)], T0 + 20_000)

    assert texts(book.flush(T0 + 20_000)) == ["XID 95 came once more in 20 s"]
    assert book.flush(T0 + 20_000) == []


def test_repeats_of_several_errors_are_one_sentence(book: XidBook) -> None:
    """Per GPU; the most frequent are named."""
    book.take([nvml(number) for number in (95, 48, 13, 31, 43, 45, 94) for _ in range(number)], T0)

    assert texts(book.flush(T0 + 60_000)) == [
        (
            "XID 95 came 94 more times, XID 94 93 more times, XID 48 47 more times, XID 45 44 more times,"
            " XID 43 42 more times, 2 others 42 more times in 60 s"
        )
    ]


def test_an_error_that_goes_on_is_said_once_a_minute(book: XidBook) -> None:
    """An hour of one error a second is about sixty sentences."""
    events: list[Event] = []
    for at_ms in range(0, 3_600_000, 1000):
        events += book.take([nvml(31, at_ms)], T0 + at_ms)

    assert len(events) == 60
    assert sum("more times" in text for text in texts(events)) == 59


def test_after_a_quiet_minute_an_error_is_news_again(book: XidBook) -> None:
    """It may be another job, or the board's next step to its end."""
    assert len(book.take([nvml(31)], T0)) == 1
    assert book.take([nvml(31, 59_999)], T0 + 59_999) == []

    events = book.take([nvml(31, 120_000)], T0 + 120_000)

    assert [text.partition(":")[0] for text in texts(events)] == [
        "XID 31",
        "XID 31 came once more in 120 s",
    ]


def test_the_texts_of_both_sources_are_joined(book: XidBook) -> None:
    """NVML is first and has no words; the kernel's are in the event all the same."""
    (event,) = book.take([nvml(31), kernel(31, 5, text="pid=4711, name=train")], T0 + 1000)

    assert event.text.endswith("; pid=4711, name=train")


@pytest.mark.parametrize("number", [145, 154])
def test_what_gets_graver_is_said_though_it_repeats(book: XidBook, number: int) -> None:
    """Numbers of which only the text says how grave they are."""
    mild, grave = {
        145: ("RLW_RXPIPE Nonfatal XC0 i0 Link 13", "RLW_REMAP Fatal XC0 i0 Link 13"),
        154: ("changed from 0x0 (None) to 0x3 (Drain P2P)", "changed from 0x3 to 0x2 (Node Reboot Required)"),
    }[number]
    assert len(book.take([kernel(number, text=mild)], T0)) == 1

    events = book.take([kernel(number, 20, text=mild), kernel(number, 30, text=grave)], T0 + 1000)

    assert [("critical" in text, grave in text) for text in texts(events)] == [(True, True)]
    assert book.take([nvml(number, 40), kernel(number, 50, text=grave)], T0 + 1000) == []
    assert numbers(book) == {("GPU-0", number): 4}


def test_a_text_that_comes_late_is_said_if_it_is_grave(book: XidBook) -> None:
    """NVML's number alone was said as a warning; the kernel's log tells the rest with the next interval."""
    assert "; warning; " in book.take([nvml(154)], T0)[0].text

    events = book.take(
        [kernel(154, 10, text="changed from 0x0 (None) to 0x2 (Node Reboot Required)")], T0 + 1000
    )

    assert ["; critical; " in text for text in texts(events)] == [True]
    assert numbers(book) == {("GPU-0", 154): 1}


# What belongs together


@pytest.mark.parametrize("follower", [45, 43, 13, 31])
def test_a_follower_belongs_to_the_hardware_error_before_it(book: XidBook, follower: int) -> None:
    """The job did nothing wrong, and nobody need be told twice."""
    book.take([nvml(48)], T0)

    (text,) = texts(book.take([nvml(follower, 60_000)], T0 + 60_000))

    assert text.startswith(f"XID {follower}: ")
    assert text.endswith("; information; belongs to XID 48")


def test_a_follower_long_after_or_elsewhere_stands_alone(book: XidBook) -> None:
    """A minute, and the same GPU."""
    book.take([nvml(48)], T0)

    events = book.take([nvml(13, 10, gpu=1), nvml(13, 60_001)], T0 + 60_001)

    assert ["; user; " in text for text in texts(events)] == [True, True]


def test_a_hardware_error_names_the_followers_before_it(book: XidBook) -> None:
    """Those were said as errors of their own, since nobody could know."""
    before = book.take([nvml(45), nvml(13, 10)], T0 + 20)
    assert not any("belongs to XID 48" in text for text in texts(before))

    (text,) = texts(book.take([nvml(48, 5000)], T0 + 5000))

    assert text.endswith("; XID 13, 45 before it belong to it")


def test_within_one_take_the_order_does_not_matter(book: XidBook) -> None:
    """The follower came first, but it is known what it belongs to."""
    events = book.take([nvml(13), nvml(79, 3000)], T0 + 10_000)

    assert [text.rpartition("; ")[2] for text in texts(events)] == [
        "belongs to XID 79",
        "XID 13 before it belongs to it",
    ]


def test_the_nearest_hardware_error_is_the_cause(book: XidBook) -> None:
    """Of several."""
    events = book.take([nvml(48), nvml(94, 400), nvml(45, 500)], T0 + 1000)

    assert texts(events)[-1].endswith("belongs to XID 94")


def test_hardware_comes_before_a_follower_that_is_nearer(book: XidBook) -> None:
    """Both the failed kernel and the removed channels belong to it."""
    events = book.take([nvml(48), nvml(13, 100), nvml(45, 110)], T0 + 1000)

    assert [text.endswith("belongs to XID 48") for text in texts(events)] == [False, True, True]


def test_removed_channels_belong_to_any_other_error(book: XidBook) -> None:
    """Alone, 45 tells the operator to act: a storm of false alarms once came of it."""
    events = book.take([nvml(13), nvml(45, 100)], T0 + 1000)

    assert ["; user; " in texts(events)[0], texts(events)[1].endswith("belongs to XID 13")] == [True, True]


def test_the_drivers_word_on_the_cause_counts_first(book: XidBook) -> None:
    """Newer drivers write it behind the number."""
    book.take([nvml(48)], T0)

    (text,) = texts(book.take([kernel(45, 5, text="pid=1, Ch 00000001 caused by previous Xid 149")], T0 + 9))

    assert "; information; belongs to XID 149; pid=1" in text


# What is counted


def test_an_error_of_both_sources_counts_once(book: XidBook) -> None:
    """And is said once."""
    events = book.take([nvml(79), kernel(79, -40)], T0 + 100)

    assert len(events) == 1
    assert numbers(book) == {("GPU-0", 79): 1}
    assert book.flush(T0 + 1000) == []


def test_the_second_source_may_come_with_the_next_interval(book: XidBook) -> None:
    """They are read at different moments."""
    book.take([kernel(79, 900)], T0 + 1000)

    assert book.take([nvml(79, 950)], T0 + 61_000) == []
    assert numbers(book) == {("GPU-0", 79): 1}


def test_what_one_source_tells_more_often_counts(book: XidBook) -> None:
    """NVML lost some, or the kernel's log ran away."""
    book.take([nvml(31, n) for n in range(5)] + [kernel(31, n) for n in range(9)], T0 + 100)
    book.take([nvml(13, n) for n in range(9)] + [kernel(13, n) for n in range(5)], T0 + 100)

    assert numbers(book) == {("GPU-0", 31): 9, ("GPU-0", 13): 9}


def test_what_waits_adds_up_over_the_intervals(book: XidBook) -> None:
    """An interval may end in the middle of a second."""
    book.take([nvml(31)], T0 + 100)
    book.take([nvml(31, 200)], T0 + 300)
    book.take([kernel(31, 10), kernel(31, 210)], T0 + 400)

    assert numbers(book) == {("GPU-0", 31): 2}


def test_errors_far_apart_are_two(book: XidBook) -> None:
    """Ten seconds is the most by which the sources differ."""
    book.take([nvml(31), kernel(31, 12_000)], T0 + 20_000)

    assert numbers(book) == {("GPU-0", 31): 2}


def test_other_gpus_and_numbers_are_never_matched(book: XidBook) -> None:
    """Eight GPUs that fail together are eight errors."""
    xids = [nvml(79, gpu=0), kernel(79, gpu=1), kernel(48, gpu=0)]
    book.take(xids, T0)

    assert numbers(book) == {("GPU-0", 79): 1, ("GPU-1", 79): 1, ("GPU-0", 48): 1}


Told = tuple[int, str]
CLUSTERS = st.lists(
    st.lists(
        st.tuples(st.integers(min_value=0, max_value=WINDOW_MS), st.sampled_from(SOURCES)),
        min_size=1,
        max_size=30,
    ),
    min_size=1,
    max_size=5,
)


@given(clusters=CLUSTERS, cuts=st.sets(st.integers(min_value=0, max_value=150), max_size=6))
def test_a_cluster_counts_as_its_more_talkative_source(clusters: list[list[Told]], cuts: set[int]) -> None:
    """Whatever the order within the window, and however the takes cut it."""
    told: list[tuple[int, Xid]] = []
    for place, cluster in enumerate(clusters):
        for moment, (after_ms, source) in enumerate(cluster):
            at_ms = place * 3 * WINDOW_MS + after_ms
            told.append((len(told), nvml(31, at_ms) if source == "nvml" else kernel(31, at_ms + moment % 2)))
    book = known_book()

    for begin, end in zip([0, *sorted(cuts)], [*sorted(cuts), len(told)], strict=True):
        xids = [xid for position, xid in told if begin <= position < end]
        book.take(xids, max((xid.at_ms for xid in xids), default=T0))

    expected = sum(max(Counter(source for _, source in cluster).values()) for cluster in clusters)
    assert numbers(book) == {("GPU-0", 31): expected}


def test_what_waits_for_its_match_is_forgotten_in_time() -> None:
    """Memory is bounded by the window, not by the uptime."""
    pairs = Pairs()
    for number in range(100):
        pairs.unmatched(("GPU-0", number), "nvml", T0, 1)
    pairs.forget(T0)
    assert len(pairs._waiting) == 100

    pairs.forget(T0 + 2 * KEPT_MS)

    assert pairs._waiting == {}


def test_bursts_hold_every_xid_once() -> None:
    """Heaping up loses none, and nothing is from later than now."""
    xids = [nvml(31, 7 * n) for n in reversed(range(1000))]
    xids += [kernel(31, 10**9, text=""), kernel(31, 10**9 + 1, text="pid=4711")]

    bursts = bursts_of(xids, T0 + 6000)

    assert sum(burst.count for burst in bursts) == 1002
    assert [burst.text for burst in bursts if burst.source == "kernel"] == ["pid=4711"]
    assert max(burst.last_ms for burst in bursts) == T0 + 6000
    assert [burst.at_ms for burst in bursts] == sorted(burst.at_ms for burst in bursts)


# What the journal keeps


def row(count: int = 1, first_ms: int = T0, **other: str | int) -> XidRow:
    """Give a row of GPU-0's XID 48 in this boot, unless told otherwise."""
    values: Mapping[str, str | int] = {
        "uuid": "GPU-0",
        "number": 48,
        "boot_id": "boot-2",
        "last_ms": T0 + 5000,
        **other,
    }
    return XidRow(count=count, first_ms=first_ms, **values)  # type: ignore[arg-type]


def test_changes_wait_until_they_are_saved(book: XidBook) -> None:
    """A transaction that failed loses none."""
    book.take([nvml(48), nvml(48, 5000), nvml(13, gpu=1)], T0 + 6000)

    rows = book.changed()
    assert rows == (row(2), row(1, uuid="GPU-1", number=13, last_ms=T0))
    assert book.changed() == rows
    book.saved(rows)
    assert book.changed() == ()


def test_a_row_that_changed_while_it_was_saved_stays(book: XidBook) -> None:
    """The journal holds an older one."""
    book.take([nvml(48)], T0)
    rows = book.changed()
    book.take([nvml(48, 5000)], T0 + 5000)
    book.saved(rows)

    assert book.changed() == (row(2),)


def test_counts_go_on_after_a_restart() -> None:
    """Of the agent, and of the host: there is one row per boot."""
    book = known_book([row(3), row(10, T0 - 9000, boot_id="boot-1", last_ms=T0 - 8000)])

    book.take([nvml(48, 60_000)], T0 + 60_000)

    count = book.counts["GPU-0", 48]
    assert (count.count, count.count_this_boot, count.boot_id) == (14, 4, "boot-2")
    assert (count.first_ms, count.last_ms) == (T0 - 9000, T0 + 60_000)
    assert book.changed() == (row(4, last_ms=T0 + 60_000),)


def test_earlier_boots_are_counted_without_an_error_in_this_one() -> None:
    """The page shows what a board has behind it."""
    book = known_book([row(5, boot_id="boot-0"), row(10, boot_id="boot-1")])

    count = book.counts["GPU-0", 48]
    assert (count.count, count.count_this_boot) == (15, 0)
    assert book.changed() == ()


def test_all_rows_make_the_same_book_again() -> None:
    """A journal that begins anew loses no count."""
    rows = [
        row(5, boot_id="boot-0"),
        row(10, boot_id="boot-1"),
        row(3),
        row(1, uuid="GPU-1", boot_id="boot-1"),
    ]
    book = known_book(rows)

    again = known_book(book.rows())

    assert dict(again.counts) == dict(book.counts)
    assert again.rows() == book.rows()


def test_what_was_counted_before_a_restart_is_not_counted_again() -> None:
    """The kernel's log is read from before the last tick; its clock may be off a little."""
    book = known_book([row(3)])

    events = book.take([kernel(48, after_ms) for after_ms in (-4000, 0, 5000, 5400)], T0 + 60_000)

    assert events == []
    assert numbers(book) == {("GPU-0", 48): 3}


def test_what_came_while_the_agent_was_down_is_counted() -> None:
    """Later than the last one counted, or an error that was not counted yet."""
    book = known_book([row(3)])

    events = book.take([kernel(48, 5000), kernel(48, 9000), kernel(31, 2000)], T0 + 60_000)

    assert sorted(text[:6] for text in texts(events)) == ["XID 31", "XID 48"]
    assert numbers(book) == {("GPU-0", 48): 4, ("GPU-0", 31): 1}


def test_a_clock_that_is_set_back_later_makes_nothing_old() -> None:
    """Once the log told something new, all behind it is new."""
    book = known_book([row(3)])
    book.take([kernel(48, 9000)], T0 + 60_000)

    book.take([kernel(48, -50_000)], T0 - 40_000)

    assert numbers(book) == {("GPU-0", 48): 5}


def test_nvml_and_earlier_boots_are_never_taken_for_old() -> None:
    """NVML tells nothing twice, and another boot's log is gone."""
    book = known_book([row(3), row(1, boot_id="boot-1", number=31, last_ms=T0 + 10**6)])

    book.take([nvml(48), kernel(31)], T0 + 60_000)

    assert numbers(book) == {("GPU-0", 48): 4, ("GPU-0", 31): 2}


@given(moments=st.lists(st.integers(min_value=0, max_value=50_000), max_size=40), cut=st.integers(0, 60))
def test_a_restart_loses_and_doubles_nothing(moments: list[int], cut: int) -> None:
    """The agent dies after any interval; the log is read again, and the sum is of one that lived."""
    whole = known_book()
    first = known_book()
    xids = [kernel(48, 3000 * (moment // 1000)) for moment in sorted(moments)]
    cut_ms = 3000 * cut + 1500
    whole.take(xids, T0 + 10**6)
    first.take([xid for xid in xids if xid.at_ms < T0 + cut_ms], T0 + cut_ms)

    second = known_book(first.changed())
    second.take(xids, T0 + 10**6)

    assert numbers(second) == numbers(whole)


# Storms


STORM = (95, 48, 79, 13, 31, 43, 45, *sorted(HARDWARE - {95, 48, 79})[:10], *range(96, 108))


def storm(per_second: int, seconds: int) -> Iterator[tuple[int, list[Xid]]]:
    """Give so many XIDs each second, over eight GPUs, and when the second ends."""
    whole = list(itertools.product(GPUS, STORM))
    random.Random(1120).shuffle(whole)  # noqa: S311  not a secret
    pairs = itertools.cycle(whole)
    for begin_ms in range(T0, T0 + 1000 * seconds, 1000):
        told = itertools.islice(pairs, per_second)
        yield (
            begin_ms + 1000,
            [
                Xid(begin_ms + n * 1000 // per_second, gpu.uuid, number)
                for n, (gpu, number) in enumerate(told)
            ],
        )


def test_a_storm_of_800_000_makes_few_words(book: XidBook) -> None:
    """29 numbers on 8 GPUs for a minute: a few dozen events, and every one is counted."""
    took_seconds = 0.0
    events: list[Event] = []
    for now_ms, xids in storm(13_334, 60):
        began = time.perf_counter()
        events += book.take(xids, now_ms)
        took_seconds += time.perf_counter() - began
    events += book.flush(T0 + 60_000)

    assert len(set(STORM)) == 29
    assert len(events) <= 40
    assert sum(numbers(book).values()) == 60 * 13_334
    assert sum("further XIDs on 8 GPUs" in event.text for event in events) == 1
    assert took_seconds < 60


def test_a_storm_takes_bounded_memory(book: XidBook) -> None:
    """It grows with the errors and seconds that are kept apart, not with how often they came."""
    intervals = list(storm(2000, 60))
    tracemalloc.start()
    for now_ms, xids in intervals:
        book.take(xids, now_ms)
    _, most_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert most_bytes < 5_000_000


def test_a_hundred_thousand_are_taken_in_no_time(book: XidBook) -> None:
    """The agent must not be what the node suffers from; the limit is generous for slow machines."""
    ((now_ms, xids),) = storm(100_000, 1)
    began = time.perf_counter()
    book.take(xids, now_ms)

    assert time.perf_counter() - began < 5


def test_a_gpu_has_its_share_of_events(book: XidBook) -> None:
    """One that tells everything at once does not silence the others."""
    events = book.take([nvml(number) for number in XIDS] + [nvml(31, gpu=1)], T0)

    assert sum(event.uuid == "GPU-0" for event in events) == GPU_EVENTS
    assert sum(event.uuid == "GPU-1" for event in events) == 1


def test_the_node_has_its_share_of_events(book: XidBook) -> None:
    """What is over it is one sentence."""
    xids = [nvml(number, gpu=gpu) for number in (48, 62, 64, 74, 79) for gpu in range(8)]
    events = book.take(xids, T0)

    assert len(events) == NODE_EVENTS
    assert texts(book.take([], T0 + 60_000)) == ["10 further XIDs on 8 GPUs in 60 s; critical: 74, 79"]


@pytest.mark.parametrize("gpus", [1, 8])
def test_a_storm_of_harmless_errors_hides_no_critical_one(book: XidBook, gpus: int) -> None:
    """Room is kept for it: on its GPU, and on the node."""
    harmless = [*range(96, 106), *range(126, 136)]
    book.take([nvml(number, gpu=gpu) for number in harmless for gpu in range(gpus)], T0)

    events = book.take([nvml(79, 1000)], T0 + 1000)

    assert [text.partition(":")[0] for text in texts(events)] == ["XID 79"]


def test_sums_of_many_gpus_are_bounded() -> None:
    """Of GPUs that nobody knows there may be any number."""
    book = known_book()
    book.take([kernel(31, gpu=gpu) for gpu in range(100) for _ in range(3)], T0)

    events = texts(book.flush(T0 + 60_000))

    assert len(events) == 10
    assert "XIDs came 184 more times on 92 GPUs in 60 s" in events


def test_garbage_is_counted_in_bounded_memory(book: XidBook) -> None:
    """Any number of numbers and of GPUs: nothing is lost, but not everything has a name."""
    xids = [nvml(number) for number in range(1, 2001)]
    xids += [Xid(T0, f"GPU-x{number}", 31) for number in range(2000)]
    xids += [Xid(T0, "", 13, "kernel", "", f"{number:04x}:00:00") for number in range(2000)]
    book.take(xids, T0)
    counts = numbers(book)

    assert sum(counts.values()) == 6000
    assert len([key for key in counts if key[0] == "GPU-0"]) == MOST_NUMBERS + 1
    assert counts["GPU-0", BEYOND] == 2000 - MOST_NUMBERS
    assert len({uuid for uuid, _ in counts}) <= MOST_GPUS + 1


@given(
    xids=st.lists(
        st.builds(
            Xid,
            at_ms=st.integers(min_value=-(10**6), max_value=2 * T0),
            uuid=st.sampled_from(["", "GPU-0", "GPU-1"]),
            number=st.sampled_from([0, 13, 31, 43, 45, 48, 79, 95, 109, 145, 154, 999, 4711]),
            source=st.sampled_from(SOURCES),
            text=st.sampled_from(
                ["", "Fatal", "Nonfatal", "caused by previous Xid 48", "to 0x2 (Node Reboot)"]
            ),
            pci_bus=st.sampled_from(["", "0000:1b:00", "nonsense"]),
        ),
        max_size=40,
    ),
    steps=st.lists(st.integers(min_value=-100_000, max_value=100_000), max_size=4),
)
def test_nothing_breaks_the_book(xids: list[Xid], steps: list[int]) -> None:
    """Nor clocks that step: what is counted is what was told, less what the other source told too."""
    book = known_book()
    now_ms = T0
    for step in [0, *steps]:
        now_ms += step
        for event in book.take(xids, now_ms):
            assert event.text.startswith("XID") or "further XID" in event.text
    book.flush(now_ms)

    told = Counter(xid.source for xid in xids)
    assert sum(numbers(book).values()) <= (1 + len(steps)) * len(xids)
    assert sum(numbers(book).values()) >= max(told.values(), default=0)
