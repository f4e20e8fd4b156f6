"""Write the reference pages that follow from the code: `python docs/make_reference.py [DOCS]`.

A test writes them into an empty folder and compares: a page that is not what the code says fails.
"""

import ast
import inspect
import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import click

from advisor.decide import graph
from advisor.decide.answers import FACTS, Prior, said
from advisor.decide.beliefs import BELIEFS
from advisor.decide.doubts import DOUBTS
from advisor.decide.groups import GROUPS
from advisor.show.graph import mermaid
from advisor.text import use
from recipes import plan

DOCS: Final = Path(__file__).parent
MADE: Final = "<!-- Made by docs/make_reference.py: change the code, then run it. -->"
BEGIN: Final = "<!-- begin: advisor graph --format mermaid -->"
FIGURES: Final = "<!-- begin: python benchmarks/decision.py -->"
END: Final = "<!-- end -->"
SCORED: Final = DOCS.parent / "benchmarks" / "results" / "decision.json"
RUNS: Final = {
    "contract": "contract",
    "published": "published",
    "without_inferred_facts": "published, without facts whose value was inferred",
    "beyond": "further cases",
    "beyond_without_inferred_facts": "further, without inferred facts",
    "one_common_fact_added": "published and further, one common fact more",
    "one_fact_left_out": "published and further, one fact left out",
}
RULES: Final = (
    "The edges of a node are tried in this order; the first whose condition holds is taken. A condition has three "
    "values: yes, no and not known. `seed001` edges (`Start-Q1`, `Q1-` to `Q5-`) are the source tree, all others are "
    "ours. Grades: A controlled experiments, B one study or cases with numbers, C guidance, D assertion; none where an "
    "edge only routes. Numbers and beliefs that are ours have a decision record in `docs/adr`."
)
WORDS: Final = {"integer": "integer", "number": "number", "string": "text", "boolean": "true or false"}

RECIPE: Final = (
    "The one thing that goes from the advisor to a trainer: one run, fully decided. `advisor recipe` writes it with a "
    "reason above each value; edit it freely. A key that is not listed here is an error, and so is a number that is "
    "infinite or not a number; all problems are named at once, with their lines. A key that is left out has its "
    "default."
)
COMMANDS: Final = (
    "`advisor` alone, on a terminal, opens the guided interface. `advisor --lang zh COMMAND` speaks Chinese; `--help` "
    "(or `-h`) works everywhere. Results go to stdout, notes, progress and errors to stderr. `--json` prints one "
    "object, whose form is named in its `schema`. Every command ends with one of the [exit codes](exit-codes.md)."
)

Schema = Mapping[str, object]


def main(target: Path) -> None:
    """Write every generated page below `target`."""
    use("en")  # before a command is imported: its help is translated when its module is loaded
    pages = {
        "en/reference/recipe.md": recipe(),
        "en/reference/commands.md": commands(),
        "en/reference/decision.md": decision((DOCS / "en/reference/decision.md").read_text(encoding="utf-8")),
        "en/reference/rules.md": rules(),
    }
    for name, text in pages.items():
        path = target / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


# --- recipe.toml ------------------------------------------------------------------------------------------------


def recipe() -> str:
    """Every key of a recipe with its type, its meaning and its default."""
    whole = plan.Plan.model_json_schema()
    parts, said = whole["$defs"], _said()
    lines = [
        "# recipe.toml",
        "",
        MADE,
        "",
        RECIPE,
        "",
        "`advisor recipe --set schedule.epochs=2` sets a key while the recipe is written.",
        "",
        "## Top level",
        "",
        *_table(whole, said["Plan"], {"schema_version", "name"}),
    ]
    for name, field in whole["properties"].items():
        for kind in _kinds(field):
            part = parts[kind]
            heading = f"[{name}]" if len(_kinds(field)) == 1 else f"[{name}], kind {_kind(part)}"
            lines += ["", f"## {heading}", "", _flat(part["description"]), "", *_table(part, said[kind])]
    return "\n".join(lines) + "\n"


def _table(part: Schema, said: Mapping[str, str], only: set[str] | None = None) -> Iterator[str]:
    yield "| key | type | default | meaning |"
    yield "|---|---|---|---|"
    properties = part["properties"]
    for name, field in properties.items():  # type: ignore[attr-defined]
        if only is None or name in only:
            default = _default(field, needed=name in part.get("required", ()))
            yield f"| `{name}` | {_type(field)} | {default} | {said.get(name, '')} |"


