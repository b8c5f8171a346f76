"""History as OpenMetrics text with times: what `promtool tsdb create-blocks-from openmetrics` takes.

A family's samples must stand together, and history comes tick by tick: each family waits in a file of its
own.
"""

import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from exporters.catalogue import FAMILIES
from exporters.rows import Row

_TOTAL = "_total"
_ESCAPES = str.maketrans({"\\": r"\\", "\n": r"\n", '"': r"\""})


class Families:
    """Gathers rows in a folder; `text` gives all of it at the end."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._files: dict[str, BinaryIO] = {}
        self._labels: dict[tuple[tuple[str, str], ...], str] = {}

    def add(self, rows: Iterable[Row]) -> None:
        """Take rows. Raises OSError."""
        for row in rows:
            labels = self._written(row.labels)
            at_seconds = f"{row.at_ms // 1000}.{row.at_ms % 1000:03d}"
            for field, value in row.fields:
                name = f"{row.measurement}_{field}"
                if math.isfinite(value):
                    self._file(name).write(f"{name}{labels} {value!r} {at_seconds}\n".encode())

    def _written(self, labels: tuple[tuple[str, str], ...]) -> str:
        text = self._labels.get(labels)
        if text is None:
            if len(self._labels) >= 10_000:  # noqa: PLR2004  a bound on memory
                self._labels.clear()
            told = ",".join(f'{name}="{value.translate(_ESCAPES)}"' for name, value in labels)
            text = self._labels[labels] = f"{{{told}}}"
        return text

    def _file(self, name: str) -> BinaryIO:
        if name not in self._files:
            self._files[name] = (self._folder / name).open("w+b")
        return self._files[name]

    def text(self) -> Iterator[bytes]:
        """Give the text in pieces, each family with its type and help."""
        for name in sorted(self._files):
            family = FAMILIES.get(name)
            kind = family.kind if family else "counter" if name.endswith(_TOTAL) else "gauge"
            stem = name.removesuffix(_TOTAL) if kind == "counter" else name
            yield f"# TYPE {stem} {kind}\n".encode()
            if family:
                yield f"# HELP {stem} {family.help}\n".encode()
            file = self._files[name]
            file.seek(0)
            yield from iter(lambda file=file: file.read(1 << 20), b"")  # type: ignore[misc]
        yield b"# EOF\n"

    def close(self) -> None:
        """Close the files; the folder is the caller's."""
        for file in self._files.values():
            file.close()
        self._files.clear()
