"""How the alert of a rule is called, wherever it is told."""


def alert_name(rule: str) -> str:
    """Name the alert of a rule: `GpuThermalMarginLow` of thermal_margin_low."""
    words = [word for word in rule.split("_") if word]
    if not words or words[0] not in ("gpu", "gputally"):
        words.insert(0, "gpu")
    return "".join(word.capitalize() for word in words)
