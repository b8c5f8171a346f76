"""What is sent to others: rows, each with the labels that its figures share and one moment.

A metric's name is its measurement, an underscore and the field: `gpu` and `busy_ratio` make `gpu_busy_ratio`,
in line protocol (where VictoriaMetrics joins them so), in remote write and on the page alike.
"""

from typing import NamedTuple

GPU, OWN = "gpu", "gputally"


class Row(NamedTuple):
    """Figures of one moment, in milliseconds since the epoch, that share all labels.

    Labels have no empty names or values and keep their order; fields are finite and at least one. Names are
    ours (letters, digits, underscores); values of labels may be any text.
    """

    measurement: str
    labels: tuple[tuple[str, str], ...]
    fields: tuple[tuple[str, float], ...]
    at_ms: int
