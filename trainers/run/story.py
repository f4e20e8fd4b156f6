"""The story of a run, in order: load, tokenise, judge before, train, judge after, save, report."""

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Final

import torch
from torch import nn
from transformers.utils import logging as transformers_logging

from recipes.exits import Exit
from recipes.plan import Lora, Plan, Probe
from recipes.report import Report
from recipes.words import N_
from trainers import adapt, data
from trainers.checkpoints import divided, protocol
from trainers.checkpoints.storage import replace_file
from trainers.engine import Engine
from trainers.engine.begin import begin
from trainers.errors import Changed, OutOfMemory
from trainers.evaluate import Outcome, from_json, judge, to_json
from trainers.events import Log
from trainers.memory.peak import Peak
from trainers.policy import Policy, gears, is_beside_base, load
from trainers.policy.source import sum_of
from trainers.run import Job, tokens
from trainers.run.directory import write_marker
from trainers.run.equip import learner_of
from trainers.run.fingerprints import (
    changes,
    check_context,
    check_lengths,
    check_precision,
    check_rows,
    fingerprints,
    judged_on,
    same_steps,
    upgraded,
    versions,
)
from trainers.run.receipt import receipt, save_output, trained
from trainers.run.session import Learned, Rows, learn
from trainers.run.shortage import shortage

SCHEMA: Final = 1
"""Of `baseline.json`."""
BEFORE: Final = ("base", "prompt", "few_shot")
PROBED: Final = (*BEFORE, "context")
TELL_SECONDS: Final = 0.5
"""How often a long evaluation says how far it is."""
SAMPLES_TOLD: Final = 3


def run(job: Job[Plan]) -> int:
    """Tell the whole story of a recipe; 0 when the report is on the disk."""
    with _memory_told(job):
        plan = job.plan
        check_rows(plan.data, job.home)
        check_lengths(plan, str(job.files.recipe))
        check_precision(plan, str(job.files.recipe))
        gears.check(plan)
        _quiet()
        engine = begin(plan.layout)
        if job.resume and job.files.report.is_file():
            return _done(job)
        if engine.rank == 0:
            protocol.sweep(job.files.checkpoints)

        _phase(job, engine, "load")
        if kernel := gears.own_flash(plan, engine.device):
            _warn(job.log, "M0106", N_("attention runs on {kernel}, which is installed here"), kernel=kernel)
        peak = Peak(engine.device)
        policy = _loaded(job, engine)
        _held_against(job, policy)

        _phase(job, engine, "tokenize")
        rows = _tokenised(job, policy)
        job = _settled(job, policy, engine)

        _phase(job, engine, "evaluate")
        before = _kept_baseline(job)
        if before is None:
            before = _baseline(job, policy, rows, engine)
            if engine.divides_weights:  # it was divided as it was, and what is divided takes no adapters
                policy = _loaded(job, engine)

        learned = learn(job, policy, rows, engine, peak)
        _tell_policy(job.log, learned.policy)

        _phase(job, engine, "evaluate")
        after = _judged(job, learned.policy, learned.learner, rows, ("tuned",), engine)

        _phase(job, engine, "save")
        divided.settle(learned.policy.model, frozen=not is_beside_base(learned.policy), main=engine.rank == 0)
        engine.alone(partial(_saved, job, rows, learned, peak, engine, (*before, *after)))
        engine.leave()
        return _done(job)


def measure(job: Job[Probe]) -> int:
    """Judge a model as it is, with and without help; 0 when the report is on the disk."""
    with _memory_told(job):
        check_rows(job.plan.data, job.home)
        _quiet()
        engine = begin(job.plan.layout)

        _phase(job, engine, "load")
        policy = load(job.plan.model, job.home, engine.device, divided=engine.divides_weights)
        _tell_policy(job.log, policy)
        rows = _read(job)

        _phase(job, engine, "evaluate")
        learner = engine.divide(learner_of(policy))
        arms = _judged(job, policy, learner, rows, PROBED, engine)

        _phase(job, engine, "save")
        if engine.rank == 0:
            _write(job, receipt(job, engine, arms, None))
        engine.leave()
        return _done(job)


def _loaded(job: Job[Plan], engine: Engine) -> Policy:
    """The model as it comes, its way of rows proved unless weights are divided: then `learn` does it."""
    plan = job.plan
    return load(
        plan.model,
        job.home,
        engine.device,
        plan.adaptation,
        length_tokens=plan.data.length_tokens,
        divided=engine.divides_weights,
    )


