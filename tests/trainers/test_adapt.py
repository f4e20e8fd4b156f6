"""What moves and what does not; our arithmetic against peft's; adapters that plain peft loads."""

import copy

import pytest
import tiny
import torch
from peft import LoraConfig, PeftModel, get_peft_model

from recipes.errors import RecipeError
from recipes.plan import Full, LastLayers, Lora, Model, Schedule
from trainers import batches, data
from trainers.adapt import adapt, functions, lora
from trainers.adapt.lora import Fast
from trainers.optim import adamw
from trainers.policy import causal, load, save, with_model
from trainers.policy.forward import packed_rows

CPU = torch.device("cpu")
NAME = "model.layers.0.mlp.gate_proj.weight"
pytestmark = pytest.mark.filterwarnings(
    "ignore:`is_gradient_checkpointing`:FutureWarning"
)  # peft on new transformers


def row():
    return batches.flatten([data.masked(tiny.tokenizer(), one) for one in tiny.rows(6)], CPU)


def a_few_steps(policy, steps=8, learning_rate=1e-2):
    """The losses of some steps on one row."""
    optimizer = adamw(policy.model, Schedule(epochs=1.0, micro_batch_tokens=512, learning_rate=learning_rate))
    batch, losses = row(), []
    with packed_rows(policy.causal):
        for _ in range(steps):
            loss = policy.loss(batch) / batch.count
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            losses.append(loss.item())
    return losses


def apart(found, wanted):
    """Relative distance of two tensors."""
    return float((found - wanted).detach().norm() / wanted.detach().norm())


def stir(model):
    """Adapters begin with B = 0; give them something to say."""
    torch.manual_seed(3)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                weight.normal_(std=0.1)
    return model


@pytest.mark.parametrize("rslora", [False, True])
@pytest.mark.parametrize("dtype, close", [(torch.float32, 1e-5), (torch.bfloat16, 5e-2)])
def test_our_arithmetic_is_pefts(rslora, dtype, close):
    base = tiny.model().to(dtype)
    config = LoraConfig(
        r=4, lora_alpha=8, use_rslora=rslora, target_modules="all-linear", task_type="CAUSAL_LM"
    )
    theirs = stir(get_peft_model(copy.deepcopy(base), config, autocast_adapter_dtype=True))
    ours = stir(adapt(base, Lora(rank=4, alpha=8.0, rslora=rslora), seed=0).model)
    functions.install(ours)
    ours.load_state_dict(theirs.state_dict())
    ids = torch.randint(200, (2, 9))
    losses = [model(input_ids=ids, labels=ids).loss for model in (theirs, ours)]
    for loss in losses:
        loss.backward()

    assert sum(isinstance(module, Fast) for module in ours.modules()) == 14
    torch.testing.assert_close(losses[0], losses[1], rtol=close, atol=close)
    for (name, mine), (_, stock) in zip(ours.named_parameters(), theirs.named_parameters(), strict=True):
        if "lora" in name:
            assert float((mine.grad - stock.grad).norm()) <= close * float(stock.grad.norm()) + 1e-8, name


def test_an_untrained_adapter_changes_nothing():
    base, ids = tiny.model().eval(), torch.randint(200, (1, 9))
    before = base(ids).logits

    assert torch.equal(adapt(base, Lora(), seed=0).model.eval()(input_ids=ids).logits, before)


def test_dropout_and_switched_off_adapters_keep_pefts_forward():
    model = stir(adapt(tiny.model(), Lora(rank=4, dropout=0.5), seed=0).model)
    functions.install(model)
    ids = torch.randint(200, (1, 9))
    model.train()
    torch.manual_seed(0)
    first = model(input_ids=ids).logits

    assert not torch.equal(first, model(input_ids=ids).logits)
    with model.disable_adapter():
        assert torch.equal(model(input_ids=ids).logits, tiny.model()(ids).logits)


def test_an_adapter_begins_the_same_with_the_same_seed():
    first, same, other = (
        dict(adapt(tiny.model(), Lora(), seed=seed).model.named_parameters()) for seed in (1, 1, 2)
    )
    name = next(name for name in first if "lora_A" in name)

    assert torch.equal(first[name], same[name])
    assert not torch.equal(first[name], other[name])


