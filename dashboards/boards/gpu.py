"""One GPU by its UUID, wherever it was: what it did, for whom, how it fares, what happened to it."""

from dashboards.boards.common import COLOURS, MARGIN, state_code
from dashboards.boards.node import grown, lines, of_gpus
from dashboards.outline import Board, Config, Event, Panel, Query, Row, Variable

PICKED = 'uuid="$uuid"'


_LIMITS = (
    ("operating_max", "#e69f00"),
    ("slowdown", "#d55e00"),
    ("shutdown", "#cc0000"),
    ("memory limit", "#cc79a7"),
)


def gpu(config: Config) -> Board:
    """Make the dashboard."""
    del config  # a UUID is one in all fleets
    return Board(
        name="gpu",
        title="gputally / GPU",
        says="One GPU through its life, in whatever node: its card is what is shown, not its slot.",
        variables=(Variable("uuid", "GPU", "label_values(gpu_info, uuid)", every=False),),
        rows=(Row("What it did", _work()), Row("How it fares", _heat()), Row("What happened", _events())),
        events=(Event("XIDs", f"changes(gpu_xid_last_timestamp_seconds{{{PICKED}}}[1m]) > 0", "red"),),
        since="now-24h",
    )


def _work() -> tuple[Panel, ...]:
    return (
        Panel(
            title="State",
            says="What it is accounted as, and in which node.",
            kind="state_timeline",
            unit="none",
            queries=(Query(state_code(PICKED, "node"), "{{node}}"),),
            width=24,
            height=6,
            colours=COLOURS,
        ),
        lines(
            "Whose it is",
            "Share of the time by owner and state; free time has no owner.",
            "percentunit",
            Query(
                f"sum by (owner, state) (rate(gpu_tally_seconds_total{{{PICKED}}}[$__rate_interval])) > 0",
                "{{owner}} {{state}}",
            ),
            stacked=True,
            least=0,
            most=1,
        ),
        lines(
            "Busy",
            "Share of time with a kernel, and of multiprocessors with work where the GPU tells it.",
            "percentunit",
            of_gpus("gpu_busy_ratio", "busy", PICKED),
            of_gpus("gpu_sm_active_ratio", "multiprocessors", PICKED),
            of_gpus("gpu_tensor_active_ratio", "tensor pipes", PICKED),
            least=0,
            most=1,
        ),
        lines(
            "Memory",
            "Device memory in use, and what there is.",
            "bytes",
            of_gpus("gpu_memory_used_bytes", "in use", PICKED),
            of_gpus("gpu_memory_total_bytes", "installed", PICKED),
            least=0,
            dashed=("installed",),
        ),
    )


def _limits(*names: str) -> dict[str, object]:
    """Draw limits as dashed lines, the worse the redder."""
    return {"dashed": names, "colours": tuple(one for one in _LIMITS if one[0] in names)}


def _heat() -> tuple[Panel, ...]:
    return (
        lines(
            "Margin",
            "Kelvins until it lowers its clocks, by its own limit: 0 is there. Dashed, where it tells them: "
            "where the driver slows it, where hardware halves its clocks, where it switches itself off.",
            "celsius",
            of_gpus("gpu_temperature_margin_celsius", "margin", PICKED),
            Query(f'gpu_temperature_margin_limit_celsius{{{PICKED}, limit!="memory_max"}}', "{{limit}}"),
            steps=MARGIN,
            **_limits("operating_max", "slowdown", "shutdown"),
        ),
        lines(
            "Temperatures",
            "Core and memory, largest of each interval, and the board's own limits, dashed. Core or memory "
            "near its limit: cooling; memory far above the core: its pads.",
            "celsius",
            of_gpus("gpu_temperature_max_celsius", "core", PICKED),
            of_gpus("gpu_memory_temperature_max_celsius", "memory", PICKED),
            of_gpus("gpu_temperature_operating_max_celsius", "operating_max", PICKED),
            of_gpus("gpu_temperature_slowdown_celsius", "slowdown", PICKED),
            of_gpus("gpu_temperature_shutdown_celsius", "shutdown", PICKED),
            of_gpus("gpu_memory_temperature_limit_celsius", "memory limit", PICKED),
            **_limits("operating_max", "slowdown", "shutdown", "memory limit"),
        ),
        lines(
            "Power",
            "Mean of the interval, and the limit in force.",
            "watt",
            of_gpus("gpu_power_watts", "power", PICKED),
            of_gpus("gpu_power_limit_watts", "limit", PICKED),
            least=0,
            dashed=("limit",),
        ),
        lines(
            "SM clock",
            "Clock of the multiprocessors. Low at full load: heat, power or a brake.",
            "hertz",
            of_gpus("gpu_sm_clock_hertz", "clock", PICKED),
            least=0,
        ),
        lines(
            "Clocks lowered",
            "Share of the time with clocks lowered, by reason; reasons overlap.",
            "percentunit",
            Query(
                f"sum by (reason) (rate(gpu_throttle_seconds_total{{{PICKED}}}[$__rate_interval])) > 0",
                "{{reason}}",
            ),
            quiet=True,
            least=0,
        ),
        lines(
            "PCIe traffic",
            "Bytes sent and received. Much of it while busy is low: the input is the bottleneck.",
            "Bps",
            grown("gpu_pcie_tx_bytes_total", "sent", PICKED),
            grown("gpu_pcie_rx_bytes_total", "received", PICKED),
            quiet=True,
            least=0,
        ),
    )


def _events() -> tuple[Panel, ...]:
    return (
        Panel(
            title="Findings that are open",
            says="What the rules found on it and has not ended. Empty is well.",
            kind="table",
            unit="none",
            queries=(Query(f"gpu_finding{{{PICKED}}} == 1", instant=True),),
            quiet=True,
            labels=(("severity", "Severity"), ("rule", "Rule"), ("node", "Node")),
            value="",
        ),
        Panel(
            title="XIDs",
            says="Errors that the driver ever reported of it, by number. `gputally xid NUMBER` explains.",
            kind="table",
            unit="none",
            queries=(Query(f"sum by (xid, node) (gpu_xid_errors_total{{{PICKED}}}) > 0", instant=True),),
            quiet=True,
            labels=(("xid", "XID"), ("node", "Node")),
            value="Times",
        ),
        Panel(
            title="The card",
            says="Serial, board, VBIOS and driver, in each node where it is or was within the look-back.",
            kind="table",
            unit="none",
            queries=(Query(f"gpu_info{{{PICKED}}}", instant=True),),
            width=24,
            height=5,
            labels=(
                ("node", "Node"),
                ("gpu", "GPU"),
                ("model", "Model"),
                ("serial", "Serial"),
                ("board_part", "Board"),
                ("vbios", "VBIOS"),
                ("driver", "Driver"),
            ),
            value="",
        ),
    )
