"""Write recipes (a plan as TOML, with the reason above each value) and guides. The only place that uses Jinja."""

import json
import math
import re
import shlex
import textwrap
from collections.abc import Mapping
from functools import cache
from types import MappingProxyType
from typing import Final

from jinja2 import Environment, PackageLoader, StrictUndefined

from recipes.places import places
from recipes.plan import Part, Plan

WIDTH: Final = 100
"""Columns of a comment: a recipe is read in an editor and in a terminal."""
LAUNCHES: Final[Mapping[str, Mapping[str, str]]] = MappingProxyType(
    {
        "torchrun": {"launch.sh": "torchrun.sh.jinja"},
        "slurm": {"train.sbatch": "slurm.sbatch.jinja"},
        "accelerate": {"launch.sh": "accelerate.sh.jinja", "accelerate.yaml": "accelerate.yaml.jinja"},
        "deepspeed": {"deepspeed.json": ""},
    }
)
"""Ways to start several processes: their files, and the template of each (JSON has a writer of its own)."""
CORES: Final = 8
"""CPU cores asked for each GPU: what clusters usually have for one."""
SPARE: Final = 1.5
"""So many times the predicted time is asked of a cluster; a run that needs more is submitted again, and goes on."""
MINUTES: Final = 15
"""Minutes asked beside: the model is loaded, and judged before and after."""


def write(plan: Plan, why: Mapping[str, str]) -> str:
    """Render `plan` as TOML with the reason for each value above it.

    `why` maps dotted keys ("schedule.learning_rate"; "" is the heading) to sentences in the reader's language.
    `read(write(plan, why)) == plan` for every plan and every `why`; the comments are for people only.
    """
    return _environment().get_template("recipe.toml.jinja").render(plan=plan, why=why)


def changed(text: str, values: Mapping[str, str | float | bool], why: str) -> str:
    """Put other values into the text of a recipe, `why` above each; every other line stays, with its remarks.

    Args:
        text: A recipe.
        values: By dotted key ("schedule.accumulation"), in tables that the text has.
        why: The reason, in the reader's language.

    Raises:
        KeyError: The text has no such table.
    """
    lines, at = text.split("\n"), dict(places(text))
    for dotted in sorted(values, key=lambda one: at.get(one, 0) or at[one.rpartition(".")[0]], reverse=True):
        said = [*remark(why).split("\n"), f"{key(dotted.rpartition('.')[2])} = {toml(values[dotted])}"]
        if dotted not in at:  # a default that nobody wrote down
            end = at[dotted.rpartition(".")[0]]
            lines[end:end] = said
            continue
        begin = end = at[dotted]
        while begin > 1 and lines[begin - 2].startswith("#"):
            begin -= 1
        lines[begin - 1 : end] = said
    return "\n".join(lines)


def launch(target: str, plan: Plan) -> dict[str, str]:
    """The files that start the trainer of a recipe in several processes, by name; they stand beside `recipe.toml`.

    Args:
        target: One of `LAUNCHES`.
        plan: What is trained, and in how many processes on how many computers.

    Raises:
        ValueError: A name that no shell file may hold.
    """
    layout, predicted = plan.layout, plan.predicted
    seconds = predicted.seconds_high if predicted else None
    each = layout.processes // layout.nodes
    values = {
        "name": plan.name,
        "processes": layout.processes,
        "nodes": layout.nodes,
        "each": each,
        "sharding": layout.sharding,
        "cores": each * CORES,
        "minutes": None if seconds is None else MINUTES + math.ceil(seconds * SPARE / 60),
    }
    if target == "deepspeed":
        return {"deepspeed.json": json.dumps(_zero(plan), indent=2, allow_nan=False) + "\n"}
    return {
        name: _environment().get_template(f"launch/{template}").render(values)
        for name, template in LAUNCHES[target].items()
    }


