"""How often the agent looks: for the probe, and for its parent, which must not load NVML."""

from dataclasses import dataclass

from agent.errors import SettingsError

SETTLE_SECONDS = 0.35
"""So long after an interval's end the rings hold its last sample (two periods of 1/6 s)."""


LONGEST_INTERVAL_SECONDS = 3600
SHORTEST_POLL_SECONDS = 0.1
LONGEST_POLL_SECONDS = 5
"""Beyond this the driver's rings would wrap between two fetches."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplerSettings:
    """How often to look. `interval_seconds` is what one tick covers, `poll_seconds` the gauges' period."""

    interval_seconds: float = 10.0
    poll_seconds: float = 1.0

    def __post_init__(self) -> None:
        """Refuse values that cannot be meant."""
        if not 1 <= self.interval_seconds <= LONGEST_INTERVAL_SECONDS:
            raise SettingsError("[agent] interval_seconds must lie between 1 and 3600")
        if not SHORTEST_POLL_SECONDS <= self.poll_seconds <= min(self.interval_seconds, LONGEST_POLL_SECONDS):
            raise SettingsError("[agent] poll_seconds must lie between 0.1 and 5, and within the interval")
