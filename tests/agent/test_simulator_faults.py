"""The faults of the simulated driver: how they are written, and what a client of NVML sees of each."""

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from ctypes import byref

import pynvml
import pytest

from agent.errors import SettingsError
from agent.simulated.faults import FAULTS_HELP, FORMS, NEVER_US, Fault, parse_faults, resolve, split
from agent.simulator import parse, simulate, uninstall
from tests.agent.faulty import NOON, SECOND, Rig, code_of


@pytest.fixture(autouse=True)
def clean() -> Iterator[None]:
    """Leave no library behind."""
    yield
    uninstall()


def only(text: str) -> Fault:
    """Understand one fault of a node of eight GPUs."""
    return parse_faults([text], 8).faults[0]


# The text


def test_a_text_is_a_simulation_and_its_faults() -> None:
    """What stands before the first ! is the simulation."""
    assert split("h200x8:training!hang=3!xid=2:79@5") == ("h200x8:training", ["hang=3", "xid=2:79@5"])
    simulation, faults = parse("t4x2:held!lost=1!hang=0@1..2")
    assert (simulation.count, simulation.name) == (2, "held")
    assert [(fault.kind, fault.gpus) for fault in faults.faults] == [("lost", (1,)), ("hang", (0,))]


def test_times_after_the_start_become_absolute() -> None:
    """All processes that get the resolved text agree; what is absolute already stays."""
    text = "h200x8!hang=3@+20..+60.5!lost=1@7..+30!crash!xid=2:79@+5"
    resolved = "h200x8!hang=3@1020.250..1060.750!lost=1@7..1030.250!crash!xid=2:79@1005.250"
    assert resolve(text, 1000.25) == resolved
    assert resolve(resolved, 5_000) == resolved


@pytest.mark.parametrize(
    ("text", "gpus"),
    [
        ("hang", (0, 1, 2, 3, 4, 5, 6, 7)),
        ("hang=3", (3,)),
        ("hang=0-2", (0, 1, 2)),
        ("hang=1,4", (1, 4)),
        ("hang=6-7,1,6", (6, 7, 1)),
        ("unloaded", (-1,)),
    ],
)
def test_gpus_are_listed(text: str, gpus: tuple[int, ...]) -> None:
    """One, a range, several, and all where none is named."""
    assert only(text).gpus == gpus


@pytest.mark.parametrize(
    ("text", "window"),
    [
        ("lost=1", (0, NEVER_US)),
        ("lost=1@20", (20 * SECOND, NEVER_US)),
        ("lost=1@20..60.5", (20 * SECOND, 60 * SECOND + 500_000)),
    ],
)
def test_a_fault_has_a_window(text: str, window: tuple[int, int]) -> None:
    """Without @ it is always there, without an end for ever."""
    fault = only(text)
    assert (fault.start_us, fault.end_us) == window


def test_numbers_follow_the_gpus() -> None:
    """A count that is left out is 1; a word stands for itself, and a layout is kept as it is written."""
    assert only("slowcalls=1-2:250").numbers == (250,)
    assert only("xid=2:79@5").numbers == (79, 1)
    assert only("xid=2:79*300@5").numbers == (79, 300)
    assert only("ecc=2:5:1@7").numbers == (5, 1)
    slowed = only("slowed=2:power_brake:30")
    assert (slowed.word, slowed.numbers) == ("power_brake", (30,))
    assert only("plays=1:stalled").word == "stalled"
    assert only("mig=0:3g.71gb+1g.18gb+me@7..9").word == "3g.71gb+1g.18gb+me"


@pytest.mark.parametrize(
    "text",
    [
        "hung=3",
        "",
        "hang=",
        "hang=x",
        "hang=8",
        "hang=5-2",
        "hang=1:5",
        "hang=1@",
        "hang=1@soon",
        "hang=1@1..2..3",
        "hang=1@9..5",
        "hang=1@+5",
        "unloaded=1",
        "slowcalls=1",
        "slowcalls",
        "slowcalls=1:fast",
        "slowcalls=1:5*2",
        "restart=1",
        "restart=1@5..6",
        "xid=1:79",
        "xid=1:79*@5",
        "xid=1:79*0@5",
        "ecc=1:5@7",
        "mig=0",
        "plays=1:chess",
        "slowed=1:laziness:50",
        "slowed=1:50:power_cap",
        "heat=1:core",
        "heat=1:core:warm",
        "memory=1:full",
        "errors=1:typo:5",
    ],
)
def test_a_fault_that_is_none_is_refused_in_one_sentence(text: str) -> None:
    """The error names the fault, all kinds there are, and an example."""
    with pytest.raises(SettingsError) as caught:
        only(text)
    message = str(caught.value)
    assert message.startswith(f"the fault {text!r} ")
    assert "h200x8!hang=3@+20..+60" in message
    assert all(form in message for form in FORMS.values())
    assert "\n" not in message


