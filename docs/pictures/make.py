"""Draw the pictures of the README: `python docs/pictures/make.py`, from a source tree with its catalogues built."""

import asyncio
import re
from pathlib import Path

from textual import work

import advisor.tui.app
from advisor.decide.advise import advise
from advisor.decide.answers import parse
from advisor.text import use
from advisor.tui.app import AdvisorApp
from advisor.tui.screens.advice import AdviceScreen

HERE = Path(__file__).parent
SIZE = (112, 34)
"""Columns and rows: the wide layout, readable at the width of a page."""
FONTS = re.compile(r"@font-face \{.*?\}\s*", re.DOTALL)
"""Fonts from another server: a picture in a README must not fetch anything."""
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


class Picture(AdvisorApp):
    """The interface with the advice on it, without the way there."""

    CSS_PATH = Path(advisor.tui.app.__file__).with_name("app.tcss")
    TITLE = "advisor"

    @work
    async def tour(self) -> None:
        """Show the advice."""
        await self.push_screen_wait(AdviceScreen(advise(parse(FACTS)), trains=True))


async def draw(path: Path) -> None:
    """Draw the advice into `path`."""
    async with (app := Picture()).run_test(size=SIZE) as pilot:
        await pilot.pause(2)
        drawn = app.export_screenshot(title="advisor")
    path.write_text(FONTS.sub("", drawn), encoding="utf-8")


if __name__ == "__main__":
    use("en")
    asyncio.run(draw(HERE / "advice.svg"))
