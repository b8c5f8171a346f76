"""What a kind of job makes of its busy time: how much of each unit it uses, and what it sends over the links.

A rate is in thousandths of the unit, or in bytes, per microsecond of busy time: whole numbers, so that sums
over years stay exact and the mean of any interval is a difference of two sums.
"""

from typing import NamedTuple

PER_MILLE = 1_000


class Work(NamedTuple):
    """Rates of a kind of job, or the sums of these rates since the epoch."""

    graphics: int
    sm: int
    occupancy: int
    integer: int
    tensor: int
    tensor_dfma: int
    tensor_hmma: int
    tensor_dmma: int
    tensor_imma: int
    dram: int
    fp64: int
    fp32: int
    fp16: int
    pcie_tx_bytes: int
    pcie_rx_bytes: int
    nvlink_tx_bytes: int
    nvlink_rx_bytes: int

    def without_links(self) -> "Work":
        """Return the work of a GPU that has no NVLink."""
        return self._replace(nvlink_tx_bytes=0, nvlink_rx_bytes=0)


NO_WORK = Work._make([0] * len(Work._fields))

TRAINING = Work(
    graphics=PER_MILLE,
    sm=864,
    occupancy=312,
    integer=141,
    tensor=523,
    tensor_dfma=0,
    tensor_hmma=523,
    tensor_dmma=0,
    tensor_imma=0,
    dram=607,
    fp64=0,
    fp32=186,
    fp16=58,
    pcie_tx_bytes=613,
    pcie_rx_bytes=2_287,
    nvlink_tx_bytes=12_406,
    nvlink_rx_bytes=12_391,
)

SERVING = Work(
    graphics=PER_MILLE,
    sm=405,
    occupancy=163,
    integer=77,
    tensor=171,
    tensor_dfma=0,
    tensor_hmma=122,
    tensor_dmma=0,
    tensor_imma=49,
    dram=389,
    fp64=0,
    fp32=66,
    fp16=41,
    pcie_tx_bytes=211,
    pcie_rx_bytes=383,
    nvlink_tx_bytes=1_307,
    nvlink_rx_bytes=1_307,
)

SIMULATING = Work(
    graphics=PER_MILLE,
    sm=917,
    occupancy=473,
    integer=208,
    tensor=0,
    tensor_dfma=0,
    tensor_hmma=0,
    tensor_dmma=0,
    tensor_imma=0,
    dram=702,
    fp64=366,
    fp32=41,
    fp16=0,
    pcie_tx_bytes=107,
    pcie_rx_bytes=94,
    nvlink_tx_bytes=5_233,
    nvlink_rx_bytes=5_240,
)

SPINNING = NO_WORK._replace(graphics=PER_MILLE, sm=121, occupancy=4, integer=17, dram=2)
"""A collective waits for a GPU that does not come: some multiprocessors look at memory again and again."""

NOTEBOOK = Work(
    graphics=PER_MILLE,
    sm=296,
    occupancy=104,
    integer=58,
    tensor=22,
    tensor_dfma=0,
    tensor_hmma=13,
    tensor_dmma=9,
    tensor_imma=0,
    dram=147,
    fp64=31,
    fp32=118,
    fp16=0,
    pcie_tx_bytes=96,
    pcie_rx_bytes=178,
    nvlink_tx_bytes=0,
    nvlink_rx_bytes=0,
)