def _type(field: Schema) -> str:
    if "anyOf" in field:
        return " or ".join(_type(one) for one in field["anyOf"] if one.get("type") != "null")  # type: ignore[attr-defined]
    if "const" in field:
        return f"`{json.dumps(field['const'])}`"
    if "enum" in field:
        return ", ".join(f"`{json.dumps(one)}`" for one in field["enum"])  # type: ignore[attr-defined]
    if field["type"] == "array":
        return f"list of {_type(field['items'])}"  # type: ignore[arg-type]
    if "64}" in str(field.get("pattern")):
        return "sha256, 64 hex digits" if "a-f" in str(field["pattern"]) else "name"
    return WORDS[str(field["type"])] + _bounds(field)


def _bounds(field: Schema) -> str:
    signs = {"minimum": ">=", "exclusiveMinimum": ">", "maximum": "<=", "exclusiveMaximum": "<"}
    found = [
        f"{sign} {field[key]:g}"
        for key, sign in signs.items()
        if key in field and field[key] != plan.LARGEST  # no limit that anybody meets
    ]
    return f" {', '.join(found)}" if found else ""


def _default(field: Schema, *, needed: bool) -> str:
    if needed:
        return "required"
    value = field.get("default")
    return "none" if value is None else f"`{json.dumps(value)}`"


def _kinds(field: Schema) -> list[str]:
    """The classes that may stand at a place, by name."""
    options = field.get("oneOf") or field.get("anyOf") or [field]
    return [one["$ref"].rpartition("/")[2] for one in options if "$ref" in one]  # type: ignore[attr-defined]


def _kind(part: Schema) -> str:
    return json.dumps(part["properties"]["kind"]["const"])  # type: ignore[index]


def _said() -> dict[str, dict[str, str]]:
    """The text below each field, by class and field: pydantic drops it, so the source is read."""
    found: dict[str, dict[str, str]] = {}
    for one in ast.parse(inspect.getsource(plan)).body:
        if isinstance(one, ast.ClassDef):
            pairs = zip(one.body, one.body[1:], strict=False)
            found[one.name] = {
                field.target.id: _flat(text.value.value)
                for field, text in pairs
                if isinstance(field, ast.AnnAssign)
                and isinstance(field.target, ast.Name)
                and isinstance(text, ast.Expr)
                and isinstance(text.value, ast.Constant)
                and isinstance(text.value.value, str)
            }
            found[one.name].setdefault("kind", "Which of the kinds this is.")
    return found


def _flat(text: str) -> str:
    return " ".join(text.split())


# --- commands ---------------------------------------------------------------------------------------------------


def commands() -> str:
    """Every command with its arguments and options, as `--help` shows them."""
    from advisor.cli import cli  # noqa: PLC0415  (after the language is chosen)

    top = click.Context(cli, info_name="advisor")
    lines = [
        "# Commands",
        "",
        MADE,
        "",
        COMMANDS,
    ]
    for name in cli.list_commands(top):
        lines += _command(cli, name, top)
    return "\n".join(lines) + "\n"


def _command(group: click.Group, name: str, parent: click.Context) -> Iterator[str]:
    command = group.get_command(parent, name)
    if command is None:
        raise LookupError(name)
    ctx = click.Context(command, info_name=name, parent=parent)
    yield from ("", f"## {ctx.command_path}", "")
    yield from ("```text", f"{ctx.command_path} {' '.join(command.collect_usage_pieces(ctx))}", "```", "")
    yield _flat(command.help or "")
    options = [one for one in command.params if isinstance(one, click.Option)]  # arguments stand in the usage
    records = [record for one in options if (record := one.get_help_record(ctx))]
    if records:
        yield from ("", "| option | meaning |", "|---|---|")
    for left, text in records:
        yield f"| `{_cell(left)}` | {_cell(_flat(text))} |"
    if isinstance(command, click.Group):
        for inner in command.list_commands(ctx):
            yield from _command(command, inner, ctx)


def _cell(text: str) -> str:
    """Inside a table a bar would end the cell, even in code."""
    return text.replace("|", "\\|")


