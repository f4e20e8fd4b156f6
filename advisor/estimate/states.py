"""What is alive between steps, and in the optimizer's step: weights, adapters, moments, gradients. One function, one addend.

Several devices divide what `Setup.sharding` says: ZeRO-1 moments, ZeRO-2 gradients too, ZeRO-3 and FSDP2 weights too.
"""

from typing import Final

from advisor.estimate import foreign, shapes
from advisor.estimate.setup import Base, Setup
from advisor.estimate.terms import Kind, Term
from advisor.units import count
from recipes.words import N_

HELD: Final[dict[Base, float]] = {
    "nf4": 0.5 + 4 / 64,  # 4 bits and an fp32 scale for each block of 64 (Dettmers et al., 2023)
    "nf4_double": 0.5 + 1 / 64 + 4 / (64 * 256),  # the scales in 8 bits, in groups of 256
    "int8": 1.0,
    "gptq": 0.5 + 2.5 / 128,  # groups of 128: a 16-bit scale, a 4-bit zero
}
"""Bytes of a quantised weight."""
ROW_SCALE: Final = 4
"""LLM.int8 keeps an fp32 scale for each output row."""
GROUP_INDEX: Final = 4
"""GPTQ keeps the group of each input as an int32."""
MASTER: Final = 4
"""DeepSpeed keeps fp32 copies of 16-bit weights that move, and fp32 moments."""
DIVIDED: Final = {
    "none": frozenset[str](),
    "zero1": frozenset({"optimizer"}),
    "zero2": frozenset({"optimizer", "gradients"}),
    "zero3": frozenset({"optimizer", "gradients", "weights"}),
    "fsdp2": frozenset({"optimizer", "gradients", "weights"}),
}
"""What each way of sharding divides."""
ZERO_LIVE: Final = 10**9
"""Parameters that ZeRO-3 leaves gathered at most (`stage3_max_live_parameters`)."""
ZERO_BUCKETS: Final = 2 * 500_000_000 * 2
"""Bytes of ZeRO-2's buckets for reducing and gathering, by default; never more than the gradients twice."""


def term(name: str, size: float, arithmetic: str, source: str = "dry-run", kind: Kind = "transient") -> Term:
    """A term in whole bytes."""
    return Term(name, round(size), arithmetic, source, kind)


def shards(setup: Setup, what: str) -> int:
    """By how many devices something is divided."""
    return setup.processes if what in DIVIDED[setup.sharding] else 1


def over(setup: Setup, what: str) -> str:
    """The same as the end of a sum."""
    ranks = shards(setup, what)
    return f" / {ranks}" if ranks > 1 else ""


def frozen_bytes(setup: Setup) -> float:
    """Bytes of the base on one device."""
    return base_bytes(setup) / shards(setup, "weights")


def base_bytes(setup: Setup) -> float:
    """Bytes of the whole base as it is held."""
    held, everything = quantised(setup), shapes.parameters(setup.shape)
    if not held:
        return everything * setup.element_bytes
    return held * HELD[setup.base] + _scales(setup) + (everything - held) * _rest_bytes(setup)


def _rest_bytes(setup: Setup) -> int:
    """Bytes of a weight outside the quantised layers: peft's preparation makes fp32 of it, unless somebody casts back."""
    used = setup.profile
    return 4 if used.kbit_prep and not used.casts_back else setup.element_bytes


def quantised(setup: Setup) -> int:
    """Weights that are held in fewer bits: the linear layers inside the blocks, and experts where they are such."""
    if setup.base == "dense":
        return 0
    experts = shapes.expert_weights(setup.shape) if setup.profile.experts_quantised else 0
    head = shapes.head_weights(setup.shape) if setup.profile.quantises_head else 0
    return shapes.linear_weights(setup.shape) + experts + head


