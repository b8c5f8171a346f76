"""Stores that fail while they are asked: one clear sentence and no report, never one that is short."""

import json
from collections.abc import Iterator, Mapping
from random import Random
from typing import NamedTuple

import pytest

from agent import asking
from gputally.cli import main
from tests.reports import fleet
from tests.reports.fleet import DAY_STEPS, START_MS, Node, gpu_of, plan
from tests.reports.test_store_sources import AnyServer, batches, push
from tests.stores.failing import (
    Handler,
    Trouble,
    cut,
    cut_chunks,
    cut_silently,
    drip,
    failing,
    hang_up,
    saying,
)
from tests.stores.influx import DATABASE, influx
from tests.stores.victoria import victoria

DAYS = ("--from", "2026-09-14", "--to", "2026-09-15", "--weeks", "1", "--format", "json")
MOST_AFTER = 8
"""Questions that may be under way as a store fails."""
HTML = b"<html><body>\x1b[31m Please log in </body></html>"


class Case(NamedTuple):
    """What a store does, and what is said of it."""

    trouble: Trouble
    words: str


def nothing(**more: object) -> Trouble:
    """Find nothing, and say something more."""

    def say(handler: Handler) -> None:
        data = [] if handler.path.endswith("/series") else {"resultType": "vector", "result": []}
        handler.say(200, json.dumps({"status": "success", "data": data, **more}).encode())

    return say


def one(**series: object) -> Trouble:
    """Find one series."""
    return saying(200, {"data": {"result": [series]}})


def result(**told: object) -> Trouble:
    """Give one result as InfluxDB does."""
    return saying(200, {"results": [told]})


EVERYWHERE = {
    "hangs up": Case(hang_up, "cannot be asked"),
    "cut": Case(cut, "cannot be asked"),
    "cut silently": Case(cut_silently, "does not answer as"),
    "cut between chunks": Case(cut_chunks, "cannot be asked"),
    "never ends": Case(drip, "has not ended after 0.3 seconds"),
    "away": Case(saying(503, b"upstream is away"), "HTTP 503: upstream is away"),
    "limit": Case(saying(422, {"error": "too many\x1b points"}), "HTTP 422: too many? points"),
    "page": Case(saying(200, HTML), "does not answer as"),
    "empty": Case(saying(200, b""), "does not answer as"),
    "list": Case(saying(200, []), "does not answer as"),
    "null": Case(saying(200, None), "does not answer as"),
    "deep": Case(saying(200, b"[" * 100_000), "does not answer as"),
    "not text": Case(saying(200, b"\xff\xfe\x00"), "does not answer as"),
    "moved": Case(saying(302, b"", location="http://127.0.0.1:9/"), "the address must be what stands before"),
    "login": Case(saying(401, HTML), "--token-file FILE"),
}
ONLY_PROMETHEUS = {
    "part": Case(nothing(isPartial=True), "not whole"),
    "warning": Case(nothing(warnings=["store \x1b7 is away"]), "warns of its answer: store ?7 is away"),
    "error": Case(saying(200, {"status": "error", "error": "x"}), "does not answer as Prometheus does"),
    "no labels": Case(one(metric=[], value=[1, "1"], values=[]), "does not answer as Prometheus does"),
    "no number": Case(one(metric={}, value=[1, "x"], values=[[1, "x"]]), "does not answer as Prometheus"),
}
ONLY_INFLUX = {
    "error": Case(result(error="database\x1b not found"), "cannot answer: database? not found"),
    "part": Case(result(partial=True), "cuts its answers short"),
    "part of a series": Case(
        result(series=[{"values": [[1, 2]], "partial": True}]), "cuts its answers short"
    ),
    "two": Case(saying(200, {"results": [{}, {}]}), "does not answer as InfluxDB does"),
    "no values": Case(result(series=[{"name": "gpu"}]), "does not answer as InfluxDB does"),
    "no tags": Case(result(series=[{"tags": 1, "values": []}]), "does not answer as InfluxDB does"),
}
CASES = [("victoria", name, case) for name, case in (EVERYWHERE | ONLY_PROMETHEUS).items()]
CASES += [("influx", name, case) for name, case in (EVERYWHERE | ONLY_INFLUX).items()]
ALL = pytest.mark.parametrize(
    ("kind", "case"), [pytest.param(kind, case, id=f"{kind} {name}") for kind, name, case in CASES]
)


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[str, AnyServer]]:
    """Give stores of a day of two GPUs, one of which is new."""
    node = Node("node-000", last=DAY_STEPS + 12)
    node.plans[gpu_of(0, 0)] = plan(Random(0), (), 0, node.last)  # noqa: S311  a plan
    node.plans[gpu_of(0, 1)] = plan(Random(1), (), 50, node.last)  # noqa: S311  likewise
    rows = list(batches(fleet.write(node, tmp_path_factory.mktemp("day"), START_MS)))
    with victoria() as one, influx() as two:
        push(one, rows)
        push(two, rows)
        yield {"victoria": one, "influx": two}


