"""The metrics page: what goes in comes out of two foreign parsers, and nothing else does."""

import os
import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.core import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families as open_families
from prometheus_client.parser import text_string_to_metric_families as plain_families

from agent.quantities import QUANTITIES
from agent.tick import Condition, Gpu, State
from agent.view import View
from exporters.catalogue import FAMILIES, GPU_LABELS
from exporters.page import STALE_INTERVALS, Pages
from tests.exporters.promtool import lint
from tests.exporters.views import (
    ACCOUNTS,
    FULL,
    LITTLE,
    LOST,
    NODE,
    SLICES,
    SPARSE,
    START_MS,
    VALUES,
    renamed,
    view,
)

GOLDEN = Path(__file__).parents[1] / "golden"
VERSION = "1.2.3"
PLAIN = "text/plain; version=0.0.4; charset=utf-8"
OPEN = "application/openmetrics-text; version=1.0.0; charset=utf-8"
PROMETHEUS_2 = (
    "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,"
    "text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
)
PROMETHEUS_3 = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,"
    "application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3,"
    "text/plain;version=0.0.4;q=0.2,*/*;q=0.1"
)
BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"
STATIC = {"cluster": "emea-1", "rack": "r7"}

FAMILIES_OF: Mapping[bool, Callable[[str], Iterable[Metric]]] = {False: plain_families, True: open_families}
"""Prometheus' own parsers, of plain text and of OpenMetrics."""

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def page(seen: View | None, accept: str = "", labels: Mapping[str, str] | None = None) -> str:
    """Render a view."""
    pages = Pages(labels or {}, VERSION, lambda: 0.0)
    if seen is not None:
        pages.publish(seen)
    return pages.metrics(accept)[0].decode()


def samples(text: str, accept: str = "") -> Samples:
    """Read a page with the parser of its format; a series that comes twice or has a timestamp is an error."""
    found: Samples = {}
    for family in FAMILIES_OF[bool(accept)](text):
        for sample in family.samples:
            key = sample.name, frozenset(sample.labels.items())
            assert key not in found
            assert sample.timestamp is None
            found[key] = sample.value
    return found


def of_gpu(gpu: Gpu, **more: str) -> frozenset[tuple[str, str]]:
    """Give the labels of a GPU's series."""
    labels = {"node": NODE, "gpu": str(gpu.index), "uuid": gpu.uuid, "model": gpu.model, **more}
    return frozenset(labels.items())


@pytest.mark.parametrize(("name", "accept"), [("metrics.prom", ""), ("metrics.openmetrics", PROMETHEUS_2)])
def test_the_page_equals_its_golden_file(name: str, accept: str) -> None:
    """The page of a known view is the golden file, byte for byte; GOLDEN=write writes it anew."""
    text = page(view(), accept)
    if os.environ.get("GOLDEN") == "write":
        GOLDEN.mkdir(exist_ok=True)
        (GOLDEN / name).write_text(text, encoding="utf-8")

    assert text == (GOLDEN / name).read_text(encoding="utf-8")


def test_promtool_has_nothing_to_say_about_the_golden_page() -> None:
    """Prometheus' own linter finds no fault in the golden page."""
    lint(page(view()).encode())


def test_promtool_that_is_missing_fails_the_build(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without promtool a developer's test is skipped with what to install; on the build server it fails."""
    monkeypatch.setenv("PATH", str(tmp_path))
    assert shutil.which("promtool") is None

    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match="no-install-recommends prometheus"):
        lint(b"")
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="no-install-recommends prometheus"):
        lint(b"")


@pytest.mark.parametrize("accept", ["", PROMETHEUS_2, PROMETHEUS_3])
def test_every_value_of_a_view_comes_out_of_the_parser(accept: str) -> None:
    """Each quantity that was read is one sample of the same value; there are no other quantities."""
    found = samples(page(view(), accept), accept)

    expected: Samples = {}
    for gpu, values in ((FULL, VALUES), (SPARSE, LITTLE), (LOST, {})):
        for name, value in values.items():
            metric = QUANTITIES[name]
            expected[f"gpu_{metric.family or name}", of_gpu(gpu, **dict(metric.labels))] = value
    quantities = {f"gpu_{metric.family or name}" for name, metric in QUANTITIES.items()}
    assert {key: value for key, value in found.items() if key[0] in quantities} == expected


