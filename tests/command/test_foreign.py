"""Fleets without our agent: what other exporters told a store becomes a journal to make reports of."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from itertools import count
from pathlib import Path
from typing import NamedTuple

import pytest

from agent.errors import SettingsError, StoreError
from agent.holders.owners import OwnerRule
from agent.holders.settings import HolderSettings
from agent.journal_file import connect
from agent.store import Store
from agent.tally import DAY_MS, HOUR_MS
from agent.tick import State
from exporters.remote_write import HEADERS, encode
from exporters.rows import Row
from gputally import foreign_past
from gputally.foreign import foreign_journal, remarks_of
from gputally.foreign_schemas import DCGM, SCHEMAS, claimant_of
from gputally.settings import Settings
from reports.report import Report
from reports.sources.journal_facts import facts
from reports.sums import SpellRow
from reports.window import Window
from tests.reports.small import MONDAY_MS, report_of
from tests.stores.prometheus import Prometheus, prometheus
from tests.stores.victoria import Victoria, victoria

STEP_MS = 30_000
EDGE_MS = round(2.5 * STEP_MS)
"""So far off may be what lies between two edges."""
MIB, GIB = 2**20, 2**30
FIRST_MS = MONDAY_MS - 364 * DAY_MS
"""Long ago: VictoriaMetrics takes nothing of the future."""
IDLE = {"exported_namespace": "train", "exported_pod": "idle-0", "exported_container": "main"}
_days = count(1)

Values = Mapping[str, float]
Told = Callable[[int], tuple[Mapping[str, str], Values] | None]
"""What is told of a GPU so many ms after the start: labels of its holder and values by metric, or nothing."""


class Gpu(NamedTuple):
    """A GPU of a fleet: the labels that never change, when its node is scraped, and what is told."""

    labels: Mapping[str, str]
    late_ms: int
    told: Told


def dcgm(uuid: str, node: str, told: Told, **more: str) -> Gpu:
    """Give a GPU as dcgm-exporter tells of it."""
    labels = {"UUID": uuid, "Hostname": node, "gpu": "3", "modelName": "NVIDIA H200", "job": "dcgm"}
    return Gpu({**labels, "instance": f"{node}:9400", **more}, 7_000, told)


def shows(busy: float = 0.0, used_mib: float = 0.0, **more: float) -> Values:
    """Give what a GPU shows in DCGM's units; it has 144 000 MiB."""
    return {
        "DCGM_FI_DEV_GPU_UTIL": busy,
        "DCGM_FI_DEV_FB_USED": used_mib,
        "DCGM_FI_DEV_FB_FREE": 144_000 - used_mib,
        "DCGM_FI_DEV_GPU_TEMP": 55.0,
        **more,
    }


def rows_of(gpus: Iterable[Gpu], start_ms: int, length_ms: int, step_ms: int = STEP_MS) -> list[Row]:
    """Give all samples of a time."""
    rows = []
    for gpu in gpus:
        for at_ms in range(gpu.late_ms, length_ms + step_ms, step_ms):
            told = gpu.told(at_ms)
            labels, values = told or ({}, {})
            named = tuple(sorted({**gpu.labels, **labels}.items()))
            for name, value in values.items():
                measurement, _, rest = name.partition("_")
                rows.append(Row(measurement, named, ((rest, value),), start_ms + at_ms))
    return sorted(rows, key=lambda row: row.at_ms)


def push(server: Victoria | Prometheus, rows: Sequence[Row]) -> None:
    """Write samples, a bite at a time, oldest first."""
    for first in range(0, len(rows), 20_000):
        server.write_remote(encode(rows[first : first + 20_000]), HEADERS).good()
    if isinstance(server, Victoria):
        server.ask("GET", "/internal/force_flush").good()


@pytest.fixture(scope="module")
def server() -> Iterator[Victoria]:
    """Run a store; each test has a day of its own in it."""
    with victoria() as made:
        yield made


