"""Price books: which price holds when, what owning costs, and files that are understood or refused."""

import random
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.errors import ReportError, SettingsError
from agent.tally import HOUR_MS
from reports import price_file
from reports.price_file import load_prices, price_book
from reports.prices import NOT_YOURS, Carbon, Owned, Price, PriceBook, default_prices, flat_price
from reports.sections import Group

H200 = Group("train-a", "NVIDIA H200")
H100 = Group("", "NVIDIA H100 80GB HBM3")
WHOLE = """
currency = "EUR"
timezone = "Europe/Berlin"

[energy]
pue_ratio = 1.3
tariff_per_kwh = 0.10

[[price]]
model = "nvidia h200*"
pool = "train*"
from = 2026-01-01
per_gpu_hour = 2.75

[[price]]
model = "NVIDIA H100*"
from = 2026-01-01T12:30:00Z
[price.owned]
purchase = 30000
amortise_years = 4
salvage_ratio = 0.1
planned_availability_ratio = 0.97
running_per_gpu_hour = 0.05
power_watts = 700

[[carbon]]
from = 2026-07-01
grams_per_kwh = 380
source = "grid operator"
"""


def moment(year: int, month: int, day: int, hour: int = 0) -> int:
    """Give a moment of UTC in ms."""
    return round(datetime(year, month, day, hour, tzinfo=UTC).timestamp() * 1000)


def written(folder: Path, text: str) -> Path:
    """Write a price book."""
    path = folder / "prices.toml"
    path.write_text(text, encoding="utf-8")
    return path


def refusal(folder: Path, text: str) -> str:
    """Give the one sentence with which a price book is refused, without its folder."""
    with pytest.raises(SettingsError) as error:
        load_prices(written(folder, text))
    sentence = str(error.value)
    assert "\n" not in sentence
    return sentence.replace(f"{folder}/", "")


def test_a_file_is_read_as_its_help_says(tmp_path: Path) -> None:
    """Dates begin in Berlin, an hour before UTC; what changes within an hour changes at its beginning."""
    book = load_prices(written(tmp_path, WHOLE))
    first, owned = book.prices
    new_year_ms = moment(2025, 12, 31, 23)
    assert first == Price(model="nvidia h200*", pool="train*", per_gpu_hour=2.75, from_ms=new_year_ms)
    assert (owned.model, owned.pool, owned.from_ms) == ("NVIDIA H100*", "*", moment(2026, 1, 1, 12))
    assert owned.per_gpu_hour == pytest.approx(27_000 / (4 * 8760 * 0.97) + 0.05 + 0.7 * 1.3 * 0.10)
    assert (book.currency, book.pue_ratio, book.is_default) == ("EUR", 1.3, False)
    assert book.carbon == (
        Carbon(grams_per_kwh=380.0, source="grid operator", from_ms=moment(2026, 6, 30, 22)),
    )
    assert book.price(H200, new_year_ms) == 2.75
    assert book.price(H200, new_year_ms - 1) is None
    assert book.name == "price book prices.toml"


def test_the_example_in_the_help_is_one(tmp_path: Path) -> None:
    """Whoever copies it has a price book."""
    lines = (price_file.__doc__ or "").split("\n")
    text = "\n".join(line.removeprefix("    ") for line in lines if line.startswith("    "))
    book = load_prices(written(tmp_path, text))
    assert (len(book.prices), len(book.carbon), book.currency, book.pue_ratio) == (2, 1, "USD", 1.3)


def test_owning_is_worked_out_by_hand() -> None:
    """36 500 over one year at half of all time is 8.33 an hour; half a kW at a PUE of 2 and 0.20 is 0.20."""
    assert Owned(purchase=36_500, amortise_years=1, planned_availability_ratio=0.5).per_gpu_hour(
        1.0
    ) == pytest.approx(8.3333, abs=1e-4)
    owned = Owned(purchase=0, amortise_years=1, power_watts=500, tariff_per_kwh=0.2, running_per_gpu_hour=1.5)
    assert owned.per_gpu_hour(2.0) == pytest.approx(1.7)
    assert Owned(purchase=1000, amortise_years=3, salvage_ratio=1.0).per_gpu_hour(1.0) == 0.0