def _zero(plan: Plan) -> dict[str, object]:
    """The settings of DeepSpeed's ZeRO (Rajbhandari et al., 2020) for a plan, all of them numbers, none `auto`.

    They are those of `trainers.engine.zero`, but for the modes of 16 bits: other frameworks leave it to DeepSpeed to
    cast the weights.
    """
    schedule, layout = plan.schedule, plan.layout
    stage = 3 if layout.sharding == "zero3" else 2
    zero: dict[str, object] = {"stage": stage, "overlap_comm": False, "contiguous_gradients": True}
    if stage == 3:
        zero["stage3_gather_16bit_weights_on_model_save"] = True
    return {
        "bf16": {"enabled": plan.model.dtype == "bfloat16"},
        "fp16": {"enabled": plan.model.dtype == "float16"},
        "data_types": {"grad_accum_dtype": "fp32"},
        "communication_data_type": "fp32",
        "zero_optimization": zero,
        "gradient_clipping": schedule.clip_norm,
        "gradient_accumulation_steps": schedule.accumulation,
        "train_micro_batch_size_per_gpu": 1,  # one flat row of documents
        "train_batch_size": schedule.accumulation * layout.processes,
    }


def guide(name: str, language: str, values: Mapping[str, object]) -> str:
    """Render a page of the starting kit, such as "prompt", in `language` ("en", "zh").

    The templates are ours and constant; every value passes a typed filter, so no value becomes markup.
    """
    return _environment().get_template(f"guide/{name}.{language}.md.jinja").render(values)


def sh(text: str) -> str:
    """Write `text` as one word of a shell.

    Raises:
        ValueError: A line break or another control character: no file of ours holds one.
    """
    if not text.isprintable():
        raise ValueError(f"not a word for a shell: {text!r}")
    return shlex.quote(text)


def whole(value: int) -> str:
    """Write a whole number in digits alone."""
    return str(int(value))


def toml(value: str | float | bool | tuple[str, ...]) -> str:
    """Write one value as TOML. JSON is TOML here but for DEL, which TOML forbids unescaped."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False).replace("\x7f", "\\u007f")


def remark(text: str) -> str:
    """Write `text` as TOML comments: no character that TOML forbids there, and no line longer than `WIDTH`."""
    plain = "".join(c if c.isprintable() else " " for c in text)
    return "\n".join(f"# {line}" for line in textwrap.wrap(plain, WIDTH - 2)) or "#"


def plain(text: str) -> str:
    """Write `text` as one line in which Markdown and HTML see nothing but text."""
    escaped = _MARKS.sub(r"\\\1", _one_line(text))
    return escaped.replace("\\<", "&lt;").replace("\\>", "&gt;").replace("\\&", "&amp;")


def code(text: str) -> str:
    """Write `text` as a code span of Markdown: nothing in it is markup, a link or a mention, whatever it holds."""
    line = _one_line(text)
    fence = "`" * (max(map(len, re.findall("`+", line)), default=0) + 1)
    pad = " " if line[:1] in {"`", ""} or line[-1:] == "`" else ""
    return f"{fence}{pad}{line}{pad}{fence}"


def number(value: int) -> str:
    """Write a whole number with its thousands apart."""
    return f"{int(value):,}"


def share(value: float) -> str:
    """Write a share of 1 in per cent."""
    return f"{float(value) * 100:g} %"


def span(ends: tuple[int, int | None]) -> str:
    """Write a range of whole numbers; without an upper end it is open, with equal ends it is one number."""
    low, high = ends
    if high is None:
        return f"{number(low)}+"
    return number(low) if low == high else f"{number(low)}-{number(high)}"


def _one_line(text: str) -> str:
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


_MARKS: Final = re.compile(r"([\\`*_{}\[\]()#|~!<>&@])")


def key(name: str) -> str:
    """Write the name of a field as a bare TOML key; names come from the schema, never from a file."""
    if not name.isidentifier():
        raise ValueError(f"not a bare key: {name!r}")
    return name


def rendered(text: str) -> str:
    """Pass on what a macro of ours has already written through the other filters."""
    return text


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("recipes"),
        undefined=StrictUndefined,  # a misspelt field is an error, never an empty string
        autoescape=False,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"toml": toml, "remark": remark, "key": key, "rendered": rendered}
    environment.filters |= {"plain": plain, "code": code, "number": number, "share": share, "span": span}
    environment.filters |= {"sh": sh, "whole": whole}
    environment.tests["part_of_plan"] = lambda value: isinstance(value, Part)
    return environment