class Past:
    """A day of the store."""

    def __init__(self, server: Victoria | Prometheus) -> None:
        self.server = server
        self.start_ms = FIRST_MS + next(_days) * DAY_MS

    def told(self, *gpus: Gpu, hours: int) -> "Past":
        """Let GPUs be told of for some hours."""
        push(self.server, rows_of(gpus, self.start_ms, hours * HOUR_MS))
        return self

    @contextmanager
    def journal(self, hours: int, schema: str = "dcgm", settings: Settings | None = None) -> Iterator[Path]:
        """Make the journal of the first hours of the day."""
        end_ms = self.start_ms + hours * HOUR_MS
        with (
            closing(Store(self.server.url)) as store,
            foreign_journal(store, schema, self.start_ms, end_ms, settings or Settings()) as path,
        ):
            yield path

    def report(self, hours: int, schema: str = "dcgm", settings: Settings | None = None) -> Report:
        """Make the report of the first hours of the day."""
        with self.journal(hours, schema, settings) as path:
            report = report_of(path)
        assert report.identity_ok
        assert (report.covered.from_ms, report.covered.to_ms) == (
            self.start_ms,
            self.start_ms + hours * HOUR_MS,
        )
        return report

    def remarks(self, hours: int, schema: str = "dcgm") -> tuple[str, ...]:
        """Give what the journal of the first hours says of itself."""
        with self.journal(hours, schema) as path, closing(connect(path)) as db:
            return remarks_of(db)


@pytest.fixture
def past(server: Victoria) -> Past:
    """Give an empty day."""
    return Past(server)


def hours_of(report: Report, uuid: str = "") -> dict[State, float]:
    """Give GPU-hours by state, of a GPU or of all, without what is empty."""
    found: dict[State, float] = {}
    for line in report.gpus:
        if uuid in ("", line.uuid):
            for state in State:
                if line.sums.elapsed_ms(state):
                    found[state] = found.get(state, 0.0) + line.sums.elapsed_ms(state) / HOUR_MS
    return found


def spells_of(report: Report) -> list[SpellRow]:
    """Give the spells that went beyond patience."""
    return [line.spell for line in report.spells]


def owners_of(report: Report) -> list[str]:
    """Name those who answer for some of the time."""
    return sorted({row.owner for row in report.accounts if row.owner})


def about(hours: Mapping[State, float], edges: int = 1) -> dict[State, object]:
    """Expect so many hours, as well as samples can tell them."""
    return {state: pytest.approx(told, abs=edges * EDGE_MS / HOUR_MS) for state, told in hours.items()}


def busy(_: int) -> tuple[Mapping[str, str], Values]:
    """Work all the time."""
    return IDLE, shows(100.0, 60_000.0)


def free(_: int) -> tuple[Mapping[str, str], Values]:
    """Do nothing."""
    return {}, shows()


# A fleet


def works_for_three_hours(at_ms: int) -> tuple[Mapping[str, str], Values]:
    """Work for another pod, then be free."""
    return (
        ({"exported_namespace": "ml", "exported_pod": "job-1"}, shows(90.0, 60_000.0))
        if (at_ms < 3 * HOUR_MS)
        else free(at_ms)
    )


def is_held_for_nothing(at_ms: int) -> tuple[Mapping[str, str], Values]:
    """Be held from 1:00 to 3:30 without doing anything."""
    return (IDLE, shows(0.0, 20_000.0)) if HOUR_MS <= at_ms < 3.5 * HOUR_MS else free(at_ms)


def is_not_scraped_for_an_hour(at_ms: int) -> tuple[Mapping[str, str], Values] | None:
    """Work, and be silent from 2:00 to 3:00."""
    return None if 2 * HOUR_MS <= at_ms < 3 * HOUR_MS else busy(at_ms)


FLEET = (
    dcgm("GPU-a0", "a", works_for_three_hours),
    dcgm("GPU-a1", "a", is_held_for_nothing, gpu="4"),
    dcgm("GPU-b0", "b", is_not_scraped_for_an_hour)._replace(late_ms=19_000),
)
TRUTH = {
    "GPU-a0": {State.ACTIVE: 3.0, State.FREE: 3.0},
    "GPU-a1": {State.HELD_GAP: 0.5, State.HELD_IDLE: 2.0, State.FREE: 3.5},
    "GPU-b0": {State.ACTIVE: 5.0, State.UNKNOWN: 1.0},
}


