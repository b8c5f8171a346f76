"""Addresses of dashboards: exact, encoded, and never anything but http."""

from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.errors import ReportError
from reports.forms.links import Links, Unlinked


def test_a_gpu_has_its_view_in_the_window_of_the_report() -> None:
    """A slash at the end of the base is not doubled."""
    links = Links("https://grafana.example/ops/", 1_000, 2_000)
    assert links.gpu("GPU-1 &x") == (
        "https://grafana.example/ops/d/gputally-gpu?var-uuid=GPU-1%20%26x&from=1000&to=2000"
    )
    assert links.node("n/1") == "https://grafana.example/ops/d/gputally-node?var-node=n%2F1&from=1000&to=2000"
    assert links.owner("a") == "https://grafana.example/ops/d/gputally-owner?var-owner=a&from=1000&to=2000"
    assert links.fleet() == "https://grafana.example/ops/d/gputally-fleet?from=1000&to=2000"
    assert links.idle() == "https://grafana.example/ops/d/gputally-idle?from=1000&to=2000"


def test_nothing_has_no_view() -> None:
    """An empty name leads nowhere, and without a Grafana nothing leads anywhere."""
    links = Links("http://g:3000", 0, 1)
    assert (links.gpu(""), links.owner(""), links.node("")) == (None, None, None)
    assert (Unlinked().gpu("x"), Unlinked().owner("x"), Unlinked().node("x")) == (None, None, None)


@pytest.mark.parametrize(
    "base",
    [
        "",
        "javascript:alert(1)",
        "ftp://grafana.example",
        "//grafana.example",
        "https://",
        "https://user:secret@grafana.example",
        "https://grafana.example/?x=1",
        "https://grafana.example/#top",
        'https://grafana.example/"onclick=',
        "https://grafana.example/\njavascript:",
        "https://grafana.example:99999",
        "https://[::1",
    ],
)
def test_a_base_that_is_no_plain_address_is_refused(base: str) -> None:
    """The error says how to write one."""
    with pytest.raises(ReportError, match="is no address of a Grafana: write it as https://"):
        Links(base, 0, 1)


@given(st.text(min_size=1))
def test_a_name_comes_back_as_it_was(name: str) -> None:
    """However hostile, it stays one variable of the query; half a character becomes a question mark."""
    found = Links("https://g.example", 5, 6).owner(name)
    assert found is not None
    parts = urlsplit(found)
    assert (parts.scheme, parts.netloc, parts.path, parts.fragment) == (
        "https",
        "g.example",
        "/d/gputally-owner",
        "",
    )
    seen = name.encode(errors="replace").decode()
    assert parse_qs(parts.query, strict_parsing=True) == {"var-owner": [seen], "from": ["5"], "to": ["6"]}
