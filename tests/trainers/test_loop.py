"""The loop: one division, the guard before the step, the rate of each step."""

from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import tiny
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from recipes.exits import Exit
from recipes.plan import Full, Layout, Lora, Schedule
from trainers import batches, data
from trainers.adapt import adapt
from trainers.engine.accelerated import Accelerated
from trainers.engine.layout import check
from trainers.errors import NotFinite, WrongLaunch
from trainers.loop import Learner, Loss, train
from trainers.optim import adamw, learning_rate
from trainers.policy import causal
from trainers.policy.forward import packed_nll, packed_rows
from trainers.run import session
from trainers.run.control import Wish

CPU = torch.device("cpu")


def schedule(**changes):
    return Schedule(**{"epochs": 1.0, "micro_batch_tokens": 60, "learning_rate": 1e-2, **changes})


def learned(model, plan, *, spoil=None, rank=0, processes=1, look=lambda _: True, optimizer=None):
    """Train `model`, and give the steps; `spoil` may change the loss of a step."""
    for steps in windows(model, plan, spoil, rank, processes, look, optimizer):
        yield from steps


def windows(model, plan, spoil=None, rank=0, processes=1, look=lambda _: True, optimizer=None, watch=None):  # fmt: skip
    engine = Accelerated(Layout(device="cpu", threads=1))
    some = [data.masked(tiny.tokenizer(), row) for row in tiny.rows(12)]
    calls = []

    def objective(batch):
        calls.append(batch)
        total = packed_nll(causal(model), batch)
        return Loss(spoil(len(calls), total) if spoil else total, batch.count)

    steps = batches.steps_of_run([len(e.ids) for e in some], plan, processes)
    groups = list(batches.groups(some, plan, CPU, processes=processes, rank=rank))
    learner, optimizer = engine.prepare(Learner(model, objective), optimizer or adamw(model, plan))
    rate = learning_rate(plan, steps)
    settings = {"learning_rate": rate, "clip_norm": plan.clip_norm, "look": look}
    with packed_rows(causal(model)), watch or nullcontext():
        yield from train(learner, groups, optimizer, engine, **settings)


def weights(model):
    return {name: weight.detach().clone() for name, weight in model.named_parameters()}


def test_uneven_micro_batches_weigh_what_one_big_batch_weighs():
    small, big = tiny.model(), tiny.model()
    (many,) = learned(small, schedule(micro_batch_tokens=60, accumulation=100))
    (one,) = learned(big, schedule(micro_batch_tokens=100_000))

    assert many.loss == pytest.approx(one.loss, rel=1e-6)
    assert many.grad_norm == pytest.approx(one.grad_norm, rel=1e-5)
    assert many.trained_tokens == one.trained_tokens
    for name, weight in small.named_parameters():
        torch.testing.assert_close(weight, big.get_parameter(name), rtol=1e-3, atol=1e-5)


def test_a_loss_that_is_not_a_number_stops_before_the_step_and_names_the_rows():
    model, calls = tiny.model(), []

    def spoil(call, total):
        calls.append(weights(model))
        return total * float("nan") if call == 3 else total

    run = learned(model, schedule(), spoil=spoil)
    last = [next(run), next(run)][-1]
    with pytest.raises(NotFinite) as caught:
        next(run)

    assert caught.value.exit_code is Exit.GUARD
    assert caught.value.values["step"] == 3
    assert caught.value.values["last"] == f"{last.loss:.4f}"
    assert "data.jsonl:" in str(caught.value.values["rows"])
    assert all(torch.equal(weight, calls[-1][name]) for name, weight in model.named_parameters())


def test_an_infinite_gradient_behind_a_finite_loss_stops_too():
    model = tiny.model()
    before = weights(model)

    def spoil(_, total):
        total.register_hook(lambda up: up * float("inf"))
        return total * 1

    with pytest.raises(NotFinite, match=r"gradient norm (inf|nan)"):
        next(learned(model, schedule(), spoil=spoil))
    assert all(torch.equal(weight, before[name]) for name, weight in model.named_parameters())


def test_without_the_guard_a_step_that_is_not_a_number_reaches_the_weights(monkeypatch):
    monkeypatch.setattr("trainers.loop._hold", lambda *_: False)
    model = tiny.model()
    with pytest.raises(NotFinite):
        next(learned(model, schedule(), spoil=lambda _, total: total * float("nan")))

    assert any(torch.isnan(weight).any() for weight in model.parameters())