@pytest.mark.parametrize("accept", ["", PROMETHEUS_2])
def test_every_account_comes_out_of_the_parser(accept: str) -> None:
    """Seconds and joules come by state and owner, busy seconds by owner, all in base units."""
    found = samples(page(view(), accept), accept)

    expected: Samples = {}
    for (uuid, state, owner), account in ACCOUNTS.items():
        gpu = {gpu.uuid: gpu for gpu in (FULL, SPARSE, LOST)}[uuid]
        labels = of_gpu(gpu, state=state.value, owner=owner)
        expected["gpu_tally_seconds_total", labels] = account.elapsed_ms / 1000
        expected["gpu_tally_joules_total", labels] = account.energy_mj / 1000
    expected["gpu_tally_busy_seconds_total", of_gpu(FULL, owner="alice")] = 6306.09375
    expected["gpu_tally_busy_seconds_total", of_gpu(FULL, owner="bob")] = 4.375
    for gpu in (FULL, SPARSE, LOST):
        expected["gpu_tally_busy_seconds_total", of_gpu(gpu, owner="")] = 0.0
    assert {key: value for key, value in found.items() if key[0].startswith("gpu_tally_")} == expected


def test_identity_holders_and_health_come_out_of_the_parser() -> None:
    """What is not a quantity of an interval is there as well, with its own labels."""
    found = samples(page(view()))
    identity = {
        "serial": "1651324000017",
        "board_part": "699-2G530-0200-000",
        "vbios": "96.00.74.00.1A",
        "driver": "570.86.15",
        "cuda": "12.8",
        "pci_bus": "00000000:19:00.0",
        "inforom": "G520.0280.00.04",
        "architecture": "Hopper",
        "minor": "0",
        "module": "3",
        "chassis": "1822923000011",
        "slot": "4",
        "tray": "1",
    }

    assert found["gpu_info", of_gpu(FULL, **identity)] == 1
    bob = {"owner": "bob", "holder": "python -m ipykernel_launcher", "kind": "process", "user": "bob"}
    bob |= dict.fromkeys(("account", "partition", "qos", "namespace", "container", "cost_centre"), "")
    bob |= {"slice": "MIG-0a9f", "workload": "batch"}
    assert found["gpu_holder_info", of_gpu(FULL, **bob)] == 1
    assert sum(name == "gpu_holder_info" for name, _ in found) == 2
    assert [found["gpu_up", of_gpu(gpu)] for gpu in (FULL, SPARSE, LOST)] == [1, 1, 0]
    refused = frozenset({("quantity", "power_watts"), ("reason", "unsupported")})
    assert found["gputally_refused_values_total", refused] == 7
    assert found["gputally_tick_end_timestamp_seconds", frozenset()] == 1_767_657_600
    assert found["gputally_probe_up", frozenset()] == 1
    assert found["gputally_ticks_total", frozenset()] == 1141


def test_slices_have_metrics_of_their_own() -> None:
    """No series of a whole GPU carries a slice, so that a sum over GPUs counts nothing twice."""
    found = samples(page(view()))
    sliced = {name for name, labels in found if any(label == "slice" for label, _ in labels)}
    assert sliced == {"gpu_holder_info", *(name for name in FAMILIES if name.startswith("gpu_slice_"))}
    first = of_gpu(FULL, slice=SLICES[0].uuid, profile="3g.71gb")
    assert found["gpu_slice_info", first] == pytest.approx(3 / 7)
    assert found["gpu_slice_sm_active_ratio", first] == 0.5
    assert sum(name == "gpu_slice_sm_active_ratio" for name, _ in found) == 2


def test_slices_have_states_of_their_own() -> None:
    """Exactly one is 1, and a slice whose state is not known has none."""
    found = {
        dict(labels)["state"]: (dict(labels)["slice"], value)
        for (name, labels), value in samples(page(view())).items()
        if name == "gpu_slice_state"
    }
    known = SLICES[0].uuid
    assert found == {state.value: (known, float(state is State.ACTIVE)) for state in State}


