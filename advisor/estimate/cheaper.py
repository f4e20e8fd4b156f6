"""What would make a configuration fit: single changes, cheapest first, each estimated again; then several together."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from typing import Final

from advisor.estimate.memory import estimate, fit
from advisor.estimate.setup import Setup
from advisor.estimate.terms import Estimate
from recipes.plan import Full, LastLayers, Lora, Named
from recipes.words import N_

SHOWN: Final = 3
"""More ways than this help nobody choose."""
LEAST_TOKENS: Final = 512
"""Rows are not cut below this: shorter ones hold no conversation."""


@dataclass(frozen=True, slots=True)
class Change:
    """What to change (one sentence for each change), and the estimate after it."""

    texts: tuple[str, ...]
    setup: Setup
    estimate: Estimate


def _smaller_micro_batch(setup: Setup) -> Setup | None:
    if setup.micro_batch_tokens <= setup.longest_tokens:
        return None
    return replace(setup, micro_batch_tokens=setup.longest_tokens, accumulates=True)


def _recompute(setup: Setup) -> Setup | None:
    return None if setup.checkpointing else replace(setup, checkpointing=True)


def _moments_of_8_bit(setup: Setup) -> Setup | None:
    divided = setup.sharding in {"fsdp2", "zero3"}
    return None if divided or setup.optimizer != "adamw" else replace(setup, optimizer="adamw_8bit")


def _four_bit_base(setup: Setup) -> Setup | None:
    lora = setup.adaptation
    if not isinstance(lora, Lora) or setup.base != "dense" or setup.foreign or setup.sharding == "zero3":
        return None
    return replace(setup, adaptation=lora.model_copy(update={"base": "nf4"}))


def _adapters(setup: Setup) -> Setup | None:
    return (
        replace(setup, adaptation=Lora()) if isinstance(setup.adaptation, Full | LastLayers | Named) else None
    )


def _shorter_rows(setup: Setup) -> Setup | None:
    tokens = setup.longest_tokens // 2
    if tokens < LEAST_TOKENS:
        return None
    return replace(
        setup,
        longest_tokens=tokens,
        micro_batch_tokens=min(setup.micro_batch_tokens, tokens),
        accumulates=True,
    )


def _offload(setup: Setup) -> Setup | None:
    if setup.profile.device == "cpu" or setup.checkpointing_offload:
        return None
    return replace(setup, checkpointing=True, checkpointing_offload=True)


Makes = Callable[[Setup], Setup | None]

CHANGES: Final[tuple[tuple[Makes, str], ...]] = (
    (_smaller_micro_batch, N_("one row at once, and more micro-batches a step")),
    (_recompute, N_("recompute activations (a third more time)")),
    (_moments_of_8_bit, N_("moments of 8 bit (adamw_8bit)")),
    (_adapters, N_("train adapters (LoRA) in place of the model's own weights")),
    (_four_bit_base, N_("hold the frozen base in 4 bits (QLoRA)")),
    (_offload, N_("keep checkpoints in the computer's memory")),
    (_shorter_rows, N_("rows of half the length")),
)
"""In the order of what they cost: first what costs time alone, last what costs quality."""


def cheaper(setup: Setup, usable_bytes: int) -> tuple[Change, ...]:
    """The cheapest ways to make it fit, at most three; none where it fits already, or where nothing of ours helps."""
    if fit(estimate(setup), usable_bytes) == "fits":
        return ()
    single = tuple(islice(_alone(setup, usable_bytes), SHOWN))
    together = _together(setup, usable_bytes)
    return single or ((together,) if together else ())


def _alone(setup: Setup, usable_bytes: int) -> Iterator[Change]:
    for change, text in CHANGES:
        changed = change(setup)
        found = estimate(changed) if changed else None
        if changed and found and fit(found, usable_bytes) == "fits":
            yield Change((text,), changed, found)


def _together(setup: Setup, usable_bytes: int) -> Change | None:
    """Change upon change, until it fits; then what turns out not to be needed is taken back."""
    taken = list(_until_it_fits(setup, usable_bytes))
    if not taken or fit(estimate(_all(setup, taken)), usable_bytes) != "fits":
        return None
    for one in tuple(taken):
        fewer = [other for other in taken if other is not one]
        if fit(estimate(_all(setup, fewer)), usable_bytes) == "fits":
            taken = fewer
    now = _all(setup, taken)
    return Change(tuple(text for _, text in taken), now, estimate(now))


def _until_it_fits(setup: Setup, usable_bytes: int) -> Iterator[tuple[Makes, str]]:
    """Each change that helps, one upon another."""
    now, found = setup, estimate(setup)
    for change, text in CHANGES:
        if fit(found, usable_bytes) == "fits":
            return
        changed = change(now)
        less = estimate(changed) if changed else found
        if changed and less.allocated < found.allocated:
            now, found = changed, less
            yield change, text


def _all(setup: Setup, changes: Iterable[tuple[Makes, str]]) -> Setup:
    for change, _ in changes:
        setup = change(setup) or setup
    return setup
