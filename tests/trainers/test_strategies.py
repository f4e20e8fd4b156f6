"""Every way to move the weights: it learns, what is frozen stays bit for bit, and what is saved says the same again."""

import copy
import json

import pytest
import tiny
import torch
from peft import IA3Config, LoraConfig, PeftModel, get_peft_model
from transformers import (
    FalconConfig,
    FalconForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    Phi3Config,
    Phi3ForCausalLM,
)

from recipes.errors import RecipeError
from recipes.plan import (
    Bottleneck,
    Full,
    Ia3,
    LastLayers,
    Lora,
    Model,
    Named,
    Prefix,
    PromptTuning,
    PTuning,
    Schedule,
)
from trainers import batches, data
from trainers.adapt import adapt, bottleneck, dora, functions
from trainers.adapt.adapters import Base
from trainers.adapt.dora import Factored, row_norms
from trainers.errors import Mismatch
from trainers.optim import adamw
from trainers.policy import load, save, with_model

CPU = torch.device("cpu")
DENSE = Model(id="base", dtype="float32")
STRATEGIES = {
    "full": (Full(), 1e-3),
    "last_layers": (LastLayers(layers=1), 3e-3),
    "named": (Named(patterns=("model.layers.*.mlp.*", "*.norm.weight")), 3e-3),
    "lora": (Lora(rank=4, alpha=8.0), 1e-2),
    "lora_8bit": (Lora(base="int8", rank=4, alpha=8.0), 1e-2),
    "rslora": (Lora(rank=4, alpha=8.0, rslora=True), 1e-2),
    "qlora": (Lora(base="nf4", rank=4, alpha=8.0), 1e-2),
    "dora": (Lora(rank=4, alpha=8.0, dora=True), 1e-2),
    "qdora": (Lora(base="nf4", rank=4, alpha=8.0, dora=True), 1e-2),
    "pfeiffer": (Bottleneck(width=16), 1e-2),
    "houlsby": (Bottleneck(width=16, placement="houlsby", activation="gelu"), 1e-2),
    "prefix": (Prefix(virtual_tokens=8), 1e-1),
    "p_tuning": (PTuning(virtual_tokens=8, encoder_width=32), 3e-2),
    "prompt_tuning": (PromptTuning(virtual_tokens=8), 1e-1),
    "ia3": (Ia3(), 1e-1),
}
each = pytest.mark.parametrize("plan, rate", STRATEGIES.values(), ids=STRATEGIES)
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")


def row(count=6):
    return batches.flatten([data.masked(tiny.tokenizer(), one) for one in tiny.rows(count)], CPU)


def adapted(home, plan, **settings):
    policy = load(DENSE, home, CPU, plan)
    made = adapt(policy.causal, plan, seed=0, tokenizer=policy.tokenizer, home=home, **settings)
    functions.install(made.model)
    return with_model(policy, made.model)


def trained(policy, rate=1e-2, steps=12):
    optimizer = adamw(policy.model, Schedule(epochs=1.0, micro_batch_tokens=512, learning_rate=rate))
    batch, losses = row(), []
    policy.model.train()
    with policy.as_trained():
        for _ in range(steps):
            loss = policy.loss(batch) / batch.count
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            losses.append(loss.item())
    policy.model.eval()
    return losses


def logits(policy, ids):
    with torch.no_grad():
        return policy.model(input_ids=ids).logits


@each
def test_the_loss_falls_and_what_is_frozen_stays_bit_for_bit(home, plan, rate):
    policy = adapted(home, plan)
    before = {name: weight.detach().clone() for name, weight in policy.model.named_parameters()}
    losses = trained(policy, rate)
    moved = {n for n, w in policy.model.named_parameters() if not torch.equal(w, before[n])}

    assert losses[-1] < 0.98 * losses[0]  # a base of random weights says little that a prompt could call up
    assert moved == {n for n, w in policy.model.named_parameters() if w.requires_grad}


