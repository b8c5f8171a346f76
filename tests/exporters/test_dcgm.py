"""The page of DCGM's names: every value comes out of a parser under the old name, in the old unit."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest
from prometheus_client.core import Metric
from prometheus_client.parser import text_string_to_metric_families

from agent.errors import SettingsError
from agent.tick import Holder, reading_of
from agent.view import View
from exporters.dcgm import FIELDS, LABELS, NAMINGS, page
from exporters.page import STALE_INTERVALS, Pages
from gputally.settings import NodeSettings
from tests.exporters.promtool import lint
from tests.exporters.views import END_MS, FULL, LOST, MIB, NODE, PARTS_OF_FULL, SLICES, SPARSE, VALUES, view

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "tests" / "golden" / "dcgm.prom"
JOB = Holder(kind="slurm", name="4711", owner="physics", user="alice")
POD = Holder(kind="pod", name="lab/notebook-0", owner="lab", namespace="lab", container="main")
CHOSEN_BY_DCGM = r"^DCGM_\w+ .*(snake_case|suffix|include type|base unit|abbreviated)"
Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def busy_view() -> View:
    """Give a view of a whole GPU that moves bytes, held by a job, and what it was ten seconds before."""
    seen = view()
    reading = reading_of(FULL.uuid, END_MS - 10_000, END_MS, VALUES, parts=PARTS_OF_FULL)
    return replace(seen, readings={**seen.readings, FULL.uuid: reading}, holders={FULL.uuid: ((JOB, ""),)})


def before(seen: View, seconds: float, **grown: float) -> View:
    """Give the view of some seconds before, when counters were so much lower."""
    values = {**VALUES, **{name: VALUES[name] - more for name, more in grown.items()}}
    end_ms = END_MS - int(seconds * 1000)
    early = reading_of(FULL.uuid, end_ms - 10_000, end_ms, values)
    return replace(seen, readings={FULL.uuid: early})


def samples(text: bytes) -> Samples:
    """Read a page with Prometheus' parser; a series that comes twice is an error."""
    found: Samples = {}
    for family in families(text):
        for sample in family.samples:
            key = sample.name, frozenset(sample.labels.items())
            assert key not in found
            assert sample.timestamp is None
            found[key] = sample.value
    return found


def families(text: bytes) -> Iterable[Metric]:
    """Parse a page; this parser, unlike Prometheus, would rename counters."""
    return text_string_to_metric_families(re.sub(r"(?m) counter$", " untyped", text.decode()))


def of_full(**more: str) -> frozenset[tuple[str, str]]:
    """Give the labels that dcgm-exporter puts on a GPU's series."""
    labels = {
        "gpu": "0",
        "UUID": FULL.uuid,
        "pci_bus_id": "00000000:19:00.0",
        "device": "nvidia0",
        "modelName": "NVIDIA H200",
        "Hostname": NODE,
        "DCGM_FI_DRIVER_VERSION": "570.86.15",
    }
    return frozenset({**labels, **more}.items())


def values(text: bytes, uuid: str = FULL.uuid) -> dict[str, float]:
    """Give the values of one GPU by name."""
    return {name: value for (name, labels), value in samples(text).items() if ("UUID", uuid) in labels}


def test_the_page_equals_its_golden_file() -> None:
    """The page of a known view is the golden file, byte for byte; GOLDEN=write writes it anew."""
    text = page(view(), before(view(), 10), {"cluster": "emea-1"}, "classic")
    if os.environ.get("GOLDEN") == "write":
        GOLDEN.write_bytes(text)

    assert text == GOLDEN.read_bytes()


@pytest.mark.parametrize("naming", NAMINGS)
def test_promtool_reads_the_page(naming: str) -> None:
    """Prometheus reads the page; all that its linter has against it are names that DCGM chose."""
    text = page(busy_view(), before(busy_view(), 10), {}, naming)
    tool = shutil.which("promtool")
    if tool is None:
        lint(text)  # which says what to install
    done = subprocess.run(
        [str(tool), "check", "metrics"], input=text, capture_output=True, timeout=60, check=False
    )
    said = (done.stdout + done.stderr).decode().splitlines()
    assert done.returncode == 3  # 1 would be a page that it cannot read
    assert said
    assert [line for line in said if not re.search(CHOSEN_BY_DCGM, line)] == []


