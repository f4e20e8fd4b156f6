"""The receipt of a run as text: the arms side by side, the verdict, measured beside predicted. 80 columns, ASCII marks."""

from collections.abc import Iterator, Sequence

from rich.cells import cell_len, set_cell_size

from advisor import units
from advisor.show.columns import columns
from advisor.text import N_, inert, t
from recipes.report import Arm, Difference, Rate, Report, Training, Verdict

ARMS = {
    "base": N_("base"),
    "prompt": N_("prompt"),
    "few_shot": N_("few-shot"),
    "context": N_("passage"),
    "tuned": N_("tuned"),
}
VERDICTS: dict[Verdict, str] = {
    "helped": N_("Training helped: {score} is {points} points above the best other arm ({arm})."),
    "hurt": N_("Training hurt: {score} is {points} points below the best other arm ({arm})."),
    "cannot_tell": N_(
        "These rows cannot tell whether it helped: {score} differs by {points} points ({arm})."
    ),
    "not_trained": N_("Nothing was trained: this is a measurement."),
}
LIKELIHOOD: dict[Verdict, str] = {
    "helped": N_("Training helped: the loss on held-out text fell by {nats} nats a token."),
    "hurt": N_("Training hurt: the loss on held-out text rose by {nats} nats a token."),
    "cannot_tell": N_(
        "These rows cannot tell whether training helped: the loss changed by {nats} nats a token."
    ),
    "not_trained": N_("Nothing was trained: this is a measurement."),
}
WIDTH = 80
CELL = 13
"""Width of an arm's column: "100 (96-100)" and a space."""
NAME = 20
"""A check may be called by 32 letters; the report has it in full."""
SHOWN = 5
"""More changes or rises than this help nobody; the file has them all."""
SURE = 0.001


def text(report: Report) -> str:
    """The whole report."""
    blocks = (_head(report), _table(report), _comparison(report), _receipt(report), (sentence(report),))
    return "\n\n".join("\n".join(block) for block in map(tuple, blocks) if block)


def sentence(report: Report) -> str:
    """One sentence: whether it helped, by how much, against what."""
    first = next((d for d in report.differences if d.score == report.primary), None)
    if first is None:
        return t(VERDICTS["not_trained"])
    if first.score == "nll":
        return t(LIKELIHOOD[report.verdict], nats=f"{abs(first.value):.3f}")
    return t(
        VERDICTS[report.verdict],
        score=inert(first.score),
        points=f"{100 * abs(first.value):.0f}",
        arm=t(ARMS[first.against]),
    )


def _head(report: Report) -> Iterator[str]:
    yield t(N_("run    {run}"), run=inert(report.run))
    yield t(N_("model  {model}"), model=inert(report.model))
    yield t(N_("rows   {rows} held out; per cent right with 95 % intervals"), rows=report.held_out_rows)


def _table(report: Report) -> Iterator[str]:
    """Scores as lines, arms as columns; the score that decides comes first and has a star."""
    names = sorted(
        {name for arm in report.arms for name in arm.scores}, key=lambda n: (n != report.primary, n)
    )
    first = max(WIDTH - CELL * len(report.arms), 12)
    yield _row("", [t(ARMS[arm.name]) for arm in report.arms], first)
    for name in names:
        mark = "* " if name == report.primary else "  "
        yield _row(mark + inert(name), [_rate(arm.scores.get(name)) for arm in report.arms], first)
    if any(arm.nll for arm in report.arms):
        mark = "* " if report.primary == "nll" else "  "
        yield _row(mark + t(N_("nats a token")), [_nats(arm) for arm in report.arms], first)
    yield _row("  " + t(N_("prompt tokens")), [f"{arm.prompt_tokens:.0f}" for arm in report.arms], first)
    yield _row("  " + t(N_("seconds")), [f"{arm.seconds:.1f}" for arm in report.arms], first)


