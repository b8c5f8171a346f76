"""The metrics pages of a running agent, one per interval, and what must be true of all of them."""

import re
import time
from collections.abc import Callable

from prometheus_client.parser import text_string_to_metric_families

from tests.command.processes import Agent, Series
from tests.command.waiting import until

_END = re.compile(rb"^gputally_tick_end_timestamp_seconds (\S+)$", re.MULTILINE)
Page = dict[Series, float]


class Pages:
    """Follows an agent's page: `taken` by the end of its interval. `oldest` is the greatest age seen."""

    def __init__(self, agent: Agent) -> None:
        self.taken: dict[float, Page] = {}
        self.oldest = 0.0
        self._agent = agent

    def look(self) -> float:
        """Read the page; give when its interval ended, 0 while there is none."""
        page = self._agent.page()
        found = _END.search(page)
        if found is None:
            return 0.0
        end = float(found[1])
        self.oldest = max(self.oldest, time.time() - end)
        if end not in self.taken:
            self.taken[end] = {
                (sample.name, frozenset(sample.labels.items())): sample.value
                for family in text_string_to_metric_families(page.decode())
                for sample in family.samples
            }
        return end

    def until(self, moment: float) -> None:
        """Follow the page until an interval ends at a moment or later."""
        until(lambda: self.look() >= moment, "a later page")

    def until_page(self, is_it: Callable[[Page], bool], what: str) -> float:
        """Follow the page until one is as wanted; give the end of its interval."""

        def found() -> float:
            end = self.look()
            return end if end and is_it(self.taken[end]) else 0.0

        return until(found, what)

    def between(self, after: float, before: float = float("inf")) -> list[Page]:
        """Give the pages whose intervals ended in a stretch of time, in order."""
        return [page for end, page in sorted(self.taken.items()) if after <= end <= before]

    def check_counters(self) -> None:
        """Fail if a counter was ever lower than before, whatever happened in between."""
        highest: Page = {}
        for page in self.between(0):
            counters = {key: one for key, one in page.items() if key[0].endswith("_total")}
            lower = {key: (highest[key], one) for key, one in counters.items() if one < highest.get(key, 0)}
            assert lower == {}
            highest.update(counters)
        assert highest


def of_gpu(page: Page, index: int) -> Page:
    """Give what a page tells of one GPU."""
    return {key: value for key, value in page.items() if ("gpu", str(index)) in key[1]}


def value(page: Page, name: str, index: int, **labels: str) -> float | None:
    """Give the value of a GPU's series, if it is there."""
    for (found, told), one in of_gpu(page, index).items():
        if found == name and labels.items() <= dict(told).items():
            return one
    return None


def ups(page: Page) -> int:
    """Count the GPUs that are up."""
    return sum(one == 1 for (name, _), one in page.items() if name == "gpu_up")


def check_kept(pages: list[Page], *indices: int) -> None:
    """Fail if one of these GPUs loses a series from one page to the next, or is not up."""
    assert pages
    for index in indices:
        before: set[Series] = set()
        for page in pages:
            now = set(of_gpu(page, index))
            assert before <= now, (index, sorted(name for name, _ in before - now))
            assert value(page, "gpu_up", index) == 1
            before = now
