"""Writes down what a real driver answered, so that the simulated one can be corrected from it.

No serial number, UUID or host name is kept: wherever one stands, the recording has "…".
"""

import json
import re
from collections.abc import Collection
from pathlib import Path
from typing import Any

HIDDEN = "…"
_SECRET_KEY = re.compile(r"uuid|serial|guid|host_?name|^pid$", re.IGNORECASE)
_UUID = re.compile(r"\b(?:GPU-|MIG-)?[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b", re.IGNORECASE)
_SHORTEST_SECRET = 4
_OPEN_KEYS = frozenset({"code"})
"""What may be told even of an answer that is hidden."""


def anonymised(value: Any, secrets: Collection[str], *, hidden: bool = False) -> Any:  # noqa: ANN401  JSON
    """Give a value without UUIDs, without secrets, and without what stands under a key that names one."""
    if isinstance(value, dict):
        return {
            key: one
            if key in _OPEN_KEYS
            else anonymised(one, secrets, hidden=hidden or bool(_SECRET_KEY.search(key)))
            for key, one in value.items()
        }
    if isinstance(value, (list, tuple)):
        return [anonymised(one, secrets, hidden=hidden) for one in value]
    if hidden:
        return None if value is None else HIDDEN
    if isinstance(value, str):
        if value in secrets:
            return HIDDEN
        text = _UUID.sub(HIDDEN, value)
        for secret in sorted(secrets, key=len, reverse=True):
            if len(secret) >= _SHORTEST_SECRET:
                text = re.sub(rf"(?<!\w){re.escape(secret)}(?!\w)", HIDDEN, text)
        return text
    return value


def file_name(model: str, driver: str) -> str:
    """Name the file of a recording: "nvidia-h200-580.95.05.json"."""
    words = [re.sub(r"[^a-z0-9.]+", "-", word.lower()).strip("-") or "unknown" for word in (model, driver)]
    return "-".join(words) + ".json"


def write(folder: Path, document: dict[str, Any], secrets: Collection[str]) -> Path:
    """Write a recording into a folder; `document` has at least model and driver. Gives the file."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / file_name(document["model"], document["driver"])
    text = json.dumps(anonymised(document, secrets), indent=1, ensure_ascii=False, sort_keys=True)
    path.write_text(text + "\n", encoding="utf-8")
    return path
