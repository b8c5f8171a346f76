"""Rules about how a GPU is set up: what is judged from one reading alone."""

from collections.abc import Iterator

from agent.tick import Finding, Tick

PERSISTENCE_OFF = "persistence_mode_off"


def judge(tick: Tick) -> Iterator[Finding]:
    """Give what is wrong with the set-up of the GPUs of a tick."""
    for reading in tick.readings:
        if reading.persistence_mode_flag == 0:
            yield Finding(
                rule=PERSISTENCE_OFF,
                severity="warning",
                node=tick.node,
                uuid=reading.uuid,
                opened_ms=tick.end_ms,
                summary="persistence mode is off: the driver forgets the GPU when its last client leaves, "
                "so that waking it makes an idle GPU look busy and its counters begin anew",
                action="enable nvidia-persistenced (systemctl enable --now nvidia-persistenced)",
            )
