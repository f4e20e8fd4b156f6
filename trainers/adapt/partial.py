"""Some of the model's own weights move: the last blocks, or those whose names match a pattern.

What lies below the first weight that moves needs no `no_grad`: neither its weights nor its inputs want a gradient,
so autograd keeps nothing of it.
"""

from fnmatch import fnmatchcase

from torch import nn
from transformers import PreTrainedModel

from recipes.plan import LastLayers, Named
from recipes.words import N_
from trainers.adapt.names import blocks, nearest, wrong


def last_layers(model: PreTrainedModel, plan: LastLayers) -> tuple[str, ...]:
    """Train the last blocks, what follows them, and the head unless it is tied to the embeddings; gives notes.

    Raises:
        RecipeError: The model has fewer blocks, or none that can be found.
    """
    check_layers(model, plan)
    name, found = blocks(model)
    model.requires_grad_(False)
    found[len(found) - plan.layers :].requires_grad_(True)
    for after in _after(model.base_model, name):
        after.requires_grad_(True)
    head: nn.Module | None = model.get_output_embeddings()  # type: ignore[no-untyped-call]  # not annotated
    embeddings = model.get_input_embeddings()
    if head is None or head.weight is embeddings.weight:
        return (N_("the head is tied to the embeddings, so it stays frozen with them"),)
    head.requires_grad_(True)
    return ()


def check_layers(model: PreTrainedModel, plan: LastLayers) -> None:
    """See that there are so many blocks.

    Raises:
        RecipeError: The model has fewer, or none that can be found.
    """
    _, found = blocks(model)
    if plan.layers > len(found):
        raise wrong(
            N_("adaptation.layers is {wanted}, and the model has {found} layers"),
            "adaptation.layers",
            wanted=plan.layers,
            found=len(found),
        )


def _after(body: nn.Module, blocks: str) -> list[nn.Module]:
    """What stands behind the blocks: the final norm, whatever its name."""
    children = list(body.named_children())
    at = [name for name, _ in children].index(blocks)
    return [child for _, child in children[at + 1 :]]


def named(model: PreTrainedModel, plan: Named) -> tuple[str, ...]:
    """Train the weights whose whole names match a pattern; gives notes.

    Raises:
        RecipeError: A pattern matches nothing; the names that are most like it are shown.
    """
    check_patterns(model, plan)
    for name, weight in model.named_parameters():
        weight.requires_grad_(any(fnmatchcase(name, pattern) for pattern in plan.patterns))
    embeddings = model.get_input_embeddings().weight
    head: nn.Module | None = model.get_output_embeddings()  # type: ignore[no-untyped-call]  # not annotated
    if head is not None and head.weight is embeddings and embeddings.requires_grad:
        return (N_("the embeddings are tied to the head, so the head moves with them"),)
    return ()


def check_patterns(model: PreTrainedModel, plan: Named) -> None:
    """See that each pattern matches a weight.

    Raises:
        RecipeError: One matches nothing; the names that are most like it are shown.
    """
    names = [name for name, _ in model.named_parameters()]
    for pattern in plan.patterns:
        if not any(fnmatchcase(name, pattern) for name in names):
            raise wrong(
                N_("adaptation.patterns: {pattern} matches no weight; there are {names}"),
                "adaptation.patterns",
                pattern=pattern,
                names=nearest(pattern, names),
            )
