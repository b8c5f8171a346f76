"""All exporters of a node: made from the settings, started, woken by each tick, and stopped together."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from agent.view import Standing
from exporters.destination import ExporterSettings
from exporters.settle import Transport
from exporters.shipper import Encode, Shipment, Shipper


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


class Fleet:
    """The shippers of a node."""

    def __init__(
        self, exporters: Iterable[ExporterSettings], journal: Path, labels: Mapping[str, str]
    ) -> None:
        self._shippers = [Shipper(shipment_of(one), journal, labels) for one in exporters]

    def start(self) -> None:
        """Begin to send."""
        for one in self._shippers:
            one.start()

    def wake(self) -> None:
        """Say that there is a new tick."""
        for one in self._shippers:
            one.wake()

    def standings(self) -> list[Standing]:
        """Tell how far each is."""
        return [one.standing for one in self._shippers]

    def close(self) -> None:
        """Stop sending."""
        for one in self._shippers:
            one.close()
