"""A driver's ring of samples becomes an exact integral, however it was fetched."""

from itertools import pairwise
from random import Random
from typing import NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.ring import USUAL_PERIOD_US, Ring

NOW_US = 1_767_700_803_217_000
MS = 1000
PERIOD_US = 166_667
LATER_US = 45_000_000

patient = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
Samples = list[tuple[int, int]]


class Stream(NamedTuple):
    """Samples in order, and the places at which fetches cut them; a fetch repeats what `again` says."""

    samples: Samples
    cuts: list[int]
    again: int

    def fetches(self) -> list[Samples]:
        """Give what each fetch brings; some bring old samples once more."""
        edges = [0, *sorted(cut % (len(self.samples) + 1) for cut in self.cuts), len(self.samples)]
        return [self.samples[max(0, start - self.again) : end] for start, end in pairwise(edges)]


@st.composite
def _samples(draw: st.DrawFn, runs: st.SearchStrategy[int]) -> Samples:
    """Make samples at whole milliseconds, 150 to 183 ms apart, in runs between which samples are lost.

    A run has at least four samples: with fewer, samples that were lost look like a slower driver.
    """
    at_us, samples = NOW_US // MS * MS, []
    for run in range(draw(runs)):
        at_us += draw(st.integers(400, 9_000)) * MS if run else 0
        for _ in range(draw(st.integers(4, 30))):
            at_us += draw(st.integers(150, 183)) * MS
            samples.append((at_us, draw(st.integers(0, 100))))
    return samples


def _streams(runs: st.SearchStrategy[int]) -> st.SearchStrategy[Stream]:
    return st.builds(
        Stream,
        samples=_samples(runs),
        cuts=st.lists(st.integers(0, 60), max_size=12),
        again=st.integers(0, 5),
    )


def fed(fetches: list[Samples], now_us: int = NOW_US + LATER_US) -> Ring:
    """Feed fetches to a new ring, all of them believed; the first one says which clock dates them."""
    ring = Ring()
    ring.feed([(NOW_US, 0)], NOW_US)
    ring.forget(now_us)
    for fetch in fetches:
        assert ring.feed(fetch, now_us) == 0
    return ring


@patient
@given(_streams(st.just(1)), st.integers(0, 12_000), st.integers(1, 12_000))
def test_any_chopping_into_fetches_gives_the_integral(stream: Stream, skip_ms: int, length_ms: int) -> None:
    """The sum over any stretch is the sum, millisecond by millisecond, of the sample that covers each."""
    first_us, last_us = stream.samples[0][0], stream.samples[-1][0]
    start_us = first_us + skip_ms * MS
    end_us = start_us + length_ms * MS
    percent_of = {
        at_us: percent
        for (since_us, _), (until_us, percent) in pairwise(stream.samples)
        for at_us in range(since_us, until_us, MS)
    }
    covered_us = range(start_us, min(end_us, last_us), MS)
    integral, covered = fed(stream.fetches()).sum(start_us, end_us)
    assert covered == len(covered_us) * MS
    assert integral == pytest.approx(sum(percent_of[at_us] for at_us in covered_us) * MS / 100)


@patient
@given(_streams(st.integers(1, 4)))
def test_lost_samples_are_not_covered(stream: Stream) -> None:
    """A stretch from which a sample is missing counts for one period, whatever its length and the fetches."""
    ring = fed(stream.fetches())
    for (since_us, _), (until_us, percent) in pairwise(stream.samples):
        integral, covered = ring.sum(since_us, until_us)
        length_us = until_us - since_us
        whole = length_us <= 183 * MS
        assert covered == pytest.approx(length_us if whole else PERIOD_US, rel=0 if whole else 0.11)
        assert integral == pytest.approx(covered * percent / 100)