# --- the tree ---------------------------------------------------------------------------------------------------


def decision(page: str) -> str:
    """The page with the diagram that `advisor graph` draws now, and the figures that the benchmark wrote last."""
    tree = graph.build("classic")
    drawn = mermaid(tuple(graph.nodes(tree)), tuple(graph.edges(tree)))
    with_figures = _between(page, FIGURES, "\n".join(figures(json.loads(SCORED.read_text(encoding="utf-8")))))
    return _between(with_figures, BEGIN, f"```mermaid\n{drawn}\n```")


def _between(page: str, begin: str, made: str) -> str:
    before, _, rest = page.partition(begin)
    _, _, after = rest.partition(END)
    return f"{before}{begin}\n{made}\n{END}{after}"


def figures(scored: Mapping[str, Mapping[str, object]]) -> Iterator[str]:
    """The table of how good the advice is."""
    runs = [(said, scored[name]) for name, said in RUNS.items()]
    yield f"| | {' | '.join(said for said, _ in runs)} |"
    yield "|---" * (len(runs) + 1) + "|"
    yield _row("runs", [str(run["cases"]) for _, run in runs])
    yield _row("pass / tolerated / fail", [_three(run) for _, run in runs])
    yield _row("with a forbidden step", [str(run["forbidden"]) for _, run in runs])
    yield _row("warnings that had to be given", [_percent(run["must_warn_recall"]) for _, run in runs])
    yield _row("ambiguous, yet high confidence", [str(run["overconfident"]) for _, run in runs])
    for band in ("high", "medium", "low"):
        yield _row(f"pass at {band} confidence", [_band(run["bands"].get(band)) for _, run in runs])  # type: ignore[attr-defined]
    yield ""
    yield "What simpler advice reaches on the published cases:"
    yield ""
    yield "| always the same, or the bare tree | pass / tolerated / fail |"
    yield "|---|---|"
    for name, floor in scored["floors"].items():
        yield _row(name, [_three(floor)])  # type: ignore[arg-type]


def _row(name: str, cells: list[str]) -> str:
    return f"| {name} | {' | '.join(cells)} |"


def _three(run: Mapping[str, object]) -> str:
    return " / ".join(_percent(run[part]) for part in ("pass", "tolerated", "fail"))


def _percent(share: object) -> str:
    return "-" if share is None else f"{round(100 * float(str(share)), 1):g} %"


def _band(found: Mapping[str, object] | None) -> str:
    return "-" if found is None else f"{_percent(found['pass'])} of {found['cases']}"


# --- every rule -------------------------------------------------------------------------------------------------


def rules() -> str:
    """Every edge with its condition, reason, source and grade; every fact; beliefs and doubts."""
    edges = graph.edges(graph.build("expert"))
    return "\n".join(
        (
            "# Every rule of the decision", "", MADE, "", RULES, "",
            "## Edges", "", "| id | from, answer, to | when | why | source | grade |", "|---|---|---|---|---|---|",
            *(_row(f"`{e.id}`", [f"`{e.start}` {e.answer} `{e.end}`", _flat(e.test.__doc__), _flat(e.why), _flat(e.source),
                                 (e.grade or "") + (f", contested {e.contested}" if e.contested else "")]) for e in edges),
            "", "## Facts", "", "| fact | values | means | question | minutes | believed while unknown |",
            "|---|---|---|---|---|---|",
            *(_row(f"`{f.name}`", [_flat(f.allowed), _flat(f.means), f.group, str(f.minutes), _prior(f.prior)])
              for f in FACTS.values()),
            "", "## Questions", "", "| id | question | why | how to find out |", "|---|---|---|---|",
            *(_row(name, [g.question, g.why, g.measure]) for name, g in GROUPS.items()),
            "", "## What known facts say about unknown ones", "", "| fact | while this holds | is believed to be |", "|---|---|---|",
            *(_row(f"`{b.fact}`", [_flat(b.when.__doc__), _prior(b.prior)]) for b in BELIEFS),
            "", "## What is never answered with high confidence", "",
            *(f"- {doubt.says}" for doubt in DOUBTS),
        )
    ) + "\n"  # fmt: skip


def _prior(prior: Prior) -> str:
    return ", ".join(f"{said(value)} {_percent(weight)}" for value, weight in prior)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else DOCS)
