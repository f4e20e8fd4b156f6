"""What moves: everything, the last layers, or low-rank adapters on frozen weights."""

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, cast

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.lora.layer import LoraLayer
from torch import nn
from transformers import PreTrainedModel

from recipes.errors import Problem, RecipeError
from recipes.plan import Adaptation, Full, LastLayers, Lora
from recipes.words import N_
from trainers.adapt import lora

ALL_LINEAR: Final = ("all-linear",)


@dataclass(frozen=True, slots=True)
class Adapted:
    """A model of which the right part is trained; `notes` are sentences worth telling."""

    model: PreTrainedModel | PeftModel
    notes: tuple[str, ...] = ()

    @property
    def trainable(self) -> int:
        """How many weights move."""
        return sum(p.numel() for p in self.model.parameters() if p.requires_grad)


def adapt(model: PreTrainedModel, adaptation: Adaptation, seed: int) -> Adapted:
    """Freeze what stays, and add what is added; `seed` decides how adapters begin.

    Raises:
        RecipeError: The recipe names layers or modules that the model does not have.
    """
    match adaptation:
        case Full():
            model.requires_grad_(True)
            return Adapted(model)
        case LastLayers(layers=layers):
            return _last_layers(model, layers)
        case Lora():
            return _lora(model, adaptation, seed)
        case _:
            raise _wrong(
                N_("adaptation.kind = {kind} cannot be trained yet"), "adaptation.kind", kind=adaptation.kind
            )


def recompute(model: PreTrainedModel) -> None:
    """Keep one activation a layer and compute the others again in the backward (Chen et al., 2016)."""
    options = {"use_reentrant": False}
    if hasattr(model, "activation_checkpointing_enable"):  # its name since transformers 5.23
        model.activation_checkpointing_enable(activation_checkpointing_kwargs=options)
    else:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs=options)  # type: ignore[no-untyped-call]  # not annotated


def _last_layers(model: PreTrainedModel, layers: int) -> Adapted:
    """Train the last blocks, what follows them, and the head unless it is tied to the embeddings."""
    name, blocks = _blocks(model)
    if layers > len(blocks):
        raise _wrong(
            N_("adaptation.layers is {wanted}, and the model has {found} layers"),
            "adaptation.layers",
            wanted=layers,
            found=len(blocks),
        )
    model.requires_grad_(False)
    blocks[len(blocks) - layers :].requires_grad_(True)
    for after in _after(model.base_model, name):
        after.requires_grad_(True)
    head: nn.Module | None = model.get_output_embeddings()  # type: ignore[no-untyped-call]  # not annotated
    embeddings = model.get_input_embeddings()
    if head is None or head.weight is embeddings.weight:
        note = N_("the head is tied to the embeddings, so it stays frozen with them")
        return Adapted(model, (note,))
    head.requires_grad_(True)
    return Adapted(model)


def _blocks(model: PreTrainedModel) -> tuple[str, nn.ModuleList]:
    """The decoder blocks, and what the model calls them."""
    for name, child in model.base_model.named_children():
        if (
            isinstance(child, nn.ModuleList)
            and len(child) == model.config.get_text_config().num_hidden_layers
        ):
            return name, child
    raise _wrong(
        N_("the blocks of {architecture} were not found, so its last layers cannot be told from the others"),
        "adaptation.kind",
        architecture=type(model).__name__,
    )


def _after(body: nn.Module, blocks: str) -> list[nn.Module]:
    """What stands behind the blocks: the final norm, whatever its name."""
    children = list(body.named_children())
    at = [name for name, _ in children].index(blocks)
    return [child for _, child in children[at + 1 :]]


def _lora(model: PreTrainedModel, plan: Lora, seed: int) -> Adapted:
    """Adapters made by peft in fp32 (masters), computed by our function in the model's dtype."""
    torch.manual_seed(seed)
    config = LoraConfig(
        r=plan.rank,
        lora_alpha=plan.alpha,  # type: ignore[arg-type]  # peft divides it; a fraction is as good
        lora_dropout=plan.dropout,
        use_rslora=plan.rslora,
        target_modules="all-linear" if plan.targets == ALL_LINEAR else list(plan.targets),
        task_type="CAUSAL_LM",
    )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # peft 0.21 asks transformers 5.23 by an old name
            warnings.filterwarnings("ignore", ".*fan_in_fan_out")  # peft finds out itself how Conv1D lies
            warnings.filterwarnings(
                "ignore", ".*(rank|alpha)_pattern keys"
            )  # of experts that are no linear layers
            wrapped = get_peft_model(model, config)
    except ValueError as error:  # peft: no such modules
        raise _wrong(
            N_("adaptation.targets = {targets}: {reason}"),
            "adaptation.targets",
            targets=", ".join(plan.targets),
            reason=str(error)[:300],
        ) from None
    lora.install(wrapped)
    return Adapted(wrapped, tuple(_notes(wrapped)))


def _notes(model: PeftModel) -> Iterator[str]:
    """What somebody who chose LoRA would not expect of this model."""
    inner = cast(PreTrainedModel, model.get_base_model())
    head: nn.Module | None = inner.get_output_embeddings()  # type: ignore[no-untyped-call]  # not annotated
    if isinstance(head, LoraLayer):
        yield N_("the head has an adapter, so rows are trained document by document, which is slower")
    blocks = (name for name, weight in inner.named_parameters() if weight.ndim > 2 and ".experts." in name)
    if any("base_layer" not in name for name in blocks):  # peft wraps the blocks of some architectures
        yield N_(
            "experts that are stored as one block have no linear layers, so they stay frozen as they are"
        )


def _wrong(text: str, key: str, **values: str | int) -> RecipeError:
    return RecipeError("recipe.toml", [Problem(text, key, values=values)])