def test_a_bad_time_is_refused_when_it_is_resolved() -> None:
    """Whoever starts the children says so, not the child."""
    with pytest.raises(SettingsError, match=r"the fault 'lost=1@\+x'"):
        resolve("h200x8!lost=1@+x", 0)


@pytest.mark.parametrize("text", ["h200x8!mig=0:9g.9gb", "t4x1!mig=0:none", "h200x8!mig=0:4g.71gb+4g.71gb"])
def test_a_layout_that_does_not_fit_is_refused(text: str) -> None:
    """Profiles must be the model's and fit into its slices."""
    with pytest.raises(SettingsError, match="the fault 'mig=0"):
        parse(text)


def test_the_help_shows_how_every_kind_is_written() -> None:
    """The table is complete."""
    lines = {line.split()[0] for line in FAULTS_HELP.splitlines() if line.strip()}
    assert set(FORMS.values()) <= lines
    assert all(form.partition("=")[0].partition("[")[0] == kind for kind, form in FORMS.items())


def test_simulate_understands_faults() -> None:
    """The probe gives it the whole text."""
    library = simulate("h200x3!forbidden=1")
    pynvml.nvmlInit()
    assert [code_of(pynvml.nvmlDeviceGetHandleByIndex, index) for index in range(3)] == [0, 4, 0]
    assert len(library.faults.faults) == 1


# Calls


@pytest.mark.parametrize(
    ("function", "argument"),
    [
        (pynvml.nvmlDeviceGetUUID, "handle"),
        (pynvml.nvmlDeviceGetHandleByIndex, "index"),
        (pynvml.nvmlDeviceGetHandleByUUID, "uuid"),
        (pynvml.nvmlDeviceGetHandleByPciBusId, "pci_bus"),
    ],
)
def test_a_hung_gpu_blocks_all_calls_that_name_it(function: Callable[..., object], argument: str) -> None:
    """Until the window is over; the neighbour answers at once."""
    rig = Rig("h200x2!hang=1@+10..+20").open()
    gpu = rig.simulation.gpu(1)
    names = {"handle": rig.handle(1), "index": 1, "uuid": gpu.uuid, "pci_bus": gpu.pci_bus}
    rig.at(12)
    rig.handle(0)
    assert rig.seconds() == 12
    function(names[argument])
    assert 20 <= rig.seconds() < 20.1


def test_a_hung_thread_takes_no_signals() -> None:
    """As in the kernel: all that can be blocked are blocked, and only meanwhile."""
    rig = Rig("h200x1!hang@+10..+20").open()
    handle = rig.handle()
    masks: list[set[int]] = []
    wait = rig.clock.wait

    def listen(seconds: float) -> bool:
        masks.append({int(one) for one in signal.pthread_sigmask(signal.SIG_BLOCK, ())})
        return wait(seconds)

    rig.driver._failing._wait = listen
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    rig.at(12)
    pynvml.nvmlDeviceGetUUID(handle)
    assert all({signal.SIGTERM, signal.SIGINT, signal.SIGALRM} <= mask for mask in masks)
    assert masks
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == before


HANGS = """
import pynvml
from agent.simulated.faults import parse_faults
from agent.simulated.scenario import parse_simulation
from agent.simulator import Library, install

now_us = [5_000_000]

def wait(seconds):
    print("hung", flush=True)
    input()
    print("woken", flush=True)
    now_us[0] = 20_000_000

faults = parse_faults(["hang=0@3..10"], 1)
install(Library(parse_simulation("h200x1"), lambda: now_us[0], faults=faults, wait=wait))
pynvml.nvmlInit()
pynvml.nvmlDeviceGetHandleByIndex(0)
print("free", flush=True)
"""


def test_a_hung_process_outlives_sigterm() -> None:
    """It dies when the call comes back, not before."""
    command = [sys.executable, "-c", HANGS]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout
        assert child.stdout.readline() == "hung\n"
        child.terminate()
        assert child.communicate("\n", timeout=60)[0] == "woken\n"
    assert child.returncode == -signal.SIGTERM