def _comparison(report: Report) -> Iterator[str]:
    """Tuned minus the best other arm, score by score."""
    if not report.differences:
        return
    heads = (N_("tuned minus"), N_("points"), N_("95 % interval"), N_("p"), N_("detects"))
    rows = [_difference(difference) for difference in report.differences]
    yield from columns([["", *map(t, heads)], *rows])


def _difference(d: Difference) -> list[str]:
    """A line of the comparison; a likelihood in nats a token, everything else in points of a hundred."""
    scale, form, unit = (1, "+.3f", " " + t(N_("nats"))) if d.score == "nll" else (100, "+.0f", "")
    name = t(N_("loss")) if d.score == "nll" else inert(d.score)
    return [
        _clipped(name, NAME),
        t(ARMS[d.against]),
        f"{scale * d.value:{form}}{unit}",
        t(N_("{low} to {high}"), low=f"{scale * d.low:{form}}", high=f"{scale * d.high:{form}}"),
        f"< {SURE}" if d.p_value < SURE else f"{d.p_value:.3f}",
        f"{scale * d.detectable:{form[1:]}}{unit}",
    ]


def _receipt(report: Report) -> Iterator[str]:
    training = report.training
    if training is None:
        return
    memory, duration = training.memory, training.duration
    share = units.percent(training.trainable_parameters / max(1, training.parameters))
    yield t(
        N_("method {method}: {trained} of {all} parameters ({share}), {steps} steps, {rows} rows"),
        method=inert(training.method),
        trained=units.count(training.trainable_parameters),
        all=units.count(training.parameters),
        share=share,
        steps=training.steps,
        rows=training.rows,
    )
    if training.rows_dropped:
        yield t(N_("dropped {count} row(s) that are too long"), count=training.rows_dropped)
    if training.rows_cut:
        yield t(N_("cut    {count} row(s) that are too long"), count=training.rows_cut)
    yield t(
        N_("loss   {first:.3f} to {last:.3f}"), first=training.first_loss, last=training.last_loss
    ) + _held_out(training)
    quantity = {
        "cuda_max_allocated": N_("GPU: allocated"),
        "cpu_peak_rss_delta": N_("CPU: growth of the process"),
    }[memory.quantity]
    yield t(
        N_("memory {measured} measured, {predicted} predicted ({quantity})"),
        measured=units.gib(memory.measured_bytes),
        predicted=units.gib(memory.predicted_bytes) if memory.predicted_bytes is not None else "-",
        quantity=t(quantity),
    )
    yield t(
        N_("time   {measured} measured, {predicted} predicted"),
        measured=units.seconds(duration.measured_seconds),
        predicted=_range(duration.predicted_low, duration.predicted_high),
    )
    if training.risen_at:
        steps = ", ".join(map(str, training.risen_at[:SHOWN]))
        yield t(N_("rise   the loss stood well above its minimum at step {steps}"), steps=steps)
    for change in training.changes[:SHOWN]:
        yield t(N_("change {change}"), change=inert(change))
    yield t(N_("saved  {output}"), output=inert(training.output))


def _held_out(training: Training) -> str:
    loss = training.held_out_loss
    return "" if loss is None else t(N_(", held out {loss:.3f}"), loss=loss)


def _range(low: float | None, high: float | None) -> str:
    if low is None or high is None:
        return "-"
    return t(N_("{low} to {high}"), low=units.seconds(low), high=units.seconds(high))


def _row(name: str, cells: Sequence[str], first: int) -> str:
    label = set_cell_size(_clipped(name, first - 1), first)
    return (label + "".join(set_cell_size(cell, CELL) for cell in cells)).rstrip()


def _clipped(name: str, width: int) -> str:
    return name if cell_len(name) <= width else set_cell_size(name, width - 2) + ".."


def _rate(rate: Rate | None) -> str:
    if rate is None:
        return "-"
    return f"{100 * rate.value:.0f} ({100 * rate.low:.0f}-{100 * rate.high:.0f})"


def _nats(arm: Arm) -> str:
    return "-" if arm.nll is None else f"{arm.nll.value:.3f}"
