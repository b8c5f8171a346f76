"""The settings of holders: which worlds are asked, where they are, and who answers for whom."""

from dataclasses import dataclass

from agent.errors import SettingsError
from agent.holders.owners import OwnerRule

CHOICES = ("auto", "off")


@dataclass(frozen=True, slots=True, kw_only=True)
class HolderSettings:
    """Worlds are "auto" (asked when they are on this node) or "off"; empty names and folders are found.

    `map` is the list of [[holders.map]]; the first rule that matches and gives a thing decides it.
    """

    slurm: str = "auto"
    slurm_node: str = ""
    slurm_commands: str = ""
    slurm_spool: str = ""
    slurm_gres_file: str = "/etc/slurm/gres.conf"
    kubernetes: str = "auto"
    kubernetes_node: str = ""
    kubelet_socket: str = "/var/lib/kubelet/pod-resources/kubelet.sock"
    api_server: str = ""
    api_token_file: str = ""
    api_ca_file: str = ""
    containers: str = "auto"
    container_sockets: tuple[str, ...] = ("/var/run/docker.sock", "/run/podman/podman.sock")
    proc: str = "/proc"
    cgroups: str = "/sys/fs/cgroup"
    refresh_seconds: float = 15.0
    most_owners: int = 500
    most_series: int = 512
    map: tuple[OwnerRule, ...] = ()

    def __post_init__(self) -> None:
        """Refuse values that cannot be meant."""
        for name in ("slurm", "kubernetes", "containers"):
            if getattr(self, name) not in CHOICES:
                raise SettingsError(f"[holders] {name} must be one of {', '.join(CHOICES)}")
        if not 1 <= self.refresh_seconds <= 60:  # noqa: PLR2004  a minute is what is promised
            raise SettingsError("[holders] refresh_seconds must lie between 1 and 60")
        for name in ("most_owners", "most_series"):
            if getattr(self, name) < 1:
                raise SettingsError(f"[holders] {name} must be at least 1")