def _scales(setup: Setup) -> float:
    layers = shapes.linears(setup.shape)
    if setup.base == "int8":
        return ROW_SCALE * setup.shape.layers * sum(layer.outputs for layer in layers)
    if setup.base == "gptq":
        return GROUP_INDEX * setup.shape.layers * sum(layer.inputs for layer in layers)
    return 0.0


def weights(setup: Setup) -> Term:
    """The model as it is stored; fewer bits only for the linear layers inside the blocks."""
    held, everything, e = quantised(setup), shapes.parameters(setup.shape), setup.element_bytes
    size = frozen_bytes(setup)
    if not held:
        sums = f"{count(everything)} x {e}{over(setup, 'weights')}"
        return term(N_("weights"), size, sums, setup.shape.source, "weights")
    each = HELD[setup.base]
    sums = f"{count(held)} x {each:.4f} + {count(everything - held)} x {_rest_bytes(setup)}{over(setup, 'weights')}"
    return term(N_("weights"), size, sums, "dettmers2023", "weights")


def other_models(setup: Setup) -> Term:
    """A second model that gives log-probabilities of before; with PPO also models that judge and that value."""
    copies = 1 if setup.reference == "copy" else 0
    if setup.objective == "ppo":
        copies += 2 if setup.adds else 3
    size = copies * frozen_bytes(setup)
    return term(N_("other models"), size, f"{copies} x {size / max(1, copies):.0f}", "trl", "weights")


def adapters(setup: Setup) -> Term:
    """Weights that are added to the model; nothing where the model itself moves."""
    each, ranks = setup.trained_bytes, shards(setup, "weights")
    added = setup.added
    frozen = foreign.held(setup.shape, setup.foreign) if setup.foreign else 0.0
    size = (added * each + frozen) / ranks
    return term(N_("adapters"), size, f"{count(added)} x {each}{over(setup, 'weights')}", "hu2021", "weights")


def optimizer(setup: Setup) -> Term:
    """What the optimizer remembers of each weight that moves."""
    mover, trained = setup.moves_by, _stepped(setup)
    each = _masters(setup) or mover.state(setup.trained_bytes)
    each += setup.foreign.method.buffers if setup.foreign else 0.0
    size = trained * each / shards(setup, "optimizer")
    sums = f"{count(trained)} x {each:g}{over(setup, 'optimizer')}"
    return term(N_("optimizer"), size, sums, mover.source, "optimizer")


def _stepped(setup: Setup) -> int:
    """Weights that move, a second model's among them."""
    return setup.trained * (2 if setup.objective == "ppo" else 1)


def _masters(setup: Setup) -> float:
    """With ZeRO, an fp32 copy of each 16-bit weight beside moments in fp32."""
    if not setup.sharding.startswith("zero") or setup.optimizer != "adamw":
        return 0.0
    return 2 * MASTER + (MASTER if setup.trained_bytes < MASTER else 0)


def workspace(setup: Setup) -> Term:
    """Scratch memory of the matrix library, one piece for each thread that computes."""
    size = setup.profile.workspace_bytes
    return term(N_("workspace"), size, f"{size}", "cuda-allocator", "workspace")


def runtime(setup: Setup) -> Term:
    """What the libraries take in a process's own memory once they compute (on a CPU, where it is counted)."""
    size = setup.profile.runtime_bytes
    return term(N_("libraries"), size, f"{size}", "embedded-example", "workspace")


def buckets(setup: Setup) -> Term:
    """Buffers in which processes exchange gradients, where gradients are no views of them."""
    size = 0.0
    if setup.processes > 1 and setup.sharding == "none" and not setup.profile.bucket_view:
        size = setup.trained * setup.trained_bytes
    elif setup.processes > 1 and setup.sharding in {"zero1", "zero2"}:
        size = min(ZERO_BUCKETS, 2 * setup.trained * setup.trained_bytes)
    return term(N_("exchange buffers"), size, f"{size:.0f}", "deepspeed")


