"""Health: what is wrong now, which cards come back again and again, and which go back to the maker."""

from collections.abc import Mapping

from agent.tick import State
from agent.xid_catalogue import numbers_of
from dashboards.boards.common import BAD, NEUTRAL, of_fleet
from dashboards.boards.node import lines
from dashboards.outline import Board, Config, Panel, Query, Row, Step
from dashboards.recorded import (
    DOWN,
    FINDINGS,
    FLAGGED,
    GPUS,
    HELD,
    NODE_GPUS,
    NVLINK_ERRORS,
    PCIE_REPLAYS,
    XIDS,
)
from dashboards.signs import TO_LINK, TO_RESET, TO_RETURN, labelled, matched

MOST = 20
CRITICAL = "|".join(str(number) for number in numbers_of("critical"))
MONTH_SECONDS = 30 * 86_400
SEVERITIES = (("critical", "#d55e00"), ("warning", "#e69f00"), ("info", "#56b4e9"))
_GPU = (("node", "Node"), ("gpu", "GPU"), ("model", "Model"), ("uuid", "UUID"))
_BY_GPU = "node, gpu, model, uuid"


def health(config: Config) -> Board:
    """Make the dashboard."""
    return Board(
        name="health",
        title="gputally / Health and RMA",
        says="What is wrong with GPUs, what they wait for, which fail again and again, and which go back.",
        variables=of_fleet(config),
        rows=(
            Row("Now", _now(config)),
            Row("Findings", _findings(config)),
            Row("XIDs", _xids(config)),
            Row("What GPUs ask for", _flags(config)),
            Row("Down and missing", _down(config)),
            Row("Links and versions", _links(config)),
        ),
        since="now-24h",
    )


def of_flags(config: Config, signs: Mapping[str, str]) -> str:
    """Count signs, not GPUs: one with two counts twice. 0 where GPUs tell of themselves and have none."""
    return f"sum({_flagged(config, signs)}) or 0 * sum({GPUS.of(config, config.of_group)})"


def _flagged(config: Config, signs: Mapping[str, str]) -> str:
    """Give 1 for each GPU that has one of the signs, and each sign that it has."""
    if config.recorded:
        return f'{FLAGGED.name}{{{config.of_group}, flag=~"{"|".join(signs)}"}}'
    return f"count by (flag, {_BY_GPU}) ({matched(labelled(signs, 'flag'), config.of_group)})"


def missing(config: Config) -> str:
    """Give by node how many GPUs fewer answer than the settings or the inventory say.

    Nodes that are known to be elsewhere in the fleet are left out, and no others: one that never told of
    itself is missing too.
    """
    expected = "max by (node) (gputally_expected_gpus)"
    there = f"{expected} - on (node) (count by (node) (gpu_up == 1) or on (node) {expected} * 0) > 0"
    every = f"max by (node) ({NODE_GPUS.over('max_over_time', '1d', config, '')})"
    chosen = f"max by (node) ({NODE_GPUS.over('max_over_time', '1d', config, config.of_group)})"
    return f"({there}) unless on (node) ({every} unless on (node) {chosen})"


def _now(config: Config) -> tuple[Panel, ...]:
    none = f"0 * sum({GPUS.of(config, config.of_group)})"
    critical = FINDINGS.of(config, f'{config.of_group}, severity="critical"')
    down = HELD.of(config, f'{config.of_group}, state="{State.DOWN}"')
    return (
        _stat(
            "Critical findings",
            "Findings that are open and want somebody today. 0 is right.",
            f"sum({critical}) or {none}",
            BAD,
        ),
        _stat(
            "Down",
            "GPUs' worth of time, over five minutes, in which GPUs did not answer or had to be reset. "
            "0 is right.",
            f"sum({down})",
            (Step(None, "green"), Step(0.1, "red")),
        ),
        _stat(
            "Missing",
            "GPUs fewer than `[node] gpus` or the inventory say. Empty where nobody says how many there are.",
            f"sum({missing(config)}) or 0 * sum(gputally_expected_gpus)",
            BAD,
            quiet=True,
        ),
        _stat(
            "Resets waited for",
            "Signs that a reset or reboot ends, such as rows that wait to be remapped. A GPU with two counts "
            "twice. Plan them for when the GPUs are idle.",
            of_flags(config, TO_RESET),
            (Step(None, "green"), Step(1, "orange")),
        ),
        _stat(
            "Signs to return",
            "Signs that no reset ends. Run the field diagnostic, and send the board back: see below.",
            of_flags(config, TO_RETURN),
            BAD,
        ),
        _stat(
            "GPU-hours down in 7 days",
            "Time in which GPUs were down, all together, in the last week whatever time is shown. Divided by "
            "168 it is how many GPUs fewer than you paid for there were.",
            f"{downtime(config)} or {none}",
            NEUTRAL,
        ),
    )


