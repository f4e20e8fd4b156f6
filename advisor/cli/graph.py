"""`advisor graph`: draw or check the decision graph."""

import click

from advisor.cli import voice
from advisor.decide import graph
from advisor.show import graph as show
from advisor.text import N_, t
from recipes.exits import Exit


@click.command(help=t(N_("Draw the decision tree of the source document, or the whole graph.")))
@click.option(
    "--classic", "mode", flag_value="classic", help=t(N_("The source tree alone (the default for drawing)."))
)
@click.option(
    "--expert",
    "mode",
    flag_value="expert",
    help=t(N_("With everything that we added (the default for checking).")),
)
@click.option(
    "--format",
    "form",
    type=click.Choice(("text", "mermaid", "dot", "json")),
    default="text",
    show_default=True,
    help=t(N_("How to draw it.")),
)
@click.option("--check", is_flag=True, help=t(N_("Say what is wrong with the graph; exit 1 if anything is.")))
@click.option("--json", "as_json", is_flag=True, help=t(N_("The same as --format json.")))
@click.pass_context
def command(ctx: click.Context, mode: str | None, form: str, check: bool, as_json: bool) -> None:
    """Draw or check the decision graph."""
    whole = mode == "expert" or (check and mode is None)
    drawn = graph.build("expert" if whole else "classic")
    if check:
        found = [*graph.problems(drawn), *show.untranslated(drawn)]
        if as_json or form == "json":
            voice.envelope("graph", {"problems": found})
        else:
            click.echo("\n".join(found) or t(N_("The graph is sound.")))
        ctx.exit(Exit.NO if found else Exit.OK)
    nodes, edges = tuple(graph.nodes(drawn)), tuple(graph.edges(drawn))
    if as_json or form == "json":
        voice.envelope("graph", show.data(nodes, edges))
    else:
        click.echo({"text": show.outline, "mermaid": show.mermaid, "dot": show.dot}[form](nodes, edges))
