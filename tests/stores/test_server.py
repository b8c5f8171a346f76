"""The servers of the tests: what others rely on when they take a store down and up."""

from pathlib import Path

import psutil
import pytest

from exporters import line_protocol, remote_write
from exporters.rows import Row
from tests.stores.influx import influx
from tests.stores.prometheus import prometheus
from tests.stores.samples import differences, expected
from tests.stores.server import Server
from tests.stores.victoria import victoria

ROWS = [Row("kept", (("k", "v"),), (("f", 1.5),), 1_790_000_000_000)]


def test_influxdb_keeps_what_it_has() -> None:
    """A crash and a start later it is on its port, with all that was stored."""
    with influx() as server:
        server.write_lines(line_protocol.encode(ROWS)).good()
        url = server.url
        server.kill()
        server.start()
        assert server.url == url
        assert server.samples() == expected(ROWS)


def test_victoriametrics_keeps_what_it_has() -> None:
    """A stop and a start later it is on its port, with all that was stored."""
    with victoria() as server:
        server.write_lines(line_protocol.encode(ROWS)).good()
        url = server.url
        server.stop()
        server.start()
        assert server.url == url
        assert server.samples() == expected(ROWS)


def test_prometheus_keeps_what_it_has() -> None:
    """A crash and a start later it is on its port, with all that was stored."""
    with prometheus() as server:
        server.write_remote(remote_write.encode(ROWS), remote_write.HEADERS).good()
        url = server.url
        server.kill()
        server.start()
        assert server.url == url
        assert server.samples() == expected(ROWS)


def test_a_server_that_cannot_start_says_why_and_leaves_nothing(tmp_path: Path) -> None:
    """The test fails with its last words."""
    server = Server(lambda _: ["/bin/sh", "-c", "echo no licence; exit 3"], tmp_path, "/")
    with pytest.raises(AssertionError, match="ended with 3: no licence"):
        server.start()
    assert not [one for one in psutil.Process().children() if one.name() == "sh"]


def test_differences_are_told() -> None:
    """A missing series, a missing time and a value too far off are each a line."""
    want = expected(ROWS)
    near = expected([ROWS[0]._replace(fields=(("f", 1.5 + 1e-13),))])
    far = expected([ROWS[0]._replace(fields=(("f", 1.6),))])
    late = expected([ROWS[0]._replace(at_ms=1)])
    assert differences(near, want, 1e-12) == []
    assert [len(differences(one, want, 1e-12)) for one in (far, late, {})] == [1, 1, 1]
