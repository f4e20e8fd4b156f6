"""From a loaded model to what the loop takes: a run does it with weights, a dry run without."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import nn

from recipes.plan import Plan
from trainers.adapt import Adapted, adapt, functions, recompute
from trainers.adapt.adapters import Base
from trainers.engine import Engine
from trainers.loop import Learner, Objective
from trainers.objectives.sft import sft
from trainers.optim import adamw
from trainers.policy import Policy, gears, proved, with_model

ObjectiveOf = Callable[[Policy], Objective]
"""Puts an objective on a policy, once the policy is adapted."""


def tuning(policy: Policy) -> Objective:
    """Supervised fine-tuning."""
    return partial(sft, policy)


@dataclass(frozen=True, slots=True)
class Equipped:
    """A policy that can learn; `learner` and `optimizer` are as the engine gave them back.

    `left` are the kinds of layers that keep the library's functions although ours were asked for.
    """

    policy: Policy
    adapted: Adapted
    learner: nn.Module
    optimizer: torch.optim.Optimizer
    left: tuple[str, ...] = ()


def equip(
    plan: Plan, home: Path, policy: Policy, base: Base, engine: Engine, objective: ObjectiveOf = tuning
) -> Equipped:
    """Adapt the model, choose who computes it, recompute if wished, put the objective on it and an optimizer beside it.

    Args:
        plan: What is trained, and how.
        home: The recipe's directory.
        policy: As it was loaded; its model is changed in place.
        base: What it was loaded from.
        engine: The hardware.
        objective: What is learned.

    Raises:
        RecipeError: The recipe names layers or modules that the model does not have.
        Mismatch: An adapter beneath belongs to another base.
    """
    schedule = plan.schedule
    adapted = adapt(
        policy.causal,
        plan.adaptation,
        schedule.seed,
        tokenizer=policy.tokenizer,
        home=home,
        base=base,
    )
    left = functions.install(adapted.model) if plan.layout.functions == "ours" else ()
    policy = with_model(policy, adapted.model)
    if schedule.checkpointing:
        recompute(policy.causal, layers=schedule.checkpointing_layers, offload=schedule.checkpointing_offload)
    if gears.compiles(plan, engine.device):
        gears.compile_blocks(policy.causal)
    learner, optimizer = engine.prepare(learner_of(policy, objective), adamw(policy.model, schedule))
    if engine.divides_weights:  # only together is there a forward that can be compared
        alone, length = policy, plan.data.length_tokens
        policy = engine.together(learner, lambda: with_model(proved(alone, length), alone.model))
        vars(getattr(learner, "module", learner))["objective"] = objective(policy)
    return Equipped(policy, adapted, learner, optimizer, left)


def learner_of(policy: Policy, objective: ObjectiveOf = tuning) -> Learner:
    """The model with the objective on it."""
    return Learner(policy.model, objective(policy))
