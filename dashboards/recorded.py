"""Sums over a fleet that a store keeps by recording rules, so that dashboards are fast at 10 000 GPUs.

Each is defined once. Dashboards ask for its name, or, for a site without recording rules, for the same
expression over all GPUs. GPUs in a state are counted by how much their accounts grew: an integral over five
minutes, and not a snapshot.
"""

from collections.abc import Sequence
from typing import NamedTuple

import yaml

from dashboards.outline import Config
from dashboards.signs import FLAGS, MARGIN_BANDS, labelled, matched

MINUTE, HOUR = "1m", "1h"
GROUPS = {MINUTE: "gputally-dashboards", HOUR: "gputally-dashboards-hours"}
"""Groups of rules by their interval."""
LATE = "2m"
"""An hour is summed up so much after its end, for nodes push what they saw a little late."""


class Recorded(NamedTuple):
    """A sum by the labels of groups and some more; `{}` stands for the matchers, `<more>` adds them.

    Those of each hour are for weeks: a mean over that hour, so that their sum is in GPU-hours.
    """

    name: str
    expr: str
    more: tuple[str, ...] = ()
    interval: str = MINUTE

    def full(self, config: Config, matchers: str = "") -> str:
        """Give the expression over all GPUs."""
        by = ", ".join((*config.group, *self.more))
        return matched(self.expr.replace("<by>", by), matchers)

    def of(self, config: Config, matchers: str) -> str:
        """Give what a dashboard asks for; of an hourly one the latest, which plain lookups no longer find."""
        if not config.recorded:
            return self.full(config, matchers)
        told = f"{self.name}{{{matchers}}}"
        return told if self.interval == MINUTE else f"last_over_time({told}[2h])"

    def over(self, function: str, length: str, config: Config, matchers: str, ago: str = "") -> str:
        """Give a function of it over a time that ended `ago`, or ends now."""
        inside = f"{self.name}{{{matchers}}}[{length}]"
        step = "5m" if self.interval == MINUTE else HOUR
        if not config.recorded:
            inside = f"({self.full(config, matchers)})[{length}:{step}]"
        return f"{function}({inside}{f' offset {ago}' if ago else ''})"

    def hours(self, length: str, config: Config, matchers: str, ago: str = "") -> str:
        """Give the integral in hours (GPU-hours, watt-hours) of what is a rate of counters.

        `ago` is how long before now that time ended. Raises ValueError for what only some GPUs are in.
        """
        if " > " in self.expr:
            raise ValueError(f"{self.name} ends in a comparison: its growth is none of hours")
        offset = f" offset {ago}" if ago else ""
        if not config.recorded:
            by = ", ".join((*config.group, *self.more))
            return matched(_growth(self.expr, f"[{length}]{offset}").replace("<by>", by), matchers)
        whole = f"sum_over_time({self.name}{{{matchers}}}[{length}]{offset})"
        return f"{whole} / 60" if self.interval == MINUTE else whole


def _growth(expr: str, time: str) -> str:
    """Turn a rate over five minutes, or the growth of an hour, into growth over another time, in hours."""
    if expr.endswith(_PER_HOUR):
        return expr.replace(f"[1h] offset {LATE}", time)
    return expr.replace("(rate(", "(increase(").replace("[5m]", time) + _PER_HOUR


_PER_HOUR = " / 3600"


def _hourly(minutely: Recorded, name: str, *more: str) -> Recorded:
    """Sum up hours from the counters themselves: a new account counts from its first second."""
    return Recorded(name, _growth(minutely.expr, f"[1h] offset {LATE}"), more, HOUR)