def test_every_value_is_in_the_unit_that_dashboards_expect() -> None:
    """MHz, %, MiB, mJ and bytes per second, worked out by hand."""
    seen = busy_view()
    early = before(seen, 10, pcie_tx_bytes_total=5.0, nvlink_tx_bytes_total=8.0, nvlink_rx_bytes_total=2.0)
    found = values(page(seen, early, {}, "classic"))

    assert found == {
        "DCGM_FI_DEV_SM_CLOCK": pytest.approx(1755),
        "DCGM_FI_DEV_MEM_CLOCK": pytest.approx(3201),
        "DCGM_FI_DEV_MEMORY_TEMP": 70,
        "DCGM_FI_DEV_GPU_TEMP": 61.5,
        "DCGM_FI_DEV_POWER_USAGE": 612.25,
        "DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION": pytest.approx(9_123_456_789),
        "DCGM_FI_DEV_PCIE_REPLAY_COUNTER": VALUES["pcie_replays_total"],
        "DCGM_FI_DEV_GPU_UTIL": 87.5,
        "DCGM_FI_DEV_MEM_COPY_UTIL": 35,
        "DCGM_FI_DEV_ENC_UTIL": 0,
        "DCGM_FI_DEV_DEC_UTIL": 2,
        "DCGM_FI_DEV_XID_ERRORS": 79,
        "DCGM_FI_DEV_FB_FREE": VALUES["memory_free_bytes"] / MIB,
        "DCGM_FI_DEV_FB_USED": 121_500.5,
        "DCGM_FI_DEV_FB_RESERVED": 628,
        "DCGM_FI_DEV_UNCORRECTABLE_REMAPPED_ROWS": VALUES["remapped_rows_uncorrected_total"],
        "DCGM_FI_DEV_CORRECTABLE_REMAPPED_ROWS": VALUES["remapped_rows_corrected_total"],
        "DCGM_FI_DEV_ROW_REMAP_FAILURE": VALUES["row_remap_failure_flag"],
        "DCGM_FI_DEV_NVLINK_BANDWIDTH_TOTAL": pytest.approx(1 / 1_024_000),
        "DCGM_FI_PROF_GR_ENGINE_ACTIVE": VALUES["graphics_active_ratio"],
        "DCGM_FI_PROF_PIPE_TENSOR_ACTIVE": VALUES["tensor_active_ratio"],
        "DCGM_FI_PROF_DRAM_ACTIVE": VALUES["dram_active_ratio"],
        "DCGM_FI_PROF_PCIE_TX_BYTES": 0.5,
        "DCGM_FI_PROF_PCIE_RX_BYTES": 0,
    }


def test_the_names_of_47_are_in_base_units() -> None:
    """From DCGM 4.7 on units are ours: hertz, joules, bytes, ratios, bytes per second."""
    seen = busy_view()
    found = values(page(seen, before(seen, 5, nvlink_rx_bytes_total=10.0), {}, "4.7"))

    assert found["DCGM_FI_DEV_SM_CLOCK_HERTZ"] == 1.755e9
    assert found["DCGM_FI_DEV_GPU_UTIL_RATIO"] == 0.875
    assert found["DCGM_FI_DEV_FB_CAPACITY_BYTES"] == 143_771 * MIB
    assert found["DCGM_FI_DEV_GPU_ENERGY_JOULES_TOTAL"] == 9_123_456.789
    assert found["DCGM_FI_DEV_NVLINK_THROUGHPUT_BYTES_PER_SECOND"] == 2
    assert len(found) == len(FIELDS)


def test_the_names_of_46_keep_the_old_units() -> None:
    """DCGM 4.6 gave fields new names and the same numbers: its GPU_UTIL_RATIO is in percent."""
    seen = busy_view()
    found = values(page(seen, before(seen, 5), {}, "4.6"))

    assert (found["DCGM_FI_DEV_GPU_UTIL_RATIO"], found["DCGM_FI_DEV_BOARD_POWER_WATTS"]) == (87.5, 612.25)
    assert found["DCGM_FI_DEV_SM_CLOCK"] == pytest.approx(1755)
    assert "DCGM_FI_DEV_GPU_UTIL" not in found


