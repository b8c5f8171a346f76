"""Settings of exporters: what cannot be meant says what to write."""

from pathlib import Path

import pytest

from agent.errors import SettingsError
from exporters.destination import ExporterSettings, ExportersSettings, secret

GOOD = {"name": "fleet", "kind": "influx1", "url": "http://store:8086", "database": "gpu"}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"name": ""}, "give it a name"),
        ({"name": "a b"}, "give it a name"),
        ({"kind": "influxdb"}, "kind must be one of influx, influx1, remote_write, otlp, alertmanager, "),
        ({"url": "store:8086"}, "url must be an address such as https://"),
        ({"url": "ftp://store"}, "url must be an address"),
        ({"url": "http://[store"}, "url must be an address"),
        ({"url": "http://store:99999"}, "url must be an address"),
        ({"database": ""}, "kind influx1 needs database"),
        ({"kind": "influx"}, "kind influx needs bucket"),
        ({"order": "random"}, "order must be newest_first or oldest_first"),
        ({"timeout_seconds": 0.5}, "timeout_seconds must lie between 1 and 600"),
        ({"spread_seconds": -1.0}, "spread_seconds must lie between 0 and 60"),
        ({"most_bytes": 10}, "most_bytes must lie between 65536"),
        ({"cert_file": "c"}, "needs cert_file and key_file"),
        ({"username": "ada"}, "needs username and password_file"),
        ({"kind": "webhook"}, "kind webhook has no database: it gets findings, not ticks"),
        ({"kind": "alertmanager", "database": "", "order": "oldest_first"}, "alertmanager has no order"),
        ({"kind": "webhook", "database": "", "most_bytes": 100_000}, "webhook has no most_bytes"),
        ({"kind": "grafana"}, "kind grafana has no database: it gets findings, not ticks"),
    ],
)
def test_what_cannot_be_meant_is_refused(values: dict[str, object], message: str) -> None:
    """The sentence names the exporter, the key and the choices."""
    with pytest.raises(SettingsError, match=message):
        ExporterSettings(**{**GOOD, **values})  # type: ignore[arg-type]


def test_two_exporters_of_one_name_are_refused() -> None:
    """Each keeps its cursor under its name."""
    one = ExporterSettings(**GOOD)  # type: ignore[arg-type]
    with pytest.raises(SettingsError, match="different names"):
        ExportersSettings(to=(one, one))


def test_order_follows_the_kind_unless_told() -> None:
    """What wants samples in order gets them so."""
    remote = ExporterSettings(name="x", kind="remote_write", url="http://h/w")
    told = ExporterSettings(name="x", kind="remote_write", url="http://h/w", order="newest_first")
    assert (ExporterSettings(**GOOD).newest_first, remote.newest_first, told.newest_first) == (  # type: ignore[arg-type]
        True,
        False,
        True,
    )


def test_a_secret_is_one_line(tmp_path: Path) -> None:
    """Spaces around it do not count; two lines are no secret."""
    file = tmp_path / "token"
    file.write_text("  s3cr3t \n")
    assert secret(str(file)) == "s3cr3t"
    file.write_text("one\ntwo\n")
    with pytest.raises(ValueError, match="more than one line"):
        secret(str(file))
