"""Who computes: our functions over a model's layers, wherever each is proven right; the libraries' elsewhere."""

from torch import nn

from trainers.adapt import blocks, dora, lora


def install(model: nn.Module) -> tuple[str, ...]:
    """Give adapters, norms and gated MLPs our functions; comes after the adapters.

    Names of modules and weights stay as they were, and what does not fit a layer leaves it as it is: a DoRA or a
    LoRA layer decides at each call, since adapters come and go.

    Returns:
        The kinds of norms and MLPs that keep their own functions, by class name.
    """
    dora.install(model)
    lora.install(model)
    return blocks.install(model)
