"""Compiled blocks: when, and that they compute the same; gears that are not there are refused."""

import pytest
import tiny
import torch

from recipes.errors import RecipeError
from recipes.plan import Lora, Predicted
from trainers import batches, data
from trainers.adapt import adapt, functions
from trainers.policy import causal, gears
from trainers.policy.forward import packed_nll, packed_rows

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
pytestmark = [
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning"),  # peft
    pytest.mark.filterwarnings(
        "ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning"
    ),  # dynamo
    pytest.mark.filterwarnings(
        "ignore:.*should not be instantiated:DeprecationWarning"
    ),  # dynamo, of functions
]


def plan(home, seconds=None, **layout):
    made = tiny.plan(home)
    predicted = Predicted(peak_bytes=1, seconds_low=seconds) if seconds else None
    return made.model_copy(update={"layout": made.layout.model_copy(update=layout), "predicted": predicted})


@pytest.mark.parametrize(
    "wish, device, seconds, wanted",
    [
        ("on", CPU, None, True),
        ("off", CUDA, 1e6, False),
        ("auto", CPU, 1e6, False),
        ("auto", CUDA, None, False),
        ("auto", CUDA, gears.WORTH_SECONDS - 1, False),
        ("auto", CUDA, gears.WORTH_SECONDS, True),
    ],
)
def test_blocks_are_compiled_where_it_is_wished_or_a_gpu_will_work_long_enough(
    home, wish, device, seconds, wanted
):
    assert gears.compiles(plan(home, seconds, compile=wish), device) is wanted


def test_a_cuda_graph_is_refused_before_anything_is_loaded(home):
    with pytest.raises(RecipeError, match="not offered yet"):
        gears.check(plan(home, cuda_graph=True))
    gears.check(plan(home))


def test_compiled_blocks_learn_the_same_and_rows_of_other_lengths_compile_nothing_new(monkeypatch):
    graphs = []

    def backend(graph, _):  # what is traced is what counts; machine code would take a minute
        graphs.append(graph)
        return graph

    model = adapt(tiny.model(num_hidden_layers=1), Lora(rank=4), seed=0).model
    functions.install(model)
    some = [data.masked(tiny.tokenizer(), row) for row in tiny.rows(12)]
    rows = [batches.flatten(some[start : start + n], CPU) for start, n in ((0, 6), (6, 4), (2, 5))]
    real = torch.compile
    monkeypatch.setattr(torch, "compile", lambda call, **how: real(call, backend=backend, **how))
    found, counts = [], []
    with packed_rows(causal(model)):
        for step in range(2):
            if step:
                torch._dynamo.reset()
                assert gears.compile_blocks(causal(model)) == 1
            for row in rows:
                model.zero_grad()
                loss = packed_nll(causal(model), row)
                loss.backward()
                norm = torch.stack([p.grad.norm() for p in model.parameters() if p.grad is not None]).norm()
                found.append((loss.item(), norm.item()))
                counts.append(len(graphs))

    for plain, compiled in zip(found[:3], found[3:], strict=True):
        assert compiled == pytest.approx(plain, rel=1e-5)
    assert counts[3] > 0
    assert counts[5] == counts[3]


@pytest.mark.parametrize(
    "generation, installed, wish, taken",
    [
        (9, "flash_attn_interface", {}, "FA3"),
        (10, "flash_attn.cute", {}, "FA4"),
        (8, "flash_attn_interface", {}, None),
        (9, "", {}, None),
        (9, "flash_attn_interface", {"deterministic": True}, None),
    ],
)
def test_the_attention_kernel_written_for_this_gpu_is_taken_where_it_is_installed(
    home, monkeypatch, generation, installed, wish, taken
):
    activated = []
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (generation, 0))
    monkeypatch.setattr(gears, "_installed", lambda package: package == installed)
    monkeypatch.setattr(gears, "activate_flash_attention_impl", activated.append)

    assert gears.own_flash(plan(home, **wish), CUDA) == taken
    assert activated == ([taken] if taken else [])


def test_a_package_without_kernels_leaves_torchs_own(home, monkeypatch):
    def empty(_):
        raise RuntimeError("does not expose FA3 kernels")

    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (9, 0))
    monkeypatch.setattr(gears, "_installed", lambda _: True)
    monkeypatch.setattr(gears, "activate_flash_attention_impl", empty)

    assert gears.own_flash(plan(home), CUDA) is None


def test_no_cpu_asks_for_a_kernel_of_a_gpu(home):
    assert gears.own_flash(plan(home), CPU) is None
