"""The node's own page: what is wrong stands above the table, and what is silenced says so."""

from dataclasses import replace

from exporters.homepage import homepage
from tests.exporters.views import FINDING, OWN_FINDING, view

HOT = replace(FINDING, rule="hot", severity="critical", summary="hot <b>", action="cool it")
COLD = replace(FINDING, rule="cold", summary="cold", action="warm it")


def test_findings_say_where_and_what_to_do() -> None:
    """With the GPU's index, or the node where it is about the node; text from outside is text."""
    page = homepage(
        replace(view(), findings=(HOT, replace(OWN_FINDING, summary="lossy", action="look"))), "1"
    )
    assert "<li class='critical'>GPU 0: hot &lt;b&gt;. Do: cool it</li>" in page.decode()
    assert "hall2-n017: lossy. Do: look</li>" in page.decode()


def test_what_is_silenced_stands_last_and_says_so() -> None:
    """It is still true."""
    page = homepage(replace(view(), findings=(HOT, COLD), silenced=(HOT,)), "1").decode()
    assert "silenced: GPU 0: hot" in page
    assert page.index("GPU 0: cold") < page.index("silenced: GPU 0: hot")
    assert page.count("silenced") == 1


def test_a_page_without_findings_has_no_list() -> None:
    """And none of nothing."""
    assert "<ul" not in homepage(replace(view(), findings=()), "1").decode()
