"""GPU performance metrics of the simulated driver: exact means between two samples, for Hopper only."""

from collections.abc import Iterator
from math import isnan
from typing import Any

import pynvml
import pytest

from agent.simulated.gpm import MOST_SAMPLES, Samples, gpu_means
from agent.simulated.scenario import Simulation, parse_simulation
from agent.simulator import uninstall
from tests.agent.test_simulator import NOON, SECOND, Bench, code_of

EVERY_ID = (*range(1, 14), 20, 21, *range(30, 38), *range(40, 48), 50, 51, 60, 61)
UNKNOWN_ID = 62


@pytest.fixture(autouse=True)
def clean() -> Iterator[None]:
    """Leave no library behind."""
    yield
    uninstall()


def sample_of(bench: Bench, index: int = 0) -> Any:  # noqa: ANN401  pynvml has no types
    """Take a sample of a GPU now."""
    return pynvml.nvmlGpmSampleGet(bench.handle(index), pynvml.nvmlGpmSampleAlloc())


def request(older: object, newer: object, *ids: int) -> Any:  # noqa: ANN401
    """Make the struct that asks for metrics."""
    asked = pynvml.c_nvmlGpmMetricsGet_t()
    asked.version = pynvml.NVML_GPM_METRICS_GET_VERSION
    asked.numMetrics, asked.sample1, asked.sample2 = len(ids), older, newer
    for place, number in enumerate(ids):
        asked.metrics[place].metricId = number
    return asked


def metrics(older: object, newer: object, *ids: int) -> dict[int, tuple[int, float]]:
    """Return code and value of each metric between two samples."""
    asked = pynvml.nvmlGpmMetricsGet(request(older, newer, *ids))
    return {one.metricId: (one.nvmlReturn, one.value) for one in asked.metrics[: len(ids)]}


def span_of(bench: Bench, length_us: int) -> tuple[object, object]:
    """Take two samples of GPU 0, so far apart."""
    older = sample_of(bench)
    bench.now_us += length_us
    return older, sample_of(bench)


@pytest.mark.parametrize("scenario", ["training", "bursty", "hot", "held"])
@pytest.mark.parametrize("length_us", [100_000, 1_003_517, 61_234_567])
def test_means_are_exact(scenario: str, length_us: int) -> None:
    """Whatever the length of the interval, a mean is the difference of the truth's sums over its time."""
    bench = Bench(f"h200x1:{scenario}")
    means = metrics(*span_of(bench, length_us), *EVERY_ID)
    truth, span, seconds = bench.simulation, (NOON, NOON + length_us), length_us / SECOND
    assert {code for code, _ in means.values()} == {0}
    assert means[1][1] == pytest.approx(100 * truth.busy_seconds(0, *span) / seconds, rel=1e-12)
    assert means[2][1] == pytest.approx(100 * truth.sm_active_seconds(0, *span) / seconds, rel=1e-12)
    assert means[5][1] == pytest.approx(100 * truth.tensor_active_seconds(0, *span) / seconds, rel=1e-12)
    assert means[10][1] == pytest.approx(100 * truth.dram_active_seconds(0, *span) / seconds, rel=1e-12)
    traffic = {
        20: truth.pcie_bytes(0, "tx", *span),
        21: truth.pcie_bytes(0, "rx", *span),
        60: truth.nvlink_bytes(0, "rx", *span),
        61: truth.nvlink_bytes(0, "tx", *span),
    }
    for number, length in traffic.items():
        assert means[number][1] * 2**20 * seconds == pytest.approx(length, rel=1e-12)


def test_chained_means_add_up_to_the_whole() -> None:
    """Means of intervals that chain, weighted by their lengths, are the mean over all of them."""
    bench = Bench("h100x1:bursty")
    first = older = sample_of(bench)
    active = 0.0
    for length_us in (400_000, 1_250_007, 333_333, 5_000_001):
        bench.now_us += length_us
        newer = sample_of(bench)
        active += metrics(older, newer, 2)[2][1] / 100 * length_us
        older = newer
    whole = metrics(first, older, 2)[2][1] / 100 * (bench.now_us - NOON)
    assert active == pytest.approx(whole, rel=1e-12)


def test_jobs_differ_in_what_they_use() -> None:
    """Training keeps more multiprocessors, tensor pipes and links busy than serving; a held GPU none."""
    seen = {}
    for scenario in ("training", "bursty", "held"):
        seen[scenario] = metrics(*span_of(Bench(f"h200x1:{scenario}"), 60 * SECOND), 2, 5, 61)
    for number in (2, 5, 61):
        training, serving, held = (seen[scenario][number][1] for scenario in ("training", "bursty", "held"))
        assert training > 2 * serving > held == 0


def test_samples_too_close_have_no_mean() -> None:
    """Less than 100 ms apart every metric is NaN, without an error."""
    means = metrics(*span_of(Bench("h200x1:training"), 99_999), 1, 20, 30)
    assert all(code == 0 and isnan(value) for code, value in means.values())


