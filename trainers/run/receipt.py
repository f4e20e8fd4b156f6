"""What a run leaves: the model it trained, and the receipt."""

import os
import shutil
from collections.abc import Sequence
from datetime import UTC, datetime

from safetensors import SafetensorError

from recipes.plan import Plan, Probe
from recipes.report import Duration, Memory, Report, Training
from trainers.checkpoints.storage import move_directory, sync_tree
from trainers.engine import Engine
from trainers.evaluate import Outcome, compare, speed, verdict
from trainers.memory.peak import Quantity
from trainers.policy import Policy, save
from trainers.run import Job, method
from trainers.run.directory import Files, cannot_write
from trainers.run.fingerprints import machine, versions
from trainers.run.session import Learned, Rows


def save_output(files: Files, policy: Policy) -> None:
    """Save what was trained, all at once: an adapter in peft's format, or the model; with its tokenizer.

    Raises:
        SaveFailed: The disk did not take it; the checkpoints are untouched.
    """
    part = files.root / f".output-{os.getpid()}"
    try:
        shutil.rmtree(part, ignore_errors=True)
        save(policy, part)
        sync_tree(part)
        shutil.rmtree(files.output, ignore_errors=True)  # of an attempt that was killed before its report
        move_directory(part, files.output)
    except (OSError, SafetensorError) as error:
        reason = error if isinstance(error, OSError) else OSError(0, str(error)[:200])
        raise cannot_write(files.root, reason) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)


def trained(job: Job[Plan], rows: Rows, learned: Learned, quantity: Quantity) -> Training:
    """What the training did, measured beside predicted."""
    progress, predicted = learned.progress, job.plan.predicted
    return Training(
        method=method(job.plan),
        steps=progress.step,
        trained_tokens=progress.trained_tokens,
        tokens=progress.tokens,
        rows=len({example.place for example in rows.learned}),
        rows_dropped=rows.dropped,
        rows_cut=rows.cut,
        first_loss=_told(progress.first_loss),
        last_loss=_told(progress.last_loss),
        held_out_loss=learned.held_out_loss,
        trainable_parameters=learned.trainable,
        parameters=learned.parameters,
        memory=Memory(
            quantity=quantity,
            measured_bytes=progress.peak_bytes,
            predicted_bytes=predicted.peak_bytes if predicted else None,
        ),
        duration=Duration(
            measured_seconds=progress.seconds,
            predicted_low=predicted.seconds_low if predicted else None,
            predicted_high=predicted.seconds_high if predicted else None,
        ),
        output=job.files.output.name,
        changes=tuple(job.marker.changes),
        risen_at=progress.trend.risen_at,
    )


def receipt(
    job: Job[Plan] | Job[Probe],
    engine: Engine,
    arms: Sequence[Outcome],
    training: Training | None,
) -> Report:
    """The receipt of a run, or of a measurement where nothing was trained."""
    primary = job.plan.evaluation.primary
    differences = compare(arms, primary)
    return Report(
        run=job.files.root.resolve().name,
        model=job.plan.model.id,
        primary=primary,
        held_out_rows=max(len(arm.groups) for arm in arms),
        arms=tuple(outcome.arm for outcome in arms),
        differences=differences,
        verdict=verdict(differences, primary) if training else "not_trained",
        training=training,
        versions=versions(),
        machine=machine(engine),
        forward_tokens_per_second=speed(arms),
        finished=datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
    )


def _told(loss: float | None) -> float:
    """A loss of a run that has taken a step."""
    if loss is None:
        raise ValueError("a run without a step has no loss to report")
    return loss
