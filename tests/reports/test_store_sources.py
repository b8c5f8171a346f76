"""Accounts out of real stores: what a fleet did is told alike by journals and by every store, and truly."""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import pytest

from agent.store import Store
from agent.tally import DAY_MS, HOUR_MS
from agent.tick import State
from exporters import line_protocol, remote_write
from exporters.rows import GPU, Row
from gputally.cli import main
from gputally.journals import opened
from reports.facts import FreeHour
from reports.report import build
from reports.sources.from_ledger import gather_from
from reports.sources.gathered import Gathered
from reports.sources.influx_ledger import InfluxLedger
from reports.sources.influxql import Influx
from reports.sources.journal_facts import facts
from reports.sources.ledger import Ledger
from reports.sources.ledger_facts import facts_from
from reports.sources.prom_ledger import PromLedger
from reports.window import Window
from tests.reports import fleet
from tests.reports.fleet import HOUR_STEPS, START_MS, STEP_MS, WEEK_STEPS, Node, Truth, gpu_of, plan
from tests.reports.scraped import Scraper, lines, scrape
from tests.stores.influx import DATABASE, influx
from tests.stores.influx import Influx as InfluxServer
from tests.stores.prometheus import Prometheus, prometheus
from tests.stores.victoria import Victoria, victoria

SEED = 7
WINDOW = Window(from_ms=START_MS + WEEK_STEPS * STEP_MS, to_ms=START_MS + 2 * WEEK_STEPS * STEP_MS)
NOW_MS = WINDOW.to_ms + DAY_MS
TOLERANCE = 0.001
READ = (
    "info",
    "up",
    "mig_mode_flag",
    "tally_seconds_total",
    "tally_joules_total",
    "tally_busy_seconds_total",
)
"""Fields of GPUs that accounts are told with."""
AnyServer = Victoria | Prometheus | InfluxServer


class Fleet(NamedTuple):
    """A fleet, its journals, and the truth of the window."""

    nodes: Sequence[Node]
    folder: Path
    paths: Sequence[Path]
    truth: Truth


def made(folder: Path, nodes: Sequence[Node]) -> Fleet:
    """Let all nodes write their journals."""
    paths = [path for node in nodes for path in fleet.write(node, folder)]
    return Fleet(nodes, folder, paths, fleet.truth(nodes, WEEK_STEPS, 2 * WEEK_STEPS))


def batches(paths: Iterable[Path]) -> Iterator[list[Row]]:
    """Give what a fleet pushes of what a report reads, node by node, oldest first."""
    for path in paths:
        for rows in fleet.rows(path, {"pool": "a"}):
            yield [kept for row in rows if (kept := _read(row))]


def _read(row: Row) -> Row | None:
    if row.measurement != GPU or row.fields[0][0] in READ:
        return row
    fields = tuple(one for one in row.fields if one[0] in READ)
    return row._replace(fields=fields) if fields else None


def push(server: AnyServer, several: Iterable[Sequence[Row]]) -> None:
    """Send what nodes push."""
    for rows in several:
        if isinstance(server, Prometheus):
            server.write_remote(remote_write.encode(rows), remote_write.HEADERS).good()
        else:
            server.write_lines(line_protocol.encode(rows)).good()
    settle(server)


def settle(server: AnyServer) -> None:
    """Let a store show what it was given."""
    if isinstance(server, Victoria):
        server.ask("GET", "/internal/force_flush").good()


def ledger_of(server: AnyServer) -> Ledger:
    """Ask a server as the command does."""
    if isinstance(server, InfluxServer):
        return InfluxLedger(Influx(server.url, DATABASE, longest=1 << 28), "pool")
    return PromLedger(Store(server.url, longest=1 << 28), "pool")