def check_fleet(past: Past) -> None:
    """Check the report of the fleet against what is known of it."""
    report = past.report(6)
    assert report.inventory.gpu_ms == 18 * HOUR_MS
    for uuid, truth in TRUTH.items():
        assert hours_of(report, uuid) == about(truth, edges=2)
    assert {(line.uuid, line.node, line.index, line.model) for line in report.gpus} == {
        ("GPU-a0", "a", 3, "NVIDIA H200"),
        ("GPU-a1", "a", 4, "NVIDIA H200"),
        ("GPU-b0", "b", 3, "NVIDIA H200"),
    }
    (spell,) = spells_of(report)
    assert (spell.holder, spell.owner, spell.kind, spell.uuid) == ("train/idle-0", "train", "pod", "GPU-a1")
    assert spell.seen_ms == pytest.approx(2.5 * HOUR_MS, abs=EDGE_MS)


def test_a_fleet_is_accounted_for_as_well_as_samples_can_tell(past: Past) -> None:
    """Work, idle time with who is to be asked, free time, and a node that was silent."""
    check_fleet(past.told(*FLEET, hours=6))


def test_prometheus_tells_the_same() -> None:
    """All that is asked is what both understand."""
    with prometheus() as server:
        check_fleet(Past(server).told(*FLEET, hours=6))


