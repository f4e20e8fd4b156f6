"""The training of a run: from the last checkpoint, if there is one, to the last step."""

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Final

import torch
from torch import nn

from recipes.plan import Plan, Schedule, digest
from recipes.rows import Row
from recipes.words import N_
from trainers import batches
from trainers.adapt.adapters import Base
from trainers.checkpoints import protocol
from trainers.checkpoints.protocol import Contents, Progress
from trainers.data import Example
from trainers.engine import Engine
from trainers.errors import NoCheckpoint
from trainers.loop import Step, train
from trainers.memory.peak import Peak
from trainers.memory.resident import rss
from trainers.optim import begin_anew, learning_rate
from trainers.policy import Policy
from trainers.policy.source import sum_of
from trainers.run import Job, method
from trainers.run.control import LOOK_SECONDS, Stopped, Wish
from trainers.run.equip import equip
from trainers.run.room import check_room

LOOK_STEPS: Final = 10
"""How often, at least, a GPU is asked how the steps went; until then it never waits for the host."""


@dataclass(frozen=True, slots=True)
class Rows:
    """The rows of a run: as they are judged, and in tokens.

    `watched` are held-out rows whose loss is looked at while training. Of the rows that were too long, `dropped`
    counts those that were left out, `cut` those of which something is trained.
    """

    train: tuple[Row, ...]
    held_out: tuple[Row, ...]
    learned: tuple[Example, ...] = ()
    watched: tuple[Example, ...] = ()
    dropped: int = 0
    cut: int = 0


@dataclass(frozen=True, slots=True)
class Learned:
    """What the training left behind; parameters of an NF4 base are counted as what they stand for."""

    policy: Policy
    learner: nn.Module
    progress: Progress
    held_out_loss: float | None
    trainable: int
    parameters: int


@dataclass(frozen=True, slots=True)
class _Course:
    """What stays the same while training."""

    job: Job[Plan]
    policy: Policy
    learner: nn.Module
    optimizer: torch.optim.Optimizer
    engine: Engine
    peak: Peak
    watched: tuple[Example, ...]
    steps: int

    @property
    def schedule(self) -> Schedule:
        """How the weights move."""
        return self.job.plan.schedule


def learn(job: Job[Plan], policy: Policy, rows: Rows, engine: Engine, peak: Peak) -> Learned:
    """Adapt the model, go on from the newest good checkpoint, and train to the last step.

    Raises:
        NotFinite: A loss, a gradient or a weight is not a number.
        SaveFailed: A checkpoint could not be saved.
        Stopped: Somebody wished so; the present step is saved.
    """
    plan, schedule = job.plan, job.plan.schedule
    parameters = policy.causal.num_parameters()
    base = Base(plan.model.id, sum_of(policy.source))
    equipped = equip(plan, job.home, policy, base, engine)
    for note in equipped.adapted.notes:
        job.log.emit("warn", code="T0100", msg=note, msgid=note, values={})
    if equipped.left:
        text = N_("these layers keep the library's functions, which hold more for the backward: {kinds}")
        values = {"kinds": ", ".join(equipped.left)}
        job.log.emit("warn", code="M0104", msg=text.format(**values), msgid=text, values=values)
    policy, learner, optimizer = equipped.policy, equipped.learner, equipped.optimizer
    lengths = [len(example.ids) for example in rows.learned]
    steps = batches.steps_of_run(lengths, schedule, engine.processes)
    course = _Course(job, policy, learner, optimizer, engine, peak, rows.watched, steps)
    progress = _restored(course)
    if engine.rank == 0:
        there = protocol.count(job.files.checkpoints)
        check_room(plan, job.files.root, policy, optimizer, there=there)
    _begin(course, progress)
    job.log.emit("packing", **asdict(batches.packing(lengths, schedule)))
    groups = batches.groups(
        rows.learned,
        schedule,
        engine.device,
        processes=engine.processes,
        rank=engine.rank,
        after=progress.step,
    )
    peak.start()
    with policy.as_trained():
        for done in train(
            equipped.learner,
            groups,
            optimizer,
            engine,
            learning_rate=learning_rate(schedule, steps),
            clip_norm=schedule.clip_norm,
            seed=schedule.seed,
            last_loss=progress.last_loss,
            look=partial(_looks, course),
        ):
            progress = _after(course, done, progress)
        held_out_loss = _watched_loss(course)
    policy.model.eval()
    return Learned(policy, learner, progress, held_out_loss, equipped.adapted.trainable, parameters)


