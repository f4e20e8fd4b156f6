"""Draw the pictures of the README: `python docs/pictures/make.py`, from a source tree with its catalogues built."""

import asyncio
import contextlib
import re
import shutil
import tempfile
from pathlib import Path
from typing import Any

from textual import work

import advisor.tui.app
from advisor.catalog.gpus import hardware
from advisor.catalog.models import model
from advisor.decide.advise import advise
from advisor.decide.answers import parse
from advisor.decide.questions import QUESTIONS, next_question
from advisor.decide.worlds import primary
from advisor.learn.lantern.tasks import task
from advisor.plan.compose import propose
from advisor.run.directory import Run
from advisor.text import use
from advisor.tui import work as between
from advisor.tui.app import AdvisorApp
from advisor.tui.screens.advice import AdviceScreen
from advisor.tui.screens.page import Page
from advisor.tui.screens.plan import PlanScreen
from advisor.tui.screens.question import Answered, QuestionScreen
from advisor.tui.screens.run import RunScreen

HERE = Path(__file__).resolve().parent
SIZE = (112, 34)
"""Columns and rows: the wide layout, readable at the width of a page."""
FONTS = re.compile(r"@font-face \{.*?\}\s*", re.DOTALL)
"""Fonts from another server: a picture in a README must not fetch anything."""
CLIPS = re.compile(r"<clipPath id=\"[^\"]*-line-\d+\">.*?</clipPath>\s*", re.DOTALL)
CLIPPED = re.compile(r' clip-path="url\(#[^)]*-line-\d+\)"')
NAMES = re.compile(r"terminal-\d+-")
FACTS = {
    "lacks_knowledge": "no",
    "lacks_style_format": "yes",
    "prompt_success": 0.55,
    "prompt_effort": "few_shot",
    "target_success": 0.9,
    "eval_set_size": 120,
    "n_labelled": 800,
    "label_quality": "gold",
    "task_type": "style_generation",
    "prompt_can_fix": "no",
    "style_stable": "yes",
    "output_strictness": "free",
    "needs_safety_alignment": "no",
    "n_tasks": 1,
    "vram_gb": 24,
    "model_params_b": 8,
}
"""A team whose model knows its facts but does not keep the tone of the house."""


RECORDED = HERE / "run.jsonl"
"""The events of a short run of the embedded base on a CPU; played again here, nothing is trained."""
PREDICTED = 90_000_000
"""Bytes that were predicted for it."""


class Picture(AdvisorApp):
    """The interface with one screen on it, without the way there."""

    CSS_PATH = Path(advisor.tui.app.__file__).with_name("app.tcss")
    TITLE = "advisor"

    def __init__(self, screen: Page[Any]) -> None:
        super().__init__()
        self.drawn = screen

    @work
    async def tour(self) -> None:
        """Show the screen."""
        await self.push_screen_wait(self.drawn)


async def draw(screen: Page[Any], path: Path) -> None:
    """Draw a screen into `path`."""
    async with (app := Picture(screen)).run_test(size=SIZE) as pilot:
        await pilot.pause(2)
        drawn = app.export_screenshot(title="advisor")
    path.write_text(small(drawn), encoding="utf-8")


def small(drawn: str) -> str:
    """The same picture in a third less bytes: nothing from elsewhere, short names, no clipping to the own line."""
    for part in (FONTS, CLIPS, CLIPPED):
        drawn = part.sub("", drawn)
    drawn = NAMES.sub("t-", drawn).replace("&#160;", " ")
    return drawn.replace("<text ", '<text xml:space="preserve" ')


def finished(directory: Path) -> Run:
    """The recorded run, as it lies on the shelf after its end."""
    shutil.copy(RECORDED, directory / "events.jsonl")
    return Run(directory)


def asked() -> QuestionScreen:
    """The third question, with where its first answer leads."""
    before = [Answered(QUESTIONS[0], QUESTIONS[0].choices[1])]
    said = {answered.question.fact: answered.choice.value for answered in before}
    question = next_question(parse(said), set(said)) or QUESTIONS[1]
    return QuestionScreen(
        question, before, lambda choice: primary(parse({**said, question.fact: choice.value}))
    )


def planned() -> PlanScreen:
    """A plan for the rows of the embedded example and a card of 24 GB, beside the others that fit."""
    card = hardware(vram_gb=24)
    wanted = between.own(
        task("voice").train,
        leaf="sft_lora",
        name="voice",
        hardware=card,
        shape=model("meta-llama/Llama-3.1-8B"),
    )
    return PlanScreen(propose(wanted), usable_bytes=card.usable_bytes, others=between.others(wanted))


async def pictures() -> None:
    """Draw each picture, the advice in both languages."""
    use("en")
    advice = advise(parse(FACTS))
    await draw(asked(), HERE / "question.svg")
    await draw(AdviceScreen(advice, parse(FACTS), trains=True), HERE / "advice.svg")
    await draw(RunScreen(finished(Path("run")), name="parcels", predicted_bytes=PREDICTED), HERE / "run.svg")
    await draw(planned(), HERE / "plan.svg")
    use("zh")
    await draw(AdviceScreen(advice, parse(FACTS), trains=True), HERE / "advice.zh.svg")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as there, contextlib.chdir(there):
        Path("run").mkdir()
        asyncio.run(pictures())
