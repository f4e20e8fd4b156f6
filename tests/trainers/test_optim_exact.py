"""Weights of 16 bit move as if they had 32, and moments of 8 bit are bitsandbytes' own."""

import pytest
import torch
from bitsandbytes.optim import AdamW8bit
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from recipes.plan import Schedule
from trainers import loop
from trainers.bits import joined, split
from trainers.optim import adamw, begin_anew, exact

SHAPES = ((37, 53), (64,), (5, 7, 11), (128, 64))


def schedule(**changes):
    settings = {"epochs": 1.0, "micro_batch_tokens": 8, "learning_rate": 2e-5, "weight_decay": 0.1}
    return Schedule(**{**settings, **changes})


class Weights(nn.Module):
    def __init__(self, dtype, seed=0):
        super().__init__()
        chance = torch.Generator().manual_seed(seed)
        self.all = nn.ParameterList(
            nn.Parameter(torch.randn(shape, generator=chance).to(torch.bfloat16).to(dtype))
            for shape in SHAPES
        )

    def learn(self, number):
        """Gradients of 16 bit, the same for whoever asks."""
        chance = torch.Generator().manual_seed(number)
        for weight in self.all:
            weight.grad = torch.randn(weight.shape, generator=chance).to(torch.bfloat16).to(weight.dtype)


def moved(model, plan, steps=12, spoilt=()):
    optimizer = adamw(model, plan)
    for number in range(1, steps + 1):
        model.learn(number)
        for settings in optimizer.param_groups:
            settings["lr"] = plan.learning_rate * number / steps
        optimizer.grad_scale, optimizer.found_inf = None, torch.tensor(float(number in spoilt))
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    return optimizer


def whole(model, optimizer):
    return [joined(weight.detach(), optimizer.state[weight]["low"]) for weight in model.all]


def nearest(whole_N):
    """The nearest bfloat16, ties away from zero: by looking at both neighbours."""
    below = (whole_N.view(torch.int32) & ~0xFFFF).view(torch.float32)
    above = ((whole_N.view(torch.int32) & ~0xFFFF) + 0x10000).view(torch.float32)
    down, up = (whole_N.double() - below.double()).abs(), (above.double() - whole_N.double()).abs()
    return torch.where(down < up, below, above).to(torch.bfloat16)


@given(
    st.lists(
        st.floats(width=32, allow_nan=False, allow_infinity=False, max_value=2.0**127, min_value=-(2.0**127)),
        min_size=1,
    )
)
def test_two_halves_are_the_whole_number_and_the_upper_one_is_the_nearest(numbers):
    master = torch.tensor([*numbers, 0.0, -0.0, 1.00390625, -1.00390625, 1e-45, -1e-45], dtype=torch.float32)
    weight, low = torch.empty_like(master, dtype=torch.bfloat16), torch.empty_like(master, dtype=torch.int16)

    split(master.clone(), weight, low)

    assert torch.equal(joined(weight, low).view(torch.int32), master.view(torch.int32))
    assert torch.equal(weight, nearest(master))


@pytest.mark.parametrize("piece", [exact.PIECE, 512])
def test_exact_weights_move_bit_for_bit_as_masters_of_32_bit_do(monkeypatch, piece):
    monkeypatch.setattr(exact, "PIECE", piece)
    ours, theirs = Weights(torch.bfloat16), Weights(torch.float32)

    optimizer = moved(ours, schedule(), spoilt=(5,))
    reference = moved(theirs, schedule(), spoilt=(5,))

    assert isinstance(reference, torch.optim.AdamW)
    for weight, own, master in zip(ours.all, whole(ours, optimizer), theirs.all, strict=True):
        assert torch.equal(own, master)
        assert torch.equal(weight, nearest(master.detach()))
        for kind in ("exp_avg", "exp_avg_sq", "step"):
            assert torch.equal(optimizer.state[weight][kind], reference.state[master][kind])


def test_without_the_missing_bits_small_steps_are_lost():
    start = [weight.clone() for weight in Weights(torch.bfloat16).all]
    with_bits, without = Weights(torch.bfloat16), Weights(torch.bfloat16)

    optimizer = moved(with_bits, schedule())
    moved(without, schedule(exact_weights=False))

    def share(now):
        return sum(int((a != b).sum()) for a, b in zip(now, start, strict=True)) / sum(
            a.numel() for a in start
        )

    assert share(whole(with_bits, optimizer)) > 0.999
    assert share(without.all) < 0.2


def test_a_step_that_is_not_finite_changes_no_bit():
    model = Weights(torch.bfloat16)
    optimizer = moved(model, schedule(), steps=3)
    before = [(w.detach().clone(), {k: v.clone() for k, v in optimizer.state[w].items()}) for w in model.all]

    model.learn(4)
    model.all[0].grad.fill_(float("nan"))
    optimizer.found_inf = torch.tensor(1.0)
    optimizer.step()

    for weight, (was, state) in zip(model.all, before, strict=True):
        assert torch.equal(weight, was)
        assert all(torch.equal(optimizer.state[weight][kind], value) for kind, value in state.items())