def _begin(course: _Course, progress: Progress) -> None:
    """Say `start` again, now that the number of steps is known."""
    job = course.job
    job.log.emit(
        "start",
        steps=course.steps,
        method=method(job.plan),
        model=job.plan.model.id,
        recipe_sha=digest(job.plan),
        pid=job.marker.pid,
        host=job.marker.host,
        resumed_from=progress.step or None,
    )
    if course.engine.device.type == "cpu":
        for wish in _idle(course.schedule):
            _warn(course, "T0103", N_("{wish} has no effect on a CPU: there is no other memory"), wish=wish)
    job.control.check(progress.step, course.engine.agree)
    job.log.emit("phase", name="train")


def _idle(schedule: Schedule) -> Iterator[str]:
    """What a recipe asks for that only a GPU can do."""
    if schedule.checkpointing and schedule.checkpointing_offload:
        yield "schedule.checkpointing_offload"
    if schedule.optimizer == "paged_adamw_8bit":
        yield 'schedule.optimizer = "paged_adamw_8bit"'


def _restored(course: _Course) -> Progress:
    """How far the run is: the newest checkpoint that verifies, or the beginning.

    Raises:
        NoCheckpoint: There are some, and none is whole.
    """
    found = protocol.newest(course.job.files.checkpoints)
    for why in found.skipped:
        text = N_("a checkpoint was skipped: {why}")
        course.job.log.emit("warn", code="R0202", msg=text.format(why=why), msgid=text, values={"why": why})
    if found.checkpoint is None and found.skipped:
        raise NoCheckpoint(
            N_("no checkpoint is whole"),
            remedy=N_("start again in another directory; what is wrong with each is in events.jsonl"),
            where=str(course.job.files.checkpoints),
        )
    if found.checkpoint is None:
        return Progress()
    protocol.restore(found.checkpoint, course.policy.model, course.optimizer)
    if course.job.accept_changes and (forgotten := begin_anew(course.optimizer)):
        text = N_("another optimizer than before: the moments of {count} weight(s) begin anew")
        _warn(course, "T0102", text, count=forgotten)
    return found.checkpoint.progress


def _looks(course: _Course, step: int) -> bool:
    """Whether the host waits for the device after `step`: where something hangs on it, and every few steps."""
    schedule = course.schedule
    return (
        course.engine.device.type == "cpu"  # where there is nobody to wait for
        or _due(step, LOOK_STEPS)
        or _due(step, schedule.save_every_steps)
        or _due(step, schedule.evaluate_every_steps)
        or (course.engine.processes == 1 and course.job.control.wish() is not Wish.NONE)
    )


def _after(course: _Course, steps: Sequence[Step], progress: Progress) -> Progress:
    """Everything that hangs on steps: tell them, and after the last look at held-out rows, obey, save."""
    for step in steps:
        progress = _advanced(progress, step, course.peak.read())
        _tell(course, step, progress)
        if progress.trend.risen_at[-1:] == (step.number,):
            text = N_("the loss rises: {mean} on average, after {lowest} at its lowest")
            trend = progress.trend
            _warn(course, "T0101", text, mean=f"{trend.mean:.3f}", lowest=f"{trend.lowest or 0:.3f}")
    wish = _wished(course, step.number)
    last = step.number == course.steps
    if wish is Wish.EVALUATE or (_due(step.number, course.schedule.evaluate_every_steps) and not last):
        _watch(course, step.number)
    if wish >= Wish.STOP or last or _due(step.number, course.schedule.save_every_steps):
        _save(course, progress)
    if wish >= Wish.STOP:
        raise Stopped(wish, course.job.control.reason(wish), step.number)
    return progress


