"""The loop: one division, the guard before the step, the rate of each step."""

import pytest
import tiny
import torch

from recipes.exits import Exit
from recipes.plan import Layout, Schedule
from trainers import batches, data
from trainers.engine.accelerated import Accelerated
from trainers.engine.layout import check
from trainers.errors import NotFinite, WrongLaunch
from trainers.loop import Learner, Loss, train
from trainers.optim import adamw, learning_rate
from trainers.policy.forward import packed_nll, packed_rows

CPU = torch.device("cpu")


def schedule(**changes):
    return Schedule(**{"epochs": 1.0, "micro_batch_tokens": 60, "learning_rate": 1e-2, **changes})


def learned(model, plan, *, spoil=None, rank=0, processes=1):
    """Train `model`, and give the steps; `spoil` may change the loss of a step."""
    engine = Accelerated(Layout(device="cpu", threads=1))
    some = [data.masked(tiny.tokenizer(), row) for row in tiny.rows(12)]
    calls = []

    def objective(batch):
        calls.append(batch)
        total = packed_nll(model, batch)
        return Loss(spoil(len(calls), total) if spoil else total, batch.count)

    steps = batches.steps_of_run([len(e.ids) for e in some], plan, processes)
    groups = batches.groups(some, plan, CPU, processes=processes, rank=rank)
    learner, optimizer = engine.prepare(Learner(model, objective), adamw(model, plan))
    with packed_rows(model):
        rate = learning_rate(plan, steps)
        yield from train(learner, groups, optimizer, engine, learning_rate=rate, clip_norm=plan.clip_norm)


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
    monkeypatch.setattr("trainers.loop.math.isfinite", lambda _: True)
    model = tiny.model()
    next(learned(model, schedule(), spoil=lambda _, total: total * float("nan")))

    assert any(torch.isnan(weight).any() for weight in model.parameters())


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