@pytest.mark.parametrize(
    ("group", "price"),
    [
        (Group("train-a", "NVIDIA H200"), 5.0),
        (Group("TRAIN-B", "nvidia h200 nvl"), 5.0),
        (Group("train-a", "NVIDIA H100"), 4.0),
        (Group("serve", "NVIDIA H200"), 3.0),
        (Group("serve", "NVIDIA H20"), 2.0),
        (Group("serve", "NVIDIA B200"), 2.0),
        (Group("", "Tesla T4"), 1.0),
    ],
)
def test_what_is_said_most_closely_counts(group: Group, price: float) -> None:
    """A pool before a model, a longer pattern before a shorter one, whatever order they come in."""
    prices = [
        Price(per_gpu_hour=1.0),
        Price(model="NVIDIA*", per_gpu_hour=2.0),
        Price(model="NVIDIA H200", per_gpu_hour=3.0),
        Price(pool="train-?", per_gpu_hour=4.0),
        Price(pool="train-?", model="NVIDIA H200*", per_gpu_hour=5.0),
    ]
    assert PriceBook(prices=tuple(prices)).price(group, 0) == price
    random.Random(price).shuffle(prices)  # noqa: S311
    assert PriceBook(prices=tuple(prices)).price(group, 0) == price


def test_a_pattern_knows_nothing_but_its_two_signs() -> None:
    """Brackets, dots and line ends are themselves."""
    assert Price(model="A[1].*", per_gpu_hour=1).matches(Group("", "a[1].\nx"))
    assert not Price(model="A[1].*", per_gpu_hour=1).matches(Group("", "a1.x"))
    assert not Price(model="H?00", per_gpu_hour=1).matches(Group("", "H1000"))


def test_the_latest_price_that_holds_counts() -> None:
    """Each from its moment on; the moments between are where a window is cut."""
    book = PriceBook(
        prices=(Price(per_gpu_hour=2.0, from_ms=20), Price(per_gpu_hour=1.0, from_ms=10)),
        carbon=(Carbon(grams_per_kwh=5.0, from_ms=15), Carbon(grams_per_kwh=4.0, from_ms=5)),
    )
    assert [book.price(H100, at_ms) for at_ms in (9, 10, 19, 20, 999)] == [None, 1.0, 1.0, 2.0, 2.0]
    carbon = [book.carbon_at(at_ms) for at_ms in (4, 5, 15)]
    assert [one and one.grams_per_kwh for one in carbon] == [None, 4.0, 5.0]
    assert book.cuts(0, 100) == (5, 10, 15, 20)
    assert book.cuts(10, 20) == (15,)


PRICES = st.builds(
    Price,
    per_gpu_hour=st.floats(0, 100),
    model=st.sampled_from(["*", "NVIDIA*", "NVIDIA H200", "*H200", "x"]),
    pool=st.sampled_from(["*", "train*", "?rain-a"]),
    from_ms=st.integers(0, 10).map(lambda hour: hour * HOUR_MS),
)


@given(prices=st.lists(PRICES, max_size=8), more=PRICES, hour=st.integers(0, 10))
def test_a_price_changes_nothing_before_its_date(prices: list[Price], more: Price, hour: int) -> None:
    """Whatever it is of."""
    at_ms = hour * HOUR_MS
    book, after = PriceBook(prices=tuple(prices)), PriceBook(prices=(*prices, more))
    if at_ms < more.from_ms:
        assert book.price(H200, at_ms) == after.price(H200, at_ms)
    elif book.price(H200, at_ms) is not None:
        assert after.price(H200, at_ms) is not None