@pytest.mark.parametrize("chosen", ["adamw", "adamw_8bit"])
def test_the_loop_holds_either_form_before_a_step_that_is_not_finite(chosen):
    optimizer = adamw(Weights(torch.bfloat16), schedule(optimizer=chosen))

    assert loop._hold(optimizer, torch.tensor(0.0)) is False
    assert loop._hold(optimizer, torch.tensor(1.0)) is (chosen == "adamw_8bit")


@pytest.mark.parametrize("piece", [exact.PIECE, 512])
def test_moments_of_8_bit_are_those_of_bitsandbytes_on_masters_of_32_bit(monkeypatch, piece):
    monkeypatch.setattr(exact, "PIECE", piece)
    ours, theirs = Weights(torch.bfloat16), Weights(torch.float32)
    plan = schedule(optimizer="adamw_8bit", weight_decay=0.0)

    optimizer = moved(ours, plan)
    reference = AdamW8bit(theirs.parameters(), lr=plan.learning_rate, weight_decay=0.0)
    for number in range(1, 13):
        theirs.learn(number)
        reference.param_groups[0]["lr"] = plan.learning_rate * number / 12
        reference.step()

    large = len(SHAPES) - 1
    assert optimizer.state[ours.all[large]]["moment1"].dtype == torch.uint8
    assert torch.equal(whole(ours, optimizer)[large], theirs.all[large])
    kept = optimizer.state[ours.all[large]]
    assert torch.equal(kept["moment1"], reference.state[theirs.all[large]]["state1"])
    assert torch.equal(kept["scale2"], reference.state[theirs.all[large]]["absmax2"])
    for own, master in zip(
        whole(ours, optimizer), theirs.all, strict=True
    ):  # small ones: float32, another kernel
        torch.testing.assert_close(own, master.detach(), rtol=1e-6, atol=1e-7)


def test_weights_of_32_bit_need_no_help_and_get_torch_alone():
    assert type(adamw(Weights(torch.float32), schedule())) is torch.optim.AdamW
    assert type(adamw(Weights(torch.bfloat16), schedule(exact_weights=False))) is torch.optim.AdamW


def test_a_transposed_weight_moves_too():
    model = Weights(torch.bfloat16)
    model.all[0] = nn.Parameter(torch.ones(8, 4, dtype=torch.bfloat16).t())
    optimizer = adamw(model, schedule(learning_rate=0.5))
    for weight in model.all:
        weight.grad = torch.ones_like(weight)

    optimizer.step()

    assert (model.all[0] < 0.6).all()


def test_moments_that_may_be_paged_are_the_same_on_a_cpu():
    paged, kept = Weights(torch.bfloat16), Weights(torch.bfloat16)
    a = moved(paged, schedule(optimizer="paged_adamw_8bit"))
    b = moved(kept, schedule(optimizer="adamw_8bit"))

    assert all(torch.equal(x, y) for x, y in zip(whole(paged, a), whole(kept, b), strict=True))


def test_the_bytes_of_a_weight_are_those_that_the_estimate_counts():
    def per_weight(**changes):
        model = nn.ParameterList([nn.Parameter(torch.zeros(64, 128, dtype=torch.bfloat16))])
        optimizer = adamw(model, schedule(**changes))
        model[0].grad = torch.ones_like(model[0])
        optimizer.step()
        return (
            sum(value.nbytes for value in optimizer.state[model[0]].values() if value.ndim) / model[0].numel()
        )

    assert per_weight() == 2 + 4 + 4
    assert per_weight(exact_weights=False) == 2 + 2
    assert per_weight(optimizer="adamw_8bit") == 2 + 1 + 1 + 2 * 4 / 256
    assert per_weight(optimizer="adamw_8bit", exact_weights=False) == 1 + 1 + 2 * 4 / 256


def test_moments_of_another_form_are_forgotten_and_the_missing_bits_are_not():
    model = Weights(torch.bfloat16)
    before = moved(model, schedule())
    bits = whole(model, before)
    changed = adamw(model, schedule(optimizer="adamw_8bit"))
    for weight in model.all:
        changed.state[weight].update(before.state[weight])

    assert begin_anew(changed) == 1  # the one that is large enough for 8 bit
    assert all(torch.equal(a, b) for a, b in zip(whole(model, changed), bits, strict=True))
    assert begin_anew(changed) == 0

    plain = adamw(model, schedule(exact_weights=False))
    for weight in model.all:
        plain.state[weight].update(before.state[weight])

    assert begin_anew(plain) == len(SHAPES)
    model.learn(1)
    plain.step()
