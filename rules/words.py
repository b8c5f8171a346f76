"""Rules in words, for people."""

from rules.definition import JOB, PEERS, Comparison, Condition

_WORDS = {
    Comparison.AT_MOST: "at most",
    Comparison.AT_LEAST: "at least",
    Comparison.BELOW: "below",
    Comparison.ABOVE: "above",
}
_UNITS = ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s"))


def length_in_words(seconds: float) -> str:
    """Say a length of time without rounding it: `1 h 30 min`."""
    whole, parts = int(seconds), []
    for unit, name in _UNITS:
        times, whole = divmod(whole, unit)
        if times:
            parts.append(f"{times} {name}")
    if seconds % 1:
        parts.append(f"{seconds % 1 * 1000:g} ms")
    return " ".join(parts) or "one interval"


def condition_in_words(condition: Condition) -> str:
    """Say a condition: `temperature_margin_celsius at most 5, closes above 8`."""
    if condition.is_state:
        return f"the state is {condition.is_state}"
    what = condition.quantity
    if condition.xids:
        what = f"XIDs of the numbers {', '.join(map(str, condition.xids))}"
    if condition.over_seconds:
        what = f"growth of {what} over {length_in_words(condition.over_seconds)}"
    limit = _limit(condition, condition.plus) if condition.of else f"{condition.number:g}"
    text = f"{what} {_WORDS[condition.comparison]} {limit}"
    if condition.until is None:
        return text
    back = _limit(condition, condition.until) if condition.of else f"{condition.until:g}"
    return f"{text}; once open, {_WORDS[condition.comparison]} {back}"


def _limit(condition: Condition, plus: float) -> str:
    medians = {PEERS: "the median of its peers", JOB: "the median of its job"}
    other = medians.get(condition.of, condition.of)
    scaled = other if condition.times == 1 else f"{condition.times:g} times {other}"
    return f"{scaled} {'+' if plus > 0 else '-'} {abs(plus):g}" if plus else scaled
