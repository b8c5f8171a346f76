"""Makes what names holders from the settings: one lookout for each world, and what looks at processes."""

from functools import partial
from pathlib import Path

from agent.errors import SettingsError
from agent.holders.claims import Holders
from agent.holders.containers import ContainersWorld
from agent.holders.kubernetes import KubernetesWorld
from agent.holders.lookout import Lookout
from agent.holders.owners import Owners
from agent.holders.processes import People, seen_of
from agent.holders.settings import HolderSettings
from agent.holders.slurm import SlurmWorld
from agent.tick import Workload


def holders_of(settings: HolderSettings, default: Workload) -> Holders:
    """Make what names the holders of this node; nothing is asked yet."""
    people = People(partial(seen_of, proc=Path(settings.proc)))
    return Holders(people, lookouts(settings), Owners(settings.map, default, settings.most_owners))


def lookouts(settings: HolderSettings) -> list[Lookout]:
    """Make a lookout for each world that is not switched off. Raises SettingsError."""
    found = []
    if settings.slurm == "auto":
        slurm = SlurmWorld(
            node=settings.slurm_node,
            commands=settings.slurm_commands,
            cgroup_root=Path(settings.cgroups),
            spool_folder=settings.slurm_spool,
            gres_file=settings.slurm_gres_file,
            proc=Path(settings.proc),
        )
        found.append(Lookout(slurm, slurm.available, settings.refresh_seconds))
    if settings.kubernetes == "auto":
        kubernetes = _kubernetes(settings)
        found.append(Lookout(kubernetes, kubernetes.available, settings.refresh_seconds))
    if settings.containers == "auto":
        containers = ContainersWorld(sockets=settings.container_sockets)
        found.append(Lookout(containers, containers.available, settings.refresh_seconds))
    return found


def _kubernetes(settings: HolderSettings) -> KubernetesWorld:
    try:
        return KubernetesWorld(
            socket=Path(settings.kubelet_socket),
            api_server=settings.api_server,
            token_file=settings.api_token_file,
            ca_file=settings.api_ca_file,
            node=settings.kubernetes_node,
        )
    except ValueError as error:
        raise SettingsError(f"[holders] api_server: {error}") from error