def _stat(title: str, says: str, expr: str, steps: tuple[Step, ...], *, quiet: bool = False) -> Panel:
    return Panel(
        title=title,
        says=says,
        kind="stat",
        unit="none",
        queries=(Query(expr, instant=True),),
        width=4,
        height=4,
        steps=steps,
        quiet=quiet,
        decimals=1 if title in ("Down", "GPU-hours down in 7 days") else 0,
    )


def downtime(config: Config, by: str = "") -> str:
    """Give GPU-hours in `down` over seven days that end now."""
    if config.recorded:
        told = f"sum_over_time({DOWN.of(config, config.of_group)}[7d])"
        return f"sum{by} ({told}) / 60"
    grown = f'increase(gpu_tally_seconds_total{{{config.of_group}, state="{State.DOWN}"}}[7d])'
    return f"sum{by} ({grown}) / 3600"


def _findings(config: Config) -> tuple[Panel, ...]:
    return (
        lines(
            "Findings by severity",
            "Findings that were open. A step up that stays is something new; many at once have one cause.",
            "none",
            Query(f"sum by (severity) ({FINDINGS.of(config, config.of_group)})", "{{severity}}"),
            stacked=True,
            least=0,
            quiet=True,
            colours=SEVERITIES,
        ),
        Panel(
            title="Findings that are open",
            says="What the rules on the nodes found and has not ended; docs/runbooks.md says what to do. "
            "Empty is well.",
            kind="table",
            unit="none",
            queries=(Query(f"gpu_finding{{{config.of_group}}} == 1", instant=True),),
            width=16,
            quiet=True,
            labels=(("severity", "Severity"), ("rule", "Rule"), *_GPU),
            value="",
        ),
    )


def _xids(config: Config) -> tuple[Panel, ...]:
    group = config.of_group
    in_range = f"sum by (xid, {_BY_GPU}) (increase(gpu_xid_errors_total{{{group}}}[$__range]))"
    critical = f'{group}, xid=~"{CRITICAL}"'
    last = f"max by ({_BY_GPU}) (gpu_xid_last_timestamp_seconds{{{critical}}})"
    ever = f"sum by ({_BY_GPU}) (gpu_xid_errors_total{{{critical}}})"
    recent = f"{last} > time() - {MONTH_SECONDS}"
    worst = f"topk({MOST}, ({ever} >= 2) and on (node, uuid) ({recent}))"
    return (
        lines(
            "XIDs within an hour",
            "Errors that the driver reported in the hour before each moment, by number. One number on many "
            "GPUs: a job, a driver or a switch; on one: the card. `gputally xid NUMBER` explains.",
            "none",
            Query(f"sum by (xid) ({XIDS.of(config, group)}) > 0", "XID {{xid}}"),
            quiet=True,
            least=0,
        ),
        Panel(
            title="XIDs in the time shown",
            says=f"The {MOST} GPUs and numbers with most errors in the time shown. Empty is well.",
            kind="table",
            unit="none",
            queries=(Query(f"topk({MOST}, {in_range} > 0.5)", instant=True),),
            width=16,
            quiet=True,
            decimals=0,
            labels=(("xid", "XID"), *_GPU),
            value="Times",
        ),
        Panel(
            title="Repeat offenders",
            says="GPUs with two critical XIDs or more that their node remembers, the last within 30 days, "
            "whatever time is shown. After the second reset that did not help: field diagnostic, return.",
            kind="table",
            unit="none",
            queries=(
                Query(worst, "Critical XIDs", instant=True),
                Query(
                    f"1000 * ({last} and on (node, uuid) {worst})",
                    "Last",
                    instant=True,
                    unit="dateTimeFromNow",
                ),
            ),
            width=24,
            height=6,
            quiet=True,
            decimals=0,
            labels=_GPU,
        ),
    )