GPUS = Recorded("gputally:gpus", "count by (<by>) (gpu_info{})")
HELD = Recorded(
    "gputally:gpus:rate5m",
    "sum by (<by>) (rate(gpu_tally_seconds_total{}[5m]))",
    ("state", "owner"),
)
BUSY = Recorded(
    "gputally:busy_gpus:rate5m",
    "sum by (<by>) (rate(gpu_tally_busy_seconds_total{}[5m]))",
    ("owner",),
)
WATTS = Recorded("gputally:watts", "sum by (<by>) (gpu_power_watts{})")
MEMORY_USED = Recorded("gputally:memory_used_bytes", "sum by (<by>) (gpu_memory_used_bytes{})")
MEMORY = Recorded("gputally:memory_total_bytes", "sum by (<by>) (gpu_memory_total_bytes{})")
MARGIN = Recorded(
    "gputally:margin_least_celsius", "min by (<by>) (gpu_temperature_margin_celsius{})", ("node",)
)
MARGIN_SUM = Recorded("gputally:margin_sum_celsius", "sum by (<by>) (gpu_temperature_margin_celsius{})")
IN_BAND = Recorded(
    "gputally:margin_gpus",
    "count by (<by>) ("
    + labelled(
        {band: f"gpu_temperature_margin_celsius{{}} {within}" for band, within in MARGIN_BANDS.items()},
        "band",
    )
    + ")",
    ("band",),
)
THROTTLED = Recorded(
    "gputally:throttled_gpus:rate5m", "sum by (<by>) (rate(gpu_throttle_seconds_total{}[5m]))", ("reason",)
)
WATTS_LIMIT = Recorded("gputally:power_limit_watts", "sum by (<by>) (gpu_power_limit_watts{})")
DRIVER_WATTS = Recorded("gputally:energy_watts:rate5m", "sum by (<by>) (rate(gpu_energy_joules_total{}[5m]))")
TALLY_WATTS = Recorded(
    "gputally:tally_watts:rate5m", "sum by (<by>) (rate(gpu_tally_joules_total{}[5m]))", ("state",)
)
FINDINGS = Recorded("gputally:findings", "sum by (<by>) (gpu_finding{})", ("severity", "rule"))
XIDS = Recorded("gputally:xids:increase1h", "sum by (<by>) (increase(gpu_xid_errors_total{}[1h]))", ("xid",))
FLAGGED = Recorded(
    "gputally:flagged_gpus",
    f"count by (<by>) ({labelled(FLAGS, 'flag')})",
    ("flag", "node", "gpu", "uuid"),
)
"""Only GPUs that have a sign, each with 1: by GPU, and small all the same."""
_DAY_SECONDS = 86_400
_IDLE = 'gpu_tally_seconds_total{state="held_idle"<more>}'
IDLE_DAY = Recorded(
    "gputally:idle_seconds:increase1d",
    f"sum by (<by>) ((({_IDLE} - {_IDLE} offset 1d) or ({_IDLE} and on (node, uuid) gpu_up{{}} offset 1d) "
    f"or ({_IDLE} and on (node, uuid) "
    f"(sum by (node, uuid) (gpu_tally_seconds_total{{}}) <= {_DAY_SECONDS}))) "
    'and increase(gpu_tally_seconds_total{state="held_idle"<more>}[5m]) > 0 '
    'and on (node, uuid) (gpu_state{state="held_idle"<more>} == 1))',
    ("node", "gpu", "uuid", "owner"),
)
"""Only GPUs that are held idle now, by owner: the seconds of the last day in which they were.

Two looks at the accounts: all samples of a day of all GPUs would be too many. An account that was not there a
day ago counts whole if it cannot be older: its GPU was there without it, or is itself younger.
"""
NVLINK_ERRORS = Recorded(
    "gputally:nvlink_errors:rate5m", "sum by (<by>) (rate(gpu_nvlink_errors_total{}[5m]))", ("kind",)
)
PCIE_REPLAYS = Recorded("gputally:pcie_replays:rate5m", "sum by (<by>) (rate(gpu_pcie_replays_total{}[5m]))")
DOWN = Recorded(
    "gputally:down_gpus:rate5m",
    'sum by (<by>) (rate(gpu_tally_seconds_total{state="down"<more>}[5m])) > 0',
    ("node", "gpu", "uuid"),
)
"""Only GPUs that are down: by GPU, and small all the same."""
NODE_GPUS = Recorded("gputally:node_gpus", "count by (<by>) (gpu_up{})", ("node",))
OWNER_WATTS = Recorded(
    "gputally:owner_watts:rate5m", "sum by (<by>) (rate(gpu_tally_joules_total{}[5m]))", ("owner",)
)
IDLE_MEMORY = Recorded(
    "gputally:idle_memory_bytes",
    'sum by (<by>) (gpu_memory_used_bytes{} and on (node, uuid) (gpu_state{state="held_idle"<more>} == 1))',
)
STATE_HOURS = _hourly(HELD, "gputally:state_gpus:avg1h", "state")
OWNER_HOURS = _hourly(HELD, "gputally:gpus:avg1h", "state", "owner")
BUSY_HOURS = _hourly(BUSY, "gputally:busy_gpus:avg1h", "owner")
ENERGY_HOURS = _hourly(OWNER_WATTS, "gputally:owner_watts:avg1h", "owner")
OWED = Recorded("gputally:gpus:max1d", "max_over_time((count by (<by>) (gpu_info{}))[1d:5m])", interval=HOUR)
"""GPUs that told of themselves within a day: whose time must be accounted for."""
ALL: Sequence[Recorded] = (
    *(GPUS, HELD, BUSY, WATTS, MEMORY_USED, MEMORY, MARGIN),
    *(MARGIN_SUM, IN_BAND, THROTTLED, WATTS_LIMIT, DRIVER_WATTS, TALLY_WATTS),
    *(FINDINGS, XIDS, FLAGGED, NVLINK_ERRORS, PCIE_REPLAYS, DOWN, NODE_GPUS),
    *(OWNER_WATTS, IDLE_MEMORY, IDLE_DAY),
    *(STATE_HOURS, OWNER_HOURS, BUSY_HOURS, ENERGY_HOURS, OWED),
)


def rules(config: Config) -> str:
    """Give a file of recording rules, as Prometheus and vmalert read it: a group for each interval."""
    groups = [
        {
            "name": name,
            "interval": interval,
            "rules": [
                {"record": one.name, "expr": one.full(config)} for one in ALL if one.interval == interval
            ],
        }
        for interval, name in GROUPS.items()
    ]
    head = "# Made by `gputally dashboards build`: what the dashboards ask for instead of every GPU.\n"
    return head + yaml.safe_dump({"groups": groups}, sort_keys=False, width=110)
