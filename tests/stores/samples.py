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


def at_times_of(got: Samples, want: Samples) -> Samples:
    """Leave out what was said once more: who begins anew says first what does not change."""
    times = {series: {at_ms for at_ms, _ in points} for series, points in want.items()}
    kept = {
        series: sorted({point for point in points if point[0] in times.get(series, ())})
        for series, points in got.items()
    }
    return {series: points for series, points in kept.items() if points}


def differences(got: Samples, want: Samples, tolerance: float) -> list[str]:
    """Tell how two differ; values may by so much of the largest of their series, times may not."""
    found = [
        f"{dict(series)} is only {'stored' if series in got else 'sent'}" for series in got.keys() ^ want
    ]
    for series in got.keys() & want.keys():
        most = tolerance * max(abs(value) for _, value in want[series])
        if [at_ms for at_ms, _ in got[series]] != [at_ms for at_ms, _ in want[series]]:
            found.append(f"{dict(series)}: {len(got[series])} times stored, {len(want[series])} sent")
            continue
        for (at_ms, stored), (_, sent) in zip(got[series], want[series], strict=True):
            if abs(stored - sent) > most:
                found.append(f"{dict(series)} at {at_ms}: {stored!r} stored, {sent!r} sent")
    return found