def _held_against(job: Job[Plan], policy: Policy) -> None:
    """What the adaptation names, against the model: before it is judged, which takes long."""
    plan = job.plan
    beneath = isinstance(plan.adaptation, Lora) and plan.adaptation.beneath
    base = adapt.Base(plan.model.id, sum_of(policy.source)) if beneath else None
    adapt.check(policy.causal, plan.adaptation, home=job.home, base=base)


def _saved(
    job: Job[Plan], rows: Rows, learned: Learned, peak: Peak, engine: Engine, arms: Sequence[Outcome]
) -> None:
    """What was trained, and the receipt."""
    save_output(job.files, learned.policy)
    _write(job, receipt(job, engine, arms, trained(job, rows, learned, peak.quantity)))


def _read(job: Job[Plan] | Job[Probe]) -> Rows:
    """The rows of both files, as they are."""
    train, held_out = (
        data.read_rows(job.home / name) for name in (job.plan.data.train, job.plan.data.held_out)
    )
    return Rows(tuple(train), tuple(held_out))


def _tokenised(job: Job[Plan], policy: Policy) -> Rows:
    """The rows in tokens; what is left out of them is told, by place."""
    rows = _read(job)
    found, kept = tokens.examples(policy.tokenizer, rows.train, job.plan.data)
    if kept:
        text = N_("the tokens of these rows were kept from an earlier run")
        job.log.emit("note", code="D0204", msg=text, msgid=text, values={})
    data.check_lengths(found, job.plan.data)
    if found.dropped:
        _warn(
            job.log,
            "D0201",
            N_("{count} row(s) are longer than {limit} tokens and are not trained: {places}"),
            count=len(found.dropped),
            limit=job.plan.data.length_tokens,
            places=", ".join(found.dropped[:5]),
        )
    if found.cut:
        _warn(
            job.log,
            "D0203",
            N_("{count} row(s) are longer than {limit} tokens and are cut ({how}): {places}"),
            count=len(found.cut),
            limit=job.plan.data.length_tokens,
            how=job.plan.data.too_long,
            places=", ".join(found.cut[:5]),
        )
    if found.last_only:
        _warn(
            job.log,
            "D0202",
            N_("the chat template rewrites earlier answers: of {count} row(s) only the last one is trained"),
            count=len(found.last_only),
        )
    judged = rows.held_out[: job.plan.evaluation.rows]
    watched = data.examples(policy.tokenizer, judged, job.plan.data).kept
    learned_positions = getattr(job.plan.adaptation, "virtual_tokens", 0)
    room = policy.context_tokens and policy.context_tokens - learned_positions
    check_context([*found.kept, *watched], room, str(job.files.recipe))
    return replace(rows, learned=found.kept, watched=watched, dropped=len(found.dropped), cut=len(found.cut))


def _settled(job: Job[Plan], policy: Policy, engine: Engine) -> Job[Plan]:
    """Compare with what the run was started with, and write down what it goes on with.

    Raises:
        Changed: Something differs, and nobody said that this is wanted.
    """
    now, installed = fingerprints(job.plan, policy, engine), versions()
    before = job.marker.fingerprints
    differences = changes(before, now) if before else ()
    shared = same_steps(before, now) if before else False
    if differences and not (job.accept_changes or shared):
        raise Changed(differences, where=str(job.files.root))
    if differences:
        job.log.emit("changes_accepted", changes=list(differences))
        if engine.rank == 0:
            replace_file(job.files.recipe, job.recipe)
    if shared:
        text = N_("the same steps in other processes: sums are made in another order, so bits may differ")
        _warn(job.log, "R0203", text)
    if newer := upgraded(job.marker.versions, installed):
        text = N_("other versions than before, so bit-identity is not promised: {changes}")
        _warn(job.log, "R0201", text, changes="; ".join(newer))
    changed = (*job.marker.changes, *differences)
    marker = replace(job.marker, fingerprints=now, versions=installed, changes=changed)
    if engine.rank == 0:
        write_marker(job.files, marker)
    return replace(job, marker=marker)


def _kept_baseline(job: Job[Plan]) -> tuple[Outcome, ...] | None:
    """The arms without training, if an earlier attempt has judged them on the same."""
    try:
        kept = json.loads(job.files.baseline.read_bytes())
        if kept["of"] == judged_on(job.marker.fingerprints):
            return tuple(from_json(arm) for arm in kept["arms"])
    except (OSError, ValueError, KeyError, TypeError):
        pass  # not there, or not ours: judge anew
    return None


