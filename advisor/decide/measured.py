"""What a report of measurements says about the task, as facts: measured beats believed."""

from collections.abc import Iterable, Mapping
from typing import Final

from recipes.report import Arm, Report

Facts = Mapping[str, str | float]

ASKED: Final = ("base", "prompt", "few_shot")
"""The arms that a person could use today, simplest first: neither tuned nor given the right passage by hand."""
CONTENT: Final = ("fact", "facts", "content")
"""Names of checks that look at what is said, not at how."""
LOSS: Final = "nll"
HIGH: Final = 0.9
LOW: Final = 0.5
"""A check at or above HIGH holds, one below LOW fails; between them the report says nothing (docs/adr/0004)."""
ORACLE: Final = 0.7
"""With the right passage in the prompt: from here on the missing thing was knowledge (docs/adr/0004)."""
SMALL_GAIN: Final = 0.05
LARGE_GAIN: Final = 0.15
"""Gains of examples in the prompt, in shares; below SMALL_GAIN it is none."""


def facts(report: Report) -> Facts:
    """Facts that follow from a report, by the names of the vocabulary; absent means: it cannot tell.

    Args:
        report: Arms measured on the same held-out rows. The tuned arm is left out: it is not a prompt.
    """
    arms: dict[str, Arm] = {arm.name: arm for arm in report.arms if report.primary in arm.scores}
    asked = [arms[name] for name in ASKED if name in arms]
    if not asked or report.primary == LOSS:
        return {}
    best = max(asked, key=lambda arm: _value(arm, report.primary))
    success = _value(best, report.primary)
    return {
        "prompt_success": success,
        "prompt_effort": _effort(asked, best),
        "student_success": success,
        "eval_set_size": best.scores[report.primary].n,
        **_gain(arms, report.primary),
        **_diagnosis(asked, arms.get("context"), report.primary),
    }


def _value(arm: Arm, score: str) -> float:
    return arm.scores[score].value


def _effort(asked: Iterable[Arm], best: Arm) -> str:
    """How much was done for the prompt; several ways tried and a simpler one best is an optimised prompt."""
    tried = {arm.name for arm in asked}
    if best.name == "few_shot":
        return "few_shot"
    if "few_shot" in tried:
        return "optimised"
    return "zero_shot" if "prompt" in tried else "none"


def _gain(arms: Mapping[str, Arm], score: str) -> Facts:
    """What examples in the prompt bring over the best prompt without them."""
    plain = [_value(arms[name], score) for name in ("base", "prompt") if name in arms]
    if "few_shot" not in arms or not plain:
        return {}
    gain = _value(arms["few_shot"], score) - max(plain)
    return {"fewshot_gain": "large" if gain >= LARGE_GAIN else "small" if gain >= SMALL_GAIN else "none"}


def _diagnosis(asked: list[Arm], context: Arm | None, primary: str) -> Facts:
    """What is missing: the facts, if the right passage mends it; the form, if the content is right without it."""
    content = next((name for name in CONTENT if all(name in arm.scores for arm in asked)), None)
    if context is not None and _passage_mends(asked, context, content or primary):
        return {"oracle_context_success": _value(context, primary), "lacks_knowledge": "yes"}
    found: dict[str, str | float] = {}
    if context is not None:
        found["oracle_context_success"] = _value(context, primary)
    if content is None or _best(asked, content) < HIGH:
        return found
    forms = {name for arm in asked for name in arm.scores} - {*CONTENT, LOSS}
    found["lacks_knowledge"] = "no"
    if any(_best(asked, name) < LOW for name in forms):
        found["lacks_style_format"] = "yes"
    elif forms and all(_best(asked, name) >= HIGH for name in forms):
        found["lacks_style_format"] = "no"
    return found


def _passage_mends(asked: list[Arm], context: Arm, score: str) -> bool:
    if score not in context.scores:
        return False
    return _best(asked, score) < LOW and _value(context, score) >= ORACLE


def _best(asked: Iterable[Arm], score: str) -> float:
    return max((_value(arm, score) for arm in asked if score in arm.scores), default=0.0)