@patient
@given(_streams(st.integers(1, 4)), st.lists(st.integers(0, 20_000), min_size=1, max_size=20))
def test_parts_sum_to_the_whole(stream: Stream, cuts_ms: list[int]) -> None:
    """However a stretch is cut, with what lies behind forgotten, nothing is lost or doubled."""
    start_us, end_us = stream.samples[0][0], stream.samples[-1][0]
    whole = fed(stream.fetches()).sum(start_us, end_us)
    ring = fed(stream.fetches())
    edges = sorted({start_us, end_us, *(min(end_us, start_us + cut * MS) for cut in cuts_ms)})
    integral = covered = 0.0
    for since_us, until_us in pairwise(edges):
        part = ring.sum(since_us, until_us)
        ring.forget(until_us)
        integral, covered = integral + part[0], covered + part[1]
    assert (integral, covered) == pytest.approx(whole)


@patient
@given(_streams(st.integers(1, 4)), st.randoms(use_true_random=False))
def test_order_and_duplicates_within_a_fetch_do_not_matter(stream: Stream, chance: Random) -> None:
    """A fetch that is shuffled, with each sample twice, gives the same integral."""
    start_us, end_us = stream.samples[0][0], stream.samples[-1][0]
    twice = [*stream.samples, *stream.samples]
    chance.shuffle(twice)
    plain = fed([stream.samples]).sum(start_us, end_us)
    assert fed([twice]).sum(start_us, end_us) == pytest.approx(plain, rel=0.11)


def steady(first_us: int, count: int, percent: int = 50) -> Samples:
    """Make samples one period apart."""
    return [(first_us + number * PERIOD_US, percent) for number in range(count)]


def test_a_first_sample_covers_one_usual_period() -> None:
    """What lies before the first sample is not assumed."""
    ring = Ring()
    ring.feed([(NOW_US, 100)], NOW_US)
    expected = (USUAL_PERIOD_US, USUAL_PERIOD_US)
    assert ring.sum(NOW_US - 10_000_000, NOW_US) == pytest.approx(expected)


def test_the_period_is_measured() -> None:
    """A driver that samples once a second is covered once a second, from the first sample on."""
    ring = Ring()
    ring.feed([(NOW_US + number * 1_000_000, 40) for number in range(-9, 1)], NOW_US)
    assert ring.sum(NOW_US - 10_000_000, NOW_US) == pytest.approx((4_000_000, 10_000_000))


@pytest.mark.parametrize("percent", [101, 255, 2**32 - 1, -1])
def test_an_impossible_value_is_refused_and_its_time_not_covered(percent: int) -> None:
    """A sample above 100 % counts as refused; the samples around it are believed."""
    samples = steady(NOW_US, 10)
    samples[4] = samples[4][0], percent
    ring = Ring()
    assert ring.feed(samples, samples[-1][0]) == 1
    assert ring.sum(samples[0][0], samples[-1][0]) == pytest.approx((4 * PERIOD_US, 8 * PERIOD_US))


def test_an_impossible_value_is_counted_once() -> None:
    """The driver shows a refused last sample again, as newer than the last one believed: it is no new one."""
    samples = steady(NOW_US, 10)
    samples[-1] = samples[-1][0], 2**32 - 1
    ring = Ring()
    refused = ring.feed(samples, samples[-1][0])
    again = [one for one in samples if one[0] > ring.last_us]
    assert refused + ring.feed(again, samples[-1][0]) == 1


def test_a_sample_of_the_future_is_refused() -> None:
    """A timestamp more than a second ahead is not believed, and does not hide what comes in time."""
    ring = Ring()
    samples = steady(NOW_US - 9 * PERIOD_US, 10)
    ring.feed(samples, NOW_US)
    assert ring.feed([(NOW_US + 5_000_000, 50)], NOW_US + PERIOD_US) == 1
    assert ring.feed([(NOW_US + PERIOD_US, 50)], NOW_US + PERIOD_US) == 0
    assert ring.sum(NOW_US, NOW_US + PERIOD_US) == (PERIOD_US / 2, PERIOD_US)


