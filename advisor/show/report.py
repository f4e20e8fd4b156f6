"""The receipt of a run as text: the arms side by side, the verdict, measured beside predicted. 80 columns, ASCII marks."""

from collections.abc import Iterator, Sequence

from rich.cells import cell_len, set_cell_size

from advisor import units
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
    "helped": N_("Training helped: {score} rose by {points} points over the best of the others ({arm})."),
    "hurt": N_("Training hurt: {score} is {points} points worse than the best of the others ({arm})."),
    "cannot_tell": N_(
        "These rows cannot tell whether training helped: {score} differs by {points} points from {arm}."
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
    for difference in report.differences:
        if difference.score == "nll":
            yield _nats_line(difference)
        else:
            yield _points_line(difference)


def _points_line(d: Difference) -> str:
    return t(
        N_(
            "{score}: tuned minus {arm} {value:+.0f} points ({low:+.0f} to {high:+.0f}), {p}; seen from {least:.0f}"
        ),
        score=inert(d.score),
        arm=t(ARMS[d.against]),
        value=100 * d.value,
        low=100 * d.low,
        high=100 * d.high,
        p=_p(d),
        least=100 * d.detectable,
    )


def _nats_line(d: Difference) -> str:
    return t(
        N_("loss: tuned minus {arm} {value:+.3f} nats a token ({low:+.3f} to {high:+.3f}), {p}"),
        arm=t(ARMS[d.against]),
        value=d.value,
        low=d.low,
        high=d.high,
        p=_p(d),
    )


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
    yield t(
        N_("loss   {first:.3f} to {last:.3f}"), first=training.first_loss, last=training.last_loss
    ) + _held_out(training)
    quantity = {
        "cuda_max_allocated": N_("allocated on the GPU"),
        "cpu_peak_rss_delta": N_("growth of the process on the CPU"),
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
    yield t(N_("saved  {output}"), output=inert(training.output))


def _held_out(training: Training) -> str:
    loss = training.held_out_loss
    return "" if loss is None else t(N_(", held out {loss:.3f}"), loss=loss)


def _range(low: float | None, high: float | None) -> str:
    if low is None or high is None:
        return "-"
    return t(N_("{low} to {high}"), low=units.seconds(low), high=units.seconds(high))


def _row(name: str, cells: Sequence[str], first: int) -> str:
    label = name if cell_len(name) < first else set_cell_size(name, first - 3) + ".."
    return (set_cell_size(label, first) + "".join(set_cell_size(cell, CELL) for cell in cells)).rstrip()


def _rate(rate: Rate | None) -> str:
    if rate is None:
        return "-"
    return f"{100 * rate.value:.0f} ({100 * rate.low:.0f}-{100 * rate.high:.0f})"


def _nats(arm: Arm) -> str:
    return "-" if arm.nll is None else f"{arm.nll.value:.3f}"


def _p(d: Difference) -> str:
    return f"p < {SURE}" if d.p_value < SURE else f"p = {d.p_value:.3f}"