@pytest.fixture(scope="module")
def five(tmp_path_factory: pytest.TempPathFactory) -> Fleet:
    """Five nodes of two GPUs: one late, one that vanished, outages, a lost journal, moved, cut, replaced."""
    return made(tmp_path_factory.mktemp("fleet"), fleet.fleet(SEED, 5, 2))


@pytest.fixture(scope="module")
def stores(five: Fleet) -> Iterator[Mapping[str, AnyServer]]:
    """Push the fleet to three stores."""
    with victoria() as one, prometheus(out_of_order="100000h") as two, influx() as three:
        several = list(batches(five.paths))
        for server in (one, two, three):
            push(server, several)
        yield {"victoria": one, "prometheus": two, "influx": three}


def told_by(gathered: Gathered) -> Truth:
    """Sum up accounts by UUID, state and owner."""
    found: Truth = Counter()
    for row in gathered.rows:
        found[row.uuid, row.state, row.owner] += row.amounts.elapsed_ms
    return +found


def check_sums(gathered: Gathered, truth: Truth) -> None:
    """Fail unless the identity holds, and each GPU was there for as long as in truth."""
    assert build(gathered, WINDOW, now_ms=NOW_MS).identity_ok
    owed: Counter[str] = Counter()
    for one in gathered.stretches:
        owed[one.uuid] += one.end_ms - one.start_ms
    entered: Counter[str] = Counter()
    for (uuid, _, _), elapsed_ms in told_by(gathered).items():
        entered[uuid] += elapsed_ms
    assert entered == owed
    true: Counter[str] = Counter()
    for (uuid, _, _), elapsed_ms in truth.items():
        true[uuid] += elapsed_ms
    assert {uuid: round(elapsed_ms / 1000) for uuid, elapsed_ms in owed.items()} == {
        uuid: round(elapsed_ms / 1000) for uuid, elapsed_ms in true.items()
    }


def check_truth(gathered: Gathered, truth: Truth) -> None:
    """Fail unless each account is what it was, to a thousandth."""
    check_sums(gathered, truth)
    told = told_by(gathered)
    wrong = {
        key: (told[key], truth[key])
        for key in told.keys() | truth.keys()
        if abs(told[key] - truth[key]) > TOLERANCE * truth[key]
    }
    assert wrong == {}


def check_nearly(gathered: Gathered, truth: Truth) -> None:
    """Fail unless states and owners of the fleet are what they were, to a thousandth of its time."""
    check_sums(gathered, truth)
    whole_ms = sum(truth.values())
    for part in (_state, _owner, _account):
        assert _apart(_by(told_by(gathered), part), _by(truth, part)) <= TOLERANCE * whole_ms
    for uuid in {key[0] for key in truth}:
        told, true = (
            Counter({key: ms for key, ms in one.items() if key[0] == uuid})
            for one in (told_by(gathered), truth)
        )
        assert _apart(told, true) <= TOLERANCE * 7 * DAY_MS, uuid


def _state(key: tuple[str, State, str]) -> object:
    return key[1]


def _owner(key: tuple[str, State, str]) -> object:
    return key[2]


def _account(key: tuple[str, State, str]) -> object:
    return key[1:]


def _apart(told: Mapping[Any, int], true: Mapping[Any, int]) -> int:
    """Tell how much time is in a wrong place."""
    return sum(max(0, told.get(key, 0) - true.get(key, 0)) for key in told.keys() | true.keys())


def _by(truth: Truth, part: Callable[[tuple[str, State, str]], object]) -> Counter[object]:
    found: Counter[object] = Counter()
    for key, elapsed_ms in truth.items():
        found[part(key)] += elapsed_ms
    return found


def test_the_journals_tell_the_truth(five: Fleet) -> None:
    """To the millisecond: what stores are compared with."""
    with opened(five.paths) as journals:
        gathered = journals.gather(WINDOW, 0)
    check_sums(gathered, five.truth)
    assert told_by(gathered) == +five.truth


