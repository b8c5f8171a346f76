"""What the agent knows of itself, as figures that rules about the node judge."""

from collections.abc import Collection, Sequence

from agent.quantities import Amount
from agent.scene import Scene
from agent.tick import Condition
from agent.view import Health, Standing


def own_figures(
    scene: Scene,
    health: Health,
    standings: Sequence[Standing],
    *,
    stores: Collection[str],
    interval_seconds: float,
    gpus: int,
) -> dict[str, Amount]:
    """Give the figures of agent.scene.NODE_FIGURES.

    `stores` are the names of exporters that send ticks, and not what changed of findings; how many GPUs there
    should be may be 0 for not known.
    """
    answering = sum(reading.condition is Condition.OK for reading in scene.readings)
    return {
        "missing_gpus": max(0.0, float(gpus - answering)) if gpus else None,
        "blind_seconds_total": health.blind_ticks * interval_seconds,
        "late_seconds": health.late_seconds,
        "driver_seconds_total": health.driver_seconds,
        "stuck_probes": float(health.stuck_probes),
        "silent_worlds": float(sum(bool(trouble) for trouble in health.worlds.values())),
        "journal_failures_total": float(health.journal_failures),
        "readings_dropped_total": float(health.readings_dropped),
        "exporter_waiting_seconds": max(
            (one.waiting_ticks * interval_seconds for one in standings if one.name in stores), default=0.0
        ),
        "exporter_lost_total": float(sum(one.dropped_ticks + one.refused_rows for one in standings)),
    }