def test_small_answers_make_the_same_journal(past: Past, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where one piece of time ends and the next begins changes nothing."""
    past.told(*FLEET, hours=6)
    whole = past.report(6)
    monkeypatch.setattr(foreign_past, "MOST_SAMPLES", 100)
    monkeypatch.setattr(foreign_past, "PIECE_MS", HOUR_MS)
    assert past.report(6).gpus == whole.gpus


def test_it_says_that_it_is_an_estimate(past: Past) -> None:
    """With the exporter, its step, and what counts as inventory; our own journals say nothing of the kind."""
    estimate, inventory = past.told(*FLEET, hours=6).remarks(6)
    assert estimate == (
        "estimated from snapshots of dcgm-exporter every 30 s: what came and went between two of them was "
        "not seen"
    )
    assert inventory.startswith("what dcgm-exporter told of (3 GPUs) counts as there for the whole window")


def test_the_journal_goes_when_it_was_read(past: Past) -> None:
    """Nothing stays behind, also when the reader fails."""
    past.told(dcgm("GPU-a0", "a", busy), hours=1)
    folders: list[Path] = []

    def fails() -> None:
        with past.journal(1) as path:
            folders.append(path.parent)
            assert path.exists()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fails()
    assert [folder.exists() for folder in folders] == [False]


def test_progress_tells_how_many_nodes_are_done(past: Past) -> None:
    """From none to all."""
    past.told(*FLEET, hours=1)
    told: list[tuple[int, int]] = []
    with (
        closing(Store(past.server.url)) as store,
        foreign_journal(
            store,
            "dcgm",
            past.start_ms,
            past.start_ms + HOUR_MS,
            Settings(),
            progress=lambda done, of: told.append((done, of)),
        ),
    ):
        pass
    assert told == [(0, 2), (1, 2), (2, 2)]


def test_facts_come_with_it(past: Past) -> None:
    """Heat, memory and what holders had are told as from our own journals."""
    past.told(*FLEET, hours=6)
    with past.journal(6) as path, closing(connect(path)) as db:
        told = facts(db, Window(from_ms=past.start_ms, to_ms=past.start_ms + 6 * HOUR_MS))
    assert {seat: one.temperature_max_celsius for seat, one in told.gpus.items()} == {
        ("GPU-a0", "a"): 55.0,
        ("GPU-a1", "a"): 55.0,
        ("GPU-b0", "b"): 55.0,
    }
    assert told.gpus["GPU-b0", "b"].memory_max_bytes == 60_000 * MIB
    assert told.memory_bytes == {"NVIDIA H200": 144_000 * MIB}
    assert told.latest == {"GPU-a0": State.FREE, "GPU-a1": State.FREE, "GPU-b0": State.ACTIVE}
    assert {(one.name, one.node) for one in told.tenures} == {
        ("ml/job-1", "a"),
        ("train/idle-0", "a"),
        ("train/idle-0", "b"),
    }


def test_patience_and_owners_are_those_of_the_settings(past: Past) -> None:
    """A holder that serves may wait for a day; its owner is whom the rules name."""
    past.told(dcgm("GPU-a1", "a", is_held_for_nothing), hours=4)
    rule = OwnerRule(namespace="train", owner="team-x", workload="serving")
    report = past.report(4, settings=Settings(holders=HolderSettings(map=(rule,))))
    assert hours_of(report) == about({State.HELD_GAP: 2.5, State.FREE: 1.5}, edges=2)
    assert owners_of(report) == ["team-x"]


# What labels say


def test_the_exporters_own_pod_holds_nothing(past: Past) -> None:
    """Where a store adds the exporter's pod to a GPU that nobody holds, it is free."""
    own = {"namespace": "gpu-operator", "pod": "nvidia-dcgm-exporter-x7", "container": "nvidia-dcgm-exporter"}
    past.told(dcgm("GPU-a0", "a", free, **own), dcgm("GPU-a1", "a", is_held_for_nothing, **own), hours=4)
    report = past.report(4)
    assert hours_of(report, "GPU-a0") == {State.FREE: 4.0}
    assert {spell.holder for spell in spells_of(report)} == {"train/idle-0"}


@pytest.mark.parametrize(
    ("labels", "exported", "holder"),
    [
        ({"namespace": "ml", "pod": "job-1", "container": "main"}, 0, ("pod", "ml/job-1")),
        ({"namespace": "ml", "pod": "job-1"}, 1, None),
        ({"namespace": "ops", "pod": "exporter-x7", "container": "dcgm-exporter"}, 0, None),
        ({"namespace": "ops", "pod": "gpu-metrics-exporter-1"}, 0, None),
        ({"pod": "", "namespace": "ops"}, 0, None),
        ({"hpc_job": "4711"}, 0, ("slurm", "4711")),
        ({"hpc_job": "4711", "pod": "dcgm-exporter-1"}, 1, ("slurm", "4711")),
        ({"username": "ada", "pid": "17"}, 0, ("process", "ada")),
        (
            {"username": "root", "pod_name": "p", "pod_namespace": "lab", "container_name": "c"},
            0,
            ("pod", "lab/p"),
        ),
        ({}, 0, None),
    ],
)
def test_holders_are_told_by_labels(
    labels: dict[str, str], exported: int, holder: tuple[str, str] | None
) -> None:
    """A pod, else a Slurm job, else a user; never the exporter itself."""
    one = claimant_of(labels, exported=bool(exported))
    assert (one and (one.kind, one.name)) == holder


@pytest.mark.parametrize(
    ("labels", "node"),
    [
        ({"Hostname": "n1", "instance": "10.0.0.1:9400"}, "n1"),
        ({"hostname": "n1"}, "n1"),
        ({"Hostname": "dcgm-exporter-6ldbb", "node": "n2", "instance": "10.0.0.1:9400"}, "n2"),
        ({"Hostname": "dcgm-exporter-6ldbb", "instance": "10.0.0.1:9400"}, "10.0.0.1"),
        ({"instance": "[fd00::1]:9400"}, "fd00::1"),
        ({"instance": "n3"}, "n3"),
        ({}, ""),
    ],
)
def test_nodes_are_hosts_or_where_they_are_scraped(labels: dict[str, str], node: str) -> None:
    """An exporter in a pod may call itself the host."""
    assert DCGM.node_of(labels) == node


def test_two_pods_that_share_a_gpu_get_half_each(past: Past) -> None:
    """The exporter tells each value once for each pod; it counts once."""

    def told(_: int) -> tuple[Mapping[str, str], Values]:
        return {}, shows(80.0, 30_000.0, DCGM_FI_DEV_POWER_USAGE=400.0)

    pods = [{"namespace": "ml", "pod": name} for name in ("a", "b")]
    past.told(*(dcgm("GPU-a0", "a", told, **pod) for pod in pods), hours=1)
    report = past.report(1)
    assert hours_of(report) == {State.ACTIVE: 1.0}
    assert report.sums.total.energy_mj == 400_000 * 3600
    assert report.busy_ratio_mean == pytest.approx(0.8)
    with past.journal(1) as path, closing(connect(path)) as db:
        held = db.execute(
            "SELECT name, sum(elapsed_ms) FROM posting JOIN holder ON holder.id = holder_id GROUP BY 1"
        ).fetchall()
    assert held == [("ml/a", HOUR_MS // 2), ("ml/b", HOUR_MS // 2)]


def test_a_slurm_job_without_an_account_is_unattributed(past: Past) -> None:
    """The exporter tells its number only."""
    past.told(dcgm("GPU-a0", "a", lambda _: ({"hpc_job": "4711"}, shows(0.0, 9_000.0))), hours=2)
    (spell,) = spells_of(past.report(2))
    assert (spell.holder, spell.kind, spell.owner) == ("4711", "slurm", "unattributed:slurm")


def test_a_gpu_that_moves_is_accounted_for_in_both_nodes(past: Past) -> None:
    """One inventory row for each, and no time twice."""
    first = dcgm("GPU-a0", "a", lambda at_ms: busy(at_ms) if at_ms < HOUR_MS else None)
    then = dcgm("GPU-a0", "b", lambda at_ms: busy(at_ms) if at_ms >= 2 * HOUR_MS else None)
    other = dcgm("GPU-b0", "b", busy)
    report = past.told(first, then, other, hours=4).report(4)
    assert report.inventory.gpu_ms == 8 * HOUR_MS
    assert hours_of(report, "GPU-a0") == about({State.ACTIVE: 3.0, State.UNKNOWN: 1.0})
    assert {(line.uuid, line.node) for line in report.gpus} == {
        ("GPU-a0", "a"),
        ("GPU-a0", "b"),
        ("GPU-b0", "b"),
    }


def test_hostile_names_are_tamed(past: Past) -> None:
    """What a store holds goes into reports: no line breaks, no escapes, no endless names."""
    evil = {"exported_namespace": "<b>x</b>\n\x1b[31m", "exported_pod": "y" * 500}
    past.told(dcgm('GPU-".*|{}', "n\\1", lambda _: (evil, shows(0.0, 9_000.0))), hours=2)
    report = past.report(2)
    (spell,) = spells_of(report)
    assert spell.uuid == 'GPU-".*|{}'
    assert "\n" not in spell.owner + spell.holder
    assert "\x1b" not in spell.owner + spell.holder
    assert max(len(spell.owner), len(spell.holder)) <= 120


# Quantities


def only(past: Past, hours: int = 1, **values: float) -> Report:
    """Make the report of a GPU that shows the same all the time."""
    return past.told(dcgm("GPU-a0", "a", lambda _: (IDLE, shows(**values))), hours=hours).report(hours)


def test_sm_activity_counts_before_utilization(past: Past) -> None:
    """A GPU that spins on one multiprocessor is not at work."""
    assert hours_of(only(past, busy=100.0, DCGM_FI_PROF_SM_ACTIVE=0.007)) == about(
        {State.HELD_GAP: 0.5, State.HELD_IDLE: 0.5}
    )


def test_sm_activity_that_was_not_read_does_not_count(past: Past) -> None:
    """Exactly 0 beside work means that the profiling counters stand still."""
    assert hours_of(only(past, busy=100.0, DCGM_FI_PROF_SM_ACTIVE=0.0)) == {State.ACTIVE: 1.0}


def test_an_encoder_at_work_is_work(past: Past) -> None:
    """As for our own readings."""
    assert hours_of(only(past, DCGM_FI_DEV_ENC_UTIL=3.0)) == {State.ACTIVE: 1.0}


def test_garbage_is_left_out_and_counted(past: Past) -> None:
    """What cannot be is no measurement: activity is unknown then."""
    report = only(past, busy=4_294_967_295.0, DCGM_FI_DEV_POWER_USAGE=9.2e18)
    assert hours_of(report) == {State.UNKNOWN: 1.0}
    assert report.sums.total.energy_seen_ms == 0
    assert past.remarks(1)[-1] == "values that cannot be were left out: 121 of busy_ratio, 121 of power_watts"


def test_energy_is_that_of_the_counter(past: Past) -> None:
    """Millijoules of the driver, not the power at the moments of the samples; it may begin anew."""

    def told(at_ms: int) -> tuple[Mapping[str, str], Values]:
        counted = 1e9 + 250.0 * at_ms if at_ms < HOUR_MS else 250.0 * (at_ms - HOUR_MS)
        used = {"DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION": counted, "DCGM_FI_DEV_POWER_USAGE": 50.0}
        return IDLE, shows(90.0, 100.0, **used)

    past.told(dcgm("GPU-a0", "a", told), hours=2)
    assert past.report(2).sums.total.energy_mj == pytest.approx(250.0 * 2 * HOUR_MS, rel=0.02)


def test_dcgm_4_7_has_base_units(past: Past) -> None:
    """One name is of percent in 4.6 and of a ratio in 4.7: a label tells which."""
    new = {"DCGM_FI_SYSTEM_DRIVER_VERSION": "595.1"}
    old = {"DCGM_FI_DRIVER_VERSION": "580.1"}

    def told(busy: float) -> Told:
        values = {"DCGM_FI_DEV_GPU_UTIL_RATIO": busy, "DCGM_FI_DEV_GPU_TEMP_CELSIUS": 40.0}
        return lambda _: ({}, {**values, "DCGM_FI_DEV_FB_USED_BYTES": 3.0 * GIB})

    past.told(dcgm("GPU-new", "a", told(0.5), **new), dcgm("GPU-old", "a", told(50.0), **old), hours=1)
    report = past.report(1)
    busy = {line.uuid: line.sums.total.busy_ratio_mean for line in report.gpus}
    assert busy == {"GPU-new": pytest.approx(0.5), "GPU-old": pytest.approx(0.5)}


def test_xids_are_counted_where_the_latest_one_changes(past: Past) -> None:
    """That at the start may be old; the same one again is not seen."""
    numbers = {0: 31.0, 1: 79.0, 2: 0.0, 3: 79.0}

    def told(at_ms: int) -> tuple[Mapping[str, str], Values]:
        return IDLE, shows(50.0, DCGM_FI_DEV_XID_ERRORS=numbers[at_ms // HOUR_MS % 4])

    past.told(dcgm("GPU-a0", "a", told), hours=4)
    with past.journal(4) as path, closing(connect(path)) as db:
        rows = db.execute("SELECT hour_ms, uuid, number, count FROM xid_hour ORDER BY 1").fetchall()
    assert rows == [(past.start_ms + hour * HOUR_MS, "GPU-a0", 79, 1) for hour in (1, 3)]


def test_the_step_is_the_median_distance_of_the_nodes_samples(past: Past) -> None:
    """Every third is lost; nodes have steps of their own."""
    lossy = dcgm("GPU-a0", "a", lambda at_ms: None if at_ms // STEP_MS % 3 == 2 else busy(at_ms))
    push(past.server, rows_of([dcgm("GPU-b0", "b", busy)], past.start_ms, HOUR_MS, 2 * STEP_MS))
    past.told(lossy, hours=1)
    assert hours_of(past.report(1)) == {State.ACTIVE: 2.0}
    assert "every 30 to 60 s" in past.remarks(1)[0]


def test_time_before_and_after_is_unknown(past: Past) -> None:
    """A GPU that joins late and leaves early is inventory all the same."""
    late = dcgm("GPU-a0", "a", lambda at_ms: busy(at_ms) if HOUR_MS <= at_ms < 2 * HOUR_MS else None)
    report = past.told(late, hours=4).report(4)
    assert hours_of(report) == about({State.ACTIVE: 1.0, State.UNKNOWN: 3.0})


# MIG


def instance(number: str, profile: str, told: Told, **more: str) -> Gpu:
    """Give a MIG instance of a GPU."""
    labels = {"GPU_I_ID": number, "GPU_I_PROFILE": profile, "modelName": "NVIDIA A100-SXM4-80GB", **more}
    return dcgm("GPU-m0", "m", told, **labels)


def slice_told(pod: str, **values: float) -> Told:
    """Tell of an instance; power and temperature are those of the GPU, told again for each."""
    holder = {"exported_namespace": "ml", "exported_pod": pod} if pod else {}
    repeated = {"DCGM_FI_DEV_POWER_USAGE": 300.0, "DCGM_FI_DEV_GPU_TEMP": 50.0}
    return lambda _: (holder, {"DCGM_FI_DEV_FB_USED": 5_000.0, **repeated, **values})


def test_mig_instances_are_parts_of_a_gpu(past: Past) -> None:
    """By the compute slices of their profiles; power counts once, and what has no instance is free."""
    past.told(
        instance("1", "3g.40gb", slice_told("works", DCGM_FI_PROF_GR_ENGINE_ACTIVE=0.6)),
        instance("5", "2g.20gb", slice_told("waits", DCGM_FI_PROF_GR_ENGINE_ACTIVE=0.0)),
        hours=2,
    )
    report = past.report(2)
    sevenths = {State.ACTIVE: 6 / 7, State.HELD_GAP: 1 / 7, State.HELD_IDLE: 3 / 7, State.FREE: 4 / 7}
    assert hours_of(report) == {state: pytest.approx(hours, abs=0.01) for state, hours in sevenths.items()}
    assert report.inventory.gpu_ms == 2 * HOUR_MS
    assert report.sums.total.energy_mj == 300_000 * 7200
    assert report.busy_ratio_mean is None
    assert {spell.holder for spell in spells_of(report)} == {"ml/waits"}
    remark = past.remarks(2)[2]
    assert remark.startswith("1 GPUs were partitioned (MIG): their time is shared out by the compute slices")
    assert remark.endswith("; for 1 of them the engine's activity stands for that of the SMs")


def test_a_mig_instance_without_activity_or_size_is_unknown(past: Past) -> None:
    """Nothing is made of a GPU's own utilization, which says nothing of its instances."""
    past.told(instance("1", "odd", slice_told("p", DCGM_FI_DEV_GPU_UTIL=0.0)), hours=1)
    assert hours_of(past.report(1)) == {State.UNKNOWN: 1.0}


def test_a_gpu_may_be_whole_and_then_partitioned(past: Past) -> None:
    """Each moment is judged as it was."""
    whole = dcgm("GPU-m0", "m", lambda at_ms: busy(at_ms) if at_ms < HOUR_MS else None)
    told = slice_told("p", DCGM_FI_PROF_SM_ACTIVE=0.5)
    part = instance("1", "7g.80gb", lambda at_ms: told(at_ms) if at_ms >= HOUR_MS else None)
    report = past.told(whole, part, hours=2).report(2)
    assert hours_of(report) == about({State.ACTIVE: 2.0})
    assert report.sums.total.busy_seen_ms == pytest.approx(HOUR_MS, abs=EDGE_MS)


# Other exporters


def nvitop(uuid: str, **more: float) -> Gpu:
    """Give a GPU as nvitop-exporter tells of it."""
    labels = {"uuid": uuid, "hostname": "10.0.0.7", "index": "1", "devicename": "NVIDIA L40S"}
    values = {
        "gpu_utilization_Percentage": 50.0,
        "gpu_memory_used_MiB": 1_000.0,
        "gpu_memory_total_MiB": 46_068.0,
        "gpu_temperature_C": 61.0,
        "gpu_power_usage_W": 200.0,
        **more,
    }
    return Gpu(labels, 3_000, lambda _: ({}, values))


def test_nvitop_tells_users_of_processes(past: Past) -> None:
    """Whoever runs something holds the GPU; MIG devices do not say of which GPU they are."""
    process = {"pid": "17", "username": "ada"}
    held = Gpu(
        {**nvitop("GPU-a0").labels, **process}, 3_000, lambda _: ({}, {"process_gpu_memory_MiB": 900.0})
    )
    past.told(nvitop("GPU-a0"), held, nvitop("MIG-1234"), hours=1)
    report = past.report(1, "nvitop")
    assert [(line.uuid, line.node, line.model) for line in report.gpus] == [
        ("GPU-a0", "10.0.0.7", "NVIDIA L40S")
    ]
    assert hours_of(report) == {State.ACTIVE: 1.0}
    assert owners_of(report) == ["ada"]
    assert report.sums.total.energy_mj == 200_000 * 3600
    remarks = past.remarks(1, "nvitop")
    assert remarks[2] == "1 MIG instances are left out: nvitop-exporter does not tell of which GPUs they are"
    assert remarks[3] == "nvitop-exporter does not tell energy counters and XIDs"


def test_nvidia_gpu_exporter_tells_models_in_a_series_of_their_own(past: Past) -> None:
    """Its UUIDs lack a prefix; who holds a GPU it does not know."""
    labels = {"uuid": "df6e7a7c-7314", "instance": "gpu7:9835", "job": "smi"}
    values = {
        "nvidia_smi_utilization_gpu_ratio": 0.0,
        "nvidia_smi_memory_used_bytes": 3.0 * GIB,
        "nvidia_smi_memory_total_bytes": 8.0 * GIB,
        "nvidia_smi_temperature_gpu": 44.0,
    }
    info = {**labels, "name": "NVIDIA GeForce RTX 2080", "index": "2"}
    past.told(
        Gpu(labels, 3_000, lambda _: ({}, values)),
        Gpu(info, 3_000, lambda _: ({}, {"nvidia_smi_gpu_info": 1.0})),
        hours=2,
    )
    report = past.report(2, "nvidia_gpu_exporter")
    (line,) = report.gpus
    assert (line.uuid, line.node, line.index) == ("GPU-df6e7a7c-7314", "gpu7", 2)
    assert line.model == "NVIDIA GeForce RTX 2080"
    assert hours_of(report) == about({State.HELD_GAP: 0.5, State.HELD_IDLE: 1.5})
    assert owners_of(report) == ["unattributed"]


# What is not there


def test_a_schema_that_is_not_there_names_those_that_are(past: Past) -> None:
    """One knows what to write instead."""
    past.told(nvitop("GPU-a0"), hours=1)
    with pytest.raises(StoreError) as told:
        past.report(1)
    assert str(told.value) == (
        f"{past.server.url} holds no series of dcgm-exporter in that time (DCGM_FI_DEV_GPU_TEMP, "
        "DCGM_FI_DEV_GPU_TEMP_CELSIUS, DCGM_FI_DEV_GPU_UTIL, DCGM_FI_DEV_GPU_UTIL_RATIO, "
        "DCGM_FI_DEV_FB_USED, DCGM_FI_DEV_FB_USED_BYTES); it holds those of nvitop-exporter (--schema nvitop)"
    )


def test_a_store_without_any_of_them_says_so(past: Past) -> None:
    """Time in which nothing was told."""
    with pytest.raises(StoreError, match="holds those of none of dcgm-exporter, nvitop-exporter"):
        past.report(1)


def test_a_schema_that_nobody_knows_names_the_choices(past: Past) -> None:
    """It is wrong use, found before anything is asked."""
    with pytest.raises(SettingsError, match="'smi' is not known: choose one of dcgm, nvitop, nvidia_gpu_exp"):
        past.report(1, "smi")
    assert list(SCHEMAS) == ["dcgm", "nvitop", "nvidia_gpu_exporter"]


def test_a_fleet_without_temperatures_is_found_by_other_metrics(past: Past) -> None:
    """Lists of metrics are for users to choose."""
    values = {"DCGM_FI_DEV_GPU_UTIL": 70.0}
    past.told(dcgm("GPU-a0", "a", lambda _: (IDLE, values)), hours=1)
    report = past.report(1)
    assert hours_of(report) == {State.ACTIVE: 1.0}
    assert owners_of(report) == ["train"]
