"""One node: its GPUs side by side, and the agent that watches them."""

from dashboards.boards.common import COLOURS, MARGIN, NEUTRAL, of_fleet, state_code
from dashboards.outline import Board, Config, Panel, Query, Row, Variable

PICKED = 'node=~"$node"'


def node(config: Config) -> Board:
    """Make the dashboard."""
    within = f'gpu_info{{{config.cluster_label}=~"$cluster", {config.pool_label}=~"$pool", model=~"$model"}}'
    return Board(
        name="node",
        title="gputally / Node",
        says="The GPUs of a node side by side: what they do, how hot they are, and what is wrong.",
        variables=(*of_fleet(config), Variable("node", "Node", f"label_values({within}, node)", every=False)),
        rows=(
            Row("What they do", _work()),
            Row("Heat and power", _heat()),
            Row("Health", _health()),
            Row("The agent", _agent()),
        ),
    )


def lines(title: str, says: str, unit: str, *queries: Query, **more: object) -> Panel:
    """Draw lines over time, three panels in a row."""
    return Panel(title=title, says=says, kind="timeseries", unit=unit, queries=queries, width=8, **more)  # type: ignore[arg-type]


def of_gpus(metric: str, legend: str = "GPU {{gpu}}", picked: str = PICKED) -> Query:
    """Ask for a figure of each GPU."""
    return Query(f"{metric}{{{picked}}}", legend)


def grown(metric: str, legend: str, picked: str = PICKED) -> Query:
    """Ask how fast a counter of each GPU grows."""
    return Query(f"rate({metric}{{{picked}}}[$__rate_interval])", legend)


def _work() -> tuple[Panel, ...]:
    return (
        Panel(
            title="State",
            says="What each GPU is accounted as. Dark grey: not seen.",
            kind="state_timeline",
            unit="none",
            queries=(Query(state_code(PICKED, "gpu"), "GPU {{gpu}}"),),
            width=24,
            colours=COLOURS,
        ),
        lines(
            "Busy",
            "Share of time with a kernel on the GPU. One far below the others of its job waits for them.",
            "percentunit",
            of_gpus("gpu_busy_ratio"),
            least=0,
            most=1,
        ),
        lines(
            "Multiprocessors active",
            "Share of multiprocessors with work, where the GPU tells it. Low and busy high: small kernels.",
            "percentunit",
            of_gpus("gpu_sm_active_ratio"),
            least=0,
            most=1,
            quiet=True,
        ),
        lines(
            "Memory in use",
            "Device memory that processes hold. High while busy is 0: a model that is loaded and not used.",
            "bytes",
            of_gpus("gpu_memory_used_bytes"),
            least=0,
        ),
    )


def _heat() -> tuple[Panel, ...]:
    return (
        lines(
            "Margin",
            "Kelvins until the GPU lowers its clocks, by its own limit: 0 is there. One below the others of "
            "its node: dust, paste or airflow; all of them: the room.",
            "celsius",
            of_gpus("gpu_temperature_margin_celsius"),
            steps=MARGIN,
        ),
        lines(
            "Core temperature",
            "Mean of the interval. What is too hot differs by model: see the margin.",
            "celsius",
            of_gpus("gpu_temperature_celsius"),
        ),
        lines(
            "Memory temperature",
            "Of the HBM, where the GPU tells it: it has a limit of its own.",
            "celsius",
            of_gpus("gpu_memory_temperature_celsius"),
            quiet=True,
        ),
        lines(
            "Power",
            "Mean of the interval. At the limit clocks are lowered, which is usual at full load.",
            "watt",
            of_gpus("gpu_power_watts"),
            least=0,
        ),
        lines(
            "SM clock",
            "Clock of the multiprocessors. Low at full load: heat, power or a brake; see clocks lowered.",
            "hertz",
            of_gpus("gpu_sm_clock_hertz"),
            least=0,
        ),
        lines(
            "Clocks lowered",
            "Share of the time with clocks lowered, by reason; reasons overlap. Heat and brake cost work.",
            "percentunit",
            Query(
                f"sum by (gpu, reason) (rate(gpu_throttle_seconds_total{{{PICKED}}}[$__rate_interval])) > 0",
                "GPU {{gpu}} {{reason}}",
            ),
            least=0,
            quiet=True,
        ),
    )


def _health() -> tuple[Panel, ...]:
    return (
        lines(
            "XIDs",
            "Errors that the driver reported, by number. `gputally xid NUMBER` explains.",
            "none",
            Query(
                f"sum by (gpu, xid) (increase(gpu_xid_errors_total{{{PICKED}}}[$__rate_interval])) > 0",
                "GPU {{gpu}} XID {{xid}}",
            ),
            single=True,
            quiet=True,
            least=0,
        ),
        lines(
            "ECC errors",
            "Errors of memory by kind, over the life of the board. Uncorrected ones: drain and reset.",
            "none",
            of_gpus("gpu_ecc_aggregate_errors_total", "GPU {{gpu}} {{kind}}")._replace(
                expr=f"increase(gpu_ecc_aggregate_errors_total{{{PICKED}}}[$__rate_interval]) > 0"
            ),
            single=True,
            quiet=True,
            least=0,
        ),
        lines(
            "PCIe traffic",
            "Bytes sent and received together. Much of it while busy is low: the input is the bottleneck.",
            "Bps",
            Query(
                f"rate(gpu_pcie_tx_bytes_total{{{PICKED}}}[$__rate_interval]) "
                f"+ rate(gpu_pcie_rx_bytes_total{{{PICKED}}}[$__rate_interval])",
                "GPU {{gpu}}",
            ),
            quiet=True,
            least=0,
        ),
    )


def _agent() -> tuple[Panel, ...]:
    return (
        Panel(
            title="GPUs that answer",
            says="GPUs that NVML answers for. Fewer than there are: see State and the findings.",
            kind="stat",
            unit="none",
            queries=(Query(f"sum(gpu_up{{{PICKED}}})", instant=True),),
            width=12,
            height=4,
            steps=NEUTRAL,
        ),
        Panel(
            title="Findings that are open",
            says="How many rules found something on these GPUs that has not ended.",
            kind="stat",
            unit="none",
            queries=(Query(f"count(gpu_finding{{{PICKED}}} == 1) or vector(0)", instant=True),),
            width=12,
            height=4,
            steps=NEUTRAL,
        ),
        Panel(
            title="Driver",
            says="Driver, VBIOS and serials of the GPUs. Different ones in one node are a mistake.",
            kind="table",
            unit="none",
            queries=(Query(f"gpu_info{{{PICKED}}}", instant=True),),
            width=24,
            labels=(
                ("gpu", "GPU"),
                ("model", "Model"),
                ("serial", "Serial"),
                ("driver", "Driver"),
                ("vbios", "VBIOS"),
                ("uuid", "UUID"),
            ),
            value="",
        ),
    )
