"""`gputally doctor`, `findings` and `xid`: what a person asks when something is wrong."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.command.processes import gputally, is_one_sentence, running
from tests.command.waiting import until
from tests.stores.victoria import victoria


def checks(folder: Path, *arguments: str) -> tuple[int, list[dict[str, Any]]]:
    """Run doctor as a program does; give its exit code and what it found."""
    done = gputally(folder, "doctor", "--json", "--journal", folder / "journal.db", *arguments)
    assert done.errors == ""
    return done.code, json.loads(done.out)


def test_doctor_of_a_sound_node_is_content(tmp_path: Path) -> None:
    """All GPUs are named, nothing is bad, and the exit code is 0."""
    code, found = checks(tmp_path, "--simulate", "h200x2:training")
    assert code == 0
    assert not [check for check in found if check["good"] is False]
    assert [check["what"] for check in found if check["what"].startswith("GPU")] == ["GPU 0", "GPU 1"]
    (driver,) = [check for check in found if check["what"] == "driver"]
    assert "2 GPUs" in driver["text"]


def test_doctor_names_what_is_absent_once_and_why(tmp_path: Path) -> None:
    """A card without metrics, energy or ECC says so in one line per reason; what it tells is not in it."""
    code, found = checks(tmp_path, "--simulate", "geforcex2:training")
    absent = [check for check in found if check["what"].startswith("absent")]
    assert code == 0
    assert [check["what"] for check in absent] == ["absent: this device or driver does not have it"]
    names = absent[0]["text"].split("; ")
    assert len(names) == len(set(names))
    assert {"energy_joules_total", "ecc_corrected_volatile_total", "recovery_action_code"} <= set(names)
    assert any(name.startswith("performance metrics") for name in names)
    assert "sm_active_ratio" not in names
    told = {"busy_ratio", "power_watts", "temperature_celsius", "throttle_power_cap_seconds_total"}
    assert not told & set(names)


@pytest.mark.parametrize(
    ("fault", "what", "text"),
    [
        ("!hang=1", "GPU 1", "does not come back"),
        ("!lost=1", "a GPU", "is lost"),
        ("!unpersistent=0", "persistence mode", "nvidia-persistenced"),
        ("!nolibrary", "driver", "libnvidia-ml.so.1 is not installed"),
        ("!unloaded", "driver", "modprobe nvidia"),
        ("!forbidden", "driver", "no permission"),
    ],
)
def test_doctor_says_what_is_bad(tmp_path: Path, fault: str, what: str, text: str) -> None:
    """The exit code is 1, and a sentence tells what is wrong and what to do."""
    code, found = checks(tmp_path, "--simulate", f"t4x2:training{fault}@+0..+20")
    bad = [check for check in found if check["good"] is False]
    assert code == 1
    assert any(what in check["what"] and text in check["text"] for check in bad), found


def test_findings_come_from_the_journal(tmp_path: Path) -> None:
    """A finding is listed with what to do while it is open, as text and as data, with exit code 1."""
    journal = tmp_path / "journal.db"
    arguments = ("--simulate", "t4x2:training!unpersistent=1", "--interval", "1", "--port", "0")
    with running(tmp_path, *arguments, "--journal", journal) as agent:
        agent.shows_gpus()
        until(lambda: gputally(tmp_path, "findings", "--journal", journal).code == 1, "a finding")
        agent.end()
    done = gputally(tmp_path, "findings", "--journal", journal)
    assert "persistence_mode_off" in done.out
    assert "do: enable nvidia-persistenced" in done.out
    (finding,) = json.loads(gputally(tmp_path, "findings", "--json", "--journal", journal).out)
    assert (finding["rule"], finding["closed_ms"]) == ("persistence_mode_off", None)


def test_xid_explains(tmp_path: Path) -> None:
    """A number gives meaning and action; none gives the catalogue; a wrong one is one sentence."""
    done = gputally(tmp_path, "xid", "79")
    assert done.code == 0
    assert "fell off the bus" in done.out
    assert len(json.loads(gputally(tmp_path, "xid", "--json").out)) > 150
    wrong = gputally(tmp_path, "xid", "--", "-3")
    assert (wrong.code, is_one_sentence(wrong.errors)) == (2, True)


def test_doctor_writes_to_every_store(tmp_path: Path) -> None:
    """A store that takes a figure is well; one that does not says why."""
    with victoria() as store:
        settings = tmp_path / "settings.toml"
        sections = [
            f'[[exporters.to]]\nname = "{name}"\nkind = "influx1"\ndatabase = "gpu"\nurl = "{url}"\n'
            for name, url in (("fleet", store.url), ("nowhere", "http://127.0.0.1:9"))
        ]
        settings.write_text("".join(sections))
        code, found = checks(tmp_path, "--simulate", "h200x1:training", "--settings", str(settings))
        stored = {dict(series)["__name__"] for series in store.samples()}
    told = {check["what"]: check for check in found if check["what"].startswith("exporter")}
    assert (told["exporter fleet"]["good"], told["exporter nowhere"]["good"], code) == (True, False, 1)
    assert "refused" in str(told["exporter nowhere"]["text"]).lower()
    assert stored == {"gputally_doctor_checks"}
