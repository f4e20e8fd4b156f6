"""Which engine a layout asks for."""

from recipes.plan import Layout
from trainers.engine import Engine
from trainers.engine.accelerated import Accelerated
from trainers.engine.zero import Zero


def begin(layout: Layout) -> Engine:
    """Meet the other processes, as the layout says; one process divides nothing.

    Raises:
        WrongLaunch: Another number of processes, or no such device.
        MissingPackage: DeepSpeed is to divide, and is not installed.
    """
    zero = layout.processes > 1 and layout.sharding in {"zero2", "zero3"}
    return Zero(layout) if zero else Accelerated(layout)