def _baseline(job: Job[Plan], policy: Policy, rows: Rows, engine: Engine) -> tuple[Outcome, ...]:
    """The arms without training: judged once, and kept on the disk."""
    arms = _judged(job, policy, engine.divide(learner_of(policy)), rows, BEFORE, engine)
    if engine.rank == 0:
        of = judged_on(job.marker.fingerprints)
        text = json.dumps(
            {"schema": SCHEMA, "of": of, "arms": [to_json(arm) for arm in arms]}, allow_nan=False
        )
        replace_file(job.files.baseline, text.encode())
    return arms


def _judged(
    job: Job[Plan] | Job[Probe],
    policy: Policy,
    learner: nn.Module,
    rows: Rows,
    names: Sequence[str],
    engine: Engine,
) -> tuple[Outcome, ...]:
    """Judge arms and tell what came out: the main process alone, or all together where weights are divided."""
    judging = partial(
        judge, policy, rows.held_out, rows.train, job.plan.evaluation, names, _telling(job, engine)
    )
    arms = engine.together(learner, judging) if engine.divides_weights else engine.alone(judging)
    for outcome in arms or ():
        metrics = {name: rate.value for name, rate in outcome.arm.scores.items()}
        nll = outcome.arm.nll.value if outcome.arm.nll else None
        job.log.emit("eval", arm=outcome.arm.name, metrics={**metrics, "nll": nll})
        for sample in outcome.arm.samples[:SAMPLES_TOLD]:
            job.log.emit("sample", arm=outcome.arm.name, prompt=sample.prompt, text=sample.got)
    return arms or ()


def _telling(job: Job[Plan] | Job[Probe], engine: Engine) -> Callable[[str, int, int], None]:
    """How far an evaluation is, not too often; and the place where it can be stopped, by all who judge."""
    log, control, told = job.log, job.control, 0.0

    def far(arm: str, done: int, rows: int) -> None:
        nonlocal told
        control.check(together=engine.agree if engine.divides_weights else None)
        if done == rows or time.monotonic() - told >= TELL_SECONDS:
            told = time.monotonic()
            log.emit("progress", phase="evaluate", arm=arm, done=done, of=rows)

    return far


def _phase(job: Job[Plan] | Job[Probe], engine: Engine, name: str) -> None:
    """Begin a phase, unless somebody wished to end before."""
    job.control.check(together=engine.agree)
    job.log.emit("phase", name=name)


def _tell_policy(log: Log, policy: Policy) -> None:
    if policy.fallback:
        text = N_("this architecture is trained document by document, which is slower: {reason}")
        _warn(log, "M0101", text, reason=policy.fallback)
    if policy.has_balancing_loss:
        text = N_("a mixture of experts: the answers alone are trained, without the router's balancing loss")
        _warn(log, "M0103", text)
    if policy.own_template:
        _warn(log, "M0102", N_("the model has no chat template: a plain one is used and saved with it"))


def _warn(log: Log, code: str, text: str, **values: str | int) -> None:
    log.emit("warn", code=code, msg=text.format(**values), msgid=text, values=values)


def _write(job: Job[Plan] | Job[Probe], report: Report) -> None:
    replace_file(job.files.report, report.model_dump_json(indent=1).encode())


def _done(job: Job[Plan] | Job[Probe]) -> int:
    """The last line: everything that was asked for is on the disk."""
    job.log.emit("done", exit=Exit.OK, report=job.files.report.name)
    return Exit.OK


def _quiet() -> None:
    """Progress bars have no place in a log; what matters of loading is an event."""
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]  # not annotated


@contextmanager
def _memory_told(job: Job[Plan] | Job[Probe]) -> Iterator[None]:
    """Turn every way of running out of memory into one failure, with the facts and with advice."""
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
        found = shortage(error)
        if found is None:
            raise
    else:
        return
    # outside of the handler, where the traceback no longer keeps the tensors of the step alive
    advice = N_("lower schedule.micro_batch_tokens, set schedule.checkpointing = true, or take an NF4 base")
    planned = job.plan.predicted if isinstance(job.plan, Plan) else None
    job.log.emit(
        "oom",
        advice=advice,
        **job.log.now(),
        requested=found.requested,
        alloc=found.alloc,
        reserved=found.reserved,
        free=found.free,
        predicted=planned.peak_bytes if planned else None,
    )
    raise OutOfMemory(N_("there is not enough memory: {reason}"), remedy=advice, reason=found.reason)
