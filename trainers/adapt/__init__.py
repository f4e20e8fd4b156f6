"""What moves: everything, a part of the model's own weights, or something small that is added to frozen ones."""

from dataclasses import dataclass
from pathlib import Path
from typing import assert_never

from peft import PeftModel
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from recipes.plan import (
    Adaptation,
    Bottleneck,
    Full,
    Ia3,
    LastLayers,
    Lora,
    Named,
    Prefix,
    PromptTuning,
    PTuning,
)
from trainers.adapt import adapters, bottleneck, ia3, partial, prompts
from trainers.adapt.adapters import Base
from trainers.adapt.checkpointing import recompute

__all__ = ["Adapted", "Base", "adapt", "check", "recompute"]


@dataclass(frozen=True, slots=True)
class Adapted:
    """A model of which the right part is trained; `notes` are sentences worth telling."""

    model: PreTrainedModel | PeftModel
    notes: tuple[str, ...] = ()

    @property
    def trainable(self) -> int:
        """How many weights move."""
        return sum(p.numel() for p in self.model.parameters() if p.requires_grad)


def check(
    model: PreTrainedModel, adaptation: Adaptation, *, home: Path = Path(), base: Base | None = None
) -> None:
    """Hold what an adaptation names against the model, and change nothing: before any heavy work.

    Args:
        model: The base.
        adaptation: What is to move.
        home: The recipe's directory.
        base: What the model was loaded from; adapters beneath are held against it.

    Raises:
        RecipeError: The recipe names layers or modules that the model does not have.
        Mismatch: An adapter beneath belongs to another base.
    """
    match adaptation:
        case LastLayers():
            partial.check_layers(model, adaptation)
        case Named():
            partial.check_patterns(model, adaptation)
        case Lora():
            adapters.check(model, adaptation, home, base)
        case _:  # names nothing
            pass


def adapt(
    model: PreTrainedModel,
    adaptation: Adaptation,
    seed: int,
    *,
    tokenizer: PreTrainedTokenizerBase | None = None,
    home: Path = Path(),
    base: Base | None = None,
) -> Adapted:
    """Freeze what stays, and add what is added.

    Args:
        model: The base; it is changed in place.
        adaptation: What moves.
        seed: Decides how what is added begins.
        tokenizer: Reads the text that prompt tuning begins with.
        home: The recipe's directory.
        base: What the model was loaded from; adapters beneath are held against it.

    Raises:
        RecipeError: The recipe names layers or modules that the model does not have.
        Mismatch: An adapter beneath belongs to another base.
    """
    match adaptation:
        case Full():
            model.requires_grad_(True)
            return Adapted(model)
        case LastLayers():
            return Adapted(model, partial.last_layers(model, adaptation))
        case Named():
            return Adapted(model, partial.named(model, adaptation))
        case Lora():
            made = adapters.install(model, adaptation, seed, home, base)
            return Adapted(made, tuple(adapters.notes(made, adaptation)))
        case Bottleneck():
            bottleneck.install(model, adaptation, seed)
            return Adapted(model)
        case Prefix():
            return Adapted(prompts.prefix(model, adaptation, seed))
        case PTuning():
            return Adapted(prompts.p_tuning(model, adaptation, seed))
        case PromptTuning():
            return Adapted(prompts.prompt_tuning(model, adaptation, seed, tokenizer))
        case Ia3():
            return Adapted(ia3.install(model, seed))
        case _:
            assert_never(adaptation)
