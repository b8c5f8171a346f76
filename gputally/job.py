"""`gputally job ID`: what a job, pod or other holder had of this node. An epilog may call it."""

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import asdict

from agent.clock import moment
from agent.tick import said
from gputally.holders import length_of, places
from gputally.status import reader_arguments, reading
from gputally.tables import NONE, energy, hours, share, tidy
from reports.holders import Held, tenures_named

GIB = 2**30


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "id",
        help="number of a Slurm job (4711, or 4711_3 for one task of an array), namespace/pod, "
        "or any name that `gputally holders` shows",
    )
    reader_arguments(parser)
    parser.add_argument("--json", action="store_true", help="for programs")


def execute(options: argparse.Namespace) -> int:
    """Print what the holder had; 1 when nobody of that name held anything. Raises JournalError."""
    with reading(options) as db:
        found = tenures_named(db, options.id)
    if options.json:
        print(json.dumps([asdict(one) for one in found], indent=2))
    elif found:
        print("\n\n".join("\n".join(_lines(one)) for one in found))
    else:
        print(
            f"gputally: nobody of the name {tidy(options.id)!r} held a GPU of this node, as far back as the "
            "journal goes; `gputally holders` lists who does now",
            file=sys.stderr,
        )
    return 0 if found else 1


def _lines(one: Held) -> Iterator[str]:
    title = f" ({tidy(one.title)})" if one.title else ""
    until = moment(one.end_ms) if one.ended else "now"
    yield f"{tidy(said(one.kind, one.name))}{title} of {tidy(one.owner)} on {tidy(one.node)}"
    yield f"  {'from':<12}{moment(one.start_ms)} to {until}, {length_of(one)}"
    told = {
        "user": one.user,
        "account": one.account,
        "partition": one.partition,
        "QOS": one.qos,
        "namespace": one.namespace,
        "container": one.container,
        "class": one.workload,
        "cost centre": one.cost_centre,
    }
    for name, value in told.items():
        if value:
            yield f"  {name:<12}{tidy(value)}"
    yield f"  {'GPUs':<12}{len(one.gpus)}" + (f", now {places(one.now)}" if one.now else "")
    states = ", ".join(f"{state} {hours(part)}" for state, part in one.state_hours.items())
    yield f"  {'GPU-hours':<12}{hours(one.gpu_hours)}: {states}"
    yield f"  {'energy':<12}{energy(one.energy_kwh)}"
    if one.activity_mean_ratio is not None:
        mean, most = share(one.activity_mean_ratio), share(one.activity_max_ratio)
        yield f"  {'activity':<12}{mean} in the mean, {most} at most"
    if one.memory_max_bytes:
        yield f"  {'memory':<12}{one.memory_max_bytes / GIB:.1f} GiB at most"
    lowered = ", ".join(f"{reason} {seconds:.0f} s" for reason, seconds in one.throttle_seconds.items())
    yield f"  {'throttled':<12}{lowered or NONE}"
    yield f"  {'XIDs':<12}" + (", ".join(f"{xid} ({times}x)" for xid, times in one.xids.items()) or NONE)