ZERO = {"lora", "rslora", "dora", "pfeiffer", "houlsby", "ia3"}


@pytest.mark.parametrize("name", sorted(ZERO))
def test_what_is_added_says_nothing_before_it_has_learned(home, name):
    ids = torch.randint(200, (1, 9))
    wanted = load(DENSE, home, CPU).causal(ids).logits

    torch.testing.assert_close(logits(adapted(home, STRATEGIES[name][0]), ids), wanted, rtol=1e-5, atol=1e-6)


# --- a part of the model's own weights --------------------------------------------------------------------------


def test_below_the_first_block_that_moves_nothing_is_kept(home):
    kept = []
    for layers in (1, 2):
        policy = adapted(home, LastLayers(layers=layers))
        policy.model.train()
        bytes_kept = 0

        def count(tensor):
            nonlocal bytes_kept
            bytes_kept += 0 if isinstance(tensor, torch.nn.Parameter) else tensor.nbytes
            return tensor

        with policy.as_trained(), torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
            policy.loss(row()).backward()
        kept.append(bytes_kept)
        assert policy.causal.model.embed_tokens.weight.grad is None

    per_block = kept[1] - kept[0]
    assert 0 < kept[0] - per_block < per_block  # the head and the last norm; of the frozen block nothing


def test_a_pattern_that_matches_nothing_is_refused_with_the_names_that_are_most_like_it(home):
    with pytest.raises(RecipeError) as refused:
        adapted(home, Named(patterns=("model.layers.*.mlp.*", "model.layers.0.mlp.gate_project.weight")))

    assert "gate_project.weight matches no weight; there are model.layers.0.mlp.gate_proj.weight" in str(
        refused.value
    )


# --- DoRA ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("base", ["dense", "nf4"])
def test_the_factored_norm_is_that_of_the_sum(home, base):
    policy = adapted(home, Lora(base=base, dora=True, rank=4))
    trained(policy)
    layer = next(m for m in policy.model.modules() if isinstance(m, Factored))
    a, b, s = layer.lora_A["default"].weight, layer.lora_B["default"].weight, layer.scaling["default"]
    inner = layer.base_layer
    whole = (
        torch.nn.functional.linear(torch.eye(a.shape[1]), inner.weight)
        if base == "dense"
        else inner(torch.eye(a.shape[1]))
    )
    whole = whole.t()
    wanted = (whole + s * b @ a).norm(dim=1)
    found = row_norms(inner, a, b, s, whole.square().sum(1))

    torch.testing.assert_close(found, wanted, rtol=1e-6, atol=1e-6)


def with_pefts_mlp(home, plan):
    """Adapted, and nothing of ours in front of it yet."""
    policy = load(DENSE, home, CPU, plan)
    return with_model(policy, adapt(policy.causal, plan, seed=0).model)


@pytest.mark.parametrize("base", ["dense", "nf4"])
def test_our_dora_is_pefts(home, base):
    policies = [with_pefts_mlp(home, Lora(base=base, dora=True, rank=4)) for _ in range(2)]
    dora.install(policies[0].model)
    trained(policies[0])
    with torch.no_grad():
        for mine, theirs in zip(*(policy.model.parameters() for policy in policies), strict=True):
            if mine.requires_grad:
                theirs.copy_(mine)
    ids = torch.randint(200, (2, 9))
    outs = [policy.model(input_ids=ids, labels=ids).loss for policy in policies]
    for out in outs:
        out.backward()

    assert [any(isinstance(m, Factored) for m in p.model.modules()) for p in policies] == [True, False]
    torch.testing.assert_close(outs[0], outs[1], rtol=1e-6, atol=1e-6)
    for (name, mine), stock in zip(
        policies[0].model.named_parameters(), policies[1].model.parameters(), strict=True
    ):
        if mine.requires_grad:
            assert float((mine.grad - stock.grad).norm()) <= 1e-4 * float(stock.grad.norm()) + 1e-8, name