def gathered(setup: Setup) -> Term:
    """Weights that are whole while they compute: two blocks and both ends, or what ZeRO-3 leaves gathered."""
    if setup.sharding == "zero3" and setup.processes > 1:
        live = min(ZERO_LIVE, shapes.parameters(setup.shape))
        return term(
            N_("gathered weights"),
            live * setup.compute_bytes,
            f"{count(live)} x {setup.compute_bytes}",
            "deepspeed",
        )
    if setup.sharding != "fsdp2" or setup.processes == 1:
        return term(N_("gathered weights"), 0, "0")
    block = shapes.block_parameters(setup.shape) * (
        HELD[setup.base] if setup.base != "dense" else setup.compute_bytes
    )
    ends = shapes.embedding_weights(setup.shape) * setup.compute_bytes
    return term(N_("gathered weights"), 2 * block + ends, f"2 x {block:.0f} + {ends}", "fsdp2")


def held_gradients(setup: Setup) -> Term:
    """Gradients of earlier micro-batches, which live through the forward of the next one."""
    trained = setup.trained if setup.accumulates else 0
    return _gradients(setup, trained, N_("accumulated gradients"))


def gradients(setup: Setup) -> Term:
    """Gradients of everything that moves, where no earlier micro-batch holds them already."""
    return _gradients(setup, 0 if setup.accumulates else setup.trained, N_("gradients"))


def block_gradients(setup: Setup) -> Term:
    """Gradients when the first block's backward runs: all but the embedding's, which comes after it."""
    found = shapes.moved(setup.shape, setup.adaptation)
    later = shapes.head_weights(setup.shape) if found.embedding and not setup.shape.tied else 0
    if setup.profile.is_native:
        later += _unmade(setup, next(iter(found.blocks)))
    return _gradients(setup, 0 if setup.accumulates else setup.trained - later, N_("gradients"))


def _unmade(setup: Setup, moves: frozenset[str]) -> int:
    """What moves in a block, without what its MLP's backward has a gradient of when it needs most."""
    sizes = shapes.block_tensors(setup.shape)
    return sum(sizes[name] for name in moves) - sizes.get("mlp.down_proj.weight", 0) * (
        "mlp.down_proj.weight" in moves
    )


def last_block_gradients(setup: Setup) -> Term:
    """Gradients of the last block, which grow while its saved tensors are still there."""
    blocks = shapes.moved(setup.shape, setup.adaptation).blocks
    sizes = shapes.block_tensors(setup.shape)
    own = max((sum(sizes[name] for name in block) for block in blocks), default=0)
    if setup.profile.is_native:
        own -= max((_unmade(setup, block) for block in blocks), default=0)
    return _gradients(setup, 0 if setup.accumulates else own, N_("gradients of the last block"))


def _gradients(setup: Setup, weights: int, name: str) -> Term:
    each = setup.trained_bytes
    weights = min(weights, _largest(setup)) if setup.steps_in_backward else weights
    size = weights * each / shards(setup, "gradients")
    return term(name, size, f"{count(weights)} x {each}{over(setup, 'gradients')}", kind="gradients")


def step_copies(setup: Setup) -> Term:
    """What the optimizer needs for the step alone: copies of all that moves, or pieces of the largest tensor."""
    mover, ranks = setup.moves_by, shards(setup, "optimizer")
    trained, each = setup.trained // ranks, setup.trained_bytes
    largest = min(trained, _largest(setup))
    trained = largest if setup.steps_in_backward else trained
    size = mover.step(trained, largest, each)
    return term(
        N_("optimizer's copies"),
        size,
        f"{mover.name}: {count(trained)}, {count(largest)} at most",
        mover.source,
    )


def _largest(setup: Setup) -> int:
    if setup.foreign:
        return setup.trained
    extra = shapes.head_weights(setup.shape) if setup.extra_modules else 0
    return max(extra, shapes.largest_trained(setup.shape, setup.adaptation))
