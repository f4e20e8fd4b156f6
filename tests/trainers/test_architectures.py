"""Any architecture: a packed row learns what its documents would learn alone, or says that it goes one by one."""

import pytest
import tiny
import torch
import torch.nn.functional as F
from transformers import AutoConfig, AutoModelForCausalLM

from recipes.plan import Full, Lora, Model
from trainers import batches, data
from trainers.adapt import adapt
from trainers.policy import attention, load, with_model
from trainers.policy.context import context_tokens, has_balancing_loss
from trainers.policy.forward import choose, packed_nll, packed_rows, stock_nll

CPU = torch.device("cpu")
LENGTH = 32
SMALL = {
    "vocab_size": 268,  # some classes of tokenizers add tokens of their own
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "initializer_range": 0.1,  # so that attention has something to say
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "tie_word_embeddings": False,
}
PACKED = {
    "llama": {},
    "qwen2": {"tie_word_embeddings": True, "vocab_size": 267},  # its own tokenizer class adds an end token
    "qwen3": {"head_dim": 16},
    "mistral": {"sliding_window": 9},
    "gemma3_text": {"head_dim": 16, "sliding_window": 9, "layer_types": ["sliding_attention", "full_attention"]},
    "phi3": {},
    "gpt_neox": {},
    "gpt2": {"n_embd": 64, "n_layer": 2, "n_head": 4},
    "opt": {"ffn_dim": 128, "word_embed_proj_dim": 64, "dropout": 0.1},
    "olmo2": {},
    "mixtral": {"num_local_experts": 4},
}  # fmt: skip
ONE_BY_ONE = {
    "gemma2": {"head_dim": 16, "sliding_window": 9},
    "granite": {"logits_scaling": 3.0},
    "cohere": {"logit_scale": 0.0625},
    "gpt_oss": {"num_local_experts": 4, "head_dim": 16},
    "stablelm": {},
    "phi": {},
    "falcon": {},
    "bloom": {"n_layer": 2, "n_head": 4},
}
pytestmark = [
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning"),  # peft on new transformers
]  # fmt: skip


def made(kind, **changes):
    torch.manual_seed(0)
    config = AutoConfig.for_model(kind, **{**SMALL, **(PACKED | ONE_BY_ONE).get(kind, {}), **changes})
    return AutoModelForCausalLM.from_config(config)


def loaded(kind, home, dtype="float32", **changes):
    tiny.write_model(home / kind, made(kind, **changes))
    return load(Model(id=kind, dtype=dtype), home, CPU, length_tokens=LENGTH)


def examples():
    return [data.masked(tiny.tokenizer(), one) for one in tiny.rows(5)]


def one_by_one(model):
    """What stock transformers says of each document alone."""
    total = 0.0
    for example in examples():
        logits = model(input_ids=torch.tensor([example.ids]), use_cache=False).logits[0, :-1]
        wanted = [i if t else -100 for i, t in zip(example.ids, example.trained, strict=True)][1:]
        total = total + F.cross_entropy(logits.float(), torch.tensor(wanted), reduction="sum")
    return total


def gradients(model, loss):
    model.zero_grad()
    loss.backward()
    return {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("adaptation", [Full(), Lora(rank=4, alpha=8.0)], ids=["full", "lora"])
@pytest.mark.parametrize("kind", [*PACKED, *ONE_BY_ONE])
def test_a_row_learns_what_its_documents_learn_through_the_stock_model(tmp_path, kind, adaptation):
    policy = loaded(kind, tmp_path)
    adapted = adapt(policy.causal, adaptation, seed=0).model.eval()  # without dropout
    if adaptation.kind == "lora":
        with torch.no_grad():
            for name, weight in adapted.named_parameters():
                if "lora_B" in name:
                    weight.normal_(std=0.1)
    policy = with_model(policy, adapted)
    with policy.as_trained():
        mine = policy.loss(batches.flatten(examples(), CPU))
        found = gradients(adapted, mine)
    theirs = one_by_one(adapted)
    wanted = gradients(adapted, theirs)

    assert (policy.nll is packed_nll, policy.fallback == "") == (kind in PACKED, kind in PACKED)
    torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-4)
    assert found.keys() == wanted.keys()
    for name, gradient in wanted.items():
        assert float((found[name] - gradient).norm()) <= 1e-4 * float(gradient.norm()) + 1e-6, name


