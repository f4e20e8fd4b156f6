"""Our norms and gated MLPs: the stock bits forward, the stock gradients, less kept; installed only where proven."""

import copy
import warnings

import pytest
import tiny
import torch
import torch.nn.functional as F
from peft import LoraConfig, PeftModel, get_peft_model
from test_architectures import made
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from transformers.activations import NewGELUActivation
from transformers.models.llama.modeling_llama import LlamaMLP, LlamaRMSNorm

from recipes.plan import Lora, Model
from trainers.adapt import blocks, lora
from trainers.adapt.blocks import FastMlp, FastNorm
from trainers.policy import load

CPU = torch.device("cpu")
COVERED = {
    "llama": (5, 2, ()),
    "qwen2": (5, 2, ()),
    "qwen3": (9, 2, ()),
    "mistral": (5, 2, ()),
    "gemma2": (9, 2, ()),
    "gemma3_text": (13, 2, ()),
    "phi3": (5, 2, ()),
    "olmo2": (9, 2, ()),
    "mixtral": (5, 0, ("MixtralExperts",)),
    "gpt_neox": (0, 0, ("LayerNorm", "GPTNeoXMLP")),
}
FAMILIES = [kind for kind, (norms, _, _) in COVERED.items() if norms]
CLOSE = {torch.float64: 1e-6, torch.float32: 2e-5, torch.bfloat16: 4e-2}
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")  # peft