def test_who_waits_for_events_takes_no_signals_either_while_another_call_hangs() -> None:
    """A process of which one thread sits in the kernel is not ended by another one."""
    rig = Rig("h200x1").open()
    masks: list[int] = []
    rig.driver._failing._wait = lambda _: masks.append(len(signal.pthread_sigmask(signal.SIG_BLOCK, ())))
    for rig.driver._failing.stuck in (0, 1):
        code_of(pynvml.nvmlEventSetWait_v2, pynvml.nvmlEventSetCreate(), 10)
    assert masks[0] == 0
    assert masks[1] > 20


def test_slow_calls_take_their_time() -> None:
    """Each one on that GPU."""
    rig = Rig("h200x2!slowcalls=1:300").open()
    handle = rig.handle(1)
    assert rig.seconds() == pytest.approx(0.3)
    pynvml.nvmlDeviceGetUUID(handle)
    assert rig.seconds() == pytest.approx(0.6)
    rig.handle(0)
    assert rig.seconds() == pytest.approx(0.6)


@pytest.mark.parametrize(("kind", "code"), [("lost", 15), ("reset_required", 16), ("removed", 15)])
def test_a_gone_gpu_stays_gone_for_an_old_handle(kind: str, code: int) -> None:
    """Every call says so, also when the fault is over, until the library is initialised anew."""
    rig = Rig(f"h200x2!{kind}=1@+10..+20").open()
    handle = rig.handle(1)
    for seconds, expected in ((9, 0), (12, code), (25, code)):
        rig.at(seconds)
        assert code_of(pynvml.nvmlDeviceGetUUID, handle) == expected
        assert code_of(rig.handle, 1) == expected
        assert code_of(rig.handle, 0) == 0
    rig.reopen()
    assert code_of(pynvml.nvmlDeviceGetUUID, rig.handle(1)) == 0


def test_an_absence_that_nobody_saw_still_ends_a_handle() -> None:
    """A handle does not survive what happened between two calls."""
    rig = Rig("h200x1!lost@+10..+20").open()
    handle = rig.handle()
    rig.at(30)
    assert code_of(pynvml.nvmlDeviceGetUUID, handle) == 15


def test_a_gpu_lost_before_init_still_counts() -> None:
    """But it cannot be opened."""
    rig = Rig("h200x2!lost=0").open()
    assert pynvml.nvmlDeviceGetCount() == 2
    assert [code_of(rig.handle, index) for index in (0, 1)] == [15, 0]


def test_samples_of_a_lost_gpu_do_not_exist() -> None:
    """After it came back, the ring begins when it did."""
    rig = Rig("h200x1!lost@+10..+20").open()
    rig.at(23)
    rig.reopen()
    _, samples = pynvml.nvmlDeviceGetSamples(rig.handle(), 1, 0)
    fresh = [one.timeStamp for one in samples if one.timeStamp > NOON + 10_200_000]
    assert min(fresh) > NOON + 20 * SECOND


def test_a_removed_gpu_is_not_counted_and_the_indexes_close_up() -> None:
    """After a new init the third GPU is the second; when it is put in again it has its place back."""
    rig = Rig("h200x3!removed=1@+10..+20").open()
    uuids = [rig.simulation.uuid(gpu) for gpu in range(3)]
    for seconds, there in ((12, (0, 2)), (25, (0, 1, 2))):
        rig.at(seconds)
        rig.reopen()
        assert pynvml.nvmlDeviceGetCount() == len(there)
        handles = [rig.handle(index) for index in range(len(there))]
        assert [pynvml.nvmlDeviceGetUUID(handle) for handle in handles] == [uuids[gpu] for gpu in there]
        assert [pynvml.nvmlDeviceGetIndex(handle) for handle in handles] == list(range(len(there)))
        assert code_of(rig.handle, len(there)) == 2
        found = code_of(pynvml.nvmlDeviceGetHandleByUUID, uuids[1])
        assert found == (0 if 1 in there else 6)


def test_a_gpu_is_added_by_a_removal_that_ends() -> None:
    """It is not there for a library that was opened before."""
    rig = Rig("h200x2!removed=1@0..+20").open()
    assert pynvml.nvmlDeviceGetCount() == 1
    rig.at(25)
    assert (pynvml.nvmlDeviceGetCount(), code_of(rig.handle, 1)) == (1, 2)
    rig.reopen()
    assert (pynvml.nvmlDeviceGetCount(), code_of(rig.handle, 1)) == (2, 0)