@pytest.mark.parametrize("kind", ["gpt2", "opt", "gemma2", "stablelm", "mistral"])
def test_dropout_of_the_model_itself_and_recomputed_activations_go_through(tmp_path, kind):
    from trainers.adapt import recompute

    policy = loaded(kind, tmp_path)
    policy.model.requires_grad_(True).train()
    row = batches.flatten(examples(), CPU)
    with policy.as_trained():
        torch.manual_seed(0)
        plain = gradients(policy.model, policy.loss(row))
        recompute(policy.causal)
        torch.manual_seed(0)
        again = gradients(policy.model, policy.loss(row))

    for name, gradient in plain.items():
        torch.testing.assert_close(again[name], gradient, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dtype, close", [("bfloat16", 3e-2), ("float16", 5e-3)])
@pytest.mark.parametrize("kind", ["llama", "qwen2", "mistral", "granite"])
def test_sixteen_bits_change_the_way_of_no_architecture(tmp_path, kind, dtype, close):
    policy = loaded(kind, tmp_path, dtype)
    with policy.as_trained(), torch.no_grad():
        mine = float(policy.loss(batches.flatten(examples(), CPU)))

    assert (policy.nll is packed_nll) == (kind in PACKED)
    assert mine == pytest.approx(one_by_one(policy.model).item(), rel=close)


def test_a_cap_on_the_logits_is_seen_although_the_logits_of_the_probe_are_small():
    model = made("gemma2", attn_logit_softcapping=None, initializer_range=0.02)
    row = torch.tensor([[5, 6, 7]])

    assert model(row).logits.abs().max().item() < 2  # where a cap of 30 bends by a thousandth
    assert choose(model).why.startswith("loud_logits")


def test_a_bias_of_the_head_is_seen_although_it_is_small():
    model = made("llama")
    model.lm_head.bias = torch.nn.Parameter(torch.full((SMALL["vocab_size"],), 1e-6))

    assert "bias" in choose(model).why


def test_adapters_on_the_head_are_trained_and_said(tmp_path):
    policy = loaded("llama", tmp_path)
    adapted = adapt(policy.causal, Lora(rank=4, targets=("q_proj", "lm_head")), seed=0)
    policy = with_model(policy, adapted.model)
    with policy.as_trained():
        found = gradients(adapted.model, policy.loss(batches.flatten(examples(), CPU)))

    assert any("lm_head" in name and bool(g.any()) for name, g in found.items())
    assert any("the head has an adapter" in note for note in adapted.notes)


def test_positions_that_stretch_with_the_longest_document_are_seen_at_the_length_of_training():
    factors = {"short_factor": [1.0] * 8, "long_factor": [4.0] * 8}
    rope = {
        "rope_type": "longrope",
        "rope_theta": 1e4,
        "factor": 16.0,
        "original_max_position_embeddings": 16,
    }
    model = made("phi3", rope_parameters={**rope, **factors}, original_max_position_embeddings=16)

    assert choose(model, 12).nll is packed_nll
    assert choose(model, 32).nll is stock_nll


def test_a_window_is_a_window_on_the_kernel_too():
    assert attention._options(9, {"window_size", "enable_gqa"}) == {"window_size": (8, 0), "enable_gqa": True}
    assert attention._options(None, {"window_size"}) == {"window_size": (-1, 0)}
    assert attention._options(None, {"is_causal"}) == {"is_causal": True}


def test_documents_longer_than_a_window_see_the_window_only():
    model = made("mistral", num_hidden_layers=1, sliding_window=4)
    far, near = torch.randint(266, (1, 12)), torch.randint(266, (1, 12))
    near[:, 8:] = far[:, 8:]
    hidden = []
    for ids in (far, near):
        example = data.Example(tuple(ids[0].tolist()), (False, *[True] * 11), tiny.rows(1)[0])
        row = batches.flatten([example], CPU)
        with packed_rows(model), torch.no_grad():
            hidden.append(model.model(row.ids_1T, position_ids=row.positions_1T, **row.attention)[0][0])

    assert torch.equal(hidden[0][11], hidden[1][11])  # tokens 8 to 11
    assert not torch.equal(hidden[0][10], hidden[1][10])  # tokens 7 to 10


def test_what_a_model_can_read_is_what_its_positions_are_stretched_to():
    yarn = {"rope_type": "yarn", "rope_theta": 1e4, "factor": 4.0, "original_max_position_embeddings": 256}

    assert context_tokens(made("llama").config) == 256
    assert context_tokens(made("gpt2").config) == 256  # n_positions, under another name
    assert context_tokens(made("llama", rope_parameters=yarn).config) == 1024


def test_a_router_that_was_balanced_is_known():
    assert has_balancing_loss(made("mixtral").config)
    assert not has_balancing_loss(made("llama").config)


def test_experts_that_lora_does_not_reach_are_said():
    out, within = (adapt(made(kind), Lora(rank=4), seed=0) for kind in ("gpt_oss", "mixtral"))

    assert any("experts" in note for note in out.notes)
    assert not any("experts" in name for name, p in out.model.named_parameters() if p.requires_grad)
    assert within.notes == ()
    assert any("experts" in name for name, p in within.model.named_parameters() if p.requires_grad)


@pytest.mark.parametrize("kind, holes", [("mixtral", True), ("falcon", True), ("llama", False)])
def test_matrices_that_stay_as_wide_as_they_were_under_a_quantised_base_are_said(tmp_path, kind, holes):
    plan = Lora(base="nf4", rank=4)
    tiny.write_model(tmp_path / kind, made(kind))  # Mixtral's experts are one block, Falcon's layers its own
    policy = load(Model(id=kind, dtype="float32"), tmp_path, CPU, plan, length_tokens=LENGTH)
    wide = policy.causal.get_submodule("model.layers" if kind != "falcon" else "transformer.h")
    large = [p for p in wide.parameters() if p.numel() >= SMALL["hidden_size"] ** 2 and p.is_floating_point()]
    notes = adapt(policy.causal, plan, seed=0).notes

    assert bool(large) == holes
    assert any("not quantised" in note for note in notes) == holes


def test_the_slow_way_is_not_taken_for_a_model_that_is_merely_in_training():
    model = made("gpt2").train()

    assert choose(model, LENGTH).nll is packed_nll
    assert model.training
    assert choose(made("granite")).nll is stock_nll
