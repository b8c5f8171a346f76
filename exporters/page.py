"""The metrics page of a node: a view in, bytes out, in the format that the scraper asks for.

Samples carry no timestamps, so a series that ends goes stale at once. A page is rendered once per view and
format and served from memory; no scrape touches the driver or the journal.
"""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from agent.pieces import SLICE_QUANTITIES
from agent.quantities import QUANTITIES
from agent.tick import FAULTS, Condition, Reading, Slice, State
from agent.view import View
from exporters import dcgm
from exporters.catalogue import FAMILIES, GPU_LABELS, HOLDER, IDENTITY

STALE_INTERVALS = 3
"""After so many intervals without a tick, GPU series leave the page."""

OPENMETRICS = "application/openmetrics-text;version=1.0.0"
PLAIN_TEXT = "text/plain;version=0.0.4"
"""The formats that we serve: whatever else a client may name must not make pages of its own."""

_Made = CounterMetricFamily | GaugeMetricFamily
_Sample = tuple[str, tuple[str, ...], float]


class Page(Collector):
    """All families of a view; `labels` are the static labels of the settings, added to every GPU series."""

    def __init__(self, view: View | None, labels: Mapping[str, str], version: str) -> None:
        self._view = view
        self._static = labels
        self._version = version

    def collect(self) -> Iterator[Metric]:
        """Give the families that have samples, in the order of the catalogue."""
        made: dict[str, _Made] = {}
        for name, labels, value in self._samples():
            if name not in made:
                made[name] = self._family(name)
            made[name].add_metric(labels, value)
        yield from (made[name] for name in FAMILIES if name in made)

    def _family(self, name: str) -> _Made:
        family = FAMILIES[name]
        labels: Sequence[str] = family.labels
        if family.labels[: len(GPU_LABELS)] == GPU_LABELS:
            labels = (*GPU_LABELS, *self._static, *family.labels[len(GPU_LABELS) :])
        if family.kind == "counter":
            return CounterMetricFamily(name, family.help, labels=labels)
        return GaugeMetricFamily(name, family.help, labels=labels)

    def _samples(self) -> Iterator[_Sample]:
        yield "gputally_info", (self._version,), 1
        view = self._view
        if view is None:
            return
        gpus = {
            uuid: (view.tick.node, str(gpu.index), uuid, gpu.model, *self._static.values())
            for uuid, gpu in view.gpus.items()
        }
        for uuid, labels in gpus.items():
            yield from _of_gpu(view, uuid, labels)
        yield from _xids(view, gpus)
        for one in view.findings:
            if one.uuid in gpus:
                yield "gpu_finding", (*gpus[one.uuid], one.rule, one.severity), 1
            elif not one.uuid:
                yield "gputally_finding", (one.rule, one.severity), 1
        if view.expected_gpus:
            yield "gputally_expected_gpus", (view.tick.node,), view.expected_gpus
        for (uuid, kind), times in view.events.items():  # born as 0: one interval late
            if uuid in gpus:
                yield "gpu_events_total", (*gpus[uuid], kind), times
            elif not uuid:
                yield "gputally_events_total", (kind,), times
        yield from _accounts(view, gpus)
        yield from _health(view)


def _of_gpu(view: View, uuid: str, labels: tuple[str, ...]) -> Iterator[_Sample]:
    reading, gpu, now = view.readings.get(uuid), view.gpus[uuid], view.states.get(uuid, State.UNKNOWN)
    if reading is not None:
        for name, metric in QUANTITIES.items():
            value = getattr(reading, name)
            if value is not None:
                more = (value_of for _, value_of in metric.labels)
                yield f"gpu_{metric.family or name}", (*labels, *more), value
        yield "gpu_up", labels, int(reading.condition is Condition.OK)
        for why in FAULTS:
            yield "gpu_condition", (*labels, why.value), int(reading.condition is why)
        for piece in reading.slices or ():
            yield from _of_slice(piece, labels)
            for state in State if piece.uuid in view.slice_states else ():
                which = (*labels, piece.uuid, piece.profile, state.value)
                yield "gpu_slice_state", which, int(state is view.slice_states[piece.uuid])
    for part in view.parts.get(uuid, ()) if _is_up(reading) else ():
        yield f"gpu_{part.quantity}", (*labels, *part.labels), part.value
    yield "gpu_info", (*labels, *(getattr(gpu, name) for name in IDENTITY)), 1
    seats = {(*(getattr(one, name) for name in HOLDER), piece) for one, piece in view.holders.get(uuid, ())}
    for seat in sorted(seats):  # two may differ in nothing but their title
        yield "gpu_holder_info", (*labels, *seat), 1
    for state in State:
        yield "gpu_state", (*labels, state.value), int(state is now)


def _is_up(reading: Reading | None) -> bool:
    return reading is not None and reading.condition is Condition.OK


def _of_slice(one: Slice, labels: tuple[str, ...]) -> Iterator[_Sample]:
    more = (one.uuid, one.profile)
    yield "gpu_slice_info", (*labels, *more), one.weight_ratio
    for name in SLICE_QUANTITIES:
        value = getattr(one, name)
        if value is not None:
            yield f"gpu_slice_{name}", (*labels, *more), value


def _xids(view: View, gpus: Mapping[str, tuple[str, ...]]) -> Iterator[_Sample]:
    for (uuid, number), count in view.xids.items():
        if uuid in gpus:
            labels = (*gpus[uuid], str(number))
            new = count.first_ms >= view.tick.start_ms
            # It is born as 0, so that a rate sees the first one.
            yield "gpu_xid_errors_total", labels, 0 if new else count.count
            yield "gpu_xid_last_timestamp_seconds", labels, count.last_ms / 1000


