"""Prices by date: what an hour of a GPU costs at a moment, so that old weeks keep their costs.

Of the prices whose patterns match and that hold already, the one that is said most closely counts: one that
names a pool before one that does not, then the longer pattern of the pool, then that of the model. Of those
alike the latest counts. A price that is added with a later date therefore changes nothing before it.
"""

import re
from dataclasses import dataclass
from functools import lru_cache
from math import isfinite

from agent.errors import ReportError
from agent.tally import HOUR_MS
from reports.sections import Group

ALWAYS_MS = -(10**15)
"""Since when something holds that has no date."""
ANY = "*"
HOURS_PER_YEAR = 8760
_WILD = {"*": ".*", "?": "."}
NOT_YOURS = "default price, not your contract"


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """What an hour of a GPU costs from a moment on, until another price takes over.

    The patterns of model and pool know * and ?, and no difference between capital and small letters.
    """

    per_gpu_hour: float
    model: str = ANY
    pool: str = ANY
    from_ms: int = ALWAYS_MS

    def matches(self, group: Group) -> bool:
        """Tell whether it is a price of these GPUs."""
        return _matches(self.model, group.model) and _matches(self.pool, group.pool)

    @property
    def closeness(self) -> tuple[int, int]:
        """How closely it says what it is a price of."""
        return _letters(self.pool), _letters(self.model)


@dataclass(frozen=True, slots=True, kw_only=True)
class Carbon:
    """How much carbon dioxide a kWh makes from a moment on, and who says so."""

    grams_per_kwh: float
    source: str = ""
    from_ms: int = ALWAYS_MS


@dataclass(frozen=True, slots=True, kw_only=True)
class PriceBook:
    """Prices in one currency, and what is known of energy; empty, nothing has a cost.

    `pue_ratio` is the energy of the building over that of its computers. `name` says where prices are from.
    `is_default` marks those of nobody's contract.
    """

    prices: tuple[Price, ...] = ()
    currency: str = ""
    name: str = ""
    is_default: bool = False
    pue_ratio: float = 1.0
    carbon: tuple[Carbon, ...] = ()

    def price(self, group: Group, at_ms: int) -> float | None:
        """Tell what an hour of a GPU costs at a moment; None where no price holds."""
        holding = [one for one in self.prices if one.from_ms <= at_ms and one.matches(group)]
        if not holding:
            return None
        return max(holding, key=lambda one: (one.closeness, one.from_ms)).per_gpu_hour

    def carbon_at(self, at_ms: int) -> Carbon | None:
        """Tell how much carbon a kWh makes at a moment; None where it is not known."""
        holding = [one for one in self.carbon if one.from_ms <= at_ms]
        return max(holding, key=lambda one: one.from_ms, default=None)

    def cuts(self, from_ms: int, to_ms: int) -> tuple[int, ...]:
        """Name the moments inside a time at which a price or the carbon may change, in order."""
        moments = {one.from_ms for one in self.prices} | {one.from_ms for one in self.carbon}
        return tuple(sorted(at_ms for at_ms in moments if from_ms < at_ms < to_ms))

    @property
    def flat(self) -> float | None:
        """The one price that all GPUs always have; None where there is no such."""
        only = self.prices[0] if len(self.prices) == 1 else None
        always = only is not None and (only.model, only.pool, only.from_ms) == (ANY, ANY, ALWAYS_MS)
        return only.per_gpu_hour if only is not None and always else None


def flat_price(price: float | None) -> PriceBook:
    """Give all GPUs one price, for all time; None for none. Raises ReportError for what is no price."""
    if price is None:
        return PriceBook()
    if not (isfinite(price) and price >= 0):
        raise ReportError(f"the price per GPU-hour must be a number from 0 on, not {price}")
    return PriceBook(prices=(Price(per_gpu_hour=price),))


@dataclass(frozen=True, slots=True, kw_only=True)
class Owned:
    """What a GPU costs that was bought: money for all of it, not for an hour. Formula: planning facts, 2.1.

    `planned_availability_ratio` is the share of all time in which it shall serve. `power_watts` is what it
    draws in the mean, and is paid at the tariff.
    """

    purchase: float
    amortise_years: float
    salvage_ratio: float = 0.0
    planned_availability_ratio: float = 1.0
    running_per_gpu_hour: float = 0.0
    power_watts: float = 0.0
    tariff_per_kwh: float = 0.0

    def per_gpu_hour(self, pue_ratio: float) -> float:
        """Work out what an hour costs."""
        hours = self.amortise_years * HOURS_PER_YEAR * self.planned_availability_ratio
        energy = self.power_watts / 1000 * pue_ratio * self.tariff_per_kwh
        return self.purchase * (1 - self.salvage_ratio) / hours + self.running_per_gpu_hour + energy


def default_prices() -> PriceBook:
    """Give public prices of some models, for whoever has set none; GPUs of other models have no price."""
    return PriceBook(
        prices=tuple(
            Price(model=f"{maker}{model}", per_gpu_hour=price)
            for model, price in _PUBLIC.items()
            for maker in _MAKERS
        ),
        currency="USD",
        name=f"{NOT_YOURS}: public on-demand prices of May 2026",
        is_default=True,
    )


_MAKERS = ("", "NVIDIA ", "Tesla ")
_PUBLIC = {
    "V100*": 0.97,
    "A100*80GB*": 1.50,
    "H100*HBM3*": 2.75,
    "H200": 3.75,
    "B200": 5.25,
}
"""Model → USD per GPU-hour, within what providers and indexes published up to May 2026 (planning facts, 4.4).

Models of which nothing was found there are left out, and so are boards of another form than was priced.
"""


def whole_hour(moment_ms: int) -> int:
    """Give the beginning of the hour of UTC that a moment lies in."""
    return moment_ms // HOUR_MS * HOUR_MS


def _letters(pattern: str) -> int:
    return sum(char not in _WILD for char in pattern)


@lru_cache(maxsize=1024)
def _compiled(pattern: str) -> re.Pattern[str]:
    parts = (_WILD.get(char) or re.escape(char) for char in pattern)
    return re.compile("".join(parts), re.IGNORECASE | re.DOTALL)


def _matches(pattern: str, text: str) -> bool:
    return _compiled(pattern).fullmatch(text) is not None
