"""Every metric that leaves a node: name, kind, help, labels. The page and docs/metrics.md derive from it.

The quantities come from agent.tick.QUANTITIES; what is listed here besides are accounts, states, identity
and what the agent knows of itself.
"""

from collections.abc import Mapping
from dataclasses import fields
from typing import NamedTuple

from agent.pieces import PARTS, SLICE_QUANTITIES
from agent.quantities import QUANTITIES
from agent.tick import Gpu

GPU_LABELS = ("node", "gpu", "uuid", "model")
"""Labels of every GPU series, before the static ones of the settings."""


SLICE_LABELS = ("slice", "profile")
"""What a series of a MIG slice has besides: its UUID and its profile."""
IDENTITY = tuple(field.name for field in fields(Gpu) if field.name not in ("uuid", "index", "model"))
"""What is known of a GPU besides the labels of every series."""
HOLDER: Mapping[str, str] = {
    "owner": "owner",
    "name": "holder",
    "kind": "kind",
    "user": "user",
    "account": "account",
    "partition": "partition",
    "qos": "qos",
    "namespace": "namespace",
    "container": "container",
    "workload": "workload",
    "cost_centre": "cost_centre",
}
"""What is told of a holder, and the label that it has."""


class Family(NamedTuple):
    """One metric with all its series."""

    kind: str
    help: str
    labels: tuple[str, ...] = ()


def _gpu(kind: str, text: str, *labels: str) -> Family:
    return Family(kind, text, (*GPU_LABELS, *labels))


def _quantities() -> dict[str, Family]:
    found: dict[str, Family] = {}
    for name, metric in QUANTITIES.items():
        labels = [name for name, _ in metric.labels]
        found.setdefault(f"gpu_{metric.family or name}", _gpu(metric.kind, metric.help, *labels))
    for name, part in PARTS.items():
        found[f"gpu_{name}"] = _gpu(part.kind, part.help, *part.labels)
    for name, metric in SLICE_QUANTITIES.items():
        found[f"gpu_slice_{name}"] = _gpu(metric.kind, metric.help, *SLICE_LABELS)
    return found


_OURS = {
    "gpu_info": _gpu("gauge", "Identity of the device", *IDENTITY),
    "gpu_slice_info": _gpu("gauge", "A MIG slice of the GPU; its value is its share", *SLICE_LABELS),
    "gpu_slice_state": _gpu(
        "gauge", "Whether a MIG slice is in this state; at most one is 1", *SLICE_LABELS, "state"
    ),
    "gpu_xid_errors_total": _gpu("counter", "XIDs that the driver reported, by number", "xid"),
    "gpu_xid_last_timestamp_seconds": _gpu("gauge", "When an XID was last reported", "xid"),
    "gpu_holder_info": _gpu("gauge", "Who holds the GPU now, or a slice of it", *HOLDER.values(), "slice"),
    "gpu_up": _gpu("gauge", "Whether the GPU answers"),
    "gpu_condition": _gpu("gauge", "Whether this is why the GPU does not answer", "condition"),
    "gpu_state": _gpu("gauge", "Whether the GPU is in this state; exactly one is 1", "state"),
    "gpu_finding": _gpu("gauge", "A finding that is open", "rule", "severity"),
    "gpu_events_total": _gpu("counter", "What happened to the GPU since the agent started", "event"),
    "gpu_tally_seconds_total": _gpu(
        "counter", "Time by state and owner; the states sum to all time", "state", "owner"
    ),
    "gpu_tally_joules_total": _gpu("counter", "Energy by state and owner", "state", "owner"),
    "gpu_tally_busy_seconds_total": _gpu("counter", "Busy time by owner", "owner"),
    "gputally_finding": Family("gauge", "A finding about the node that is open", ("rule", "severity")),
    "gputally_expected_gpus": Family("gauge", "GPUs that the settings say the node has", ("node",)),
    "gputally_info": Family("gauge", "The agent's version", ("version",)),
    "gputally_interval_seconds": Family("gauge", "Length of an interval"),
    "gputally_tick_end_timestamp_seconds": Family("gauge", "End of the latest interval"),
    "gputally_probe_up": Family("gauge", "Whether the GPUs are being read"),
    "gputally_tick_late_seconds": Family("gauge", "How late the latest interval was closed"),
    "gputally_tick_cpu_seconds": Family(
        "gauge", "Processor time of the agent for the tick before the latest"
    ),
    "gputally_journal_bytes": Family("gauge", "Bytes in use in the journal"),
    "gputally_journal_pending_ticks": Family("gauge", "Ticks that wait to be written"),
    "gputally_events_total": Family("counter", "What happened to the agent since it started", ("event",)),
    "gputally_ticks_total": Family("counter", "Intervals entered"),
    "gputally_blind_ticks_total": Family("counter", "Intervals in which no GPU could be read"),
    "gputally_driver_calls_total": Family("counter", "Calls of NVML"),
    "gputally_driver_seconds_total": Family("counter", "Time spent in calls of NVML"),
    "gputally_probe_restarts_total": Family("counter", "Probes that ended"),
    "gputally_stuck_probes": Family("gauge", "Probes that hang in the driver and were left alone"),
    "gputally_kernel_log_skipped_total": Family(
        "counter", "Records of the kernel's log that came too fast to be read"
    ),
    "gputally_journal_ticks_dropped_total": Family(
        "counter", "Old ticks dropped to keep the journal within bounds"
    ),
    "gputally_journal_failures_total": Family("counter", "Commits that failed"),
    "gputally_readings_dropped_total": Family(
        "counter", "Readings dropped while the journal could not be written; their time is accounted for"
    ),
    "gputally_holders_up": Family(
        "gauge", "Whether that which knows holders answers; absent worlds are well", ("world",)
    ),
    "gputally_holder_series_dropped_total": Family(
        "counter", "Holders left out of a page because there were too many"
    ),
    "gputally_owners_folded": Family("gauge", "Owners counted as one because there were too many"),
    "gputally_exporter_up": Family("gauge", "Whether a store takes what is sent to it", ("exporter",)),
    "gputally_exporter_waiting_ticks": Family(
        "gauge", "Ticks, or changes of findings, that a store has not got yet", ("exporter",)
    ),
    "gputally_exporter_delivered_ticks_total": Family(
        "counter", "Ticks, or changes of findings, that a store took, over all restarts", ("exporter",)
    ),
    "gputally_exporter_refused_rows_total": Family(
        "counter",
        "Rows, or changes of findings, that a store refused for good, over all restarts",
        ("exporter",),
    ),
    "gputally_exporter_dropped_ticks_total": Family(
        "counter", "Ticks that the journal's bounds dropped before a store got them", ("exporter",)
    ),
    "gputally_report_last_success_timestamp_seconds": Family(
        "gauge", "When the scheduled report was last made, and mailed if it was to be"
    ),
    "gputally_refused_values_total": Family(
        "counter", "Values that could not be had", ("quantity", "reason")
    ),
}

FAMILIES: Mapping[str, Family] = {**_quantities(), **_OURS}
"""By metric name, in the order of the page."""