def test_steps_that_are_looked_at_together_are_the_steps_that_are_looked_at_one_by_one():
    alone, together = tiny.model(), tiny.model()
    each = list(learned(alone, schedule()))
    three = list(windows(together, schedule(), look=lambda step: step % 3 == 0))

    assert [len(steps) for steps in three] == [3] * (len(each) // 3) + [len(each) % 3] * bool(len(each) % 3)
    assert [(s.number, s.loss, s.grad_norm) for w in three for s in w] == [
        (s.number, s.loss, s.grad_norm) for s in each
    ]
    assert all(torch.equal(w, together.get_parameter(n)) for n, w in alone.named_parameters())


@pytest.mark.parametrize("on_the_device", [True, False], ids=["fused", "found_inf is not read"])
def test_between_two_looks_a_step_that_is_not_a_number_holds_the_weights_and_those_after_it(on_the_device):
    model, before = tiny.model(), {}

    def spoil(call, total):
        if call == 3:
            before.update(weights(model))
        return total * float("nan") if call == 3 else total

    move = None if on_the_device else torch.optim.AdamW(model.parameters(), foreach=False)
    run = windows(model, schedule(), spoil=spoil, look=lambda step: step == 5, optimizer=move)
    told = next(run)
    with pytest.raises(NotFinite) as caught:
        next(run)

    assert [step.number for step in told] == [1, 2]
    assert (caught.value.values["step"], caught.value.values["last"]) == (3, f"{told[-1].loss:.4f}")
    assert all(torch.equal(weight, before[name]) for name, weight in model.named_parameters())


class Waiting(TorchDispatchMode):
    """Counts what would make the host wait for a device: a number or a shape that depends on what was computed."""

    WAITS = ("_local_scalar_dense", "nonzero", "masked_select", "equal", "unique")

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        masks = func.overloadpacket is torch.ops.aten.index and any(
            i is not None and i.dtype == torch.bool for i in args[1]
        )
        self.count += masks or func.overloadpacket.__name__ in self.WAITS
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("adaptation", [Full(), Lora(rank=4)], ids=["full", "lora"])
def test_between_two_looks_nothing_waits_for_the_device(adaptation, monkeypatch):
    model, waiting = adapt(tiny.model(), adaptation, seed=0).model, Waiting()
    read, looks = torch.Tensor.tolist, []
    monkeypatch.setattr(torch.Tensor, "tolist", lambda tensor: looks.append(tensor.dtype) or read(tensor))
    told = list(windows(model, schedule(accumulation=2), look=lambda step: step == 2, watch=waiting))

    assert waiting.count == 0
    assert looks.count(torch.float32) == len(told) == 2


def test_dropout_of_a_step_follows_from_its_number_and_not_from_what_was_drawn_before():
    def drawn():
        seen = []

        def look(_, total):
            seen.append(torch.rand(1).item())
            return total

        list(learned(tiny.model(), schedule(), spoil=look))
        return seen

    first = drawn()
    torch.rand(5)

    assert drawn() == first
    assert len(set(first)) == len(first)


@pytest.mark.parametrize("decay", ["cosine", "linear", "constant"])
def test_the_rate_rises_to_its_peak_falls_and_is_never_zero(decay):
    rate = learning_rate(schedule(decay=decay, warmup_share=0.2), 20)
    rates = [rate(step) for step in range(1, 21)]

    assert rates[:5] == pytest.approx([0.0025, 0.005, 0.0075, 0.01, 0.01])
    assert rates[4:] == sorted(rates[4:], reverse=True)
    assert min(rates) > 0


def test_vectors_are_not_decayed():
    groups = adamw(tiny.model(), schedule(weight_decay=0.3)).param_groups

    assert {(group["weight_decay"], p.ndim > 1) for group in groups for p in group["params"]} == {
        (0.3, True),
        (0.0, False),
    }


def test_another_number_of_processes_than_the_recipe_names_is_refused(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")

    with pytest.raises(WrongLaunch, match=r"wants 1 process\(es\), and 2 started"):
        check(Layout(device="cpu"))


def test_a_gpu_is_looked_at_now_and_then_and_wherever_something_hangs_on_a_step():
    def looked_at(wish, device="cuda", processes=1):
        engine = SimpleNamespace(device=torch.device(device), processes=processes)
        control = SimpleNamespace(wish=lambda: wish)
        course = SimpleNamespace(
            engine=engine,
            schedule=schedule(save_every_steps=7, evaluate_every_steps=12),
            job=SimpleNamespace(control=control),
        )
        return [step for step in range(1, 25) if session._looks(course, step)]

    assert looked_at(Wish.NONE) == [7, 10, 12, 14, 20, 21, 24]
    assert looked_at(Wish.STOP) == looked_at(Wish.NONE, "cpu") == list(range(1, 25))
    assert looked_at(Wish.STOP, processes=2) == looked_at(Wish.NONE)  # processes look together