def _accounts(view: View, gpus: Mapping[str, tuple[str, ...]]) -> Iterator[_Sample]:
    busy_us: dict[tuple[str, str], int] = {}
    for key, account in view.accounts:
        if key.node != view.tick.node or key.uuid not in gpus:
            continue
        labels = (*gpus[key.uuid], key.state.value, key.owner)
        yield "gpu_tally_seconds_total", labels, account.elapsed_ms / 1000
        yield "gpu_tally_joules_total", labels, account.energy_mj / 1000
        busy_us[key.uuid, key.owner] = busy_us.get((key.uuid, key.owner), 0) + account.busy_us
    for (uuid, owner), total_us in busy_us.items():
        yield "gpu_tally_busy_seconds_total", (*gpus[uuid], owner), total_us / 1e6


def _health(view: View) -> Iterator[_Sample]:
    health = view.health
    figures: Mapping[str, float] = {
        "interval_seconds": view.interval_seconds,
        "tick_end_timestamp_seconds": view.tick.end_ms / 1000,
        "probe_up": not health.absent,
        "tick_late_seconds": health.late_seconds,
        "tick_cpu_seconds": health.tick_cpu_seconds,
        "journal_bytes": health.journal_bytes,
        "journal_pending_ticks": health.journal_pending,
        "ticks_total": health.ticks,
        "blind_ticks_total": health.blind_ticks,
        "driver_calls_total": health.driver_calls,
        "driver_seconds_total": health.driver_seconds,
        "probe_restarts_total": health.probe_restarts,
        "stuck_probes": health.stuck_probes,
        "kernel_log_skipped_total": health.kernel_log_skipped,
        "journal_ticks_dropped_total": health.journal_ticks_dropped,
        "journal_failures_total": health.journal_failures,
        "readings_dropped_total": health.readings_dropped,
        "holder_series_dropped_total": health.holders_dropped,
        "owners_folded": health.owners_folded,
    }
    for name, value in figures.items():
        yield f"gputally_{name}", (), value
    for world, trouble in health.worlds.items():
        yield "gputally_holders_up", (world,), int(not trouble)
    for one in view.exporters:
        yield "gputally_exporter_up", (one.name,), int(not one.failure)
        yield "gputally_exporter_waiting_ticks", (one.name,), one.waiting_ticks
        yield "gputally_exporter_delivered_ticks_total", (one.name,), one.delivered_ticks
        yield "gputally_exporter_refused_rows_total", (one.name,), one.refused_rows
        yield "gputally_exporter_dropped_ticks_total", (one.name,), one.dropped_ticks
    if view.report_ms is not None:
        yield "gputally_report_last_success_timestamp_seconds", (), view.report_ms / 1000
    for (quantity, reason), times in health.refused.items():
        yield "gputally_refused_values_total", (quantity, reason), times


class Pages:
    """Keeps the latest view and its rendered pages; safe to use from several threads."""

    def __init__(self, labels: Mapping[str, str], version: str, now_seconds: Callable[[], float]) -> None:
        self._labels = labels
        self._version = version
        self._now_seconds = now_seconds
        self._lock = threading.Lock()
        self._view: View | None = None
        self._before: View | None = None
        self._published_at = 0.0
        self._number = 0
        self._rendered: dict[str, bytes] = {}
        self.tell: Callable[[], None] = lambda: None

    def publish(self, view: View) -> None:
        """Take the view of a new interval, and `tell` of it; pages of the one before are forgotten."""
        with self._lock:
            self._before, self._view, self._rendered = self._view, view, {}
            self._published_at = self._now_seconds()
            self._number += 1
        self.tell()

    def relabel(self, labels: Mapping[str, str]) -> None:
        """Put other static labels on GPU series from now on."""
        with self._lock:
            self._labels, self._rendered = labels, {}
            self._number += 1
        self.tell()

    def number(self) -> int | None:
        """Count the views so far; None while pages show no view, as there is none or it is stale."""
        return self._number if self.fresh() is not None else None

    def fresh(self) -> View | None:
        """Give the latest view unless it is stale."""
        view = self._view
        if view is None or self._now_seconds() - self._published_at > STALE_INTERVALS * view.interval_seconds:
            return None
        return view

    def metrics(self, accept: str) -> tuple[bytes, str]:
        """Give the page and its content type for an Accept header; plain text unless OpenMetrics is named."""
        wants = OPENMETRICS if OPENMETRICS.partition(";")[0] in accept.lower() else PLAIN_TEXT
        encode, content_type = choose_encoder(wants)
        with self._lock:
            view = self.fresh()
            kind = content_type if view else f"stale {content_type}"
            if kind not in self._rendered:
                self._rendered[kind] = encode(Page(view, self._labels, self._version))
            return self._rendered[kind], content_type

    def dcgm(self, naming: str) -> tuple[bytes, str]:
        """Give the page that dcgm-exporter would, with names of `dcgm.NAMINGS`, and its content type."""
        with self._lock:
            view = self.fresh()
            kind = f"dcgm {naming}" if view else f"stale dcgm {naming}"
            if kind not in self._rendered:
                self._rendered[kind] = dcgm.page(view, self._before, self._labels, naming)
            return self._rendered[kind], dcgm.CONTENT_TYPE