def command(url: str, kind: str) -> int:
    """Run the report on a store."""
    more = ("--database", DATABASE) if kind == "influx" else ()
    return main(["report", "--source", url, *more, *DAYS])


@pytest.fixture(scope="module")
def questions(stores: Mapping[str, AnyServer], tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, int]:
    """Tell how many questions a report asks of each, when all goes well."""
    found = {}
    out = tmp_path_factory.mktemp("out") / "report.json"
    for kind, store in stores.items():
        with failing(store, hang_up, 10_000) as (url, asked):
            more = ("--database", DATABASE) if kind == "influx" else ()
            assert main(["report", "--source", url, *more, *DAYS, "--out", str(out)]) == 0
            found[kind] = len(asked)
        assert json.loads(out.read_text())["inventory"]["gpus"] == 2
    return found


def check(capsys: pytest.CaptureFixture[str], code: int, url: str, words: str) -> None:
    """Fail unless a command said one sentence, and nothing else."""
    said = capsys.readouterr()
    assert (code, said.out) == (1, ""), said.err
    assert said.err.startswith(f"gputally: {url} "), said.err
    assert said.err.count("\n") == 1, said.err
    assert said.err[:-1].isprintable(), said.err
    assert words in said.err


@ALL
def test_a_store_that_fails_in_the_middle_is_one_sentence(
    kind: str,
    case: Case,
    *,
    stores: Mapping[str, AnyServer],
    questions: Mapping[str, int],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """At the first question, at the last, and at some between."""
    monkeypatch.setattr(asking, "LONGEST_SECONDS", 0.3)
    last = questions[kind] - 1
    for since in sorted({0, 1, last // 3, last}):
        with failing(stores[kind], case.trouble, since) as (url, asked):
            check(capsys, command(url, kind), url, case.words)
            assert 1 <= len(asked) - since <= MOST_AFTER


@pytest.mark.parametrize("kind", ["victoria", "influx"])
def test_there_is_no_question_whose_answer_may_lack(
    kind: str,
    stores: Mapping[str, AnyServer],
    questions: Mapping[str, int],
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A store that is away from any of them on gives no report."""
    for since in range(2, questions[kind], 5):
        with failing(stores[kind], saying(503, b"away"), since) as (url, _):
            check(capsys, command(url, kind), url, "HTTP 503: away")


def test_warnings_that_mean_nothing_are_no_failure(
    stores: Mapping[str, AnyServer], capsys: pytest.CaptureFixture[str]
) -> None:
    """Stores also warn of names that they do not like, and that nobody has anything of a time."""
    harmless = nothing(warnings=["PromQL info: metric might not be a counter", "No StoreAPIs matched for it"])
    with failing(stores["victoria"], harmless, 0) as (url, _):
        check(capsys, command(url, "victoria"), url, "holds no accounts")


def test_half_a_letter_in_a_label_spoils_no_report(
    stores: Mapping[str, AnyServer], capsys: pytest.CaptureFixture[str]
) -> None:
    """JSON may hold half of a letter, which no file takes: it is shown as ?."""

    def halved(handler: Handler) -> None:
        status, said = handler.forwarded()
        handler.say(status, said.replace(b'"NVIDIA ', b'"\\ud800 '))

    with failing(stores["victoria"], halved, 0) as (url, _):
        assert command(url, "victoria") == 0
    assert {one["model"][:2] for one in json.loads(capsys.readouterr().out)["gpus"]} == {"? "}
