"""What a probe is told when it is started: one argument, made by the parent and read by the probe."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

from agent.cadence import SamplerSettings
from agent.tick import Gpu


@dataclass(frozen=True, slots=True, kw_only=True)
class Mission:
    """What a probe is told at its start. `shunned` are GPUs that hang, by index; `cell` a descriptor."""

    node: str
    settings: SamplerSettings
    cell: int
    simulation: str = ""
    shunned: Mapping[int, Gpu | None] = field(default_factory=dict)

    def encode(self) -> str:
        """Give the mission as one argument."""
        shunned = [[index, gpu and asdict(gpu)] for index, gpu in self.shunned.items()]
        return json.dumps([self.node, asdict(self.settings), self.cell, self.simulation, shunned])


def mission_of(text: str) -> Mission:
    """Read a mission from its argument."""
    node, settings, cell, simulation, shunned = json.loads(text)
    return Mission(
        node=node,
        settings=SamplerSettings(**settings),
        cell=cell,
        simulation=simulation,
        shunned={index: Gpu(**gpu) if gpu else None for index, gpu in shunned},
    )