def test_events_are_counted_by_kind() -> None:
    """Those of a GPU carry its labels, those of the agent none."""
    found = samples(page(view()))
    assert found["gpu_events_total", of_gpu(LOST, event="gpu_condition")] == 3
    assert found["gputally_events_total", frozenset({("event", "probe_absent")})] == 1


def test_parts_leave_the_page_with_their_gpu() -> None:
    """Links and fans of a GPU that answers are shown as last read; of one that does not, they are not."""
    assert any(name == "gpu_nvlink_up_flag" for name, _ in samples(page(view())))
    gone = replace(view().readings[FULL.uuid], condition=Condition.LOST)
    lost = replace(view(), readings={FULL.uuid: gone})
    assert not any(name == "gpu_nvlink_up_flag" for name, _ in samples(page(lost)))


def test_an_xid_is_born_as_zero() -> None:
    """The first of its kind is 0 for one interval, so that a rate sees it, and its time is told at once."""
    found = samples(page(view()))
    assert found["gpu_xid_errors_total", of_gpu(FULL, xid="79")] == 0
    assert found["gpu_xid_errors_total", of_gpu(FULL, xid="31")] == 3
    when = found["gpu_xid_last_timestamp_seconds", of_gpu(FULL, xid="79")]
    assert when == pytest.approx(START_MS / 1000 + 4)


def test_findings_are_shown_on_their_gpu() -> None:
    """An open finding is a series with rule and severity."""
    found = samples(page(view()))
    assert found["gpu_finding", of_gpu(FULL, rule="persistence_mode_off", severity="warning")] == 1
    own = frozenset({("rule", "gputally_lossy"), ("severity", "warning")})
    assert found["gputally_finding", own] == 1


@pytest.mark.parametrize("accept", ["", PROMETHEUS_2])
def test_the_page_shows_the_whole_catalogue_and_nothing_else(accept: str) -> None:
    """Every metric of the catalogue is on the page, and every metric of the page is in the catalogue."""
    found = samples(page(view(), accept), accept)

    assert {name for name, _ in found} == set(FAMILIES)


def test_each_series_has_the_labels_of_the_catalogue() -> None:
    """The labels on the page are exactly those that `gputally metrics` tells."""
    for name, labels in samples(page(view())):
        assert {label for label, _ in labels} == set(FAMILIES[name].labels), name


def test_zero_is_shown_and_none_is_not() -> None:
    """A quantity that is 0 has a sample; one that the device would not say has none."""
    found = samples(page(view()))

    assert found["gpu_busy_ratio", of_gpu(SPARSE)] == 0.0
    assert ("gpu_power_watts", of_gpu(SPARSE)) not in found
    assert ("gpu_busy_ratio", of_gpu(LOST)) not in found
    assert found["gpu_throttle_seconds_total", of_gpu(FULL, reason="sync_boost")] == 0.0


def test_a_gpu_is_in_exactly_one_state() -> None:
    """Of a GPU's states one is 1 and all others are 0."""
    found = samples(page(view()))

    for gpu, now in ((FULL, State.ACTIVE), (SPARSE, State.FREE), (LOST, State.DOWN)):
        shown = {state: found["gpu_state", of_gpu(gpu, state=state.value)] for state in State}
        assert shown == {state: float(state is now) for state in State}


def test_a_gpu_without_a_state_is_unknown() -> None:
    """A GPU of the inventory that the interval does not show is unknown, and nobody says that it is up."""
    found = samples(page(replace(view(), states={}, readings={})))

    assert found["gpu_state", of_gpu(FULL, state="unknown")] == 1
    assert ("gpu_up", of_gpu(FULL)) not in found


def test_static_labels_are_on_gpu_series_only() -> None:
    """The labels of the settings are on every series of a GPU and on none of the agent's own."""
    for name, labels in samples(page(view(), labels=STATIC)):
        expected = STATIC if FAMILIES[name].labels[: len(GPU_LABELS)] == GPU_LABELS else {}
        assert {key: value for key, value in labels if key in STATIC} == expected, name