@pytest.mark.parametrize(
    ("naming", "host", "driver"),
    [
        ("classic", "Hostname", "DCGM_FI_DRIVER_VERSION"),
        ("4.6", "hostname", "DCGM_FI_DRIVER_VERSION"),
        ("4.7", "hostname", "DCGM_FI_SYSTEM_DRIVER_VERSION"),
    ],
)
def test_labels_follow_the_naming(naming: str, host: str, driver: str) -> None:
    """The labels of host and driver are those of the exporter that has these names."""
    for _, labels in samples(page(busy_view(), None, {}, naming)):
        named = dict(labels)
        assert (named[host], named[driver]) == (NODE, "570.86.15")


def test_counters_and_gauges_have_the_types_of_dcgm_exporter() -> None:
    """Energy, replays and remapped rows are counters, without an ending that dashboards do not know."""
    text = page(busy_view(), before(busy_view(), 10), {}, "classic").decode()
    counters = set(re.findall(r"(?m)^# TYPE (\S+) counter$", text))

    assert counters == {
        "DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION",
        "DCGM_FI_DEV_PCIE_REPLAY_COUNTER",
        "DCGM_FI_DEV_UNCORRECTABLE_REMAPPED_ROWS",
        "DCGM_FI_DEV_CORRECTABLE_REMAPPED_ROWS",
    }
    assert text.count("# TYPE ") == text.count("# HELP ") == len(FIELDS) - 1


def test_what_was_not_read_is_absent_and_zero_is_shown() -> None:
    """A GPU that tells little has little, one that is lost has nothing, and 0 is a value."""
    text = page(view(), None, {}, "classic")

    assert values(text, SPARSE.uuid) == {
        "DCGM_FI_DEV_GPU_TEMP": 31,
        "DCGM_FI_DEV_GPU_UTIL": 0,
        "DCGM_FI_DEV_FB_USED": 0,
    }
    assert values(text, LOST.uuid) == {}
    assert not any("PCIE_TX" in name or "NVLINK" in name for name, _ in samples(text))
    assert page(None, None, {}, "classic") == b""


def test_a_rate_needs_two_readings_that_grow() -> None:
    """Without an earlier reading, or after a counter that fell, there is no rate; time that passed counts."""
    seen = busy_view()

    fallen = values(page(seen, before(seen, 10, pcie_tx_bytes_total=-1.0), {}, "classic"))
    assert "DCGM_FI_PROF_PCIE_TX_BYTES" not in fallen
    assert fallen["DCGM_FI_PROF_PCIE_RX_BYTES"] == 0
    assert "DCGM_FI_PROF_PCIE_RX_BYTES" not in values(page(seen, before(seen, 0), {}, "classic"))
    late = values(page(seen, before(seen, 40, pcie_tx_bytes_total=8.0), {}, "classic"))
    assert late["DCGM_FI_PROF_PCIE_TX_BYTES"] == 0.2


@pytest.mark.parametrize(
    ("seats", "labels"),
    [
        (((JOB, ""),), {"hpc_job": "4711"}),
        (((POD, ""),), {"container": "main", "namespace": "lab", "pod": "notebook-0"}),
        (((JOB, ""), (POD, "")), {}),
        (((replace(POD, kind="process"), ""),), {}),
        ((), {}),
    ],
)
def test_who_alone_holds_a_gpu_is_named(
    seats: tuple[tuple[Holder, str], ...], labels: dict[str, str]
) -> None:
    """A job or a pod that has the GPU for itself is on its series; of several holders none is."""
    found = samples(page(replace(busy_view(), holders={FULL.uuid: seats}), None, {}, "classic"))

    assert found["DCGM_FI_DEV_GPU_UTIL", of_full(**labels)] == 87.5
    assert sum(name == "DCGM_FI_DEV_GPU_UTIL" for name, _ in found) == 2