def _due(step: int, every: int) -> bool:
    return step % every == 0


def _advanced(progress: Progress, step: Step, peak_bytes: int) -> Progress:
    return replace(
        progress,
        step=step.number,
        seconds=progress.seconds + step.seconds,
        tokens=progress.tokens + step.tokens,
        trained_tokens=progress.trained_tokens + step.trained_tokens,
        first_loss=step.loss if progress.first_loss is None else progress.first_loss,
        last_loss=step.loss,
        trend=progress.trend.after(step.number, step.loss),
        peak_bytes=max(progress.peak_bytes, peak_bytes),
    )


def _warn(course: _Course, code: str, text: str, **values: str | int) -> None:
    course.job.log.emit("warn", code=code, msg=text.format(**values), msgid=text, values=values)


def _tell(course: _Course, step: Step, progress: Progress) -> None:
    left = course.steps - step.number
    course.job.log.emit(
        "step",
        step=step.number,
        loss=step.loss,
        lr=step.learning_rate,
        grad_norm=step.grad_norm,
        tps=step.tokens / max(step.seconds, 1e-9),
        eta=left * progress.seconds / step.number,
        rss=rss(),
        **_gpu_memory(course.engine.device),
    )


def _gpu_memory(device: torch.device) -> dict[str, int]:
    """What only a GPU has; a field that is not there is not zero."""
    if device.type != "cuda":
        return {}
    return {
        "vram": torch.cuda.memory_allocated(device),
        "vram_peak": torch.cuda.max_memory_allocated(device),
    }


def _wished(course: _Course, step: int) -> Wish:
    """What all processes do after this step; a pause lasts in here."""
    control, log = course.job.control, course.job.log
    main = course.engine.rank == 0
    wish = Wish(course.engine.agree(control.wish()))
    if wish is Wish.PAUSE:
        log.emit("paused", step=step, reason="pause")
        while (
            wish is Wish.PAUSE
        ):  # all ask again and again: nobody waits longer for another than networks allow
            time.sleep(LOOK_SECONDS)
            wish = Wish(course.engine.agree(control.wish()))
        log.emit("resumed", step=step, reason="pause")
    if main:
        control.obeyed(wish)
    return wish


def _watch(course: _Course, step: int) -> None:
    """Tell the held-out loss."""
    loss = _watched_loss(course)
    if loss is not None:
        course.job.log.emit("eval", step=step, metrics={"held_out_loss": loss})


def _watched_loss(course: _Course) -> float | None:
    """Mean loss of the held-out rows, nats a token; None where there is nothing to tell, and not in every process."""
    engine, work = course.engine, partial(_loss_of_watched, course)
    return engine.together(course.learner, work) if engine.divides_weights else engine.alone(work)


@torch.no_grad()
def _loss_of_watched(course: _Course) -> float | None:
    model, room = course.policy.model, course.schedule.micro_batch_tokens
    was = model.training
    model.eval()
    total, count = 0.0, 0
    for batch in batches.rows(course.watched, room, course.engine.device):
        total, count = total + float(course.policy.loss(batch)), count + batch.count
    model.train(was)
    return total / count if count and math.isfinite(total) else None


def _save(course: _Course, progress: Progress) -> None:
    """Commit a checkpoint, say so, and only then let an old one go; all processes give what they hold."""
    job, engine = course.job, course.engine
    marker = job.marker
    contents = Contents(course.policy.model, course.optimizer, progress, marker.fingerprints, marker.versions)
    if engine.rank != 0:
        protocol.give(contents)
    saved = engine.alone(partial(protocol.commit, job.files.checkpoints, contents))
    if saved is not None:
        path = str(saved.path.relative_to(job.files.root))
        job.log.emit("checkpoint", step=progress.step, path=path, bytes=saved.bytes, sha256=saved.sha256)
        protocol.prune(job.files.checkpoints, course.schedule.keep_checkpoints)