def adapted(model):
    """LoRA on all that is linear, as peft makes it, with something to say."""
    config = LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", task_type="CAUSAL_LM")
    torch.manual_seed(3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        wrapped = get_peft_model(model, config)
    torch.manual_seed(3)
    with torch.no_grad():
        for name, weight in wrapped.named_parameters():
            if "lora_B" in name:
                weight.normal_(std=0.1)
    return wrapped


def shaken(model):
    """Norms whose weights are neither ones nor zeros."""
    torch.manual_seed(4)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim == 1:
                weight.add_(torch.randn_like(weight), alpha=0.3)
    return model


def learned(model):
    """Logits, and the gradient of everything that is trained."""
    torch.manual_seed(5)
    ids = torch.randint(200, (2, 9))
    model.zero_grad()
    logits = model(input_ids=ids, use_cache=False).logits
    F.cross_entropy(logits[:, :-1].flatten(0, 1).float(), ids[:, 1:].flatten()).backward()
    return logits.detach(), {
        name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None
    }


def assert_close(found, wanted, close):
    """Each gradient within `close` of its norm."""
    assert found.keys() == wanted.keys()
    for name, gradient in wanted.items():
        assert float((found[name] - gradient).norm()) <= close * float(gradient.norm()) + 1e-9, name


def counts(model):
    kinds = [type(module) for module in model.modules()]
    return tuple(sum(issubclass(kind, fast) for kind in kinds) for fast in (FastNorm, FastMlp))


@pytest.mark.parametrize("kind", COVERED)
def test_each_family_gets_what_fits_it_and_says_what_does_not(kind):
    model = made(kind)
    left = blocks.install(model)

    assert (*counts(model), left) == COVERED[kind]


@pytest.mark.parametrize(
    "kind, dtype",
    # the experts' grouped kernel has no float64
    [(kind, dtype) for kind in FAMILIES for dtype in CLOSE if (kind, dtype) != ("mixtral", torch.float64)],
    ids=str,
)
def test_every_weight_learns_what_it_learns_through_the_stock_functions(kind, dtype):
    stock = shaken(made(kind).to(dtype)).requires_grad_(True).eval()
    ours = copy.deepcopy(stock)
    blocks.install(ours)
    (logits, found), (same, wanted) = learned(ours), learned(stock)

    assert torch.equal(logits, same)
    assert_close(found, wanted, CLOSE[dtype])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("kind", FAMILIES)
def test_adapters_learn_what_they_learn_through_pefts_functions(kind, dtype):
    stock = adapted(shaken(made(kind).to(dtype))).eval()
    ours = copy.deepcopy(stock)
    lora.install(ours)
    blocks.install(ours)
    (logits, found), (same, wanted) = learned(ours), learned(stock)

    assert float((logits - same).norm()) <= CLOSE[dtype] * float(same.norm())
    assert_close(found, wanted, CLOSE[dtype])


@pytest.mark.parametrize("kind", FAMILIES)
def test_a_reference_pass_gives_the_bits_of_the_base(kind):
    base = shaken(made(kind)).eval()
    ids = torch.randint(200, (1, 9))
    before = base(ids).logits
    ours = adapted(copy.deepcopy(base)).eval()
    lora.install(ours)
    blocks.install(ours)
    with ours.disable_adapter():
        assert torch.equal(ours(input_ids=ids).logits, before)
    assert not torch.equal(ours(input_ids=ids).logits, before)


@pytest.mark.parametrize("with_adapters", [True, False], ids=["lora", "full"])
def test_recomputed_activations_give_the_same_gradients(with_adapters):
    model = made("qwen3")
    model = adapted(model) if with_adapters else model.requires_grad_(True)
    lora.install(model)
    blocks.install(model)
    model.train()
    plain = learned(model)[1]
    model.enable_input_require_grads()
    model.activation_checkpointing_enable(activation_checkpointing_kwargs={"use_reentrant": False})

    assert_close(learned(model)[1], plain, 1e-6)


@pytest.mark.parametrize("with_adapters", [True, False], ids=["lora", "full"])
def test_biases_and_norms_in_another_type_go_through(with_adapters):
    stock = shaken(made("llama", mlp_bias=True).to(torch.bfloat16))
    stock = adapted(stock) if with_adapters else stock.requires_grad_(True)
    for module in stock.modules():
        if isinstance(module, LlamaRMSNorm):
            module.float()
    hook = {"input_dtype": torch.bfloat16}
    for layer in stock.base_model.modules():  # what follows an fp32 norm takes its output down
        if isinstance(layer, LlamaRMSNorm):
            layer.register_forward_hook(lambda _, __, y: y.to(hook["input_dtype"]))
    ours = copy.deepcopy(stock)
    lora.install(ours)
    blocks.install(ours)

    assert counts(ours) == (5, 2)
    assert_close(learned(ours)[1], learned(stock)[1], CLOSE[torch.bfloat16])


def test_only_some_projections_may_have_adapters():
    for targets in (["down_proj"], ["gate_proj", "up_proj"], ["q_proj"]):
        stock = get_peft_model(
            made("llama"), LoraConfig(r=4, target_modules=targets, init_lora_weights=False)
        )
        ours = copy.deepcopy(stock)
        lora.install(ours)
        blocks.install(ours)

        assert_close(learned(ours)[1], learned(stock)[1], 2e-5)


@pytest.mark.parametrize("dtype, close", [("float32", 2e-5), ("bfloat16", 4e-2)])
def test_a_base_in_four_bits_goes_through(home, dtype, close):
    stock = adapted(load(Model(id="base", dtype=dtype), home, CPU, Lora(base="nf4")).causal)
    ours = adapted(load(Model(id="base", dtype=dtype), home, CPU, Lora(base="nf4")).causal)
    lora.install(ours)
    blocks.install(ours)

    assert counts(ours) == (5, 2)
    assert_close(learned(ours)[1], learned(stock)[1], close)


def test_a_layer_of_peft_that_is_called_as_a_matrix_in_four_bits_is_more_than_one(home):
    stock = adapted(load(Model(id="base", dtype="float32"), home, CPU, Lora(base="nf4")).causal)
    ours = adapted(load(Model(id="base", dtype="float32"), home, CPU, Lora(base="nf4")).causal)
    blocks.install(ours)  # and nobody makes its adapters fast

    layers = [module for module in ours.modules() if type(module).__name__ == "Linear4bit"]
    assert {type(layer).__module__.partition(".")[0] for layer in layers} == {"peft", "bitsandbytes"}
    assert_close(learned(ours)[1], learned(stock)[1], 2e-5)


@pytest.mark.parametrize("gate", blocks.GATES)
@pytest.mark.parametrize("low_rank", [False, True], ids=["trained", "lora"])
def test_the_gated_product_has_the_gradients_of_its_differences(gate, low_rank):
    torch.manual_seed(0)
    tensors = [torch.randn(*shape, dtype=torch.float64) for shape in ((2, 3, 5), (2, 3, 5), (4, 5), (4,), (2, 5), (4, 2))]  # fmt: skip
    layer = nn.Linear(5, 4).double().requires_grad_(not low_rank)
    gate_, up, weight, bias, a, b = (tensor.requires_grad_() for tensor in tensors)
    weight, bias = layer.weight, layer.bias

    def product(gate_, up, weight, bias, *ab):
        a, b = ab or (None, None)
        return blocks._GatedDown.apply(gate_, up, weight, bias, a, b, layer, 0.7, gate)

    assert torch.autograd.gradcheck(lambda *given: blocks._Gated.apply(*given, gate), (gate_, up))
    assert torch.autograd.gradcheck(product, (gate_, up, weight, bias, *([a, b] if low_rank else [])))


def kept_bytes(model):
    """What a forward keeps for the backward, each storage once, without the weights."""
    weights = {p.untyped_storage().data_ptr() for p in model.parameters()}
    seen = {}

    def keep(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            seen[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        kept = model(input_ids=torch.randint(200, (1, 64)), use_cache=False).logits
        return sum(seen.values()) - 0 * kept.numel()


@pytest.mark.parametrize("with_adapters, share", [(True, 0.6), (False, 0.75)], ids=["lora", "full"])
@pytest.mark.parametrize("kind", ["llama", "gemma3_text", "phi3"])
def test_less_is_kept_for_the_backward(kind, with_adapters, share):
    stock = made(kind, intermediate_size=512).to(torch.bfloat16)
    stock = adapted(stock) if with_adapters else stock.requires_grad_(True)
    ours = copy.deepcopy(stock)
    lora.install(ours)
    blocks.install(ours)

    assert kept_bytes(ours) < share * kept_bytes(stock)


class Squared(LlamaRMSNorm):
    """Equal to its parent where the weight is one, as it is at first."""

    def forward(self, x):
        return super().forward(x) * self.weight


class Doubled(LlamaMLP):
    """Almost a gated MLP."""

    def forward(self, x):
        return self.down_proj(self.act_fn(self.gate_proj(x)) * self.up_proj(x) * 1.01)


class Asking(LlamaMLP):
    """Wants more than one input."""

    def forward(self, x, scale):
        return super().forward(x) * scale


def test_what_only_looks_like_it_stays_as_it_is():
    config = made("llama").config
    other = LlamaMLP(config)
    other.act_fn = NewGELUActivation()  # the same function in other operations
    model = nn.ModuleList([Squared(64), Doubled(config), Asking(config), other, nn.RMSNorm(64)])

    assert set(blocks.install(model)) == {"Squared", "Doubled", "Asking", "LlamaMLP", "RMSNorm"}
    assert counts(model) == (0, 0)


def test_a_linear_layer_that_somebody_waits_for_is_called():
    model, calls = made("llama"), []
    blocks.install(model)
    model.model.layers[0].mlp.down_proj.register_forward_hook(lambda *_: calls.append(1))
    learned(model)

    assert calls == [1]


def test_installing_twice_changes_nothing_more():
    model = made("llama")
    blocks.install(model)
    kinds = [type(module) for module in model.modules()]

    assert blocks.install(model) == ()
    assert [type(module) for module in model.modules()] == kinds


def test_the_probe_needs_no_weights():
    with torch.device("meta"):
        model = made("gemma3_text")
    with FakeTensorMode():
        fake = made("gemma3_text")
        left = blocks.install(fake)

    assert (blocks.install(model), left) == ((), ())
    assert counts(model) == counts(fake) == COVERED["gemma3_text"][:2]


def test_plain_peft_loads_saves_and_merges_what_was_learned_through_our_functions(tmp_path):
    base = made("llama")
    ours = adapted(copy.deepcopy(base)).eval()
    lora.install(ours)
    blocks.install(ours)
    ours.save_pretrained(tmp_path)
    ids = torch.randint(200, (1, 9))
    wanted = ours(input_ids=ids).logits
    plain = PeftModel.from_pretrained(base, tmp_path).eval()

    torch.testing.assert_close(plain(input_ids=ids).logits, wanted, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(ours.merge_and_unload()(ids).logits, wanted, rtol=1e-4, atol=1e-4)
    assert set(ours.get_base_model().state_dict()) == set(tiny.model().state_dict())