def test_an_unknown_metric_is_refused_alone() -> None:
    """One link's traffic is not told, and the metrics beside it are."""
    means = metrics(*span_of(Bench("h200x1:training"), SECOND), 2, UNKNOWN_ID, 10)
    assert [means[number][0] for number in (2, UNKNOWN_ID, 10)] == [0, 3, 0]
    assert means[10][1] > 0


def test_a_wrong_version_and_too_many_metrics_are_refused() -> None:
    """The struct must be of the version that the library knows, and ask for no more than there are."""
    pair = span_of(Bench("h200x1"), SECOND)
    asked = request(*pair, 1)
    asked.version = 2
    assert code_of(pynvml.nvmlGpmMetricsGet, asked) == 25
    asked = request(*pair, 1)
    asked.numMetrics = 400
    assert code_of(pynvml.nvmlGpmMetricsGet, asked) == 2


def test_samples_must_be_filled_and_of_one_gpu() -> None:
    """Nothing can be said between an empty sample and a full one, or between two GPUs."""
    bench = Bench("h200x2:training")
    one, other, empty = sample_of(bench), sample_of(bench, 1), pynvml.nvmlGpmSampleAlloc()
    bench.now_us += SECOND
    later = sample_of(bench)
    assert code_of(metrics, one, later, 1) == 0
    for older in (other, empty, None):
        assert code_of(metrics, older, later, 1) == 2


def test_a_sample_is_gone_when_freed_or_shut_down() -> None:
    """A sample can be freed once, and none outlives the library."""
    bench = Bench("h200x1")
    freed, kept = sample_of(bench), sample_of(bench)
    pynvml.nvmlGpmSampleFree(freed)
    assert code_of(pynvml.nvmlGpmSampleFree, freed) == 2
    assert code_of(pynvml.nvmlGpmSampleGet, bench.handle(), freed) == 2
    pynvml.nvmlShutdown()
    assert code_of(pynvml.nvmlGpmSampleAlloc) == 1
    pynvml.nvmlInit()
    assert code_of(pynvml.nvmlGpmSampleGet, bench.handle(), kept) == 2


def test_there_is_room_for_many_samples_but_not_for_a_leak() -> None:
    """Whoever never frees a sample runs out of memory."""
    Bench("h200x1")
    for _ in range(MOST_SAMPLES):
        pynvml.nvmlGpmSampleAlloc()
    assert code_of(pynvml.nvmlGpmSampleAlloc) == 20


@pytest.mark.parametrize(
    ("model", "supported"), [("h200", 1), ("h100", 1), ("a100", 0), ("t4", 0), ("geforce", 0)]
)
def test_only_hopper_has_metrics(model: str, supported: int) -> None:
    """Older models say that they have none, and give no sample."""
    bench = Bench(f"{model}x1:training")
    assert pynvml.nvmlGpmQueryDeviceSupport(bench.handle()).isSupportedDevice == supported
    sample = pynvml.c_nvmlGpmSample_t()
    assert code_of(pynvml.nvmlGpmSampleGet, bench.handle(), sample) == (2 if supported else 3)


def test_a_gpu_instance_has_means_of_its_own() -> None:
    """Samples of one instance are answered by whoever knows instances; those of two do not go together."""
    simulation: Simulation = parse_simulation("h200x1:training")
    asked: list[tuple[int, int, int, int]] = []

    def means(gpu: int, instance: int, start_us: int, end_us: int) -> dict[int, float] | None:
        asked.append((gpu, instance, start_us, end_us))
        return {2: 41.5} if instance == 3 else None

    samples = Samples(simulation, frozenset(), means)
    pointers = [pynvml.c_nvmlGpmSample_t() for _ in range(4)]
    for pointer in pointers:
        samples.allocate(pointer)
    for pointer, at_us, instance in zip(pointers, (0, SECOND, SECOND, 2 * SECOND), (3, 3, 4, 4), strict=True):
        samples.take(pointer, 0, NOON + at_us, instance)
    wanted = request(pointers[0], pointers[1], 2, 20)
    assert samples.metrics(pynvml.byref(wanted)) == 0
    assert [(one.nvmlReturn, one.value) for one in wanted.metrics[:2]] == [(0, 41.5), (3, 0.0)]
    assert asked == [(0, 3, NOON, NOON + SECOND)]
    assert samples.metrics(pynvml.byref(request(pointers[0], pointers[2], 2))) == 2
    assert samples.metrics(pynvml.byref(request(pointers[2], pointers[3], 2))) == 2


def test_every_metric_has_a_mean() -> None:
    """The table of a whole GPU holds all metrics that the agent may ask for, none above the whole."""
    means = gpu_means(parse_simulation("h200x1:training"), 0, NOON, NOON + SECOND)
    assert set(means) == set(EVERY_ID)
    assert all(0 <= means[number] <= 100 for number in EVERY_ID if number not in (20, 21, 60, 61))
