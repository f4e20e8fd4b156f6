"""A model without weights, in the state in which loading leaves it: the same classes, types and storages."""

from collections.abc import Mapping
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel
from transformers.quantizers.auto import AutoHfQuantizer
from transformers.utils.quantization_config import BitsAndBytesConfig

from recipes.plan import Plan
from recipes.words import N_
from trainers.errors import MissingWeights
from trainers.policy import DTYPES, quantisation

Config = Mapping[str, Any]
"""The keys of a `config.json`."""


class Params4bit(FakeTensor):
    """Known to peft by this name: a weight of bitsandbytes in 4 bits."""

    def __deepcopy__(self, memo: dict[int, Any]) -> "Params4bit":
        """The same: peft copies a layer to read it, and drops the copy before anything is trained."""
        return self


class Int8Params(FakeTensor):
    """The same in 8 bits."""


def layers(config: Config) -> int:
    """How many decoder blocks the model has."""
    return int(_made(config).get_text_config().num_hidden_layers)


def cut(config: Config, layers: int) -> Config:
    """The same model with fewer blocks: the number, and the first entries of every list with one for each block."""
    inner = next((key for key in ("text_config", "language_config", "llm_config") if key in config), None)
    text = config if inner is None else config[inner]
    full = _made(config).get_text_config().num_hidden_layers
    name = next(key for key in ("num_hidden_layers", "n_layer", "num_layers") if key in text)
    short = {
        key: value[:layers] if isinstance(value, list) and len(value) == full else value
        for key, value in text.items()
    }
    short[name] = layers
    return short if inner is None else {**config, inner: short}


def built(config: Config, plan: Plan) -> PreTrainedModel:
    """Make the model of `config` on the meta device, with quantised layers where the plan says so.

    Raises:
        MissingWeights: transformers cannot make it.
    """
    dtype = DTYPES[plan.model.dtype]
    with torch.device("meta"):
        model: PreTrainedModel = AutoModelForCausalLM.from_config(_made(config), dtype=dtype)  # type: ignore[no-untyped-call]  # not annotated
    quantised = quantisation(plan.adaptation, dtype)
    if quantised is not None:
        _prepare(model, quantised)
    model.train(False)
    model.name_or_path = plan.model.id
    return model


def fill(model: PreTrainedModel, dtype: torch.dtype) -> None:
    """Give every parameter and buffer a storage, tied ones the same; call it where tensors are fake."""
    done: dict[int, nn.Parameter] = {}
    for module in model.modules():
        quantised = type(module).__name__ in ("Linear4bit", "Linear8bitLt")
        for name, weight in module._parameters.items():
            if weight is None:
                continue
            if id(weight) not in done:
                dense = torch.empty(weight.shape, dtype=dtype if quantised else weight.dtype, device="cpu")
                done[id(weight)] = _packed(module, dense) if name == "weight" else nn.Parameter(dense)
            module._parameters[name] = done[id(weight)]
        for name, buffer in module._buffers.items():
            if buffer is not None:
                module._buffers[name] = torch.empty(buffer.shape, dtype=buffer.dtype, device="cpu")


def _made(config: Config) -> PreTrainedConfig:
    """The configuration as transformers reads it.

    Raises:
        MissingWeights: It knows no such architecture, or cannot read it.
    """
    try:
        made: PreTrainedConfig = AutoConfig.for_model(**config)
    except (ValueError, KeyError, TypeError, AttributeError, StrictDataclassError) as error:
        raise MissingWeights(
            N_("transformers cannot load it: {reason}"),
            remedy=N_(
                "give the config.json of a causal language model whose architecture transformers knows"
            ),
            where="config.json",
            reason=str(error)[:300],
        ) from error
    return made


def _prepare(model: PreTrainedModel, quantised: BitsAndBytesConfig) -> None:
    """Put the quantised layers in, chosen as transformers chooses them when it loads."""
    quantizer = AutoHfQuantizer.from_config(quantised, pre_quantized=False)
    quantizer.preprocess_model(model=model, device_map={"": "cpu"})
    model.hf_quantizer = quantizer


def _packed(module: nn.Module, dense: Tensor) -> nn.Parameter:
    """A weight as its layer keeps it; the dense one that was read is let go."""
    match type(module).__name__:
        case "Linear4bit":
            return _nf4(module, dense)
        case "Linear8bitLt":
            return _int8(module, dense)
        case _:
            return nn.Parameter(dense)


def _nf4(module: nn.Module, dense: Tensor) -> nn.Parameter:
    """4-bit codes and the scales of their blocks, made by the same function of bitsandbytes."""
    from bitsandbytes.functional import quantize_4bit  # noqa: PLC0415  (few recipes want it)

    old: Any = module.weight
    codes, state = quantize_4bit(
        dense, compress_statistics=old.compress_statistics, quant_type=old.quant_type
    )
    weight: Any = nn.Parameter(codes, requires_grad=False)
    weight.__class__ = Params4bit
    weight.quant_state, weight.bnb_quantized, weight.blocksize = state, True, old.blocksize
    weight.compress_statistics, weight.quant_type = old.compress_statistics, old.quant_type
    vars(module)["quant_state"] = state
    found: nn.Parameter = weight
    return found


def _int8(module: nn.Module, dense: Tensor) -> nn.Parameter:
    """8-bit codes and a scale for each row, where bitsandbytes' layer looks for them."""
    weight: Any = nn.Parameter(torch.empty(dense.shape, dtype=torch.int8), requires_grad=False)
    weight.__class__ = Int8Params
    weight.CB, weight.SCB = weight.data, torch.empty(len(dense), dtype=torch.float32)
    weight.has_fp16_weights = False
    found: nn.Parameter = weight
    return found
