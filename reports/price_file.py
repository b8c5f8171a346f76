"""Reads a price book: a TOML file of prices by date, of GPUs that are rented or owned, and of energy.

    currency = "USD"
    timezone = "Europe/Berlin"           # in which dates begin; UTC unless said

    [energy]
    pue_ratio = 1.3                      # energy of the building over that of its computers; 1 unless said
    tariff_per_kwh = 0.10

    [[price]]
    model = "NVIDIA H200*"               # * and ? stand for anything; all models unless said
    pool = "train*"                      # likewise; all pools unless said
    from = 2026-01-01
    per_gpu_hour = 2.75

    [[price]]
    model = "NVIDIA H100*"
    from = 2026-01-01
    [price.owned]                        # bought: what an hour costs is worked out
    purchase = 30000
    amortise_years = 4
    salvage_ratio = 0.1                  # what it still brings then; 0 unless said
    planned_availability_ratio = 0.97    # share of all time in which it shall serve; 1 unless said
    running_per_gpu_hour = 0.05          # hosting, staff, spares; 0 unless said
    power_watts = 700                    # drawn in the mean and paid at the tariff; 0 unless said

    [[carbon]]
    from = 2026-01-01
    grams_per_kwh = 380
    source = "grid operator, mean of 2025"

A date means its first moment in that zone, whatever zone a report is in; a time with an offset means itself.
Accounts are hourly: what changes within an hour of UTC changes at its beginning. A price that is said twice
for a moment is refused, as is all that is not understood: SettingsError says file, line, entry and choices.
"""

from collections.abc import Iterator
from dataclasses import MISSING, fields, replace
from datetime import tzinfo
from pathlib import Path

from agent.errors import ReportError
from reports.entries import Entry, Source
from reports.prices import ANY, Carbon, Owned, Price, PriceBook, default_prices, flat_price, whole_hour
from reports.window import zone

_TOP = ("currency", "timezone", "energy", "price", "carbon")
_ENERGY = ("pue_ratio", "tariff_per_kwh")
_PRICE = ("model", "pool", "from", "per_gpu_hour", "owned")
_CARBON = ("from", "grams_per_kwh", "source")
_OWNED = {one.name: one.default for one in fields(Owned)}
_BOUNDS = {
    "salvage_ratio": (0.0, 1.0),
    "planned_availability_ratio": (0.01, 1.0),
    "amortise_years": (0.1, 100.0),
}
_MOST_PUE = 10.0


def price_book(*, price: float = 0.0, file: Path | None = None, shown: bool = True) -> PriceBook:
    """Settle on prices: one for all GPUs if it is above 0, else those of a file, else public defaults.

    Energy and carbon are as the file says, whatever is shown. Raises SettingsError, ReportError.
    """
    told = load_prices(file) if file else PriceBook()
    if not shown:
        chosen = PriceBook()
    elif price:
        chosen = flat_price(price)
    else:
        chosen = told if file else default_prices()
    return replace(chosen, pue_ratio=told.pue_ratio, carbon=told.carbon)


def load_prices(path: Path) -> PriceBook:
    """Read a price book. Raises SettingsError with file, line and entry."""
    source = Source(path)
    top = Entry(source, source.told, _TOP)
    where = _zone(top)
    energy = top.table("energy", _ENERGY)
    pue = energy.number("pue_ratio", 1.0, 1.0, _MOST_PUE)
    tariff = energy.number("tariff_per_kwh", 0.0)
    return PriceBook(
        prices=tuple(_prices(source, where, pue, tariff)),
        currency=top.word("currency", ""),
        name=f"price book {path.name}",
        pue_ratio=pue,
        carbon=tuple(_carbon(source, where)),
    )


def _zone(top: Entry) -> tzinfo:
    try:
        return zone(top.word("timezone", "UTC"))
    except ReportError as error:
        raise top.wrong("timezone", str(error)) from error


def _prices(source: Source, where: tzinfo, pue: float, tariff: float) -> Iterator[Price]:
    seen = set()
    for entry in source.entries("price", _PRICE):
        if ("per_gpu_hour" in entry) == ("owned" in entry):
            raise entry.wrong("", "wants exactly one of per_gpu_hour, owned")
        found = Price(
            per_gpu_hour=_owned(entry, pue, tariff) if "owned" in entry else entry.number("per_gpu_hour"),
            model=_pattern(entry, "model"),
            pool=_pattern(entry, "pool"),
            from_ms=whole_hour(entry.moment("from", where)),
        )
        key = found.model.lower(), found.pool.lower(), found.from_ms
        if key in seen:
            raise entry.wrong("from", "the same model and pool have a price from that moment already")
        seen.add(key)
        yield found


def _owned(entry: Entry, pue: float, tariff: float) -> float:
    told = entry.table("owned", tuple(_OWNED))
    values = {
        key: told.number(key, None, *_BOUNDS.get(key, ()))
        for key, usual in _OWNED.items()
        if key in told or usual is MISSING
    }
    found = Owned(**{"tariff_per_kwh": tariff, **values})
    if found.power_watts and not found.tariff_per_kwh:
        raise told.wrong("tariff_per_kwh", "is missing, here and in [energy]: power_watts has to be paid")
    return found.per_gpu_hour(pue)


def _pattern(entry: Entry, key: str) -> str:
    pattern = entry.word(key, ANY)
    if not pattern:
        raise entry.wrong(key, "is empty: write * for all, or leave it out")
    return pattern


def _carbon(source: Source, where: tzinfo) -> Iterator[Carbon]:
    seen = set()
    for entry in source.entries("carbon", _CARBON):
        from_ms = whole_hour(entry.moment("from", where))
        if from_ms in seen:
            raise entry.wrong("from", "that moment has a figure already")
        seen.add(from_ms)
        yield Carbon(
            grams_per_kwh=entry.number("grams_per_kwh"), source=entry.word("source", ""), from_ms=from_ms
        )
