"""Commands are told shortly: enough to know them, and no secrets."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.holders.processes import LONGEST_COMMAND, short_command

patient = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["/usr/bin/python3.11", "/home/ada/train.py", "--lr", "3e-4"], "python3.11 train.py"),
        (["python", "-m", "serving.chat", "--token", "s3cr3t"], "python -m serving.chat"),
        (["python", "-c", "import torch; torch.zeros(1)"], "python"),
        (["python", "-u", "train.py"], "python"),
        (["vllm", "serve", "meta/llama"], "vllm serve"),
        (["/opt/app/server"], "server"),
        (["trainer", "--api-key=s3cr3t"], "trainer"),
        (["psql", "postgres://ada:s3cr3t@db"], "psql"),
        (["env", "TOKEN=s3cr3t", "trainer"], "env"),
        ([], ""),
        ([""], ""),
        (["bash\n\x1b[31m", "run\tit"], "bash?[31m run?it"),
        (["Zugführer", "Größe"], "Zugf?hrer Gr??e".replace("??", "?")),
        (["x" * 200, "y"], "x" * LONGEST_COMMAND),
    ],
)
def test_a_command_is_told_shortly(words: list[str], told: str) -> None:
    """Program and first argument, or module: no options, no secrets, printable ASCII, and not too long."""
    assert short_command(words) == told


@patient
@given(st.lists(st.text(), max_size=6))
def test_no_command_line_gets_through_as_it_is(words: list[str]) -> None:
    """Whatever a process calls itself, its name is short, printable ASCII."""
    told = short_command(words)
    assert len(told) <= LONGEST_COMMAND
    assert told.isascii()
    assert told.isprintable()
