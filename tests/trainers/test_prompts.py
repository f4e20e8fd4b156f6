"""Learned positions: what plain peft says of a sequence alone, ours says in packed rows and in padded batches."""

import pytest
import tiny
import torch
from peft import PeftModel
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

from recipes.errors import RecipeError
from recipes.plan import Model, Prefix, PromptTuning, PTuning, Schedule
from trainers import batches, data
from trainers.adapt import adapt, recompute
from trainers.adapt.prompts import Prompted
from trainers.evaluate.padding import left
from trainers.optim import adamw
from trainers.policy import load, save, with_model
from trainers.policy.forward import packed_nll, packed_rows, stock_nll

CPU = torch.device("cpu")
KINDS = {
    "prefix": Prefix(virtual_tokens=5),
    "p_tuning": PTuning(virtual_tokens=4, encoder_width=16),
    "prompt_tuning": PromptTuning(virtual_tokens=3),
}
each_kind = pytest.mark.parametrize("plan", KINDS.values(), ids=KINDS)
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")


def examples(count=6):
    return [data.masked(tiny.tokenizer(), one) for one in tiny.rows(count)]


def stirred(model, seed=1):
    """Prompts that say something: a prefix begins at zero."""
    torch.manual_seed(seed)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.requires_grad:
                weight.add_(torch.randn_like(weight) * 0.3)
    return model


def prompted(home, plan, dtype="float32"):
    policy = load(Model(id="base", dtype=dtype), home, CPU)
    made = adapt(policy.causal, plan, seed=0, tokenizer=policy.tokenizer).model
    return with_model(policy, stirred(made))


def own_losses(policy, items):
    """What peft's own forward says of each document alone: summed nats of its trained tokens."""
    found = []
    for one in items:
        out = by_peft(policy.model, torch.tensor([one.ids]))
        logits = out[0, out.shape[1] - len(one.ids) :]
        wanted = [i for i in range(1, len(one.ids)) if one.trained[i]]
        logp = logits.log_softmax(-1)
        found.append(-sum(logp[i - 1, one.ids[i]] for i in wanted))
    return torch.stack(found)


def by_peft(model, ids):
    """The logits of plain peft."""
    return super(Prompted, model).forward(input_ids=ids).logits


@each_kind
def test_a_packed_row_is_what_peft_says_of_each_document_alone(home, plan):
    policy, items = prompted(home, plan), examples()
    with policy.as_trained():
        packed = policy.loss(batches.flatten(items, CPU))
    packed.backward()
    grads = {n: w.grad.clone() for n, w in policy.model.named_parameters() if w.requires_grad}
    policy.model.zero_grad()
    alone = own_losses(policy, items).sum()
    alone.backward()

    assert policy.nll is packed_nll
    torch.testing.assert_close(packed, alone, rtol=1e-5, atol=1e-5)
    assert grads
    for name, weight in policy.model.named_parameters():
        if weight.requires_grad:
            torch.testing.assert_close(grads[name], weight.grad, rtol=1e-3, atol=1e-4)


@each_kind
def test_the_way_document_by_document_says_the_same(home, plan):
    policy, row = prompted(home, plan), batches.flatten(examples(), CPU)
    with policy.as_trained():
        fast = policy.loss(row)
    slow = with_model(policy.__class__(**{**fields(policy), "nll": stock_nll}), policy.model)

    torch.testing.assert_close(slow.loss(row), fast, rtol=1e-5, atol=1e-5)


def fields(policy):
    return {name: getattr(policy, name) for name in policy.__slots__}


@each_kind
def test_recomputed_activations_change_no_gradient(home, plan):
    found = []
    for recomputed in (False, True):
        policy = prompted(home, plan)
        policy.model.train()
        if recomputed:
            recompute(policy.causal)
        with policy.as_trained():
            policy.loss(batches.flatten(examples(), CPU)).backward()
        found.append([w.grad for w in policy.model.parameters() if w.requires_grad])

    for plain, again in zip(*found, strict=True):
        assert plain.norm() > 0
        torch.testing.assert_close(plain, again, rtol=1e-5, atol=1e-6)


def test_a_prefix_that_only_the_cache_takes_is_refused_with_recomputed_activations(home):
    policy = prompted(home, KINDS["prefix"])
    policy = with_model(policy.__class__(**{**fields(policy), "nll": stock_nll}), policy.model)
    policy.model.train()
    recompute(policy.causal)

    with pytest.raises(RecipeError, match="a prefix cannot be trained with recomputed activations"):
        policy.loss(batches.flatten(examples(), CPU))