def _flags(config: Config) -> tuple[Panel, ...]:
    group = config.of_group
    asking = f"sum by (flag, {_BY_GPU}) ({_flagged(config, {**TO_RESET, **TO_LINK})})"
    return (
        lines(
            "Signs over time",
            "GPUs by what they wait for or what is wrong with their links. Lines that do not come down: "
            "nobody resets them.",
            "none",
            Query(f"sum by (flag) ({FLAGGED.of(config, group)})", "{{flag}}"),
            quiet=True,
            least=0,
        ),
        Panel(
            title="Waiting for a reset or a look",
            says="GPUs whose driver asks for something, that wait for a reset, or whose links are not whole. "
            "Drain, do what is asked, and see whether it goes. Empty is well.",
            kind="table",
            unit="none",
            queries=(Query(asking, instant=True),),
            width=16,
            quiet=True,
            labels=(("flag", "Sign"), *_GPU),
            value="",
        ),
        Panel(
            title="Boards to return",
            says="What the maker wants to know of boards that no reset cures: serial, board part and VBIOS. "
            "Run the field diagnostic first. Empty is well.",
            kind="table",
            unit="none",
            queries=(Query(_to_return(config), instant=True),),
            width=24,
            height=6,
            quiet=True,
            labels=(
                ("flag", "Sign"),
                ("serial", "Serial"),
                ("board_part", "Board"),
                ("vbios", "VBIOS"),
                *_GPU,
            ),
            value="",
        ),
    )


def _to_return(config: Config) -> str:
    """Join identity to the signs; a GPU of which none is told is shown without."""
    signs = f"sum by (flag, {_BY_GPU}) ({_flagged(config, TO_RETURN)})"
    card = f"max by (uuid, serial, board_part, vbios) (gpu_info{{{config.of_group}}})"
    joined = f"{signs} * on (uuid) group_left (serial, board_part, vbios) {card}"
    return f"{joined} or {signs} unless on (uuid) {card}"


def _down(config: Config) -> tuple[Panel, ...]:
    return (
        Panel(
            title="GPUs that do not answer",
            says="Why each does not: lost, reset_required, hung or missing. Reset, reboot, or look at the "
            "slot. Empty is well.",
            kind="table",
            unit="none",
            queries=(Query(f"gpu_condition{{{config.of_group}}} == 1", instant=True),),
            width=10,
            quiet=True,
            labels=(("condition", "Why"), *_GPU),
            value="",
        ),
        Panel(
            title="Longest down in 7 days",
            says=f"Hours in which a GPU was down in the last week, the {MOST} worst. One that leads for "
            "weeks is a candidate to return. Empty is well.",
            kind="table",
            unit="none",
            queries=(Query(f"topk({MOST}, {downtime(config, f' by ({_BY_GPU})')} > 0)", instant=True),),
            width=10,
            quiet=True,
            decimals=1,
            labels=_GPU,
            value="Hours down",
        ),
        Panel(
            title="Nodes with GPUs missing",
            says="How many GPUs fewer answer than the settings or the inventory say. lspci does not list it "
            "either: the board fell off the bus. Empty is well, or nobody says how many there are.",
            kind="table",
            unit="none",
            queries=(Query(missing(config), instant=True),),
            width=4,
            quiet=True,
            labels=(("node", "Node"),),
            value="Missing",
        ),
    )


def _links(config: Config) -> tuple[Panel, ...]:
    group = config.of_group
    return (
        lines(
            "Errors of links",
            "Errors of NVLink by kind, and packets that PCIe had to send again, per second of all GPUs. A "
            "few are usual; a step up is a cable, a seat or a switch.",
            "cps",
            Query(f"sum by (kind) ({NVLINK_ERRORS.of(config, group)}) > 0", "NVLink {{kind}}"),
            Query(f"sum({PCIE_REPLAYS.of(config, group)}) > 0", "PCIe replay"),
            quiet=True,
            least=0,
        ),
        Panel(
            title="Drivers and VBIOS",
            says="How many GPUs of a model run which. Rows with few GPUs are those that an upgrade forgot; "
            "they behave differently for a reason that nobody looks for.",
            kind="table",
            unit="none",
            queries=(Query(f"count by (model, driver, vbios, inforom) (gpu_info{{{group}}})", instant=True),),
            width=16,
            labels=(("model", "Model"), ("driver", "Driver"), ("vbios", "VBIOS"), ("inforom", "InfoROM")),
            value="GPUs",
        ),
    )
