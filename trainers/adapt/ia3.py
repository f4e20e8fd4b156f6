"""IA3 (Liu et al., 2022): a learned factor on each key, value and inner activation of the MLP; made by peft.

The factor of the MLP scales what its last projection reads, the others scale what a projection gives. Where an
architecture makes queries, keys and values in one matrix, queries get factors as well.
"""

from typing import Final

import torch
from peft import IA3Config, PeftModel, get_peft_model
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from recipes.words import N_
from trainers.adapt.names import linear, named_by, nearest, tails, wrong

FAMILIES: Final = (
    (("k_proj", "v_proj"), "down_proj"),  # Llama, Mistral, Qwen, Gemma
    (("k_proj", "v_proj"), "fc2"),  # OPT, Phi-2
    (("qkv_proj",), "down_proj"),  # Phi-3
    (("query_key_value",), "dense_4h_to_h"),  # GPT-NeoX, BLOOM, Falcon
    (("c_attn",), "mlp.c_proj"),  # GPT-2
)
"""What architectures call the projections of keys and values, and the last one of the MLP."""


def install(model: PreTrainedModel, seed: int) -> PeftModel:
    """Freeze the model and put factors of one into each block.

    Raises:
        RecipeError: The architecture calls its projections by other names.
    """
    torch.manual_seed(seed)
    layers = linear(model)
    names = list(layers)
    for attention, mlp in FAMILIES:
        if all(any(named_by(target, names)) for target in (*attention, mlp)):
            config = IA3Config(
                task_type="CAUSAL_LM",
                target_modules=[*attention, mlp],
                feedforward_modules=[mlp],
                fan_in_fan_out=isinstance(layers[next(named_by(mlp, names))], Conv1D),
            )
            made: PeftModel = get_peft_model(model, config)
            return made
    raise wrong(
        N_(
            "{architecture} calls its key, value and MLP projections by unknown names; its linear modules: {names}"
        ),
        "adaptation.kind",
        architecture=type(model).__name__,
        names=nearest("k_proj", tails(names)),
    )