def free_gpus(told: Iterable[FreeHour]) -> Counter[tuple[int, int]]:
    """Give nodes by hour and by how many of their GPUs were free throughout it."""
    found: Counter[tuple[int, int]] = Counter()
    for one in told:
        found[one.hour_ms, one.gpus] += one.nodes
    return found


@pytest.mark.parametrize("name", ["victoria", "prometheus", "influx"])
def test_what_lay_free_is_told_as_by_journals(
    five: Fleet, stores: Mapping[str, AnyServer], name: str
) -> None:
    """But for hours at whose edge a GPU began or ended to be free, within an interval of telling."""
    ledger = ledger_of(stores[name])
    told = free_gpus(facts_from(ledger, gather_from(ledger, WINDOW, now_ms=NOW_MS)).free)
    with opened(five.paths) as journals:
        several = [facts(one.db, WINDOW) for one in journals.opened]
    true = free_gpus(row for one in several for row in one.free)
    assert sum(true.values()) > 200
    assert sum(((true - told) + (told - true)).values()) <= 0.02 * sum(true.values())


@pytest.mark.parametrize("name", ["victoria", "prometheus", "influx"])
def test_what_was_pushed_is_told_truly(five: Fleet, stores: Mapping[str, AnyServer], name: str) -> None:
    """Each account of each GPU, to a thousandth; all time of each GPU, to the second."""
    ledger = ledger_of(stores[name])
    drawn = gather_from(ledger, WINDOW, now_ms=NOW_MS)
    check_truth(drawn.gathered, five.truth)
    assert drawn.gathered.covered == WINDOW
    hours = facts_from(ledger, drawn).hours
    by_hour: Counter[object] = Counter()
    for one in hours:
        by_hour[one.hour_ms] += one.amounts.elapsed_ms
    owed: Counter[object] = Counter()
    for stretch in drawn.gathered.stretches:
        for hour_ms in range(stretch.start_ms // HOUR_MS * HOUR_MS, stretch.end_ms, HOUR_MS):
            owed[hour_ms] += min(stretch.end_ms, hour_ms + HOUR_MS) - max(stretch.start_ms, hour_ms)
    assert by_hour == owed


AWAY_MS = WINDOW.from_ms + 3 * DAY_MS + 20 * 60_000
"""From here on the store that scrapes is away for three hours."""


@pytest.fixture(scope="module")
def pages(five: Fleet) -> Iterator[Victoria]:
    """Scrape the fleet: one node twice a minute, the others each five minutes, two of them twice over.

    The scraper meets the agent that forgot at another address, which an agent had before that is away.
    """
    with victoria() as server:
        for number, node in enumerate(five.nodes):
            scrapers = [Scraper(30_000 if number == 0 else 300_000, 7_300 + 1_000 * number)]
            if number in (2, 4):
                scrapers = [scrapers[0]._replace(labels=(("replica", "a"),))]
                scrapers += [Scraper(300_000, 97_000, (("replica", "b"),))]
            paths = [path for path in five.paths if path.name.startswith(node.name)]
            addresses = [f"10.0.0.{number}:9740", "10.0.0.2:9740"]
            for scraper in scrapers:
                columns = scrape(node, paths, scraper, addresses, WINDOW.from_ms - 12 * HOUR_MS)
                body = lines(columns, [(AWAY_MS, AWAY_MS + 3 * HOUR_MS)])
                server.ask("POST", "/api/v1/import", body).good()
        settle(server)
        yield server


def scraped_from(server: Victoria, window: Window) -> Gathered:
    """Read accounts out of pages."""
    return gather_from(ledger_of(server), window, now_ms=NOW_MS).gathered


def test_what_was_scraped_is_told_truly(five: Fleet, pages: Victoria) -> None:
    """Scrapes lie anywhere between ticks; the store was away for three hours, addresses are used again."""
    gathered = scraped_from(pages, WINDOW)
    check_nearly(gathered, five.truth)
    assert gathered.covered == WINDOW


@pytest.mark.parametrize("part", ["before", "after"])
def test_an_outage_of_the_store_at_an_edge_costs_no_time(five: Fleet, pages: Victoria, part: str) -> None:
    """Nothing is told of an hour and more around it: accounts are split evenly, and all time is there."""
    cut_ms = AWAY_MS + 100 * 60_000
    window = replace(WINDOW, to_ms=cut_ms) if part == "before" else replace(WINDOW, from_ms=cut_ms)
    truth = fleet.truth(
        five.nodes, *((edge - START_MS) // STEP_MS for edge in (window.from_ms, window.to_ms))
    )
    gathered = scraped_from(pages, window)
    check_sums(gathered, truth)
    assert gathered.covered == window
    told = told_by(gathered)
    for uuid in {key[0] for key in truth}:
        wrong_ms = sum(abs(told[key] - truth[key]) for key in told.keys() | truth.keys() if key[0] == uuid)
        assert wrong_ms <= 2 * 4 * HOUR_MS, uuid


def report(capsys: pytest.CaptureFixture[str], *options: str) -> dict[str, Any]:
    """Run the command; give the report as data."""
    capsys.readouterr()
    assert main(["report", "--weeks", "1", "--format", "json", *options]) == 0
    told: dict[str, Any] = json.loads(capsys.readouterr().out)
    return told


def check_alike(told: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """Fail unless two reports say the same of states and owners, to a thousandth."""
    for name in ("window", "covered", "identity_ok"):
        assert told[name] == wanted[name], name
    assert told["inventory"]["gpus"] == wanted["inventory"]["gpus"]
    assert told["inventory"]["gpu_seconds"] == pytest.approx(wanted["inventory"]["gpu_seconds"], abs=1.0)
    for state, one in wanted["states"].items():
        assert told["states"][state]["gpu_seconds"] == pytest.approx(one["gpu_seconds"], rel=TOLERANCE), state
    owners = {one["owner"]: one for one in told["owners"]}
    assert owners.keys() == {one["owner"] for one in wanted["owners"]}
    for one in wanted["owners"]:
        same = owners[one["owner"]]
        for state, seconds in one["states"].items():
            assert same["states"][state] == pytest.approx(seconds, rel=TOLERANCE), (one["owner"], state)
        if one["gpu_seconds"]:
            assert same["joules"] == pytest.approx(one["joules"], rel=TOLERANCE), one["owner"]
            # Stores tell for what share of the window a GPU was cut and not seen busy, not of whose time.
            assert same["busy_ratio_mean"] == pytest.approx(one["busy_ratio_mean"], rel=0.05), one["owner"]


@pytest.mark.parametrize("name", ["victoria", "influx"])
def test_the_command_says_of_a_store_what_it_says_of_journals(
    five: Fleet, stores: Mapping[str, AnyServer], name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """States, owners, energy and busy time, as data."""
    days = ("--from", "2026-09-21", "--to", "2026-09-28")
    wanted = report(capsys, "--journal", str(five.folder), *days)
    assert wanted["window"]["seconds"] == 604_800
    more = ("--database", DATABASE) if name == "influx" else ()
    check_alike(report(capsys, "--source", stores[name].url, *more, *days), wanted)


def test_a_week_in_which_the_clocks_change_has_its_own_length(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Berlin's week 13 of 2026 has 167 hours, from a store as from a journal."""
    start_ms = 1_774_216_800_000  # Sunday 22 March 2026, 22:00 UTC: an hour before the week begins there
    steps = 170 * HOUR_STEPS
    node = Node("node-000", last=steps)
    for index in range(2):
        node.plans[gpu_of(0, index)] = plan(Random(index), (), 0, steps)  # noqa: S311  a plan
    paths = fleet.write(node, tmp_path, start_ms)
    week = ("--week", "2026-W13", "--timezone", "Europe/Berlin")
    wanted = report(capsys, "--journal", str(tmp_path), *week)
    assert wanted["window"]["seconds"] == 167 * 3600
    assert wanted["inventory"]["gpu_seconds"] == 2 * 167 * 3600
    truth = fleet.truth([node], HOUR_STEPS, 168 * HOUR_STEPS)
    with victoria() as server:
        push(server, batches(paths))
        told = report(capsys, "--source", server.url, *week)
    check_alike(told, wanted)
    for state in State:
        seconds = sum(ms for key, ms in truth.items() if key[1] is state) / 1000
        assert told["states"][state]["gpu_seconds"] == pytest.approx(seconds, abs=1.0)


@pytest.mark.parametrize("opened_store", [victoria, prometheus, influx], ids=lambda one: one.__name__)
def test_accounts_of_ten_years_keep_their_milliseconds(opened_store: Callable[[], Any]) -> None:
    """A GPU that has worked since 2016 works on for a week, a second less than seven days."""
    enrolled_ms = WINDOW.from_ms - 10 * 365 * DAY_MS - 123
    labels = (("node", "n1"), ("gpu", "0"), ("uuid", "GPU-old"), ("model", "M"))
    rows = []
    for at_ms in range(WINDOW.from_ms - HOUR_MS, WINDOW.to_ms + 2 * HOUR_MS, 300_000):
        idle_ms = 123_456_789_012 + max(0, min(999, at_ms - WINDOW.from_ms))
        work_ms = at_ms - enrolled_ms - idle_ms
        for state, owner, elapsed_ms in (("active", "vision", work_ms), ("free", "", idle_ms)):
            fields = (("tally_seconds_total", elapsed_ms / 1000), ("tally_joules_total", elapsed_ms * 0.6543))
            whose = (("state", state), *((("owner", owner),) if owner else ()))
            rows.append(Row(GPU, (*labels, *whose), fields, at_ms))
        rows.append(Row(GPU, labels, (("info", 1.0),), at_ms))
    with opened_store() as server:
        push(server, [sorted(rows, key=lambda row: row.at_ms)])
        drawn = gather_from(ledger_of(server), WINDOW, now_ms=NOW_MS)
    assert drawn.gathered.violations == []
    told = {(row.state, row.owner): row.amounts for row in drawn.gathered.rows}
    assert {key: amounts.elapsed_ms for key, amounts in told.items()} == {
        (State.ACTIVE, "vision"): 7 * DAY_MS - 999,
        (State.FREE, ""): 999,
    }
    assert told[State.ACTIVE, "vision"].energy_mj == pytest.approx(7 * DAY_MS * 654.3, rel=1e-5)
    assert drawn.lives["GPU-old"].until_ms >= WINDOW.to_ms


@pytest.mark.slow
def test_fifty_nodes_are_told_truly_by_every_store(tmp_path: Path) -> None:
    """Two hundred GPUs and two weeks; nodes and agents are away, GPUs move, are lost, cut and replaced."""
    fifty = made(tmp_path, fleet.fleet(SEED + 1, 50, 4))
    with opened(fifty.paths) as journals:
        gathered = journals.gather(WINDOW, 0)
    check_sums(gathered, fifty.truth)
    assert told_by(gathered) == +fifty.truth
    with victoria() as one, prometheus(out_of_order="100000h") as two, influx() as three:
        servers: tuple[AnyServer, ...] = (one, two, three)
        for rows in batches(fifty.paths):
            lines_of_rows = line_protocol.encode(rows)
            one.write_lines(lines_of_rows).good()
            three.write_lines(lines_of_rows).good()
            two.write_remote(remote_write.encode(rows), remote_write.HEADERS).good()
        settle(one)
        for server in servers:
            drawn = gather_from(ledger_of(server), WINDOW, now_ms=NOW_MS)
            check_truth(drawn.gathered, fifty.truth)
            assert drawn.gathered.covered == WINDOW
