"""Who answers for a claimant: the settings' rules, first match first, and what holds without a rule.

Without a rule the owner is the Slurm account, the namespace of a pod, else the user.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from agent.errors import SettingsError
from agent.holders.contract import Claimant
from agent.holders.names import printable
from agent.states import UNATTRIBUTED
from agent.tick import Holder, Workload

LONGEST_NAME = 120
OTHERS = "other"
"""The owner of all that come after there are too many."""
KINDS = ("slurm", "pod", "container", "unit", "process")
_WORLD_OF = {"slurm": "slurm", "pod": "kubernetes"}
"""Kinds whose owner their world must tell: a user or a number alone would put the time on another account."""
_PATTERNS = ("kind", "name", "user", "account", "partition", "qos", "namespace", "container", "title")


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnerRule:
    """One [[holders.map]]: what must match, as patterns with * and ?, and what it gives.

    An empty pattern matches anything. `label` must match all of its labels. `owner_label` takes the owner
    from a label, and matches only those that have it.
    """

    kind: str = ""
    name: str = ""
    user: str = ""
    account: str = ""
    partition: str = ""
    qos: str = ""
    namespace: str = ""
    container: str = ""
    title: str = ""
    label: Mapping[str, str] = field(default_factory=dict)
    owner: str = ""
    owner_label: str = ""
    workload: str = ""
    cost_centre: str = ""

    def __post_init__(self) -> None:
        """Refuse rules that cannot be meant."""
        if self.workload and self.workload not in set(Workload):
            raise SettingsError(f"[[holders.map]] workload must be one of {', '.join(Workload)}")
        if not (self.owner or self.owner_label or self.workload or self.cost_centre):
            raise SettingsError("[[holders.map]] must give owner, owner_label, workload or cost_centre")
        if self.owner and self.owner_label:
            raise SettingsError("[[holders.map]] gives owner or owner_label, not both")
        if self.kind and not any(fnmatchcase(kind, self.kind) for kind in KINDS):
            raise SettingsError(f"[[holders.map]] kind must match one of {', '.join(KINDS)}")
        if not all(isinstance(pattern, str) for pattern in self.label.values()):
            raise SettingsError("[[holders.map]] label must be a table of texts")

    def matches(self, one: Claimant) -> bool:
        """Tell whether a claimant is meant."""
        for name in _PATTERNS:
            pattern = getattr(self, name)
            if pattern and not fnmatchcase(getattr(one, name), pattern):
                return False
        if self.owner_label and not one.labels.get(self.owner_label):
            return False
        return all(
            key in one.labels and fnmatchcase(one.labels[key], pattern) for key, pattern in self.label.items()
        )


class Owners:
    """Makes holders of claimants. Owners beyond the limit become one, and are counted."""

    def __init__(self, rules: tuple[OwnerRule, ...], default: Workload, most_owners: int) -> None:
        self._rules = rules
        self._default = default
        self._most = most_owners
        self._owners: set[str] = set()
        self._folded: set[str] = set()

    @property
    def folded(self) -> int:
        """How many owners were folded into one since the start."""
        return len(self._folded)

    def holder_of(self, one: Claimant) -> Holder:
        """Name who answers for a claimant, by the first rule that gives each thing."""
        owner = workload = centre = ""
        for rule in self._rules:
            if rule.matches(one):
                owner = owner or rule.owner or one.labels.get(rule.owner_label, "")
                workload = workload or rule.workload
                centre = centre or rule.cost_centre
        return Holder(
            kind=one.kind,
            name=tame(one.name),
            owner=self._bounded(tame(owner) or _usual_owner(one)),
            user=tame(one.user),
            workload=Workload(workload) if workload else self._default,
            account=tame(one.account),
            partition=tame(one.partition),
            qos=tame(one.qos),
            namespace=tame(one.namespace),
            container=tame(one.container),
            title=tame(one.title),
            cost_centre=centre,
        )

    def _bounded(self, owner: str) -> str:
        if owner in self._owners:
            return owner
        if len(self._owners) >= self._most:
            if len(self._folded) < self._most:
                self._folded.add(owner)
            return OTHERS
        self._owners.add(owner)
        return owner


def _usual_owner(one: Claimant) -> str:
    known = tame(one.account or one.namespace)
    if known:
        return known
    if one.kind in _WORLD_OF:
        return f"{UNATTRIBUTED}:{_WORLD_OF[one.kind]}"
    return tame(one.user) or UNATTRIBUTED


def tame(text: str) -> str:
    """Make a text harmless wherever it ends up: short, and printable without direction marks."""
    kept = printable(text, LONGEST_NAME + 1)
    kept = kept.encode("utf-8", "replace").decode()
    return kept if len(kept) <= LONGEST_NAME else f"{kept[: LONGEST_NAME - 1]}…"
