"""Bins, their order, and flat rows that learn what their documents would learn one by one."""

import pytest
import tiny
import torch
from hypothesis import given
from hypothesis import strategies as st

from recipes.plan import Schedule
from trainers import batches, data
from trainers.policy.forward import choose, packed_nll, packed_rows, stock_nll
from trainers.policy.head import weighted_nll

CPU = torch.device("cpu")
CAPACITY = 40
lengths = st.lists(st.integers(1, CAPACITY), min_size=1, max_size=60)


def schedule(**changes):
    return Schedule(**{"epochs": 2.0, "micro_batch_tokens": CAPACITY, "learning_rate": 1e-3, **changes})


def examples(count=9):
    return [data.masked(tiny.tokenizer(), row) for row in tiny.rows(count)]


@given(lengths)
def test_each_document_is_in_one_bin_and_no_bin_overflows(lengths):
    bins = batches.best_fit_decreasing(lengths, range(len(lengths)), CAPACITY)

    assert sorted(i for one in bins for i in one) == list(range(len(lengths)))
    assert max(sum(lengths[i] for i in one) for one in bins) <= CAPACITY


def test_a_document_that_fits_nowhere_is_an_error():
    with pytest.raises(ValueError, match="1 to 40 fit"):
        batches.best_fit_decreasing([41], [0], CAPACITY)


@given(lengths, st.integers(0, 3))
def test_the_order_follows_from_seed_and_epoch_and_the_fullest_bin_is_first(lengths, epoch):
    bins = batches.epoch_bins(lengths, schedule(seed=5), epoch)
    fill = [sum(lengths[i] for i in one) for one in bins]

    assert bins == batches.epoch_bins(lengths, schedule(seed=5), epoch)
    assert len(bins) == len(batches.epoch_bins(lengths, schedule(seed=6), epoch + 1))
    assert epoch or fill[0] == max(fill)


def test_a_resumed_run_meets_the_steps_that_are_left():
    some, plan = examples(), schedule(accumulation=2)
    whole = list(batches.groups(some, plan, CPU))
    rest = list(batches.groups(some, plan, CPU, after=3))

    assert [group.step for group in rest] == [group.step for group in whole[3:]]
    assert [group.places for group in rest] == [group.places for group in whole[3:]]


