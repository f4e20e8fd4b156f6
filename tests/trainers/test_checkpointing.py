"""Activations that are computed again give the same gradients, however many blocks are taken together."""

import pytest
import tiny
import torch
from torch.autograd.graph import saved_tensors_hooks

from recipes.errors import RecipeError
from recipes.plan import Full, Lora
from trainers import batches, data
from trainers.adapt import adapt, recompute

LAYERS = 5


def learned(adaptation, layers=None, *, dropout=0.0):
    """Gradients of one row, and how many bytes the forward kept."""
    model = tiny.model(num_hidden_layers=LAYERS, attention_dropout=dropout)
    model = adapt(model, adaptation, seed=0).model
    model.train()
    if layers:
        recompute(model.get_base_model() if hasattr(model, "get_base_model") else model, layers=layers)
    kept = {}

    def keep(tensor):
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    example = data.masked(tiny.tokenizer(), tiny.rows(1)[0])
    ids = batches.flatten([example] * 4, torch.device("cpu")).ids_1T
    torch.manual_seed(3)
    with saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = model(input_ids=ids, labels=ids, use_cache=False).loss
    loss.backward()
    return [w.grad for w in model.parameters() if w.requires_grad], sum(kept.values())


@pytest.mark.parametrize("layers", [1, 2, 3, 9])
@pytest.mark.parametrize("adaptation", [Full(), Lora(rank=4, dropout=0.2)], ids=["full", "lora"])
def test_gradients_are_the_same_bits_and_less_is_kept(adaptation, layers):
    plain, much = learned(adaptation, dropout=0.1)
    again, little = learned(adaptation, layers, dropout=0.1)

    assert all(torch.equal(a, b) for a, b in zip(plain, again, strict=True))
    assert little < much


def test_more_blocks_together_keep_fewer_activations():
    kept = [learned(Full(), layers)[1] for layers in (2, 3, 5)]

    assert kept == sorted(kept, reverse=True)
    assert kept[0] > kept[-1]


def test_judging_between_two_steps_disturbs_nothing():
    model = tiny.model(num_hidden_layers=LAYERS)
    recompute(model, layers=2)
    ids = torch.arange(6, 20)[None]
    model.eval()
    with torch.no_grad():
        before = model(input_ids=ids, use_cache=False).logits
    model.train()
    model(input_ids=ids, labels=ids, use_cache=False).loss.backward()
    model.eval()
    with torch.no_grad():
        assert torch.equal(model(input_ids=ids, use_cache=False).logits, before)


def test_a_model_whose_blocks_are_not_found_is_refused():
    model = tiny.model(num_hidden_layers=LAYERS)
    model.config.num_hidden_layers = 99

    with pytest.raises(RecipeError):
        recompute(model, layers=2)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("layers", [1, 2])
def test_activations_in_the_computers_memory_give_the_same_gradients(layers):
    ids = torch.arange(6, 200, device="cuda")[None]
    found = []
    for offload in (False, True):
        model = tiny.model(num_hidden_layers=LAYERS).cuda().train()
        recompute(model, layers=layers, offload=offload)
        model(input_ids=ids, labels=ids, use_cache=False).loss.backward()
        found.append([w.grad for w in model.parameters()])

    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))
