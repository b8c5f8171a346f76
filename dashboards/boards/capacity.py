"""Room for more: what GPUs were held by the hour, what is left, and where the trend goes.

The trend is a straight line by least squares through the hours of five weeks; the report's, through weekly
95th percentiles, has an interval and says more.
"""

from agent.tick import State
from dashboards.boards.spans import CHOSEN, OUT, TAKEN
from dashboards.outline import Config, Panel, Query
from dashboards.recorded import OWED, STATE_HOURS

DAY_SECONDS = 86_400
LOOK_BACK = "5w"
LEAST_HOURS = 14 * 24
"""Below two whole weeks nights and weekends look like a trend."""
FULL = 0.85
"""Of the usable GPUs: from there on work waits, so the report takes it as full, too."""
SOON_DAYS = 730


def capacity(config: Config) -> tuple[Panel, ...]:
    """Make the panels of a row."""
    group = (config.pool_label, "model")
    held, usable = _held(config, group), _usable(config, group)
    p95 = f"quantile_over_time(0.95, ({held})[{CHOSEN}:1h])"
    slope = f"({_trend(held)})"
    grown = f"({p95} + {slope} * {91 * DAY_SECONDS})"
    left = f"clamp_min(({FULL:g} * {usable} - {p95}) / ({slope} > 0), 0)"
    room = (
        ("Usable", usable, ""),
        ("Held, p95", p95, ""),
        ("Room", f"{usable} - {p95}", ""),
        ("Held of usable", f"{p95} / ({usable} > 0)", "percentunit"),
    )
    trend = (
        ("Held in 13 weeks", f"clamp_min({grown}, 0)", ""),
        ("More each week", f"{slope} * {7 * DAY_SECONDS}", ""),
        (f"{FULL:.0%} full in", f"{left} < {SOON_DAYS * DAY_SECONDS}", "s"),
    )
    whole = _usable(config, ())
    labels = ((config.pool_label, "Pool"), ("model", "Model"))
    return (
        Panel(
            title="Held and usable",
            says="GPUs' worth of hours that were held, and GPUs that were neither down nor drained, dashed. "
            "Held near usable at every peak: work waits; far below even at peaks: some could go back.",
            kind="timeseries",
            unit="none",
            queries=(
                Query(_held(config, ()), "held"),
                Query(whole, "usable"),
                Query(f"{FULL:g} * {whole}", f"{FULL:.0%} of usable"),
            ),
            width=24,
            least=0,
            dashed=("usable", f"{FULL:.0%} of usable"),
        ),
        _table(
            "Room by pool and model",
            "Usable GPUs now, how many were held in 95 of 100 hours or fewer, and what is left. Little room: "
            "win back idle hours, or buy; much: lend, or give back.",
            room,
            labels,
        ),
        _table(
            "If it goes on so",
            "The same hours on a straight line through five weeks, from two weeks on; no time where the line "
            "does not rise. A short time: order now, or win back idle hours first. Empty: there are no two "
            "weeks yet. The report says how sure that is.",
            trend,
            labels,
            quiet=True,
        ),
    )


def _table(
    title: str,
    says: str,
    columns: tuple[tuple[str, str, str], ...],
    labels: tuple[tuple[str, str], ...],
    *,
    quiet: bool = False,
) -> Panel:
    return Panel(
        title=title,
        says=says,
        kind="table",
        unit="none",
        queries=tuple(Query(expr, title, instant=True, unit=unit) for title, expr, unit in columns),
        width=12,
        quiet=quiet,
        decimals=1,
        labels=labels,
    )


def _sum(by: tuple[str, ...], expr: str) -> str:
    return f"sum by ({', '.join(by)}) ({expr})" if by else f"sum({expr})"


def _in(config: Config, by: tuple[str, ...], states: tuple[State, ...]) -> str:
    """Count GPUs in these states in the latest hour; 0 where there were others."""
    told = STATE_HOURS.of(config, f'{config.of_group}, state=~"{"|".join(states)}"')
    whole = STATE_HOURS.of(config, config.of_group)
    return f"({_sum(by, told)} or 0 * {_sum(by, whole)})"


def _held(config: Config, by: tuple[str, ...]) -> str:
    return _in(config, by, TAKEN)


def _usable(config: Config, by: tuple[str, ...]) -> str:
    owed = _sum(by, OWED.of(config, config.of_group))
    return f"({owed} - {_in(config, by, OUT)})"


def _trend(held: str) -> str:
    """Give the slope in GPUs per second, where there are two weeks of it."""
    hours = f"({held})[{LOOK_BACK}:1h]"
    return f"deriv({hours}) and count_over_time({hours}) >= {LEAST_HOURS}"