@pytest.mark.parametrize("double", [False, True])
@pytest.mark.parametrize("dtype, close", [("float32", 1e-5), ("bfloat16", 2e-2)])
def test_on_an_nf4_base_the_loss_falls_and_plain_peft_loads_the_adapter(home, double, dtype, close):
    plan = Lora(base="nf4", double_quantisation=double, rank=4, alpha=16.0)
    model = Model(id="base", dtype=dtype)
    policy = load(model, home, CPU, plan)
    policy = with_model(policy, adapt(policy.causal, plan, seed=0).model)
    functions.install(policy.model)
    losses = a_few_steps(policy, steps=20)
    save(policy, home / "adapter")
    plain = PeftModel.from_pretrained(load(model, home, CPU, plan).model, home / "adapter").eval()
    ids = torch.randint(200, (1, 9))

    assert losses[-1] < 0.9 * losses[0]
    assert {type(m).__name__ for m in policy.causal.modules()} >= {"FastLinear4bit"}
    assert apart(plain(input_ids=ids).logits, policy.model.eval()(input_ids=ids).logits) < close


def test_judging_an_nf4_model_before_training_does_not_change_what_is_trained(home):
    dense = load(Model(id="base", dtype="float32"), home, CPU).causal.get_parameter(NAME)
    layer = load(Model(id="base", dtype="float32"), home, CPU, Lora(base="nf4")).causal.get_submodule(
        NAME[:-7]
    )
    before = lora.dense(layer, torch.float32)
    with torch.no_grad():
        layer.eval()(torch.randn(3, 64))

    assert torch.equal(lora.dense(layer, torch.float32), before)
    assert apart(before, dense) < 0.12  # NF4's own error on normal weights is 9 %


def test_plain_peft_loads_a_dense_adapter_and_merges_it_to_the_same_logits(home):
    model = Model(id="base", dtype="float32")
    policy = load(model, home, CPU)
    policy = with_model(policy, adapt(policy.causal, Lora(rank=4), seed=0).model)
    functions.install(policy.model)
    a_few_steps(policy)
    save(policy, home / "adapter")
    plain = PeftModel.from_pretrained(load(model, home, CPU).model, home / "adapter").eval()
    ids = torch.randint(200, (1, 9))
    wanted = policy.model.eval()(input_ids=ids).logits

    torch.testing.assert_close(plain(input_ids=ids).logits, wanted, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(plain.merge_and_unload()(ids).logits, wanted, rtol=1e-4, atol=1e-4)


def test_only_the_last_layers_the_norm_and_the_head_move_and_the_rest_stays_bit_for_bit(home):
    policy = load(Model(id="base", dtype="float32"), home, CPU)
    before = {name: weight.clone() for name, weight in policy.causal.named_parameters()}
    a_few_steps(with_model(policy, adapt(policy.causal, LastLayers(layers=1), seed=0).model))
    moved = {
        name for name, weight in policy.causal.named_parameters() if not torch.equal(weight, before[name])
    }

    assert moved == {n for n in before if n.startswith(("model.layers.1.", "model.norm.", "lm_head."))}


def test_a_tied_head_stays_frozen_and_that_is_said():
    adapted = adapt(tiny.model(tie_word_embeddings=True), LastLayers(layers=1), seed=0)

    assert not adapted.model.lm_head.weight.requires_grad
    assert adapted.notes == ("the head is tied to the embeddings, so it stays frozen with them",)


def test_full_moves_everything():
    model = tiny.model()

    assert adapt(model, Full(), seed=0).trainable == model.num_parameters()


def test_more_layers_than_there_are_is_an_error_of_the_recipe():
    with pytest.raises(RecipeError, match=r"adaptation.layers is 3, and the model has 2 layers"):
        adapt(tiny.model(), LastLayers(layers=3), seed=0)


def test_targets_that_do_not_exist_are_an_error_of_the_recipe():
    with pytest.raises(
        RecipeError,
        match=r"adaptation.targets: the model has no module nothing; its linear modules: .*q_proj",
    ):
        adapt(tiny.model(), Lora(targets=("nothing",)), seed=0)


def test_a_policy_knows_the_model_inside_its_adapters():
    model = tiny.model()

    assert causal(adapt(model, Lora(), seed=0).model) is model