def test_max_steps_ends_a_run_and_parts_of_an_epoch_count():
    some = [len(example.ids) for example in examples()]
    each = batches.steps_of_epoch(some, schedule(), 1)

    assert batches.steps_of_run(some, schedule(epochs=0.5), 1) == -(-each // 2)
    assert batches.steps_of_run(some, schedule(max_steps=2), 1) == 2


@pytest.mark.parametrize("processes", [2, 3])
def test_every_process_brings_as_many_micro_batches_and_together_they_are_the_step(processes):
    some, plan = examples(11), schedule(accumulation=2)
    ranks = [
        list(batches.groups(some, plan, CPU, processes=processes, rank=rank)) for rank in range(processes)
    ]

    for together in zip(*ranks, strict=True):
        assert len({len(group.batches) for group in together}) == 1
        assert sum(batch.count for group in together for batch in group.batches) == together[0].count


def test_a_packed_row_learns_what_its_documents_learn_one_by_one():
    model, some = tiny.model(), examples()
    row = batches.flatten(some, CPU)
    with packed_rows(model):
        packed = packed_nll(model, row)
        packed.backward()
    together = {name: p.grad.clone() for name, p in model.named_parameters()}
    model.zero_grad()
    one_by_one = sum(
        torch.nn.functional.cross_entropy(
            model(torch.tensor([example.ids])).logits[0, :-1],
            torch.tensor([i if t else -100 for i, t in zip(example.ids, example.trained, strict=True)])[1:],
            reduction="sum",
        )
        for example in some
    )
    one_by_one.backward()

    torch.testing.assert_close(packed, one_by_one, rtol=1e-6, atol=1e-6)
    for name, p in model.named_parameters():
        torch.testing.assert_close(together[name], p.grad, rtol=1e-4, atol=1e-5)


def test_documents_of_a_packed_row_do_not_see_each_other():
    model, (first, second) = tiny.model(), examples(2)
    alone = batches.flatten([second], CPU)
    changed = data.Example(first.ids[::-1], first.trained, first.row)
    with packed_rows(model), torch.no_grad():
        losses = [float(packed_nll(model, batches.flatten([one, second], CPU)) - packed_nll(model, batches.flatten([one], CPU))) for one in (first, changed)]  # fmt: skip
        own = float(packed_nll(model, alone))

    assert losses == pytest.approx([own, own], rel=1e-5)


def test_the_slow_way_gives_the_same_loss():
    model, row = tiny.model(), batches.flatten(examples(), CPU)
    with torch.no_grad(), packed_rows(model):
        fast = packed_nll(model, row)

    torch.testing.assert_close(fast, stock_nll(model, row).detach(), rtol=1e-6, atol=1e-6)


def test_no_mask_is_built_for_a_packed_row(monkeypatch):
    import transformers.masking_utils as masks

    def refuse(*_, **__):
        raise AssertionError("a mask")

    model, row = tiny.model(), batches.flatten(examples(), CPU)
    for name in ("sdpa_mask", "eager_mask"):
        monkeypatch.setattr(masks, name, refuse)
    monkeypatch.setattr(masks, "find_packed_sequence_indices", refuse)
    with packed_rows(model), torch.no_grad():
        assert packed_nll(model, row) > 0


def test_packed_attention_refuses_a_padded_batch_instead_of_ignoring_it():
    model = tiny.model()

    with packed_rows(model), pytest.raises(TypeError, match="cu_seq_lens_q"):
        model(torch.ones(2, 4, dtype=torch.long))


@pytest.mark.parametrize("trained_head", [False, True])
@pytest.mark.parametrize("dtype, close", [(torch.float32, 1e-5), (torch.bfloat16, 3e-2)])
def test_the_chunked_head_is_cross_entropy_on_all_logits(trained_head, dtype, close):
    torch.manual_seed(1)
    hidden = torch.randn(37, 16, dtype=dtype, requires_grad=True)
    weight = torch.randn(50, 16, dtype=dtype, requires_grad=trained_head)
    target = torch.randint(50, (37,))
    mine = weighted_nll(hidden, weight, target, rows=8)
    theirs = torch.nn.functional.cross_entropy((hidden @ weight.t()).float(), target, reduction="sum")
    wanted = [hidden, weight] if trained_head else [hidden]
    ours, stock = torch.autograd.grad(mine * 0.3, wanted), torch.autograd.grad(theirs * 0.3, wanted)

    torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-3)
    for a, b in zip(ours, stock, strict=True):
        assert float((a - b).norm() / b.norm()) < close


def test_a_row_without_targets_adds_nothing_and_still_has_gradients():
    model = tiny.model()
    row = batches._silent(batches.flatten(examples(2), CPU))
    with packed_rows(model):
        loss = packed_nll(model, row)
        loss.backward()

    assert loss.item() == 0
    assert all(not p.grad.any() for p in model.parameters() if p.grad is not None)


def test_an_architecture_that_scales_its_logits_goes_the_slow_way():
    from transformers import GraniteConfig, GraniteForCausalLM

    small = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
    model = GraniteForCausalLM(GraniteConfig(vocab_size=64, logits_scaling=3.0, **small))
    path = choose(model)

    assert path.nll is stock_nll
    assert "relative error" in path.why


def test_an_architecture_that_mixes_tokens_outside_attention_goes_the_slow_way():
    from transformers import MambaConfig, MambaForCausalLM

    model = MambaForCausalLM(MambaConfig(vocab_size=64, hidden_size=32, num_hidden_layers=1, state_size=4))

    assert choose(model).nll is stock_nll


def test_a_plain_llama_goes_the_fast_way():
    assert choose(tiny.model()).why == ""