def test_dora_with_biases_is_pefts():
    config = {"r": 4, "use_dora": True, "target_modules": ["dense"], "task_type": "CAUSAL_LM"}
    torch.manual_seed(0)
    from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

    base = GPTNeoXForCausalLM(
        GPTNeoXConfig(
            vocab_size=300, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4
        )
    )
    with torch.no_grad():
        for name, weight in base.named_parameters():
            if name.endswith("bias"):
                weight.normal_()
    theirs = get_peft_model(copy.deepcopy(base), LoraConfig(lora_alpha=32, **config))
    ours = adapt(base, Lora(rank=4, dora=True, targets=("dense",)), seed=0).model
    functions.install(ours)
    with torch.no_grad():
        for name, weight in theirs.named_parameters():
            if "lora_" in name:
                weight.add_(torch.randn_like(weight) * 0.2)
    ours.load_state_dict(theirs.state_dict())
    ids = torch.randint(200, (2, 9))

    assert sum(isinstance(module, Factored) for module in ours.modules()) == 2
    torch.testing.assert_close(ours(input_ids=ids).logits, theirs(input_ids=ids).logits, rtol=1e-5, atol=1e-5)


# --- saved, and read by somebody else ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["rslora", "dora", "qdora", "lora_8bit", "ia3"])
def test_plain_peft_loads_it_and_says_the_same(home, name):
    plan, rate = STRATEGIES[name]
    policy = adapted(home, plan)
    trained(policy, rate, steps=6)
    save(policy, home / "out")
    base = load(DENSE, home, CPU, plan).model
    plain = PeftModel.from_pretrained(base, home / "out").eval()
    ids = torch.randint(200, (1, 9))
    with torch.no_grad():
        torch.testing.assert_close(plain(input_ids=ids).logits, logits(policy, ids), rtol=1e-4, atol=1e-4)


def test_bottlenecks_come_back_from_their_file_and_without_them_the_base_is_what_it_was(home):
    plan, rate = STRATEGIES["houlsby"]
    policy, ids = adapted(home, plan), torch.randint(200, (1, 9))
    trained(policy, rate)
    save(policy, home / "out")
    again = load(DENSE, home, CPU).causal
    before = again(ids).logits

    assert bottleneck.load(again, home / "out") == plan
    torch.testing.assert_close(again(ids).logits, logits(policy, ids))
    assert json.loads((home / "out/base.json").read_text())["sum"]
    bottleneck.remove(again)
    assert torch.equal(again(ids).logits, before)


def test_a_bottleneck_of_another_shape_or_of_nothing_is_refused(home):
    policy = adapted(home, Bottleneck(width=16))
    save(policy, home / "out")

    with pytest.raises(Mismatch, match="a model of another shape"):
        bottleneck.load(tiny.model(hidden_size=32), home / "out")
    with pytest.raises(Mismatch, match="cannot be read"):
        bottleneck.load(tiny.model(), home)


def test_a_bottleneck_wider_than_the_model_is_none(home):
    with pytest.raises(
        RecipeError, match=r"adaptation.width is 64, which is no bottleneck: the model is 64 wide"
    ):
        adapted(home, Bottleneck(width=64))


# --- several adapters on one base -------------------------------------------------------------------------------


def first_adapter(home):
    plan = Lora(rank=4, alpha=8.0, name="first")
    policy = adapted(home, plan, base=Base("base", "0" * 64))
    trained(policy)
    save(policy, home / "one")
    return policy