@pytest.mark.parametrize("accept", ["", PROMETHEUS_2])
@given(name=st.text(st.characters(exclude_categories=["Cs"]), max_size=40))
def test_any_name_comes_back_as_it_was(accept: str, name: str) -> None:
    """Quotes, backslashes, line ends and any other text in a label survive the way through a parser."""
    found = samples(page(renamed(name), accept, {"rack": name}), accept)

    values = {value for (metric, labels) in found if metric == "gpu_holder_info" for _, value in labels}
    assert values == {"0", FULL.uuid, "batch", name}


@pytest.mark.parametrize(
    "name", ['say "hi"', "back\\slash", "two\nlines", "\\n", 'a\\"b', "Zürich ☃ 東京", "{}=,#"]
)
def test_hostile_names_please_promtool(name: str) -> None:
    """Prometheus itself reads a page full of a hostile name."""
    lint(page(renamed(name), labels={"rack": name}).encode())


def test_series_of_gpus_vanish_when_stale() -> None:
    """After three intervals without a tick only the agent's version remains; a new tick brings all back."""
    now = [1_000.0]
    pages = Pages(STATIC, VERSION, lambda: now[0])
    info = {("gputally_info", frozenset({("version", VERSION)})): 1.0}
    assert samples(pages.metrics("")[0].decode()) == info

    pages.publish(view())
    now[0] += STALE_INTERVALS * 10
    assert len(samples(pages.metrics("")[0].decode())) > 50
    assert pages.fresh() is not None
    now[0] += 0.001
    assert samples(pages.metrics("")[0].decode()) == info
    assert pages.fresh() is None

    pages.publish(view())
    assert len(samples(pages.metrics("")[0].decode())) > 50


def test_a_page_is_rendered_once_per_view_and_format() -> None:
    """Scrapes of the same interval get the same bytes; those of the next interval do not."""
    pages = Pages({}, VERSION, lambda: 0.0)
    pages.publish(view())
    plain, opened = pages.metrics("")[0], pages.metrics(PROMETHEUS_2)[0]

    assert pages.metrics("")[0] is plain
    assert pages.metrics(BROWSER)[0] is plain
    assert pages.metrics(PROMETHEUS_2)[0] is opened
    pages.publish(view())
    assert pages.metrics("")[0] is not plain


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("", PLAIN),
        ("*/*", PLAIN),
        (BROWSER, PLAIN),
        ("text/plain;version=0.0.4;q=1,*/*;q=0.1", PLAIN),
        ("application/json", PLAIN),
        (PROMETHEUS_2, OPEN),
        (PROMETHEUS_3, OPEN),
        ("application/openmetrics-text", OPEN),
    ],
)
def test_the_scraper_chooses_the_format(accept: str, kind: str) -> None:
    """OpenMetrics goes to whom asks for it, as Prometheus does; everyone else gets plain text."""
    pages = Pages({}, VERSION, lambda: 0.0)
    pages.publish(view())

    body, told = pages.metrics(accept)

    assert told.partition("; escaping=")[0] == kind
    assert body.endswith(b"# EOF\n") == (kind == OPEN)


@pytest.mark.parametrize(
    "accept",
    [
        "application/openmetrics-text; version=abc",
        "text/plain; version=latest",
        "application/openmetrics-text; version=1.0.0\r\n X: y",
        "application/openmetrics-text;version=é",
        ";;;=,,,",
    ],
)
def test_an_accept_header_that_makes_no_sense_gets_a_page(accept: str) -> None:
    """Whatever a client claims to accept, it gets a page, and nothing of its header comes back."""
    pages = Pages({}, VERSION, lambda: 0.0)
    pages.publish(view())

    body, told = pages.metrics(accept)

    assert told.partition("; escaping=")[0] in (PLAIN, OPEN)
    assert b"gpu_busy_ratio" in body


def test_made_up_versions_do_not_fill_the_memory() -> None:
    """A client that asks for ever new versions of a format gets the pages that are there."""
    pages = Pages({}, VERSION, lambda: 0.0)
    pages.publish(view())

    bodies = {id(pages.metrics(f"application/openmetrics-text; version=1.0.{n}")[0]) for n in range(20)}

    assert len(bodies) <= 2