@pytest.mark.parametrize(
    ("model", "price"),
    [
        ("NVIDIA H200", 3.75),
        ("NVIDIA H100 80GB HBM3", 2.75),
        ("NVIDIA A100-SXM4-80GB", 1.50),
        ("NVIDIA A100 80GB PCIe", 1.50),
        ("NVIDIA B200", 5.25),
        ("Tesla V100-SXM2-32GB", 0.97),
        ("NVIDIA GH200 480GB", None),
        ("NVIDIA GB200", None),
        ("NVIDIA H200 NVL", None),
        ("NVIDIA H100 PCIe", None),
        ("NVIDIA A100-SXM4-40GB", None),
        ("Tesla T4", None),
        ("", None),
    ],
)
def test_default_prices_are_of_what_was_seen_for_sale(model: str, price: float | None) -> None:
    """And of no board that is merely called alike."""
    assert default_prices().price(Group("any", model), 0) == price


def test_flat_is_one_price_of_all_for_all_time() -> None:
    """And nothing else is."""
    assert flat_price(2.5).flat == 2.5
    assert flat_price(None) == PriceBook()
    assert PriceBook().flat is None
    assert PriceBook(prices=(Price(per_gpu_hour=1.0, from_ms=0),)).flat is None
    assert PriceBook(prices=(Price(per_gpu_hour=1.0, model="x"),)).flat is None
    assert default_prices().flat is None


@pytest.mark.parametrize("price", [-1.0, float("nan"), float("inf")])
def test_what_is_no_price_is_refused(price: float) -> None:
    """Nobody is paid for having GPUs."""
    with pytest.raises(ReportError, match="from 0 on"):
        flat_price(price)


