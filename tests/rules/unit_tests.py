"""Histories as unit tests of rules that promtool runs: what the engine found is what Prometheus must find.

Nodes are scraped half an interval after each evaluation and half an interval before the next.
"""

import math
import os
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import yaml

from agent.quantities import QUANTITIES
from agent.scene import Scene
from agent.tick import FAULTS, Condition, Reading, State
from rules.definition import Rule
from rules.engine import Engine
from rules.groups import Ruler, gpu_group
from tests.rules.scenes import INTERVAL_MS
from tests.stores.server import program

Open = frozenset[tuple[str, str]]
"""Rule and GPU of all that is open."""
Labels = tuple[tuple[str, str], ...]
SECONDS = INTERVAL_MS // 1000


def judged(rules: Mapping[str, Rule], history: Sequence[Scene | None]) -> list[Open]:
    """Have the engine judge a history, None where the agent was away; give what was open after each."""
    engine = Engine(rules, INTERVAL_MS)
    by_gpu: dict[str, set[str]] = {}
    found: list[Open] = []
    for scene in history:
        if scene is not None:
            for reading in scene.readings:
                by_gpu[reading.uuid] = set()
            for finding in engine.judge(scene):
                by_gpu[finding.uuid].add(finding.rule)
        found.append(frozenset((rule, uuid) for uuid, names in by_gpu.items() for rule in names))
    return found


def samples_of(scene: Scene) -> dict[tuple[str, Labels], float]:
    """Give what the page of a node shows of a scene, as far as rules ask for it."""
    found: dict[tuple[str, Labels], float] = {}
    for place, (uuid, model) in enumerate(sorted(scene.models.items())):
        target: Labels = (("instance", f"{scene.node}:9740"), ("job", "gputally"))
        own = (*target, ("gpu", str(place)), ("model", model), ("node", scene.node), ("uuid", uuid))
        state = scene.states.get(uuid, State.UNKNOWN)
        for each in State:
            found["gpu_state", (*own, ("state", each.value))] = float(each is state)
        for workload in scene.workloads.get(uuid, ()):
            found["gpu_holder_info", (*own, ("owner", 'a"b'), ("workload", workload))] = 1.0
        if job := scene.jobs.get(uuid):
            who = (("holder", job.partition(" ")[2]), ("kind", job.partition(" ")[0]), ("owner", "a"))
            found["gpu_holder_info", (*own, *who)] = 1.0
        for reading in scene.readings:
            if reading.uuid != uuid:
                continue
            found |= _of_reading(own, reading)
            for (which, number), count in scene.xids.items():
                if which == uuid:
                    found["gpu_xid_errors_total", (*own, ("xid", str(number)))] = float(count)
    return found


def _of_reading(own: Labels, reading: Reading) -> dict[tuple[str, Labels], float]:
    found = {("gpu_up", own): float(reading.condition is Condition.OK)}
    for why in FAULTS:
        found["gpu_condition", (*own, ("condition", why.value))] = float(reading.condition is why)
    for name, metric in QUANTITIES.items():
        value = getattr(reading, name)
        if value is not None:
            found[f"gpu_{metric.family or name}", (*own, *metric.labels)] = value
    return found


def series_of(history: Sequence[Scene | None]) -> list[dict[str, str]]:
    """Write a history as promtool takes it, with marks where a series ends."""
    pages = [samples_of(scene) if scene else {} for scene in history]
    told: list[dict[str, str]] = []
    for key in dict.fromkeys(key for page in pages for key in page):
        values: list[str] = []
        before = False
        for page in pages:
            here = page.get(key)
            values += ["_", "_" if here is None and not before else "stale" if here is None else repr(here)]
            before = here is not None
        told.append({"series": series_name(*key), "values": " ".join(values)})
    return told


def series_name(name: str, labels: Iterable[tuple[str, str]]) -> str:
    """Write a series as stores do."""
    inside = ", ".join(f'{key}="{_escaped(value)}"' for key, value in labels)
    return f"{name}{{{inside}}}"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"')


def unit_test(history: Sequence[Scene | None], expected: Sequence[Open]) -> dict[str, object]:
    """Make a test of promtool: what must fire at each evaluation."""
    asked = []
    for turn, findings in enumerate(expected, 1):
        samples = [
            {"labels": series_name("", (("rule", rule), ("uuid", uuid))), "value": 1}
            for rule, uuid in sorted(findings)
        ]
        asked.append(
            {
                "expr": 'count by (rule, uuid) (ALERTS{alertstate="firing"})',
                "eval_time": f"{turn * SECONDS}s",
                "exp_samples": samples,
            }
        )
    return {
        "interval": f"{SECONDS * 500}ms",
        "input_series": series_of(history),
        "promql_expr_test": asked,
    }


def write(
    folder: Path,
    name: str,
    rules: Mapping[str, Rule],
    tests: Sequence[Mapping[str, object]],
    ruler: Ruler = "prometheus",
) -> Path:
    """Write rules and their unit tests; give the file of the tests."""
    made = folder / f"{name}.yaml"
    made.write_text(yaml.safe_dump({"groups": [gpu_group(rules, INTERVAL_MS, ruler=ruler)]}, sort_keys=False))
    body = {"rule_files": [made.name], "evaluation_interval": f"{SECONDS}s", "tests": list(tests)}
    path = folder / f"{name}_test.yaml"
    path.write_text(yaml.safe_dump(body, sort_keys=False, width=math.inf))
    return path


def promtool(*arguments: object) -> str:
    """Run promtool; give what it says where it is not content, else nothing."""
    done = subprocess.run(
        [program("promtool", "prometheus"), *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=900,
        check=False,
        text=True,
    )
    return "" if done.returncode == 0 else done.stdout or f"it ended with {done.returncode}"


def unit_tested(files: Sequence[Path]) -> str:
    """Run unit tests on all processors; give what promtool says where it is not content, else nothing."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        said = pool.map(lambda file: promtool("test", "rules", file), files)
    return "".join(said)
