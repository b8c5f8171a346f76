"""What a store gives back: samples by series, the same form for every store."""

from collections.abc import Iterable, Mapping

from exporters.rows import Row

Series = frozenset[tuple[str, str]]
"""All labels of a series, its name among them as `__name__`."""
Samples = dict[Series, list[tuple[int, float]]]
"""Times in milliseconds and values, in order of time."""


def series_of(labels: Mapping[str, str]) -> Series:
    """Name a series."""
    return frozenset((name, text) for name, text in labels.items() if text)


def expected(rows: Iterable[Row]) -> Samples:
    """Tell what a store should hold of rows: of one series and moment, the last value."""
    found: dict[Series, dict[int, float]] = {}
    for row in rows:
        for name, value in row.fields:
            series = series_of({**dict(row.labels), "__name__": f"{row.measurement}_{name}"})
            found.setdefault(series, {})[row.at_ms] = value
    return {series: sorted(points.items()) for series, points in found.items()}
