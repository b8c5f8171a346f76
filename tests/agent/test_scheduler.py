"""The scheduler of a simulated node: jobs are given GPUs, whether they run anything or not."""

from agent.holders.claims import Holders
from agent.holders.owners import Owners
from agent.simulated.scenario import parse_simulation
from agent.simulated.scheduler import Crowd, Scheduler
from agent.tick import Workload

MONDAY_MS = 1_767_571_200_000
"""Monday 5 January 2026, 00:00 UTC."""
HOUR_MS = 3_600_000


def held(text: str, at_ms: int) -> dict[str, tuple[str, str]]:
    """Tell name and owner of the holder of each GPU, as a perfect agent finds them."""
    simulation = parse_simulation(text)
    holders = Holders(
        Crowd(simulation), (Scheduler(simulation, lambda: at_ms),), Owners((), Workload.BATCH, 100)
    )
    readings = [simulation.reading(index, at_ms - 10_000, at_ms) for index in range(simulation.count)]
    gpus = {simulation.uuid(index): simulation.gpu(index) for index in range(simulation.count)}
    found = holders.holds(readings, gpus)
    return {
        str(gpus[uuid].index): (hold.holder.name, hold.holder.owner)
        for uuid, several in found.items()
        for hold in several
    }


def test_a_job_that_runs_nothing_holds_all_gpus_of_the_scenario() -> None:
    """The allocation is all there is."""
    assert held("h200x2:given", MONDAY_MS) == {"0": ("88412", "speech"), "1": ("88412", "speech")}


def test_an_allocation_outlasts_what_the_job_runs() -> None:
    """By day the job works, in the evening it only holds its GPU, at night nobody does."""
    by_day, evening, night = (held("h200x8:demo", MONDAY_MS + round(hour * HOUR_MS)) for hour in (12, 20, 23))
    assert by_day["4"] == evening["4"] == ("88412", "speech")
    assert "4" not in night
    simulation = parse_simulation("h200x8:demo")
    assert not simulation.processes(4, (MONDAY_MS + 20 * HOUR_MS) * 1000)


def test_processes_of_no_job_are_their_users() -> None:
    """The trainers of the demo are plain users."""
    assert held("h200x8:demo", MONDAY_MS + 12 * HOUR_MS)["0"] == ("python train.py", "alice")


def test_a_process_that_is_not_of_the_simulation_is_nobody() -> None:
    """As on a host where it ended."""
    assert Crowd(parse_simulation("h200x1:training")).resolve([1]) == {1: None}
