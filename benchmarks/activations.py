"""Bytes a token and a layer that a forward keeps for its backward, at the size of an 8B model, without any memory.

Run: `python benchmarks/activations.py`. Fake tensors have shapes and storages but no memory, so the sizes are exact,
and the same everywhere. What the attention kernel keeps is counted as it does on a GPU: output and one fp32 number a
head. Prints a table, and writes `results/activations.json`.
"""

import json
import logging
import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import torch
from measured import versions
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.attention.varlen import varlen_attn
from transformers import AttentionInterface, LlamaConfig, LlamaForCausalLM

from trainers.adapt import blocks, lora
from trainers.adapt.blocks import FastMlp

RESULT = Path(__file__).parent / "results" / "activations.json"
KIB = 1024
LIMIT_KIB = 110
"""What the built-in trainer promises for LoRA on all linear layers of an 8B model in bf16."""
TOKENS = 2048
SHAPE = {  # Llama-3-8B
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "vocab_size": 1024,  # the head is another matter
}


def kernel(
    _: nn.Module, query: Tensor, key: Tensor, value: Tensor, *__: object, **___: object
) -> tuple[Tensor, None]:
    """One document through FlashAttention's variable-length kernel; only its shapes matter here."""
    ends = torch.tensor([0, query.shape[2]], dtype=torch.int32)
    q, k, v = (x[0].transpose(0, 1) for x in (query, key, value))
    return varlen_attn(q, k, v, ends, ends, TOKENS, TOKENS, enable_gqa=True)[None], None


AttentionInterface.register("counted", kernel)


def stock(_: nn.Module) -> None:
    """As the libraries have it."""


def with_lora(model: nn.Module) -> None:
    """Our function for the adapters."""
    lora.install(model)


def with_norms(model: nn.Module) -> None:
    """And for the norms."""
    with_product(model)
    for module in model.modules():
        if isinstance(module, FastMlp):
            module.__class__ = type(module).__mro__[2]


def with_product(model: nn.Module) -> None:
    """And for the gated product, apart from the projection behind it."""
    with_all(model)
    for module in model.modules():
        if isinstance(module, FastMlp):
            module.down_proj.register_forward_hook(lambda *_: None)  # so it is called by itself


def with_all(model: nn.Module) -> None:
    """All of ours."""
    lora.install(model)
    blocks.install(model)


def autocast() -> AbstractContextManager[object]:
    """How trainers compute fp32 adapters over a bf16 base."""
    return torch.autocast("cpu", torch.bfloat16)


Case = tuple[str, bool, Callable[[nn.Module], None], Callable[[], AbstractContextManager[object]]]
CASES: tuple[Case, ...] = (
    ("peft, fp32 adapters", True, stock, nullcontext),
    ("peft, fp32 adapters, autocast", True, stock, autocast),
    ("peft, bf16 adapters", False, stock, nullcontext),
    ("ours: LoRA", True, with_lora, nullcontext),
    ("ours: + norms", True, with_norms, nullcontext),
    ("ours: + gated product", True, with_product, nullcontext),
    ("ours: + gated product with its projection", True, with_all, nullcontext),
)
"""Name, whether adapters are fp32, what is installed, and what it runs inside."""


def kept(layers: int, case: Case) -> int:
    """Bytes of the storages that a forward keeps, without the weights."""
    _, fp32, install, around = case
    seen: dict[int, tuple[object, int]] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        seen[storage._cdata] = (storage, storage.nbytes())  # held, so that no other gets its number
        return tensor

    with torch.device("meta"):
        config = LlamaConfig(**SHAPE, num_hidden_layers=layers, attn_implementation="counted")
        targets = LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM")
        model = get_peft_model(LlamaForCausalLM(config), targets)
    with FakeTensorMode(allow_non_fake_inputs=True):
        _materialise(model, fp32=fp32)
        install(model)
        weights = {p.untyped_storage()._cdata for p in model.parameters()}
        ids = torch.zeros(1, TOKENS, dtype=torch.long)
        with around(), torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            out = model(input_ids=ids, position_ids=ids, use_cache=False, logits_to_keep=1)
        total = sum(size for key, (_, size) in seen.items() if key not in weights)
    del out
    return total


def _materialise(model: nn.Module, *, fp32: bool) -> None:
    """Fake tensors on the CPU for those on the meta device: the base in bf16, adapters as wished."""
    for module in model.modules():
        for name, weight in module._parameters.items():
            if weight is not None:
                dtype = torch.float32 if weight.requires_grad and fp32 else torch.bfloat16
                made = torch.empty(weight.shape, dtype=dtype)
                module._parameters[name] = nn.Parameter(made, weight.requires_grad)
        for name, buffer in module._buffers.items():
            if buffer is not None:
                module._buffers[name] = torch.empty(buffer.shape, dtype=buffer.dtype)


def measured() -> dict[str, float]:
    """KiB a token and a layer, from the difference of models with one and three layers."""
    return {case[0]: (kept(3, case) - kept(1, case)) / 2 / TOKENS / KIB for case in CASES}


def main() -> None:
    """Measure, print, write; fail where the promise is broken."""
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    found = measured()
    for name, size in found.items():
        print(f"{name:44} {size:7.1f} KiB a token and layer")
    ours = found[CASES[-1][0]]
    result = {
        "versions": versions("torch", "transformers", "peft"),
        "model": "Llama-3-8B, LoRA r 16 on all linear layers, bf16",
        "kib_per_token_and_layer": {name: round(size, 2) for name, size in found.items()},
        "limit_kib": LIMIT_KIB,
    }
    RESULT.write_text(json.dumps(result, indent=1) + "\n")
    if ours > LIMIT_KIB:
        raise SystemExit(f"{ours:.1f} KiB > {LIMIT_KIB}")


if __name__ == "__main__":
    main()