def test_a_forbidden_gpu_gives_no_handle() -> None:
    """By index, UUID or PCI bus; a handle of before goes on."""
    rig = Rig("h200x1!forbidden@+10").open()
    handle = rig.handle()
    rig.at(12)
    assert code_of(rig.handle) == 4
    assert code_of(pynvml.nvmlDeviceGetHandleByUUID, rig.simulation.uuid(0)) == 4
    assert code_of(pynvml.nvmlDeviceGetHandleByPciBusId, rig.simulation.pci_bus(0)) == 4
    assert code_of(pynvml.nvmlDeviceGetUUID, handle) == 0


@pytest.mark.parametrize(("kind", "code"), [("unloaded", 9), ("mismatch", 18), ("nolibrary", 12)])
def test_a_library_that_cannot_be_opened_says_why(kind: str, code: int) -> None:
    """And can be opened when the fault is over."""
    rig = Rig(f"h200x1!{kind}@0..+20")
    assert code_of(pynvml.nvmlInit) == code
    assert code_of(pynvml.nvmlDeviceGetCount) == 1
    rig.at(20)
    assert code_of(pynvml.nvmlInit) == 0
    assert pynvml.nvmlDeviceGetCount() == 1


def test_an_open_library_survives_an_upgrade_but_not_an_unloading() -> None:
    """With other packages it goes on; without a driver nothing is initialised until a new init."""
    rig = Rig("h200x1!mismatch@+10..+20!unloaded@+30..+40").open()
    handle = rig.handle()
    rig.at(12)
    assert code_of(pynvml.nvmlDeviceGetUUID, handle) == 0
    for seconds in (32, 42):
        rig.at(seconds)
        assert code_of(pynvml.nvmlDeviceGetUUID, handle) == 1
        assert code_of(pynvml.nvmlDeviceGetCount) == 1
    pynvml.nvmlInit()
    assert code_of(pynvml.nvmlDeviceGetUUID, handle) == 0


