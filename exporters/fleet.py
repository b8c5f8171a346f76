"""All exporters of a node: made from the settings, started, woken by each tick, and stopped together."""

from collections.abc import Iterable, Mapping
from contextlib import closing
from pathlib import Path

from agent.view import Standing
from exporters.courier import Courier
from exporters.destination import ExporterSettings
from exporters.rows import OWN, Row
from exporters.settle import Outcome, Transport
from exporters.shipper import Encode, Shipment, Shipper
from exporters.teller import Teller, Telling


def shipment_of(settings: ExporterSettings) -> Shipment:
    """Choose encoder and transport; what a kind needs is imported only for it."""
    encode, transport = _parts_of(settings)
    return Shipment(
        name=settings.name,
        encode=encode,
        transport=transport,
        most_bytes=settings.most_bytes,
        newest_first=settings.newest_first,
        spread_seconds=settings.spread_seconds,
    )


def _parts_of(settings: ExporterSettings) -> tuple[Encode, Transport]:
    if settings.kind == "remote_write":
        from exporters import remote_write  # noqa: PLC0415
        from exporters.http_store import HttpStore  # noqa: PLC0415

        return remote_write.encode, HttpStore(settings, fixed=remote_write.HEADERS, zipped=False)
    if settings.kind == "otlp":
        from exporters import otlp  # noqa: PLC0415
        from exporters.http_store import HttpStore  # noqa: PLC0415

        store = HttpStore(settings, fixed=otlp.HEADERS, zipped=True, taken=otlp.outcome_of)
        return otlp.encode, store
    from exporters import line_protocol  # noqa: PLC0415

    if settings.kind == "influx1":
        from exporters.http_store import influx1  # noqa: PLC0415

        return line_protocol.encode, influx1(settings)
    from exporters.influx_store import InfluxStore  # noqa: PLC0415

    return line_protocol.encode, InfluxStore(settings)


def telling_of(settings: ExporterSettings) -> Telling:
    """Choose what is told, and by what way; what a kind needs is imported only for it."""
    from exporters.http_store import HttpStore  # noqa: PLC0415

    if settings.kind == "alertmanager":
        from exporters import alerts  # noqa: PLC0415

        return Telling(
            name=settings.name,
            encode=alerts.encode,
            post=HttpStore(settings, alerts.PATH, fixed=alerts.HEADERS, zipped=False),
            most=alerts.MOST,
            repeat_ms=alerts.REPEAT_MS,
            spread_seconds=settings.spread_seconds,
        )
    if settings.kind == "grafana":
        from exporters import annotations  # noqa: PLC0415
        from exporters.grafana import Grafana  # noqa: PLC0415

        return Telling(
            name=settings.name,
            encode=annotations.encode,
            post=Grafana(settings),
            spread_seconds=settings.spread_seconds,
        )
    from exporters import webhook  # noqa: PLC0415

    post = HttpStore(settings, fixed=webhook.HEADERS, zipped=False)
    return Telling(
        name=settings.name, encode=webhook.encode, post=post, spread_seconds=settings.spread_seconds
    )


def courier_of(settings: ExporterSettings, journal: Path, labels: Mapping[str, str]) -> Courier:
    """Make an exporter, which is not started yet."""
    if settings.tells:
        return Teller(telling_of(settings), journal, labels)
    return Shipper(shipment_of(settings), journal, labels)


def trial(settings: ExporterSettings, labels: Mapping[str, str], at_ms: int) -> tuple[Outcome, str]:
    """Send once what does no harm; give what became of it, and what it was."""
    if settings.tells:
        telling = telling_of(settings)
        with closing(telling.post):
            body, more = telling.encode((), labels, at_ms)
            return telling.post.send(body, more), "a message about nothing"
    shipment = shipment_of(settings)
    with closing(shipment.transport):
        row = Row(OWN, tuple(labels.items()), (("doctor_checks", 1.0),), at_ms)
        return shipment.transport.send(shipment.encode([row])), "a figure (gputally_doctor_checks)"


class Fleet:
    """The exporters of a node."""

    def __init__(
        self, exporters: Iterable[ExporterSettings], journal: Path, labels: Mapping[str, str]
    ) -> None:
        self._couriers = [courier_of(one, journal, labels) for one in exporters]

    def start(self) -> None:
        """Begin to send."""
        for one in self._couriers:
            one.start()

    def wake(self) -> None:
        """Say that there is a new tick."""
        for one in self._couriers:
            one.wake()

    def standings(self) -> list[Standing]:
        """Tell how far each is."""
        return [one.standing for one in self._couriers]

    def close(self) -> None:
        """Stop sending."""
        for one in self._couriers:
            one.close()
