"""Asks a store that speaks PromQL over HTTP: VictoriaMetrics, Prometheus, Mimir, Thanos.

Raw samples are had by instant queries of ranges, `gpu_up[1h]`. Answers are bounded: what would be longer is
asked for in two halves.
"""

import json
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple, TypeVar

from agent.asking import LONGEST_WORD, Asker, TooLongError, told
from agent.errors import StoreError
from agent.holders.names import printable
from agent.promql import span

SHORTEST_SPAN_MS = 1000
_HARMLESS = ("PromQL ", "No StoreAPIs matched")
"""How warnings begin that do not mean that something lacks; all others do."""
T = TypeVar("T")


class Series(NamedTuple):
    """A series: its labels, and its samples as (ms since the epoch, value) in order of time."""

    labels: Mapping[str, str]
    samples: list[tuple[int, float]]


class Value(NamedTuple):
    """What an expression is for some labels."""

    labels: Mapping[str, str]
    value: float


class Store(Asker):
    """One store, by the address that stands before /api/v1/query."""

    def samples(self, selector: str, from_ms: int, until_ms: int) -> Iterator[Series]:
        """Give the samples of (from_ms, until_ms] as they are stored. Raises StoreError."""
        try:
            found = self._instant(f"{selector}[{span(until_ms - from_ms)}]", until_ms, _series)
        except TooLongError:
            middle_ms = (from_ms + until_ms) // 2
            if middle_ms - from_ms < SHORTEST_SPAN_MS:
                raise StoreError(
                    f"{self.url} has more than {self.longest >> 20} MiB of {selector} in one interval"
                ) from None
            yield from self.samples(selector, from_ms, middle_ms)
            yield from self.samples(selector, middle_ms, until_ms)
            return
        for labels, samples in found:  # some stores count in the far end as well
            yield Series(labels, [one for one in samples if from_ms < one[0] <= until_ms])

    def values(self, query: str, at_ms: int) -> list[Value]:
        """Give what an expression is at a moment, by labels. Raises StoreError."""
        try:
            return [one for one in self._instant(query, at_ms, _value) if math.isfinite(one.value)]
        except TooLongError:
            raise self._too_much(query) from None

    def steps(self, query: str, first_ms: int, last_ms: int, step_ms: int) -> list[Series]:
        """Give what an expression is at moments from the first to the last, by labels. Raises StoreError."""
        fields = {"start": _seconds(first_ms), "end": _seconds(last_ms), "step": _seconds(step_ms)}
        try:
            # Without nocache VictoriaMetrics moves the moments to what it has in its cache.
            said = self.ask("/api/v1/query_range", {"query": query, "nocache": "1", **fields})
        except TooLongError:
            raise self._too_much(query) from None
        return self._read(said, lambda data: [_series(one) for one in data["result"]])

    def known(self, selector: str, from_ms: int, until_ms: int) -> list[Mapping[str, str]]:
        """Give the labels of the series that may have samples in that time. Raises StoreError."""
        fields = {"match[]": selector, "start": _seconds(from_ms), "end": _seconds(until_ms)}
        try:
            said = self.ask("/api/v1/series", fields)
        except TooLongError:
            raise self._too_much(selector) from None
        return self._read(said, lambda data: [_labels(one) for one in data])

    def _too_much(self, query: str) -> StoreError:
        return StoreError(f"{self.url} answers {query[:200]} with too much")

    def _instant(self, query: str, at_ms: int, read: Callable[[Any], T]) -> list[T]:
        """Ask, and read each result. Raises StoreError, TooLongError."""
        said = self.ask("/api/v1/query", {"query": query, "time": _seconds(at_ms)})
        return self._read(said, lambda data: [read(one) for one in data["result"]])

    def _read(self, said: bytes, read: Callable[[Any], list[T]]) -> list[T]:
        try:
            whole = json.loads(said)
            is_partial, found = bool(whole.get("isPartial")), read(whole["data"])
            warnings = [str(one) for one in whole.get("warnings") or ()]
        except (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError) as error:
            raise StoreError(
                f"{self.url} does not answer as Prometheus does: is it the address of a store, "
                "with the path before /api/v1/query if it has one?"
            ) from error
        if is_partial:
            raise StoreError(f"{self.url} says that its answers are not whole: a part of it is away")
        for warning in warnings:
            if not warning.startswith(_HARMLESS):
                raise StoreError(f"{self.url} warns of its answer: {printable(warning, LONGEST_WORD)}")
        return found


def _seconds(milliseconds: int) -> str:
    return f"{milliseconds / 1000:.3f}"


def _series(one: Any) -> Series:  # noqa: ANN401  whatever JSON held
    samples = ((round(at * 1000), float(text)) for at, text in one["values"])
    return Series(_labels(one["metric"]), [sample for sample in samples if math.isfinite(sample[1])])


def _value(one: Any) -> Value:  # noqa: ANN401
    return Value(_labels(one["metric"]), float(one["value"][1]))


def _labels(metric: Any) -> dict[str, str]:  # noqa: ANN401
    return {told(name): told(text) for name, text in metric.items()}