def test_an_adapter_beneath_speaks_and_keeps_its_bytes_while_another_learns(home):
    below = first_adapter(home)
    ids = torch.randint(200, (1, 9))
    policy = adapted(home, Lora(rank=2, name="second", beneath=("one/first",)))
    bytes_before = {n: w.clone() for n, w in policy.model.named_parameters() if ".first." in n}
    at_first = logits(policy, ids)
    losses = trained(policy)
    save(policy, home / "two")

    torch.testing.assert_close(at_first, logits(below, ids), rtol=1e-5, atol=1e-5)
    assert losses[-1] < losses[0]
    assert all(torch.equal(w, bytes_before[n]) for n, w in policy.model.named_parameters() if ".first." in n)
    assert {n.split(".")[-2] for n, w in policy.model.named_parameters() if w.requires_grad} == {"second"}
    both = PeftModel.from_pretrained(load(DENSE, home, CPU).model, home / "two/first", adapter_name="first")
    both.load_adapter(home / "two/second", adapter_name="second")
    both.base_model.set_adapter(["first", "second"])
    torch.testing.assert_close(both.eval()(input_ids=ids).logits, logits(policy, ids), rtol=1e-5, atol=1e-5)


def test_an_adapter_of_another_base_is_refused_by_its_sum(home):
    first_adapter(home)
    place = home / "one/first"
    ours = Base("base", json.loads((place / "base.json").read_text())["sum"])
    adapted(home, Lora(rank=2, name="second", beneath=("one/first",)), base=ours)

    with pytest.raises(Mismatch, match="trained on another base"):
        adapted(home, Lora(rank=2, name="second", beneath=("one/first",)), base=Base("other", "1" * 64))


def test_an_adapter_of_another_shape_is_refused(home):
    first_adapter(home)
    for path in (home / "one/first").glob("base.json"):
        path.unlink()

    with pytest.raises(Mismatch, match="does not fit the base"):
        adapt(tiny.model(hidden_size=32), Lora(rank=2, name="second", beneath=("one/first",)), 0, home=home)
    with pytest.raises(Mismatch, match="there is no adapter"):
        adapted(home, Lora(rank=2, name="second", beneath=("nowhere",)))


# --- what cannot be done is said before anything is built ---------------------------------------------------------


def test_a_rank_that_no_matrix_has_is_refused(home):
    with pytest.raises(
        RecipeError, match=r"rank is 33, and model.layers.0.self_attn.k_proj is a matrix of 32 x 64"
    ):
        adapted(home, Lora(rank=33))
    adapted(home, Lora(rank=33, targets=("down_proj",)))


def test_a_target_that_is_misspelt_is_refused_with_the_nearest_name_first(home):
    with pytest.raises(RecipeError, match=r"no module q_porj; its linear modules: (q|o)_proj"):
        adapted(home, Lora(rank=2, targets=("v_proj", "q_porj")))


@pytest.mark.parametrize(
    "model, names",
    [
        (
            lambda: GPT2LMHeadModel(
                GPT2Config(vocab_size=300, bos_token_id=1, eos_token_id=2, n_embd=32, n_layer=2, n_head=2)
            ),
            {"c_attn", "c_proj"},
        ),
        (
            lambda: Phi3ForCausalLM(
                Phi3Config(
                    vocab_size=300,
                    hidden_size=32,
                    intermediate_size=64,
                    num_hidden_layers=2,
                    num_attention_heads=2,
                    num_key_value_heads=2,
                    pad_token_id=0,
                )
            ),
            {"qkv_proj", "down_proj"},
        ),
        (
            lambda: FalconForCausalLM(
                FalconConfig(vocab_size=300, hidden_size=32, num_hidden_layers=2, num_attention_heads=2)
            ),
            {"query_key_value", "dense_4h_to_h"},
        ),
    ],
    ids=["gpt2", "phi3", "falcon"],
)
def test_ia3_finds_the_projections_of_other_architectures(model, names):
    torch.manual_seed(0)
    made = adapt(model(), Ia3(), seed=0).model

    assert {name.split(".")[-3] for name, w in made.named_parameters() if w.requires_grad} == names


def test_ia3_has_factors_of_keys_values_and_the_inner_activations(home):
    made = adapted(home, Ia3()).model
    shapes = {name.split(".")[-3]: tuple(w.shape) for name, w in made.named_parameters() if w.requires_grad}

    assert shapes == {"k_proj": (32, 1), "v_proj": (32, 1), "down_proj": (1, 128)}
    assert isinstance(made.peft_config["default"], IA3Config)