def test_a_ring_of_nothing_but_garbage_covers_nothing() -> None:
    """Values that cannot be make no figure at all."""
    ring = Ring()
    samples = steady(NOW_US, 72, 2**32 - 1)
    assert ring.feed(samples, samples[-1][0]) == 72
    assert ring.sum(0, NOW_US * 2) == (0, 0)


@patient
@given(st.lists(st.tuples(st.integers(0, 2**64 - 1), st.integers(0, 2**32 - 1)), max_size=80))
def test_no_sample_makes_more_than_all_of_the_time(samples: Samples) -> None:
    """Whatever a driver says, what comes out lies between nothing and what was covered."""
    ring = Ring()
    refused = ring.feed(samples, NOW_US)
    integral, covered = ring.sum(NOW_US - 10_000_000, NOW_US + 10_000_000)
    assert 0 <= refused <= len(samples)
    assert 0 <= integral <= covered


def test_timestamps_since_boot_are_aligned() -> None:
    """A driver that dates samples by the time since boot gives the same integral, give or take a sample."""
    boot_us = NOW_US - 86_400_000_000
    samples = [(at_us - boot_us, percent) for at_us, percent in steady(NOW_US, 60)]
    ring = Ring()
    for place in range(0, 60, 20):
        fetch = samples[place : place + 20]
        assert ring.feed(fetch, fetch[-1][0] + boot_us + 40_000) == 0
    assert ring.sum(NOW_US + 1_000_000, NOW_US + 9_000_000) == pytest.approx((4_000_000, 8_000_000))


def test_a_ring_that_stood_still_is_on_the_wall_clock_all_the_same() -> None:
    """Some products sample only while work runs: old samples at the agent's start are just that, old."""
    ring = Ring()
    ring.feed(steady(NOW_US - 300_000_000, 72), NOW_US)
    assert ring.sum(NOW_US - 60_000_000, NOW_US) == (0, 0)
    fresh = steady(NOW_US + 10_000_000, 30)
    assert ring.feed(fresh, fresh[-1][0]) == 0
    _, covered = ring.sum(fresh[0][0], fresh[-1][0])
    assert covered == pytest.approx(29 * PERIOD_US)


def test_a_ring_of_power_is_in_watts() -> None:
    """Milliwatts come out as watts, up to what is believed; more is refused."""
    ring = Ring(0.001, 10_000_000)
    samples = [*steady(NOW_US, 9, 692_000), (NOW_US + 9 * PERIOD_US, 2**32 - 1)]
    assert ring.feed(samples, samples[-1][0]) == 1
    integral, covered = ring.sum(NOW_US, NOW_US + 8 * PERIOD_US)
    assert integral / covered == pytest.approx(692)
    assert ring.sum(NOW_US + 8 * PERIOD_US, NOW_US + 9 * PERIOD_US) == (0, 0)


def test_the_largest_sample_of_a_stretch_is_told() -> None:
    """One that lies in it in part counts; of a stretch without samples there is none."""
    ring = Ring(0.001, 10_000_000)
    samples = steady(NOW_US, 30, 71_000)
    samples[10] = samples[10][0], 640_000
    ring.feed(samples, samples[-1][0])
    end_us = samples[10][0]
    assert ring.largest(NOW_US, samples[-1][0]) == 640
    assert ring.largest(end_us - 1, end_us + PERIOD_US) == 640
    assert ring.largest(end_us, samples[-1][0]) == 71
    assert ring.largest(NOW_US - 10_000_000, NOW_US - 1_000_000) is None


def test_samples_of_the_future_do_not_hide_those_of_the_past() -> None:
    """A driver that dates every second sample an hour ahead gives half of them, and each fetch the same."""
    ring = Ring()
    samples = steady(NOW_US, 20)
    odd = [(at_us + 3_600_000_000 * (place % 2), percent) for place, (at_us, percent) in enumerate(samples)]
    assert ring.feed(odd, samples[-1][0]) == 10
    assert ring.last_us == samples[18][0]
    _, covered = ring.sum(NOW_US, samples[-1][0])
    assert covered <= 19 * PERIOD_US
