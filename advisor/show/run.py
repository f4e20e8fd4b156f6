"""A run while it goes: events folded into one line of progress, and the events that deserve a line of their own."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from advisor import units
from advisor.text import N_, inert, t
from recipes.report import Event

PHASES = {
    "import": N_("importing libraries"),
    "load": N_("loading the model"),
    "tokenize": N_("reading the rows"),
    "train": N_("training"),
    "evaluate": N_("judging"),
    "save": N_("saving"),
}
STATES = {
    "running": N_("running"),
    "paused": N_("paused"),
    "done": N_("done"),
    "stopped": N_("stopped"),
    "error": N_("failed"),
    "died": N_("died"),
}
WIDTH = 79
"""One less than the narrowest terminal we promise: a full line would wrap, and could not be rewritten."""


@dataclass(frozen=True, slots=True)
class Progress:
    """What a run has told so far; lengths in seconds."""

    phase: str = ""
    step: int = 0
    steps: int = 0
    loss: float | None = None
    tokens_per_second: float | None = None
    left_seconds: float | None = None
    arm: str = ""
    done: int = 0
    of: int = 0

    @property
    def share(self) -> float:
        """How much of the present phase is done, from 0 to 1."""
        if self.phase == "evaluate" and self.of:
            return self.done / self.of
        return self.step / self.steps if self.phase == "train" and self.steps else 0.0


def advance(before: Progress, event: Event) -> Progress:
    """The progress after one more event."""
    match event.type:
        case "start":
            return replace(before, steps=_whole(event, "steps"), step=_whole(event, "resumed_from"))
        case "phase":
            return replace(before, phase=event.text("name"), arm="", done=0, of=0)
        case "heartbeat":
            return replace(before, phase=event.text("phase") or before.phase)
        case "step":
            return replace(
                before,
                phase="train",
                step=_whole(event, "step"),
                loss=event.number("loss"),
                tokens_per_second=event.number("tps"),
                left_seconds=event.number("eta"),
            )
        case "progress":
            return replace(
                before,
                phase="evaluate",
                arm=event.text("arm"),
                done=_whole(event, "done"),
                of=_whole(event, "of"),
            )
        case _:
            return before


def line(progress: Progress) -> str:
    """One line of at most 79 cells, harmless on a terminal."""
    phase = t(PHASES[progress.phase]) if progress.phase in PHASES else inert(progress.phase).strip()
    parts = [phase or t(N_("starting"))]
    if progress.phase == "evaluate" and progress.of:
        parts = [f"{parts[0]}: {inert(progress.arm)} {progress.done}/{progress.of}"]
    elif progress.phase == "train" and progress.steps:
        parts = [t(N_("step {step}/{steps}"), step=progress.step, steps=progress.steps)]
        parts += [f"{units.percent(progress.share)}"]
        parts += [t(N_("loss {loss:.3f}"), loss=progress.loss)] if progress.loss is not None else []
        if progress.tokens_per_second is not None:
            parts += [t(N_("{rate} tokens/s"), rate=units.count(round(progress.tokens_per_second)))]
        if progress.left_seconds is not None:
            parts += [t(N_("{time} left"), time=units.seconds(progress.left_seconds))]
    return "  ".join(parts).replace("\n", " ")[:WIDTH]


def news(event: Event) -> str | None:
    """What stands on a line of its own, or None for what the progress line says already."""
    match event.type:
        case "note":
            return _clean(t(event.text("msgid"))) or None
        case "warn":
            return t(N_("warning: {message}"), message=_clean(event.text("msg") or event.text("code")))
        case "oom":
            return t(N_("out of memory: {message}"), message=_memory(event))
        case "paused":
            return t(N_("paused at step {step}; go on with: advisor runs resume"), step=_whole(event, "step"))
        case "resumed":
            return t(N_("going on at step {step}"), step=_whole(event, "step"))
        case "stalled":
            return stalled(event)
        case "packing":
            return t(
                N_("{documents} documents in {bins} flat rows, {fill} full, {each:.1f} in each"),
                documents=_whole(event, "documents"),
                bins=_whole(event, "bins"),
                fill=units.percent(event.number("fill") or 0),
                each=event.number("documents_a_bin") or 0,
            )
        case "changes_accepted":
            return t(N_("going on with changes: {message}"), message=_clean(_changes(event)))
        case "start" if _whole(event, "resumed_from"):
            return t(N_("resumed from step {step}"), step=_whole(event, "resumed_from"))
        case _:
            return None


def stalled(event: Event) -> str:
    """That a run gets nowhere: since when, where, and whether it says at least that it lives."""
    values = {
        "time": units.seconds(event.number("seconds") or 0),
        "phase": t(PHASES.get(event.text("phase"), event.text("phase"))),
        "step": _whole(event, "step"),
    }
    if (event.model_extra or {}).get("silent"):
        return t(N_("stalled: not a word for {time} ({phase}, step {step}); its process is there"), **values)
    return t(N_("stalled: no progress for {time} ({phase}, step {step}); its process lives"), **values)


def ending(
    state: str,
    *,
    where: str,
    step: int,
    saved_step: int | None,
    code: str = "",
    message: str = "",
    places: Sequence[str] = (),
    remedy: str = "",
    resumable: bool = True,
) -> tuple[str, ...]:
    """The last lines of a run that was stopped, failed or died: what happened, what is safe, what to do."""
    safe = (
        t(N_("the last good checkpoint is step {step}"), step=saved_step)
        if saved_step is not None
        else t(N_("no checkpoint was saved"))
    )
    resume = (
        t(N_("go on with: advisor train --resume {run}"), run=inert(where))
        if resumable
        else t(N_("nothing of it can be resumed: begin again, in a new directory"))
    )
    match state:
        case "stopped":
            return (t(N_("stopped at step {step}; {safe}"), step=step, safe=safe), resume)
        case "error":
            helps = [f"{t(N_('help'))}: {_clean(remedy)}"] if remedy else []
            named = [f"     = {_clean(place)}" for place in places[:SHOWN_PLACES]]
            kept = (
                [f"     = {safe}"] if step or saved_step is not None else []
            )  # else there was nothing to lose
            return (_error(code, _clean(message)), f"  --> {inert(where)}", *named, *kept, *helps)
        case "died":
            printed = [f"     | {inert(said)}" for said in message.splitlines()[-LAST_LINES:]]
            head = _error(code, t(DEATHS.get(code, DEATHS["R0400"])))
            return (head, f"  --> {inert(where)}", *printed, f"     = {safe}", resume)
        case _:
            return ()


def retried(changes: Mapping[str, tuple[object, object]], why: str) -> str:
    """What was changed for a run that ran out of memory, and that it goes on."""
    said = ", ".join(f"{key} = {after} ({before})" for key, (before, after) in changes.items())
    return t(N_("going on with {changes}: {why}"), changes=inert(said), why=why)


def filled(sentence: str, values: Mapping[str, object]) -> str | None:
    """Say a sentence that came in a file: translated, its plain places filled; None if it has others, or is none.

    Not with `str.format`: a template from a file could ask for a width of a billion, or for attributes.
    """
    said = t(sentence) if sentence else ""
    if not said or "{" in PLACE.sub("", said):
        return None
    return PLACE.sub(lambda place: str(values.get(place[1], place[0])), said)


PLACE = re.compile(r"\{(\w+)(?:!r)?\}")
DEATHS = {
    "R0400": N_("the trainer died without a last word; this is what it printed"),
    "R0401": N_("the trainer was killed from outside; most often the system does so when memory runs out"),
}
SHOWN_PLACES = 8
"""Rows that are named; the report and the events have more."""
LAST_LINES = 8
"""The end of what a dead process printed; the rest is in its stdout.log."""


def _error(code: str, message: str) -> str:
    return f"{t(N_('error'))}[{inert(code) or 'B0001'}]: {message}"


def _memory(event: Event) -> str:
    """What was asked for and what was there, as far as the device said; else the advice."""
    requested, held, free = (event.number(name) for name in ("requested", "alloc", "free"))
    if requested is None or held is None or free is None:
        return _clean(t(event.text("advice")) if event.text("advice") else event.text("msg"))
    return t(
        N_("{requested} more were asked for; {held} were in use, {free} free, {predicted} predicted"),
        requested=units.gib(requested),
        held=units.gib(held),
        free=units.gib(free),
        predicted=units.gib(event.number("predicted") or 0),
    )


def _whole(event: Event, name: str) -> int:
    return int(event.number(name) or 0)


def _clean(said: str) -> str:
    return " ".join(inert(said).split())


def _changes(event: Event) -> str:
    return "; ".join(f"{name}: {value}" for name, value in (event.model_extra or {}).items())