def test_a_crash_takes_the_process() -> None:
    """At the first call on that GPU, by SIGSEGV; the calls before are answered."""
    program = (
        "import pynvml, resource; from agent.simulator import simulate\n"
        "resource.setrlimit(resource.RLIMIT_CORE, (0, 0))\n"
        "simulate('h200x2!crash=1'); pynvml.nvmlInit()\n"
        "print(pynvml.nvmlDeviceGetName(pynvml.nvmlDeviceGetHandleByIndex(0)), flush=True)\n"
        "pynvml.nvmlDeviceGetHandleByIndex(1); print('alive')\n"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (ended.stdout, ended.returncode) == ("NVIDIA H200\n", -signal.SIGSEGV)


# What is counted


def test_counters_of_a_reset_gpu_begin_again() -> None:
    """Energy is what was used since then; the truth of the simulation goes on, the neighbour too."""
    rig = Rig("h200x2:training!restart=1@+10").open()
    restart_us = NOON + 10 * SECOND
    rig.at(9)
    assert rig.field(83, 1).value.ullVal > 10**9
    rig.at(40)
    truth = rig.simulation.energy_joules(1, restart_us, rig.now_us())
    assert rig.field(83, 1).value.ullVal / 1_000 == pytest.approx(truth, abs=0.002)
    assert pynvml.nvmlDeviceGetTotalEnergyConsumption(rig.handle(1)) / 1_000 == pytest.approx(
        truth, abs=0.002
    )
    capped = rig.simulation.throttle_seconds(1, "power_cap", restart_us, rig.now_us())
    assert rig.field(74, 1).value.ullVal / 1e9 == pytest.approx(capped)
    sent = rig.simulation.nvlink_bytes(1, "tx", restart_us, rig.now_us())
    assert rig.field(138, 1, 0xFFFFFFFF).value.ullVal * 1_024 == pytest.approx(sent, abs=18 * 1_024)
    assert rig.field(83, 0).value.ullVal > 10**9


def test_means_across_a_reset_are_true() -> None:
    """Power of the last second and samples of the ring do not notice that counters began again."""
    rig = Rig("h200x1:bursty!restart=0@+10").open()
    rig.at(10.3)
    now_us = rig.now_us()
    watts = rig.simulation.energy_joules(0, now_us - SECOND, now_us)
    assert pynvml.nvmlDeviceGetPowerUsage(rig.handle()) / 1_000 == pytest.approx(watts, abs=0.001)
    _, samples = pynvml.nvmlDeviceGetSamples(rig.handle(), 1, now_us - 5 * SECOND)
    ends = [one.timeStamp for one in samples]
    busy = sum(one.sampleValue.uiVal / 600 for one in samples)
    truth = rig.simulation.busy_seconds(0, ends[0] - SECOND // 6, ends[-1])
    assert busy == pytest.approx(truth, abs=0.01)


def test_memory_errors_survive_a_reset_on_the_board_only() -> None:
    """Volatile counts begin again, aggregate ones go on."""
    rig = Rig("h200x1!ecc=0:5:1@+10!ecc=0:2:0@+30!restart=0@+20").open()

    def counts() -> list[int]:
        return [rig.field(number).value.ullVal for number in (3, 4, 5, 6)]

    before = counts()
    grown = []
    for seconds in (12, 22, 32):
        rig.at(seconds)
        grown.append([now - then for now, then in zip(counts(), before, strict=True)])
    assert grown == [[5, 1, 5, 1], [0, 0, 5, 1], [2, 0, 7, 1]]


def test_defects_come_and_go() -> None:
    """What is asked about health tells each fault while it lasts."""
    rig = Rig(
        "h200x1!unpersistent@+10..+20!remap@+10..+20!linkdown=0:7@+10..+20!narrow=0:8@+10..+20"
        "!recovery=0:2@+10..+20!fabric=0:2@+10..+20!slowlink=0:3@+10..+20"
    ).open()
    seen = []
    for seconds in (5, 15, 25):
        rig.at(seconds)
        handle = rig.handle()
        fabric = pynvml.c_nvmlGpuFabricInfo_v2_t()
        pynvml.nvmlDeviceGetGpuFabricInfoV(handle, byref(fabric))
        seen.append(
            (
                pynvml.nvmlDeviceGetPersistenceMode(handle),
                rig.field(144).value.ullVal,
                [rig.field(165, scope=link).value.ullVal for link in (6, 7)],
                pynvml.nvmlDeviceGetCurrPcieLinkWidth(handle),
                pynvml.nvmlDeviceGetCurrPcieLinkGeneration(handle),
                rig.field(230).value.ullVal,
                fabric.state,
            )
        )
    sound = (1, 0, [1, 1], 16, 5, 0, 3)
    assert seen == [sound, (0, 1, [1, 0], 8, 3, 2, 2), sound]


def test_a_wrong_word_is_refused_with_the_choices() -> None:
    """The kind's own, before all kinds."""
    with pytest.raises(
        SettingsError, match="knows no 'full', only remap_failed, page_pending, sram_exceeded"
    ):
        only("memory=1:full")


# Garbage


def test_garbage_is_told_only_while_it_lasts() -> None:
    """The same calls are true again afterwards."""
    rig = Rig("h200x1:training!garbage@+10..+20").open()
    handle = rig.handle()
    rig.at(15)
    assert pynvml.nvmlDeviceGetMemoryInfo(handle).used == 2**64 - 1
    rig.at(21)
    assert pynvml.nvmlDeviceGetMemoryInfo(handle).used < 2**40


def test_a_broken_energy_counter_alternates_between_two_kinds_of_nonsense() -> None:
    """All ones, and a counter that runs backwards."""
    rig = Rig("h200x1:training!garbage").open()
    told = []
    for second in range(6):
        rig.at(second)
        told.append(rig.field(83).value.ullVal)
    assert told[0::2] == [2**64 - 1] * 3
    assert told[1] > told[3] > told[5]


def test_broken_gauges_cannot_be_true() -> None:
    """Below zero, more power than there is, more memory than there is."""
    rig = Rig("h200x1:training!garbage").open()
    handle = rig.handle()
    assert pynvml.nvmlDeviceGetTemperatureV(handle, 0) == -40
    assert rig.field(186).value.uiVal == 2**32 - 1
    assert pynvml.nvmlDeviceGetMemoryInfo(handle, version=pynvml.nvmlMemory_v2).used == 2**64 - 1


def test_broken_samples_are_too_large_or_of_the_future() -> None:
    """Of the busy share, and of what each process had."""
    rig = Rig("h200x1:training!garbage").open()
    handle = rig.handle()
    _, samples = pynvml.nvmlDeviceGetSamples(handle, 1, 0)
    assert {one.sampleValue.uiVal for one in samples[0::2]} == {250}
    assert all(one.timeStamp > rig.now_us() + 3_000 * SECOND for one in samples[1::2])
    shares = pynvml.nvmlDeviceGetProcessUtilization(handle, 0)
    assert {one.smUtil for one in shares} == {2**32 - 1}
