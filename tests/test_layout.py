"""The layout of the tree: names that nobody else has, modules that can be read, one door to the driver."""

import ast
import json
import subprocess
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("agent", "exporters", "rules", "reports", "dashboards", "gputally")
LONGEST_MODULE = 350
SPEAK_NVML = {"agent/nvml.py", "agent/simulator.py"}


def modules() -> list[Path]:
    """List all modules of the product."""
    return [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]


def imports(path: Path) -> set[str]:
    """Give the top-level names that a module imports, wherever it does."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {name.name.partition(".")[0] for name in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module.partition(".")[0])
    return found


def loaded_by(statement: str) -> set[str]:
    """Run a statement in a fresh interpreter and give the modules that are loaded then."""
    code = f"{statement}\nimport json, sys\nprint(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, timeout=60, check=True)
    return set(json.loads(done.stdout))


def test_no_other_distribution_has_our_names() -> None:
    """Top-level packages of plain words are safe only while nothing else in the environment ships them."""
    found = packages_distributions()

    others = {name: set(found.get(name, ())) - {"gputally"} for name in PACKAGES}
    assert others == {name: set() for name in PACKAGES}


def test_our_names_are_found_in_this_tree() -> None:
    """What `import agent` gives is this tree, not another one's."""
    for name in PACKAGES:
        module = __import__(name)
        assert module.__file__ is not None
        assert Path(module.__file__).is_relative_to(ROOT)


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_every_module_can_be_read_in_one_go(path: Path) -> None:
    """No module reaches 350 lines, and each begins by saying what it is for."""
    text = path.read_text(encoding="utf-8")

    assert len(text.splitlines()) < LONGEST_MODULE
    assert ast.get_docstring(ast.parse(text))


def test_only_two_modules_speak_nvml() -> None:
    """The driver's binding is imported by the reader and by the simulator below it, and nowhere else."""
    found = {str(path.relative_to(ROOT)) for path in modules() if "pynvml" in imports(path)}

    assert found == SPEAK_NVML


def test_only_the_probe_reports_and_what_settings_name_are_started() -> None:
    """The agent runs no program but its own, and within bounds Slurm's and the one that tells labels."""
    found = {str(path.relative_to(ROOT)) for path in modules() if "subprocess" in imports(path)}

    assert found == {"agent/child.py", "agent/programs.py", "gputally/beside.py"}


@pytest.mark.parametrize("module", ["gputally.run", "gputally.__main__", "agent.node", "exporters.web"])
def test_the_agent_loads_neither_driver_nor_simulator(module: str) -> None:
    """The parent must outlive a hanging driver, and a real node carries no simulation."""
    loaded = loaded_by(f"import {module}")

    assert module in loaded or module.endswith("__main__")
    assert not [name for name in loaded if name.startswith(("pynvml", "agent.simulat", "agent.nvml"))]


def test_the_command_loads_only_what_is_run() -> None:
    """`gputally metrics` loads neither the journal nor the web server."""
    loaded = loaded_by(
        "from gputally.cli import main\nimport io, contextlib\n"
        "with contextlib.redirect_stdout(io.StringIO()): main(['metrics'])"
    )

    assert "gputally.metrics" in loaded
    assert not loaded & {"agent.journal", "exporters.web", "sqlite3", "agent.simulator", "gputally.run"}