def test_one_price_wins_over_a_file_and_a_file_over_defaults(tmp_path: Path) -> None:
    """Energy is always as the file says, also where no money is shown."""
    path = written(tmp_path, WHOLE)
    assert price_book().is_default
    assert price_book(file=path) == load_prices(path)
    flat = price_book(price=2.0, file=path)
    assert (flat.flat, flat.is_default, flat.pue_ratio) == (2.0, False, 1.3)
    off = price_book(price=2.0, file=path, shown=False)
    assert (off.prices, off.is_default, off.pue_ratio, len(off.carbon)) == ((), False, 1.3, 1)
    assert price_book(shown=False) == PriceBook()


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("2.75", "-1", ":13: [[price]] 1 per_gpu_hour: must be a number from 0, not -1"),
        ("2.75", "nan", ":13: [[price]] 1 per_gpu_hour: must be a number from 0, not nan"),
        ("2.75", "true", ":13: [[price]] 1 per_gpu_hour: must be a number from 0, not True"),
        ("2.75", "'2'", ":13: [[price]] 1 per_gpu_hour: must be a number from 0, not '2'"),
        ("pool", "pol", ":11: [[price]] 1 pol: unknown; known are model, pool, from, per_gpu_hour, owned"),
        ('"train*"', '""', ":11: [[price]] 1 pool: is empty: write * for all, or leave it out"),
        ('"train*"', '"a\\nb"', ":11: [[price]] 1 pool: must be a printable text in quotes, not 'a\\nb'"),
        ("per_gpu_hour = 2.75", "", ":9: [[price]] 1: wants exactly one of per_gpu_hour, owned"),
        ("[price.owned]", "per_gpu_hour = 1\n[price.owned]", ":15: [[price]] 2: wants exactly one of"),
        ("purchase = 30000", "", ":18: [[price]] 2 owned.purchase: is missing"),
        ("purchase", "price", ":19: [[price]] 2 owned.price: unknown; known are purchase, amortise_years"),
        ("0.97", "0", ":22: [[price]] 2 owned.planned_availability_ratio: must be a number from 0.01 to 1"),
        ("tariff_per_kwh = 0.10", "", ":18: [[price]] 2 owned.tariff_per_kwh: is missing, here and in"),
        ('"EUR"', "3", ":2: currency: must be a printable text in quotes, not 3"),
        ("currency", "curency", ":2: curency: unknown; known are currency, timezone, energy, price, carbon"),
        ("Berlin", "Atlantis", ":3: timezone: there is no time zone 'Europe/Atlantis'"),
        ("pue_ratio = 1.3", "pue_ratio = 0.9", ":6: [energy] pue_ratio: must be a number from 1 to 10, not"),
        ("pue_ratio", "pue", ":6: [energy] pue: unknown; known are pue_ratio, tariff_per_kwh"),
        ("[energy]", "[[energy]]", ":5: energy: must be a table, not [{'pue_ratio'"),
        ("from = 2026-01-01\n", "", ":9: [[price]] 1 from: is missing: write from = 2026-01-01"),
        ("from = 2026-01-01\n", "from = '2026'\n", ":12: [[price]] 1 from: must be a date like 2026-01-01"),
        ("from = 2026-01-01\n", "from = 12:00:00\n", ":12: [[price]] 1 from: must be a date like"),
        ("380", "1e99", ":28: [[carbon]] 1 grams_per_kwh: must be a number from 0, not 1e+99"),
        ("source", "sauce", ":29: [[carbon]] 1 sauce: unknown; known are from, grams_per_kwh, source"),
        ("[[carbon]]", "[carbon]", ":26: carbon: must be written as [[carbon]] entries"),
        ("[energy]", "[energy", "prices.toml is no TOML"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(tmp_path: Path, old: str, new: str, said: str) -> None:
    """File, line, entry, key, and what would be right."""
    assert old in WHOLE
    assert said in refusal(tmp_path, WHOLE.replace(old, new, 1))


def test_a_price_that_is_said_twice_is_refused(tmp_path: Path) -> None:
    """Nobody can tell which is meant; two times within one hour are one moment."""
    entry = '[[price]]\nmodel = "{}"\nfrom = {}\nper_gpu_hour = 1\n'
    twice = entry.format("A*", "2026-01-01") + entry.format("a*", "2026-01-01T00:59:00Z")
    assert refusal(tmp_path, twice).startswith("prices.toml:7: [[price]] 2 from: the same model and pool")
    carbon = "[[carbon]]\nfrom = 2026-01-01\ngrams_per_kwh = 1\n"
    assert "[[carbon]] 2 from: that moment has a figure already" in refusal(tmp_path, carbon * 2)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    """Missing, a folder, not text, or far too long."""
    with pytest.raises(SettingsError, match=r"cannot read .*nowhere\.toml: No such file"):
        load_prices(tmp_path / "nowhere.toml")
    with pytest.raises(SettingsError, match="cannot read"):
        load_prices(tmp_path)
    (tmp_path / "x").write_bytes(b"\xff\xfe")
    with pytest.raises(SettingsError, match="cannot read"):
        load_prices(tmp_path / "x")
    (tmp_path / "y").write_bytes(b"#" * (1 << 21))
    with pytest.raises(SettingsError, match="longer than 1 MiB"):
        load_prices(tmp_path / "y")


TEXTS = st.text(st.sampled_from("[]{}=\".'\n #*?-:T019Zabcdefghijklmnoprtuw_"), max_size=60)


@given(before=st.integers(0, 30), after=st.integers(0, 30), text=TEXTS)
def test_whatever_a_file_holds_it_is_understood_or_refused(
    tmp_path_factory: pytest.TempPathFactory, before: int, after: int, text: str
) -> None:
    """With one sentence, never with a traceback."""
    lines = WHOLE.split("\n")
    path = tmp_path_factory.mktemp("book") / "p.toml"
    path.write_text("\n".join([*lines[:before], text, *lines[before + after :]]), encoding="utf-8")
    said = ""
    try:
        book = load_prices(path)
    except SettingsError as error:
        said = str(error)
    else:
        assert all(one.per_gpu_hour >= 0 for one in book.prices)
    assert "\n" not in said


def test_the_example_of_the_page_on_prices_is_one(tmp_path: Path) -> None:
    """As it stands, and with the models and the prices that the page names."""
    page = (Path(__file__).parents[2] / "docs" / "prices.md").read_text(encoding="utf-8")
    book = load_prices(written(tmp_path, page.split("```toml\n")[1].split("```")[0]))
    assert [one.per_gpu_hour for one in book.prices] == [2.75, 2.60, pytest.approx(0.93538, abs=1e-5)]
    assert all(key in page for key in ("price_per_gpu_hour", "prices_file", NOT_YOURS))
