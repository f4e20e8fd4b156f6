"""How many examples each task and objective needs: bands with their sources, never one number (docs/adr/0002)."""

from dataclasses import dataclass
from typing import Final

from advisor.decide.answers import Answers
from recipes.words import N_


@dataclass(frozen=True, slots=True)
class Band:
    """One row: below `too_few` training hurts, from `workable` it pays, `good` is where vendors are content.

    Ranges are (least, most); None is open. `tasks` are kinds of task, `leaves` objectives of their own;
    `unit` is a message id where the lower bound counts something else than examples.
    """

    task: str
    too_few: int
    workable: tuple[int, int | None]
    good: tuple[int, int | None]
    sources: str
    tasks: frozenset[str] = frozenset()
    leaves: frozenset[str] = frozenset()
    unit: str = ""


def _set(*names: str) -> frozenset[str]:
    return frozenset(names)


BANDS: Final = (
    Band(N_("voice, persona, format; one narrow behaviour"), 50, (50, 300), (500, 1_000),
         "OpenAI; 62 letters in one voice; Unsloth; source documents", _set("style_generation", "summarisation")),
    Band(N_("classification"), 20, (200, 500), (2_000, 10_000), "Bucher 2406.08660; Checkr",
         _set("classification", "qa_multiple_choice"), unit=N_("per class")),
    Band(N_("extraction, a schema with rules of meaning"), 100, (300, 1_000), (1_000, 5_000), "practice",
         _set("extraction", "correction", "structured_output")),
    Band(N_("a language of one's own, SQL, tools, reasoning"), 200, (1_000, 1_000), (5_000, 10_000), "Spider; Replit",
         _set("code_dsl", "tool_use", "reasoning_verifiable")),
    Band(N_("an assistant on a strong base"), 300, (1_000, 1_000), (5_000, 50_000), "LIMA (figure not checked); Alpaca; source documents",
         _set("dialogue_open", "dialogue_task")),
    Band(N_("translation, in-house text to text"), 5_000, (5_000, 15_000), (100_000, None), "Vieira 2409.03454",
         _set("translation")),
    Band(N_("retrieval-style inputs (RAFT)"), 100, (200, 1_000), (5_000, None), "OpenAI cookbook; RAFT 2403.10131",
         _set("qa_over_docs", "qa_given_context"), _set("rag_ft")),
    Band(N_("prompts for reinforcement with a checker"), 20, (50, 500), (1_000, 10_000), "ChipStack; OpenAI RFT",
         leaves=_set("grpo_rlvr")),
    Band(N_("better/worse pairs (DPO)"), 300, (1_000, 5_000), (10_000, 60_000), "Zephyr; Capybara", leaves=_set("dpo")),
    Band(N_("single ratings (KTO)"), 500, (2_000, 2_000), (10_000, None), "practice", leaves=_set("kto")),
    Band(N_("comparisons for a reward model"), 5_000, (10_000, 30_000), (30_000, None), "InstructGPT (figure not checked)",
         leaves=_set("rlhf_ppo")),
    Band(N_("raw text for continued pre-training, in tokens"), 10_000_000, (125_000_000, 1_000_000_000),
         (1_000_000_000, 100_000_000_000), "ChipNeMo; Swallow; Zhao 2401.01055", leaves=_set("cpt", "cpt_sft")),
    Band(N_("all parameters, on a distant domain"), 10_000, (50_000, 100_000), (500_000, None),
         "Biderman 2405.09673; source document 004", leaves=_set("sft_full")),
)  # fmt: skip


def band(a: Answers, leaf: str) -> Band:
    """The row that applies: of an objective with needs of its own, else of the task as `minimum_examples` reads it."""
    usual = "style_generation" if a.lacks_style_format else "dialogue_open"
    own = next((row for row in BANDS if leaf in row.leaves), None)
    told = next((row for row in BANDS if a.task_type in row.tasks), None)
    return own or told or next(row for row in BANDS if usual in row.tasks)
