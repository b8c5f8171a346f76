"""The questions of the Node and GPU dashboards in InfluxQL, by the title of their panel."""

from collections.abc import Mapping
from typing import Any

from dashboards.influx.asking import SHOWN, counted, drawn, grown, latest
from dashboards.outline import Query

PICKED_NODE = '"node" =~ /^$node$/'
PICKED_GPU = '"uuid" =~ /^$uuid$/'
_GAUGES = {
    "Margin": "temperature_margin_celsius",
    "SM clock": "sm_clock_hertz",
}
"""Panels that both have with one line for each GPU, and their field."""
_OF_NODE = _GAUGES | {
    "Busy": "busy_ratio",
    "Multiprocessors active": "sm_active_ratio",
    "Memory in use": "memory_used_bytes",
    "Core temperature": "temperature_celsius",
    "Memory temperature": "memory_temperature_celsius",
    "Power": "power_watts",
}
_OF_CARD = {
    "Busy": {
        "busy_ratio": "busy",
        "sm_active_ratio": "multiprocessors",
        "tensor_active_ratio": "tensor pipes",
    },
    "Memory": {"memory_used_bytes": "in use", "memory_total_bytes": "installed"},
    "Margin": {"temperature_margin_celsius": "margin"},
    "Temperatures": {
        "temperature_max_celsius": "core",
        "memory_temperature_max_celsius": "memory",
        "temperature_operating_max_celsius": "operating_max",
        "temperature_slowdown_celsius": "slowdown",
        "temperature_shutdown_celsius": "shutdown",
        "memory_temperature_limit_celsius": "memory limit",
    },
    "Power": {"power_watts": "power", "power_limit_watts": "limit"},
    "SM clock": {"sm_clock_hertz": "clock"},
}
_INFO = ("node", "gpu", "model", "serial", "board_part", "vbios", "driver", "uuid")
_STATE = {
    "kind": "timeseries",
    "stacked": True,
    "unit": "none",
    "least": 0,
    "says": "GPUs by what they are accounted as, over five minutes each: all of them make up the height.",
}


def sides(picked: str) -> Mapping[str, Mapping[str, Any]]:
    """Give what of each panel of the Node dashboard is another."""
    lines = {
        title: {"queries": (Query(drawn(field, picked, ("gpu",)), "GPU {{gpu}}"),)}
        for title, field in _OF_NODE.items()
    }
    up = latest("up", picked, ("uuid",))
    open_now = latest("finding", picked, ("uuid", "rule"))
    return lines | {
        "State": _STATE
        | {"queries": (Query(grown("tally_seconds_total", picked, ("state",), ("owner",)), "{{state}}"),)},
        "Clocks lowered": _lines(
            Query(
                grown("throttle_seconds_total", picked, ("gpu", "reason"), beyond="0"),
                "GPU {{gpu}} {{reason}}",
            )
        ),
        "XIDs": _lines(Query(counted("xid_errors_total", picked, ("gpu", "xid")), "GPU {{gpu}} XID {{xid}}")),
        "ECC errors": _lines(
            Query(counted("ecc_aggregate_errors_total", picked, ("gpu", "kind")), "GPU {{gpu}} {{kind}}")
        ),
        "PCIe traffic": _traffic(picked, ("gpu",), "GPU {{gpu}} "),
        "GPUs that answer": _lines(Query(f'SELECT sum("value") AS "value" FROM ({up})', instant=True)),
        "Findings that are open": _lines(
            Query(f'SELECT count("value") AS "value" FROM ({open_now})', instant=True)
        )
        | {"quiet": True, "says": "How many rules found something that has not ended. Empty is well."},
        "Driver": _lines(_cards(picked)),
    }


def cards(picked: str) -> dict[str, Mapping[str, Any]]:
    """Give what of each panel of the GPU dashboard is another."""
    return {
        title: _lines(*(Query(drawn(field, picked, ()), legend) for field, legend in fields.items()))
        for title, fields in _OF_CARD.items()
    }


def _lines(*queries: Query) -> dict[str, Any]:
    return {"queries": queries}


def _traffic(picked: str, by: tuple[str, ...], legend: str) -> dict[str, Any]:
    return _lines(
        Query(grown("pcie_tx_bytes_total", picked, by), f"{legend}sent"),
        Query(grown("pcie_rx_bytes_total", picked, by), f"{legend}received"),
    )


def _cards(picked: str) -> Query:
    tags = ", ".join(f'"{tag}"' for tag in _INFO)
    return Query(
        f'SELECT last("info") AS "value" FROM "gpu" WHERE {SHOWN} AND {picked} GROUP BY {tags}', instant=True
    )


_ACCOUNTS = grown("tally_seconds_total", PICKED_GPU, ("owner", "state"), beyond="0")
CARD: Mapping[str, Mapping[str, Any]] = {
    "State": _STATE
    | {
        "says": "The share of its time in each state, by the node that it was in.",
        "unit": "percentunit",
        "queries": (
            Query(
                grown("tally_seconds_total", PICKED_GPU, ("node", "state"), ("owner",), beyond="0"),
                "{{node}} {{state}}",
            ),
        ),
        "colours": (),
    },
    "Whose it is": _lines(Query(_ACCOUNTS, "{{owner}} {{state}}")),
    "Clocks lowered": _lines(
        Query(grown("throttle_seconds_total", PICKED_GPU, ("reason",), beyond="0"), "{{reason}}")
    ),
    "PCIe traffic": _traffic(PICKED_GPU, (), ""),
    "Findings that are open": _lines(
        Query(latest("finding", PICKED_GPU, ("severity", "rule", "node")), instant=True)
    ),
    "XIDs": _lines(
        Query(
            f'SELECT last("xid_errors_total") AS "value" FROM "gpu" WHERE {SHOWN} AND {PICKED_GPU} '
            'GROUP BY "xid", "node"',
            instant=True,
        )
    ),
    "The card": _lines(_cards(PICKED_GPU)),
}
"""The other panels of the GPU dashboard."""
