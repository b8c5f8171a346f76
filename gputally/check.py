"""`gputally check`: whether this node, or some of its GPUs, is fit for a job. It reads the journal only."""

import argparse
import json
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass

from agent.clock import now_ms
from agent.errors import GputallyError, SettingsError
from agent.remarks import silenced
from agent.restore import open_findings
from agent.tick import Finding, State
from gputally.status import reader_arguments, reading
from gputally.tables import duration, tidy
from reports.now import GpuNow, now

STALE_STEPS, LEAST_STALE_MS = 3, 60_000
OK, WARNING, CRITICAL, UNKNOWN = 0, 1, 2, 3
_WORDS = ("OK", "WARNING", "CRITICAL", "UNKNOWN")
EPILOG = """\
exit codes
  --for nagios       0 fit, 1 something to look at, 2 not fit, 3 not known (the default)
  --for slurm        0 fit or not known, 1 not fit: as a prolog it drains the node only for what is sure
  --for kubernetes   as slurm, for exec probes

not fit is a GPU with a finding that is critical, or one that is down; not known is an agent that does not run

what `gputally findings silence` silenced does not count, but a GPU that is down does

  gputally check --gpus "$SLURM_JOB_GPUS" --for slurm     in Slurm's prolog
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What is to be said of a node: one of the codes, and why. What is silenced would have been a reason."""

    code: int
    reasons: tuple[str, ...]
    gpus: int
    silenced: int = 0


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.epilog = EPILOG
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    reader_arguments(parser)
    parser.add_argument(
        "--gpus", default="", metavar="LIST", help="indices or UUIDs, with commas; default: all"
    )
    parser.add_argument(
        "--for", dest="asker", choices=("nagios", "slurm", "kubernetes"), default="nagios", help="who asks"
    )
    parser.add_argument("--json", action="store_true", help="for programs")


def execute(options: argparse.Namespace) -> int:
    """Print a line and give the exit code. Raises SettingsError for GPUs that the node does not have."""
    verdict = _verdict(options)
    if options.json:
        told = asdict(verdict)
        print(json.dumps({"status": _WORDS[told.pop("code")], **told}, indent=2))
    else:
        many = f"{verdict.gpus} GPU{'' if verdict.gpus == 1 else 's'}"
        why = "; ".join(verdict.reasons)
        quiet = f" ({verdict.silenced} silenced)" if verdict.silenced else ""
        print(f"GPUTALLY {_WORDS[verdict.code]}: {why or f'{many} fit for a job'}{quiet}")
    if options.asker == "nagios":
        return verdict.code
    return 1 if verdict.code == CRITICAL else 0


def _verdict(options: argparse.Namespace) -> Verdict:
    try:
        with reading(options) as db:
            seen, findings, is_silenced = now(db), open_findings(db), silenced(db, now_ms())
    except SettingsError:
        raise
    except GputallyError as error:
        return Verdict(code=UNKNOWN, reasons=(str(error),), gpus=0)
    if seen is None:
        return Verdict(code=UNKNOWN, reasons=("the journal holds no GPU",), gpus=0)
    gpus = _chosen(seen.gpus, options.gpus)
    age_ms = now_ms() - seen.end_ms
    if age_ms > max(LEAST_STALE_MS, STALE_STEPS * seen.step_ms):
        why = f"the agent has told nothing for {duration(age_ms)}: is `gputally run` running?"
        return Verdict(code=UNKNOWN, reasons=(why,), gpus=len(gpus))
    return _judged(gpus, findings, is_silenced)


def _chosen(gpus: Iterable[GpuNow], text: str) -> list[GpuNow]:
    wanted = [part.strip() for part in text.split(",") if part.strip()]
    gpus = list(gpus)
    for part in wanted:
        if not any(part in (str(gpu.index), gpu.uuid) for gpu in gpus):
            there = ", ".join(str(gpu.index) for gpu in gpus)
            raise SettingsError(f"--gpus: this node has no GPU {tidy(part)!r}; it has {there}")
    return [gpu for gpu in gpus if not wanted or str(gpu.index) in wanted or gpu.uuid in wanted]


def _judged(
    gpus: list[GpuNow], findings: Iterable[Finding], is_silenced: Callable[[Finding], bool]
) -> Verdict:
    indices = {gpu.uuid: gpu.index for gpu in gpus}
    grave = [f"GPU {gpu.index} is down" for gpu in gpus if gpu.state is State.DOWN]
    light, quiet = [], 0
    for one in findings:
        if one.severity not in ("critical", "warning") or (one.uuid and one.uuid not in indices):
            continue
        where = f"GPU {indices[one.uuid]}: " if one.uuid else ""
        if is_silenced(one):
            quiet += 1
        elif one.severity == "critical":
            grave.append(f"{where}{one.rule}")
        else:
            light.append(f"{where}{one.rule}")
    code = CRITICAL if grave else WARNING if light else OK
    reasons = tuple(dict.fromkeys((*grave, *light)))
    return Verdict(code=code, reasons=reasons, gpus=len(gpus), silenced=quiet)
