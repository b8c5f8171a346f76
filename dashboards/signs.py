"""Signs by which a GPU is told from the others: how near it is to its own limit, and what it asks for.

Each is said once, as PromQL in which `{}` stands for the matchers: recording rules count them, and tables
list them.
"""

from collections.abc import Mapping

MARGIN_BANDS: Mapping[str, str] = {
    "at the limit": "<= 0",
    "up to 5 K": "> 0 <= 5",
    "5 to 10 K": "> 5 <= 10",
    "10 to 20 K": "> 10 <= 20",
    "more than 20 K": "> 20",
}
"""Bands of the margin, hottest first; each GPU that tells its margin is in exactly one."""
RECOVERY: Mapping[str, str] = {
    "driver asks for something": "[0-9]+",
    "driver asks for a GPU reset": "1",
    "driver asks for a node reboot": "2",
    "driver asks for a drain of P2P": "3",
    "driver asks for a drain and a reset": "4",
    "driver asks for an IMEX domain reset": "5",
    "driver asks for a bus reset": "6",
    "driver asks for a system reboot": "7",
}
"""What the driver asks for, by `gpu_recovery_action_code`; the last that matches is told."""
TO_RETURN: Mapping[str, str] = {
    "row remap failed": "gpu_row_remap_failure_flag{} == 1",
    "SRAM errors past the threshold": "gpu_sram_threshold_exceeded_flag{} == 1",
}
"""What no reset cures: the board is to be replaced once the field diagnostic confirms it."""
TO_RESET: Mapping[str, str] = {
    **dict.fromkeys(RECOVERY, "gpu_recovery_action_code{} > 0"),
    "row remap waits": "gpu_row_remap_pending_flag{} == 1",
    "page waits to be retired": "gpu_retired_pages_pending_flag{} == 1",
    "uncorrected ECC errors": 'gpu_ecc_volatile_errors_total{kind="uncorrected"<more>} > 0',
}
"""What is over after a reset or a reboot. Volatile errors are those since the driver was loaded."""
TO_LINK: Mapping[str, str] = {
    "NVLinks down": "gpu_nvlink_active_links{} < gpu_nvlink_present_links{}",
    "PCIe lanes missing": "gpu_pcie_link_lanes{} < gpu_pcie_link_max_lanes{}",
    "NVLink fabric unhealthy": "gpu_fabric_health_code{} >= 2",
}
"""What is wrong with the ways to other GPUs and to the node."""
FLAGS: Mapping[str, str] = {**TO_RETURN, **TO_RESET, **TO_LINK}


def labelled(signs: Mapping[str, str], label: str) -> str:
    """Give what has one of the signs, with its name as a label: one series for each sign.

    The driver's code is asked for once, and turned into a label: seven times would be slow.
    """
    told = [
        f'label_replace({expr}, "{label}", "{name}", "", "")'
        for name, expr in signs.items()
        if name not in RECOVERY
    ]
    asked = [expr for name, expr in signs.items() if name in RECOVERY]
    return " or ".join([_recovery(asked[0], label), *told] if asked else told)


def _recovery(expr: str, label: str) -> str:
    told = f'count_values without () ("code", {expr})'
    for name, code in RECOVERY.items():
        told = f'label_replace({told}, "{label}", "{name}", "code", "{code}")'
    return told


def matched(expr: str, matchers: str) -> str:
    """Put the matchers in: `{}` where there are no others, `<more>` behind others."""
    more = f", {matchers}" if matchers else ""
    return expr.replace("<more>", more).replace("{}", f"{{{matchers}}}" if matchers else "")
