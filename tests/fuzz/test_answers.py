"""Answers of servers that are no friends: each is understood, or refused in words."""

import json
from collections.abc import Callable
from contextlib import closing, suppress
from typing import Any

import pytest
import urllib3
from hypothesis import strategies as st

from agent.errors import StoreError
from agent.holders.api_client import ApiError
from agent.holders.api_server import PODS_A_PAGE, Pod, drained_of, page_of, slim
from agent.holders.names import printable
from agent.store import Store
from exporters import otlp
from exporters.destination import ExporterSettings
from exporters.grafana import Grafana
from exporters.settle import Verdict, settled
from gputally.grafana_answers import helps, message
from reports.sources.influxql import Influx
from tests.fuzz.spoilt import ODD, examples, hold, json_of, spoilt

VECTOR = {
    "status": "success",
    "data": {
        "resultType": "vector",
        "result": [{"metric": {"__name__": "gpu_up", "gpu": "0"}, "value": [1790000000.5, "1"]}],
    },
    "isPartial": False,
    "warnings": [],
}
MATRIX = {
    "status": "success",
    "data": {
        "resultType": "matrix",
        "result": [{"metric": {"gpu": "0"}, "values": [[1790000000, "1"], [1790000010.25, "NaN"]]}],
    },
}
LABELS = {"status": "success", "data": [{"__name__": "gpu_up", "gpu": "0", "pool": "train"}]}
INFLUX = {
    "results": [
        {
            "statement_id": 0,
            "series": [
                {
                    "name": "gpu",
                    "tags": {"uuid": "GPU-1"},
                    "columns": ["time", "last"],
                    "values": [[1790000000000, 1.5], [1790000001000, None]],
                }
            ],
        }
    ]
}
NODE = {
    "kind": "Node",
    "metadata": {"name": "n1"},
    "spec": {
        "unschedulable": True,
        "taints": [{"key": "karpenter.sh/disrupted", "effect": "NoSchedule"}],
    },
}
PODS = {
    "kind": "PodList",
    "metadata": {"continue": "abc"},
    "items": [
        {
            "metadata": {
                "namespace": "team",
                "name": "train-0",
                "uid": "8f2c",
                "labels": {"app": "train"},
                "annotations": {"kubernetes.io/config.hash": "beef"},
            },
            "status": {"phase": "Running"},
        }
    ],
}
MARKS = [{"id": 7, "tags": ["gputally", "gputally:n1:3"], "time": 1790000000000}]


def _store(said: bytes, kind: type[Store] | type[Influx] = Store) -> Any:  # noqa: ANN401
    store = kind("http://127.0.0.1:1", "gpu") if kind is Influx else Store("http://127.0.0.1:1")
    store.ask = lambda *_: said  # type: ignore[method-assign]
    return closing(store)


def _promql(said: bytes) -> None:
    questions: tuple[Callable[[Store], object], ...] = (
        lambda store: list(store.samples("gpu_up", 1_789_999_999_000, 1_790_000_011_000)),
        lambda store: store.values("gpu_up", 1_790_000_000_000),
        lambda store: store.steps("gpu_up", 1_790_000_000_000, 1_790_000_010_000, 10_000),
        lambda store: store.known("gpu_up", 1_790_000_000_000, 1_790_000_010_000),
    )
    with _store(said) as store:
        for ask in questions:
            try:
                json.dumps(ask(store), allow_nan=False).encode()
            except StoreError as error:
                _is_sentence(str(error))


def _influxql(said: bytes) -> None:
    with _store(said, Influx) as store:
        try:
            for one in store.points("SELECT 1"):
                json.dumps(one, allow_nan=False).encode()
        except StoreError as error:
            _is_sentence(str(error))


def _is_sentence(text: str) -> None:
    assert text == printable(text, len(text))
    assert len(text) < 1000


@examples
def test_promql(examples: int) -> None:
    """What a store says of samples, values and labels: finite, printable, or refused."""
    hold(json_of([VECTOR, MATRIX, LABELS]), examples, _promql)


@examples
def test_influxql(examples: int) -> None:
    """What InfluxDB says of points."""
    hold(json_of([INFLUX]), examples, _influxql)


