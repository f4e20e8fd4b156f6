"""Draw the pictures of the README: `python docs/pictures/make.py`, from a source tree with its catalogues built."""

import asyncio
import re
import shutil
import tempfile
from pathlib import Path
from typing import Any

from textual import work

import advisor.tui.app
from advisor.decide.advise import advise
from advisor.decide.answers import parse
from advisor.run.directory import Run
from advisor.text import use
from advisor.tui.app import AdvisorApp
from advisor.tui.screens.advice import AdviceScreen
from advisor.tui.screens.page import Page
from advisor.tui.screens.run import RunScreen

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
    drawn = FONTS.sub("", drawn).replace("<text ", '<text xml:space="preserve" ').replace("&#160;", " ")
    path.write_text(drawn, encoding="utf-8")


def finished(directory: Path) -> Run:
    """The recorded run, as it lies on the shelf after its end."""
    shutil.copy(RECORDED, directory / "events.jsonl")
    return Run(directory)


if __name__ == "__main__":
    use("en")
    asyncio.run(draw(AdviceScreen(advise(parse(FACTS)), parse(FACTS), trains=True), HERE / "advice.svg"))
    with tempfile.TemporaryDirectory() as there:
        shown = RunScreen(finished(Path(there)), name="parcels", predicted_bytes=PREDICTED)
        asyncio.run(draw(shown, HERE / "run.svg"))
