"""The starting kit: pages and a test set for the steps of a plan that are not trained."""

import json
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Final

from advisor.decide import predicates as p
from advisor.decide.advice import Advice
from advisor.decide.answers import Answers
from advisor.decide.leaves import ATTACHMENTS, LEAVES, PROMPT_LEAVES, TRAINING_LEAVES
from advisor.decide.minimum import BANDS, band
from advisor.show.advice import credited, say
from advisor.text import N_, inert, language, t
from recipes.write import guide

EVAL: Final = "eval.jsonl"
PAGES: Final = MappingProxyType(
    {
        "prompt": N_("a prompt skeleton with slots for examples, and how to test it"),
        "rag": N_("an outline of retrieval, with the tests of retrieval and of the oracle"),
        "evaluation": N_("how to fill the test set, and what counts as a pass"),
        "data": N_("how many examples to collect, and how"),
    }
)
START: Final = "start"
ITEMS, GOOD_ITEMS = p.FEW_TEST_ITEMS, 100
"""Real test items: before a method is chosen, and before anything is trained (OpenAI, Optimizing LLM Accuracy)."""
SHOTS: Final = 5
PASSAGES: Final = 5
TARGET: Final = 0.9
"""What the pages say where nobody has named a target; they say that, too."""


def files(advice: Advice, answers: Answers) -> dict[str, bytes]:
    """The files of the kit, name to content, in the reader's language."""
    pages = tuple(_pages(advice))
    values = _values(advice, answers, pages)
    made = {f"{name}.md": guide(name, language(), values).encode() for name in (START, *pages)}
    return made | {EVAL: _items()}


def _pages(advice: Advice) -> Iterator[str]:
    plan = {stage.leaf for stage in advice.plan}
    if plan & (PROMPT_LEAVES | {"long_context"}) or advice.primary == "rethink":
        yield "prompt"
    if plan & {"rag", "rag_ft"}:
        yield "rag"
    yield "evaluation"
    if plan & (TRAINING_LEAVES | {"get_data"}):
        yield "data"


def _values(advice: Advice, a: Answers, pages: tuple[str, ...]) -> Mapping[str, object]:
    """What the templates may use; a name that is missing here is an error there."""
    trained = next((stage.leaf for stage in advice.plan if stage.leaf in TRAINING_LEAVES), "sft_lora")
    own = band(a, trained)
    least = own.workable[0] if trained in own.leaves else _least(a)
    names = [(f"{name}.md", t(PAGES[name])) for name in pages]
    names.append((EVAL, t(N_("the test set: one item a line, with checks"))))
    return {
        "leaf": advice.primary,
        "means": t(LEAVES[advice.primary].means),
        "stages": [
            {"leaf": s.leaf, "why": say(s.why), "duties": [t(ATTACHMENTS[one]) for one in s.attachments]}
            for s in advice.plan
        ],
        "files": [{"name": name, "what": what} for name, what in names],
        "stop_rule": say(advice.stop_rule),
        "cheapest_test": say(advice.cheapest_test),
        "form": a.output_strictness or "free",
        "shots": SHOTS,
        "items": ITEMS,
        "good": GOOD_ITEMS,
        "target": TARGET if a.target_success is None else a.target_success,
        "stated": a.target_success is not None,
        "cost": inert(a.cost_of_failure or ""),
        "k": PASSAGES,
        "change": a.knowledge_change or "",
        "rights": bool(a.per_user_access_control),
        "citations": bool(a.needs_citations),
        "live": bool(p.needs_live_values(a)),
        "least": least,
        "have": a.n_labelled,
        "missing": max(0, least - (a.n_labelled or 0)),
        "tested": a.eval_set_size,
        "bands": [
            {
                "task": t(row.task), "too_few": row.too_few, "unit": t(row.unit), "workable": row.workable,
                "good": row.good, "sources": credited(row.sources), "applies": row == own,
            }
            for row in BANDS
        ],
    }  # fmt: skip


def _least(a: Answers) -> int:
    return p.minimum_examples(a.task_type, a.lacks_style_format, a.label_quality, a.fewshot_gain)


def _items() -> bytes:
    """Three items to replace: an exact answer, an answer with parts, and "not known"."""
    rows = (
        _item(t(N_("<a real question>")), t(N_("<the exact answer>")), "equals"),
        _item(t(N_("<a question whose answer stands in a passage>")), t(N_("<what the answer must contain>")), "contains",
              context=t(N_("<the passage>"))),
        _item(t(N_("<a question that cannot be answered>")), t(N_("<the agreed sentence for not known>")), "equals"),
    )  # fmt: skip
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def _item(asked: str, answer: str, kind: str, context: str | None = None) -> dict[str, object]:
    turns = [{"role": "user", "content": asked}, {"role": "assistant", "content": answer}]
    row: dict[str, object] = {"messages": turns, "checks": [{"name": "right", "kind": kind, "value": answer}]}
    return row if context is None else {**row, "context": context}
