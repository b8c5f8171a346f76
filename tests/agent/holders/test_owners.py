"""Who answers for a claimant: rules, what holds without one, and names that are harmless."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.errors import SettingsError
from agent.holders.contract import Claimant
from agent.holders.owners import LONGEST_NAME, OwnerRule, Owners, tame
from agent.tick import Workload
from tests.agent.holders.worlds import ARRAY, JOB, POD


def owners(*rules: OwnerRule, most: int = 100) -> Owners:
    """Make owners by rules."""
    return Owners(rules, Workload.BATCH, most)


@pytest.mark.parametrize(
    ("one", "owner"),
    [
        (JOB, "vision"),
        (POD, "lab"),
        (Claimant(kind="process", name="train.py", user="ada"), "ada"),
        (Claimant(kind="container", name="trainer", user="root"), "root"),
        (Claimant(kind="unit", name="ollama.service", user="ollama"), "ollama"),
        (Claimant(kind="process", name="train.py"), "unattributed"),
        (Claimant(kind="slurm", name="4711", user="ada"), "unattributed:slurm"),
        (Claimant(kind="pod", name="b1d9", user="root"), "unattributed:kubernetes"),
    ],
)
def test_without_a_rule_account_namespace_or_user_answers(one: Claimant, owner: str) -> None:
    """A job whose account is not known is nobody's, and says which world did not tell."""
    assert owners().holder_of(one).owner == owner


def test_the_first_rule_that_gives_a_thing_decides_it() -> None:
    """Owner, class and cost centre are decided each by the first rule that matches and gives them."""
    rules = (
        OwnerRule(kind="slurm", workload="serving"),
        OwnerRule(account="vis*", owner="Vision", cost_centre="4711"),
        OwnerRule(kind="*", owner="all", cost_centre="1", workload="interactive"),
    )
    job, pod = owners(*rules).holder_of(JOB), owners(*rules).holder_of(POD)
    assert (job.owner, job.workload, job.cost_centre) == ("Vision", Workload.SERVING, "4711")
    assert (pod.owner, pod.workload, pod.cost_centre) == ("all", Workload.INTERACTIVE, "1")


@pytest.mark.parametrize(
    ("rule", "matches"),
    [
        (OwnerRule(kind="pod", owner="x"), [POD]),
        (OwnerRule(namespace="la?", owner="x"), [POD]),
        (OwnerRule(label={"team": "vis*"}, owner="x"), [POD]),
        (OwnerRule(label={"team": "vis*", "tier": "*"}, owner="x"), []),
        (OwnerRule(owner_label="team"), [POD]),
        (OwnerRule(user="ada", partition="gpu", qos="normal", owner="x"), [JOB]),
        (OwnerRule(name="4712_*", owner="x"), [ARRAY]),
        (OwnerRule(account="VISION", owner="x"), []),
        (OwnerRule(kind="*", owner="x"), [JOB, ARRAY, POD]),
    ],
)
def test_a_rule_matches_all_of_its_patterns(rule: OwnerRule, matches: list[Claimant]) -> None:
    """Whole names, with case; an empty pattern matches anything."""
    assert [one for one in (JOB, ARRAY, POD) if rule.matches(one)] == matches


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"kind": "slurm"}, "must give owner"),
        ({"workload": "nightly"}, "workload must be one of batch, interactive, serving"),
        ({"owner": "a", "owner_label": "b"}, "owner or owner_label"),
        ({"kind": "kubernetes", "owner": "a"}, "kind must match one of slurm, pod"),
        ({"label": {"team": 5}, "owner": "a"}, "label must be a table of texts"),
    ],
)
def test_a_rule_that_cannot_be_meant_is_refused(values: dict[str, str], message: str) -> None:
    """The error says what to write."""
    with pytest.raises(SettingsError, match=message):
        OwnerRule(**values)  # type: ignore[arg-type]


def test_too_many_owners_become_one() -> None:
    """Accounts stay bounded whatever names come, and how many were folded is told."""
    one = owners(most=3)
    names = [one.holder_of(Claimant(kind="process", name="x", user=f"u{n}")).owner for n in range(6)]
    assert names == ["u0", "u1", "u2", "other", "other", "other"]
    assert one.folded == 3
    assert one.holder_of(Claimant(kind="process", name="x", user="u1")).owner == "u1"


@given(st.text(max_size=400), st.booleans())
def test_any_name_is_made_harmless(text: str, surrogate: bool) -> None:  # noqa: FBT001
    """Short, printable, and what a journal and a page can hold; harmless text stays as it is."""
    made = tame(text + ("\udcff" if surrogate else ""))
    assert made.isprintable()
    assert len(made) <= LONGEST_NAME
    made.encode()
    if text.isprintable() and len(text) <= LONGEST_NAME and not surrogate:
        assert made == text


def test_a_megabyte_of_name_is_cut() -> None:
    """The length is bounded, and the cut is shown."""
    holder = owners().holder_of(Claimant(kind="slurm", name="1", title="x\n" * 500_000, account="a" * 10**6))
    assert len(holder.title) == len(holder.owner) == LONGEST_NAME
    assert holder.title.startswith("x?x?")
    assert holder.owner.endswith("…")
