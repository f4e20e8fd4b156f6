"""Which engine a layout asks for."""

from recipes.plan import Layout
from trainers.engine import Engine
from trainers.engine.accelerated import Accelerated
from trainers.engine.zero import Zero
from trainers.engine.zero3 import Zero3


def begin(layout: Layout) -> Engine:
    """Meet the other processes, as the layout says; one process divides nothing.

    Raises:
        WrongLaunch: Another number of processes, or no such device.
        MissingPackage: DeepSpeed is to divide, and is not installed.
    """
    match layout.sharding if layout.processes > 1 else "none":
        case "zero2":
            return Zero(layout)
        case "zero3":
            return Zero3(layout)
    return Accelerated(layout)