@each_kind
def test_rows_padded_on_the_left_are_read_and_continued_as_if_alone(home, plan):
    policy = prompted(home, plan)
    policy.model.eval()
    prompts = [one.ids[:-3] for one in examples(4)]
    padded = left(prompts, CPU)
    with torch.no_grad():
        together = policy.model(
            input_ids=padded.ids_BT, attention_mask=padded.mask_BT, logits_to_keep=1
        ).logits
        alone = [by_peft(policy.model, torch.tensor([ids]))[0, -1:] for ids in prompts]
        said = policy.model.generate(
            input_ids=padded.ids_BT, attention_mask=padded.mask_BT, max_new_tokens=6, do_sample=False
        )
        singly = []
        for ids in prompts:
            so_far = list(ids)
            while len(so_far) < len(ids) + 6 and so_far[-1] != tiny.tokenizer().eos_token_id:
                logits = by_peft(policy.model, torch.tensor([so_far]))
                so_far.append(int(logits[0, -1].argmax()))
            singly.append(so_far)

    torch.testing.assert_close(together, torch.stack(alone), rtol=1e-4, atol=1e-4)
    assert torch.equal(said[:, : padded.ids_BT.shape[1]], padded.ids_BT)
    for row, wanted, mask in zip(said.tolist(), singly, padded.mask_BT, strict=True):
        own = row[int((mask == 0).sum()) :]
        assert own[: len(wanted)] == wanted


@each_kind
@pytest.mark.parametrize("dtype, close", [("float32", 1e-5), ("bfloat16", 3e-2)])
def test_plain_peft_loads_what_was_trained_and_says_the_same(home, plan, dtype, close):
    policy = prompted(home, plan, dtype)
    optimizer = adamw(policy.model, Schedule(epochs=1.0, micro_batch_tokens=512, learning_rate=1e-2))
    row, losses = batches.flatten(examples(), CPU), []
    with policy.as_trained():
        for _ in range(8):
            loss = policy.loss(row) / row.count
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            losses.append(loss.item())
    save(policy, home / "adapter")
    base = load(Model(id="base", dtype=dtype), home, CPU).model
    plain = PeftModel.from_pretrained(base, home / "adapter").eval()
    ids = torch.randint(200, (1, 9))
    with torch.no_grad():
        found, wanted = plain(input_ids=ids).logits, policy.model.eval()(input_ids=ids).logits

    assert losses[-1] < losses[0]
    assert type(plain) is not Prompted
    assert float((found - wanted).norm() / wanted.norm()) < close


def test_an_untrained_prompt_of_a_text_is_that_text(home):
    text = "ab abc ab"
    policy = load(Model(id="base", dtype="float32"), home, CPU)
    words = policy.tokenizer(text, add_special_tokens=False)["input_ids"]
    ids = torch.randint(6, 200, (1, 9))
    with torch.no_grad():
        wanted = policy.causal(torch.cat([torch.tensor([words]), ids], 1)).logits[:, len(words) :]
        plan = PromptTuning(virtual_tokens=len(words), start=text)
        made = adapt(policy.causal, plan, seed=0, tokenizer=policy.tokenizer).model
        found = made(input_ids=ids).logits[:, len(words) :]

    torch.testing.assert_close(found, wanted)


def test_a_text_without_a_token_is_refused(home):
    policy = load(Model(id="base", dtype="float32"), home, CPU)

    with pytest.raises(RecipeError, match=r"adaptation.start has no token"):
        adapt(policy.causal, PromptTuning(start=""), seed=0, tokenizer=policy.tokenizer)


@each_kind
def test_another_architecture_learns_too(plan):
    torch.manual_seed(0)
    config = GPTNeoXConfig(
        vocab_size=300, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4
    )
    model = GPTNeoXForCausalLM(config)
    made = stirred(adapt(model, plan, seed=0).model)
    row = batches.flatten(examples(), CPU)
    with packed_rows(model):
        packed = packed_nll(model, made.in_front(row))
    slow = stock_nll(made, row) if made.has_prefix else stock_nll(model, made.in_front(row))

    torch.testing.assert_close(packed, slow, rtol=1e-5, atol=1e-5)