def test_slices_have_series_of_their_own_and_nothing_counts_twice() -> None:
    """A partitioned GPU shows activity and memory by slice, each with its holder, and all the rest once."""
    seats = ((POD, SLICES[0].uuid), (JOB, SLICES[1].uuid))
    slices = [replace(one, memory_used_bytes=2.0 * MIB, memory_total_bytes=9.0 * MIB) for one in SLICES]
    seen = view()
    reading = replace(seen.readings[FULL.uuid], slices=tuple(slices))
    seen = replace(seen, readings={FULL.uuid: reading}, holders={FULL.uuid: seats})
    found = samples(page(seen, None, {}, "classic"))

    first = {"GPU_I_PROFILE": "3g.71gb", "GPU_I_ID": SLICES[0].uuid}
    first |= {"container": "main", "namespace": "lab", "pod": "notebook-0"}
    second = {"GPU_I_PROFILE": "1g.18gb", "GPU_I_ID": SLICES[1].uuid, "hpc_job": "4711"}
    assert found["DCGM_FI_PROF_GR_ENGINE_ACTIVE", of_full(**first)] == 0.5
    assert found["DCGM_FI_PROF_GR_ENGINE_ACTIVE", of_full(**second)] == 0.6
    assert found["DCGM_FI_DEV_FB_FREE", of_full(**second)] == 7
    assert sum(name == "DCGM_FI_DEV_FB_USED" for name, _ in found) == 2
    assert found["DCGM_FI_DEV_POWER_USAGE", of_full()] == 612.25
    assert sum(name == "DCGM_FI_DEV_POWER_USAGE" for name, _ in found) == 1


def test_an_xid_of_an_earlier_boot_is_history() -> None:
    """As with DCGM, the latest XID stays until the host boots, and before any there is no series."""
    seen = busy_view()
    old = {key: replace(count, count_this_boot=0) for key, count in seen.xids.items()}
    assert "DCGM_FI_DEV_XID_ERRORS" not in values(page(replace(seen, xids=old), None, {}, "classic"))


def test_static_labels_never_hide_those_of_dcgm() -> None:
    """Labels of the settings are added, but a label that dashboards use keeps its meaning."""
    static = {"cluster": "emea-1", "Hostname": "mine"}
    found = samples(page(busy_view(), None, static, "classic"))
    assert found["DCGM_FI_DEV_GPU_UTIL", of_full(cluster="emea-1", hpc_job="4711")] == 87.5


@pytest.mark.parametrize("naming", NAMINGS)
def test_every_label_is_kept_from_the_settings(naming: str) -> None:
    """A GPU that no pod holds has no `pod`: a label of the settings with that name would seem to be one."""
    seen = busy_view()
    pages = [page(replace(seen, holders={FULL.uuid: ((one, ""),)}), None, {}, naming) for one in (JOB, POD)]
    sliced = replace(seen.readings[FULL.uuid], slices=SLICES)
    pages.append(page(replace(seen, readings={FULL.uuid: sliced}), None, {}, naming))
    found = {name for body in pages for _, labels in samples(body) for name, _ in labels}
    assert {"pod", "hpc_job", "GPU_I_ID"} <= found <= LABELS


@pytest.mark.parametrize("label", sorted(LABELS))
def test_the_settings_refuse_labels_of_dcgm(label: str) -> None:
    """Whoever has one of that name is told at the start."""
    with pytest.raises(SettingsError, match="that is not ours"):
        NodeSettings(labels={label: "mine"})


def test_pages_are_kept_per_view_and_leave_when_stale() -> None:
    """The page is made once per view, has rates from the second on, and is empty without a fresh interval."""
    now = [0.0]
    pages = Pages({}, "1", lambda: now[0])
    assert pages.dcgm("classic")[0] == b""
    seen = busy_view()
    pages.publish(before(seen, 10, pcie_tx_bytes_total=5.0))
    assert b"PCIE_TX" not in pages.dcgm("classic")[0]
    pages.publish(seen)
    body, kind = pages.dcgm("classic")
    assert values(body)["DCGM_FI_PROF_PCIE_TX_BYTES"] == 0.5
    assert pages.dcgm("classic")[0] is body
    assert kind == "text/plain; version=0.0.4; charset=utf-8"
    now[0] = STALE_INTERVALS * 10 + 0.001
    assert pages.dcgm("classic")[0] == b""


@pytest.mark.parametrize("naming", NAMINGS)
def test_the_table_of_the_docs_has_every_name(naming: str) -> None:
    """docs/switching.md has a row for each metric with its names and the quantity that it is made of."""
    rows = [line for line in (ROOT / "docs" / "switching.md").read_text().splitlines() if line[:1] == "|"]
    for field in FIELDS:
        name = field.names[naming]
        assert any(f"`{name}`" in row or not name for row in rows), name