@examples
def test_kubernetes(examples: int) -> None:
    """What an API server says of a node and its pods, read as its client reads it."""

    def check(said: bytes) -> None:
        with suppress(ApiError, ValueError, RecursionError):  # the last two are what its client catches
            drained_of(json.loads(said))
        with suppress(ApiError, ValueError, RecursionError):
            pods, token = page_of(json.loads(said, object_hook=slim))
            assert len(pods) <= PODS_A_PAGE
            for pod in pods:
                for text in (*pod.called, *pod.labels, *pod.labels.values()):
                    assert text.isprintable()
                    assert len(text) < 1000
            assert isinstance(token, str)

    hold(json_of([NODE, PODS]), examples, check)


@pytest.mark.parametrize("odd", [[], {}, None, 7])
def test_kubernetes_with_odd_words(odd: object) -> None:
    """Found by the one above: a list where a word should be."""
    assert drained_of({"spec": {"taints": [{"key": "karpenter.sh/disrupted", "effect": odd}]}}) == ""
    pod = slim({"metadata": {"namespace": "a", "name": "b"}, "status": {"phase": odd}})
    assert isinstance(pod, Pod)
    assert not pod.ended


@examples
def test_annotations(examples: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """What Grafana says of marks that it has: one is put, or the reason is a sentence."""
    said, status = b"", 200

    class Pool:
        def request(self, *_: object, **__: object) -> urllib3.HTTPResponse:
            return urllib3.HTTPResponse(said, status=status)

        def clear(self) -> None:
            pass

    monkeypatch.setattr("exporters.grafana.connections", lambda _: Pool())
    grafana = Grafana(ExporterSettings(name="g", kind="grafana", url="http://127.0.0.1:1"))
    mark = json.dumps({"time": 1_790_000_000_000, "tags": MARKS[0]["tags"], "text": "x"}).encode()

    def check(drawn: tuple[bytes, int]) -> None:
        nonlocal said, status
        said, status = drawn
        outcome = grafana.put(mark)
        assert outcome.verdict in Verdict
        _is_sentence(outcome.reason)

    statuses = st.sampled_from([200, 200, 200, 204, 302, 400, 401, 404, 409, 412, 429, 500, 599])
    hold(st.tuples(json_of([MARKS, {"message": "no"}]), statuses), examples, check)


@examples
def test_refusals(examples: int) -> None:
    """Any status with any words is settled, in one line, and nobody is asked to wait for ever."""

    def check(drawn: tuple[int, bytes, bytes]) -> None:
        status, text, retry = drawn
        outcome = settled(status, text.decode(errors="replace"), retry.decode("latin-1"))
        assert 0 <= outcome.retry_seconds <= 3600
        _is_sentence(outcome.reason)

    retries = [b"120", b"Wed, 21 Oct 2026 07:28:00 GMT", b"-5"]
    bodies = [
        b"partial write: points beyond retention policy",
        b'{"message":"out of order"}',
        b"<html>no</html>",
    ]
    hold(st.tuples(st.integers(100, 999), spoilt(bodies), spoilt(retries)), examples, check)


@examples
def test_otlp(examples: int) -> None:
    """What a collector says of a batch that it took."""
    from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2 as service  # noqa: PLC0415

    whole = service.ExportMetricsServiceResponse()
    whole.partial_success.rejected_data_points = 3
    whole.partial_success.error_message = "too old"

    def check(said: bytes) -> None:
        outcome = otlp.outcome_of(said)
        assert outcome.verdict is Verdict.DELIVERED
        assert outcome.refused >= 0
        _is_sentence(outcome.reason)

    hold(spoilt([whole.SerializeToString(), b""]), examples, check)


@examples
def test_grafanas_own_words(examples: int) -> None:
    """Whatever it says when it refuses a dashboard, something can be said of it."""

    def check(drawn: tuple[int, object]) -> None:
        status, told = drawn
        assert isinstance(helps(status, message(status, told), "the role Editor"), str)

    bodies = st.one_of(st.sampled_from(ODD), st.fixed_dictionaries({"message": st.sampled_from(ODD)}))
    hold(st.tuples(st.sampled_from([400, 403, 404, 409, 412, 500, 503, 999]), bodies), examples, check)
