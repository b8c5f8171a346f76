"""Signs are exclusive where they must be, and know what the driver may ask for."""

import re

import pytest

from dashboards.signs import FLAGS, MARGIN_BANDS, RECOVERY, labelled, matched
from exporters.catalogue import FAMILIES


def test_each_recovery_action_has_a_name() -> None:
    """All codes that the catalogue of metrics names but 0, in its order; the first stands for new ones."""
    text = FAMILIES["gpu_recovery_action_code"].help
    codes = re.findall(r"(\d) [a-zA-Z]", text)
    assert codes == ["0", *list(RECOVERY.values())[1:]]


def test_signs_ask_for_what_exists() -> None:
    """Every metric of every sign is in the catalogue."""
    for name, expr in FLAGS.items():
        assert set(re.findall(r"\bgpu_\w+", expr)) <= set(FAMILIES), name


@pytest.mark.parametrize("margin", [-3.0, 0.0, 0.1, 5.0, 5.1, 10.0, 10.1, 20.0, 20.1, 60.0])
def test_each_margin_is_in_one_band(margin: float) -> None:
    """Also at the edges."""
    found = [band for band, within in MARGIN_BANDS.items() if _is_within(margin, within)]
    assert len(found) == 1


def _is_within(margin: float, within: str) -> bool:
    tests = {"<=": margin.__le__, ">": margin.__gt__}
    return all(tests[sign](float(edge)) for sign, edge in re.findall(r"(<=|>) (\d+)", within))


def test_matchers_stand_alone_or_behind_others() -> None:
    """None leave no braces behind."""
    expr = 'a{} + b{kind="x"<more>}'
    assert matched(expr, 'pool="p"') == 'a{pool="p"} + b{kind="x", pool="p"}'
    assert matched(expr, "") == 'a + b{kind="x"}'


def test_each_sign_is_a_series_with_its_name() -> None:
    """One query for several."""
    told = labelled({"hot": "a{} > 1", "lost": "b{} == 1"}, "sign")
    assert told == (
        'label_replace(a{} > 1, "sign", "hot", "", "") or label_replace(b{} == 1, "sign", "lost", "", "")'
    )
