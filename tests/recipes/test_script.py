"""The script that trains without this project: constant, honest about its mask, and it learns on a CPU."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings

torch = pytest.importorskip("torch")
pytest.importorskip("peft")
pytestmark = pytest.mark.filterwarnings(
    "ignore:.*gradient_checkpointing:FutureWarning",  # peft 0.21 still asks by the old name
    "ignore::DeprecationWarning",
)

from recipes_plans import HOSTILE, plans

from advisor.cli.recipe import _trainable_by_script, script_files
from advisor.data import store
from advisor.errors import BadValue
from recipes.plan import (
    Bottleneck,
    Data,
    Full,
    Ia3,
    LastLayers,
    Lora,
    Model,
    Named,
    Plan,
    Prefix,
    PromptTuning,
    PTuning,
    Schedule,
)  # fmt: skip
from recipes.rows import Row, Source, Turn

SCRIPT = Path(__file__).parents[2] / "recipes" / "templates" / "export" / "script" / "train.py"
TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("exported_train", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A random Llama of two layers with a byte tokenizer and a template without generation marks."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    specials = ["<|bos|>", "<|end|>", "<|user|>", "<|assistant|>", "<|system|>"]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    raw = Tokenizer(models.BPE({token: i for i, token in enumerate([*specials, *alphabet])}, []))
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    raw.add_special_tokens(specials)
    words = PreTrainedTokenizerFast(tokenizer_object=raw, bos_token="<|bos|>", eos_token="<|end|>")
    words.chat_template = TEMPLATE
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(raw.get_vocab()), hidden_size=64, intermediate_size=128, num_hidden_layers=2,
        num_attention_heads=2, num_key_value_heads=2, tie_word_embeddings=True, bos_token_id=0, eos_token_id=1,
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("base")
    LlamaForCausalLM(config).save_pretrained(folder)
    words.save_pretrained(folder)
    return folder


def _row(number, prompt=None, answer="Ahoy, shipmate!", kind="sft"):
    turns = (Turn(role="user", content=prompt or f"Who is {number}?"), Turn(role="assistant", content=answer))
    source = Source(file="rows.jsonl", line=number + 1, format="chat", group=str(number))
    return Row(kind=kind, messages=turns if kind == "sft" else turns[1:], source=source)


def _laid_out(folder, base, adaptation, *, rows=None, epochs=8.0, **schedule):
    rows = rows or [_row(i) for i in range(12)]
    sums = [
        store.write(folder / name, part)
        for name, part in (("train.rows.jsonl", rows[2:]), ("held_out.rows.jsonl", rows[:2]))
    ]
    plan = Plan(
        name="x",
        model=Model(id=str(base), dtype=schedule.pop("dtype", "float32")),
        adaptation=adaptation,
        data=Data(
            train="train.rows.jsonl", train_sha256=sums[0], held_out="held_out.rows.jsonl", held_out_sha256=sums[1],
            length_tokens=64,
        ),
        schedule=Schedule(**{
            "epochs": epochs, "micro_batch_tokens": 128, "accumulation": 2, "learning_rate": 1e-2, **schedule,
        }),
    )  # fmt: skip
    for name, content in script_files(plan).items():
        (folder / name).write_bytes(content)
    return folder


def _held_out(said):
    return [float(line.rsplit(" ", 1)[1]) for line in said.splitlines() if line.startswith("held-out loss")]


def _run(script, folder, monkeypatch, capsys, *words):
    monkeypatch.setattr(
        sys,
        "argv",
        ["train.py", "--recipe", str(folder / "recipe.json"), "--output", str(folder / "output"), *words],
    )
    script.main()
    return capsys.readouterr().out


def test_it_runs_by_itself_from_any_place_and_the_adapter_loads_in_plain_peft(base, tmp_path):
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    folder = _laid_out(tmp_path, base, Lora(rank=4))
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": ""}
    done = subprocess.run(
        [sys.executable, "-I", str(folder / "train.py")], cwd="/", capture_output=True, text=True, check=False, env=environment
    )  # fmt: skip

    assert done.returncode == 0, done.stderr
    before, after = _held_out(done.stdout)
    assert after < before - 0.3
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), folder / "output")
    assert any("lora" in name for name, _ in model.named_parameters())


@pytest.mark.parametrize(
    ("adaptation", "schedule"),
    [
        (Lora(rank=4, base="nf4"), {"checkpointing": True, "dtype": "bfloat16"}),
        (Full(), {"learning_rate": 3e-3, "dtype": "bfloat16"}),
        (LastLayers(layers=1), {"learning_rate": 3e-3}),
        (Named(patterns=("model.layers.*.mlp.*",)), {"learning_rate": 3e-3}),
        (Lora(rank=4, base="int8"), {}),
        (Lora(rank=4, dora=True), {}),
        (Prefix(virtual_tokens=8), {"learning_rate": 0.2}),
        (PTuning(virtual_tokens=8, encoder_width=32), {"learning_rate": 3e-2}),
        (PromptTuning(virtual_tokens=8, start="Ahoy"), {"learning_rate": 0.2}),
        (Ia3(), {"learning_rate": 0.2}),
    ],
    ids=[
        "qlora",
        "full",
        "last_layers",
        "named",
        "lora_8bit",
        "dora",
        "prefix",
        "p_tuning",
        "prompt_tuning",
        "ia3",
    ],
)
def test_each_adaptation_learns(script, base, tmp_path, monkeypatch, capsys, adaptation, schedule):
    folder = _laid_out(tmp_path, base, adaptation, **schedule)
    before, after = _held_out(_run(script, folder, monkeypatch, capsys))

    few = adaptation.kind in (
        "p_tuning",
        "prompt_tuning",
        "ia3",
    )  # a random base has little that they could call up
    assert after < before - (0.1 if few else 0.3)


def test_measuring_first_does_not_cut_the_gradient_of_a_4_bit_base(script, base, tmp_path):
    folder = _laid_out(tmp_path, base, Lora(rank=4, base="nf4"), dtype="bfloat16")
    recipe = json.loads((folder / "recipe.json").read_text())
    norms = []
    for measure_first in (False, True):
        torch.manual_seed(0)
        model = script.load_model(recipe, "cpu")
        tokenizer = script.AutoTokenizer.from_pretrained(base)
        items = script.examples(tokenizer, script.read_rows(folder / "train.rows.jsonl"), recipe["data"])
        if measure_first:
            script.held_out_loss(model, items, 128, "cpu")
        model.train()
        script.summed_loss(model, items[:2], "cpu").backward()
        norms.append(sum(w.grad.norm().item() for w in model.parameters() if w.grad is not None))

    assert norms[0] == pytest.approx(norms[1], rel=1e-3)


def test_the_mask_holds_the_answers_and_their_ends_and_nothing_else(script, base):
    tokenizer = script.AutoTokenizer.from_pretrained(base)
    turns = [
        {"role": "user", "content": "a"}, {"role": "assistant", "content": "first"},
        {"role": "user", "content": "b"}, {"role": "assistant", "content": "no", "train": False},
        {"role": "user", "content": "c"}, {"role": "assistant", "content": "last"},
    ]  # fmt: skip
    ids, labels = script.chat_example(tokenizer, turns, "x:1")

    assert tokenizer.decode([i for i in labels if i != script.IGNORED]) == "first<|end|>last<|end|>"
    assert ids.count(tokenizer.bos_token_id) == 1


def test_without_a_template_plain_words_are_used_and_the_end_is_learned(script, base):
    tokenizer = script.AutoTokenizer.from_pretrained(base)
    tokenizer.chat_template = script.PLAIN_TEMPLATE
    turns = [{"role": "user", "content": "Who?"}, {"role": "assistant", "content": "Me."}]
    ids, labels = script.chat_example(tokenizer, turns, "x:1")

    assert tokenizer.decode(ids) == "<|bos|>User: Who?\nAssistant: Me.<|end|>"
    assert tokenizer.decode([i for i in labels if i != script.IGNORED]) == " Me.<|end|>"


def test_every_token_of_a_text_is_predicted_exactly_once(script):
    ids = list(range(23))
    pieces = script.windows(ids, ids, 8)

    assert [label for _, labels in pieces for label in labels if label != script.IGNORED] == ids[1:]
    assert max(len(part) for part, _ in pieces) == 8


def test_uneven_micro_batches_weigh_what_one_batch_would(script, base, tmp_path):
    folder = _laid_out(tmp_path, base, Full(), rows=[_row(i, answer="x" * (1 + 5 * i)) for i in range(6)])
    recipe = json.loads((folder / "recipe.json").read_text())
    tokenizer = script.AutoTokenizer.from_pretrained(base)
    items = script.examples(tokenizer, script.read_rows(folder / "train.rows.jsonl"), recipe["data"])
    grads = []
    for parts in ([items], [[item] for item in items]):
        model = script.load_model(recipe, "cpu").eval()
        for part in parts:
            (script.summed_loss(model, part, "cpu") / script.learned(items)).backward()
        grads.append(torch.cat([w.grad.flatten() for w in model.parameters()]))

    assert torch.allclose(*grads, atol=1e-5)


def test_a_loss_that_is_not_a_number_stops_before_the_step(script, base, tmp_path, monkeypatch, capsys):
    folder = _laid_out(tmp_path, base, Full())
    before = script.AutoModelForCausalLM.from_pretrained(base).state_dict()
    kept = []
    genuine = script.load_model

    def watched(*words):
        kept.append(genuine(*words))
        return kept[0]

    monkeypatch.setattr(script, "load_model", watched)
    monkeypatch.setattr(script, "held_out_loss", lambda *_: 0.0)
    monkeypatch.setattr(
        script, "summed_loss", lambda model, *_: next(model.parameters()).sum() * float("nan")
    )
    with pytest.raises(SystemExit) as ended:
        _run(script, folder, monkeypatch, capsys)

    assert ended.value.code == 5
    assert not (folder / "output").exists()
    assert all(torch.equal(before[name], tensor) for name, tensor in kept[0].state_dict().items())


@pytest.mark.parametrize(
    ("adaptation", "schedule", "words"),
    [
        (Bottleneck(), {}, "no bottleneck adapters"),
        (Lora(name="b", beneath=("a",)), {}, "others beneath"),
        (Prefix(), {"checkpointing": True}, "peft drops the prefix"),
    ],
    ids=["bottleneck", "beneath", "prefix"],
)
def test_what_the_script_cannot_do_is_refused_when_it_is_written(base, tmp_path, adaptation, schedule, words):
    _laid_out(tmp_path, base, adaptation, **schedule)
    plan = Plan.model_validate_json((tmp_path / "recipe.json").read_text())

    with pytest.raises(BadValue, match=words):
        _trainable_by_script(plan)


def test_the_same_bits_are_asked_of_torch_and_of_the_matrix_library(
    script, base, tmp_path, monkeypatch, capsys
):
    folder = _laid_out(tmp_path, base, Lora(rank=2), epochs=1.0)
    recipe = json.loads((folder / "recipe.json").read_text())
    recipe["layout"]["deterministic"] = True
    (folder / "recipe.json").write_text(json.dumps(recipe))
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":8192:2")  # restores whatever the script sets
    try:
        _run(script, folder, monkeypatch, capsys)
        asked = (torch.are_deterministic_algorithms_enabled(), os.environ["CUBLAS_WORKSPACE_CONFIG"])
    finally:
        torch.use_deterministic_algorithms(False)

    assert asked == (True, ":4096:8")


def test_a_row_that_is_too_long_is_left_out_and_said(script, base, tmp_path, monkeypatch, capsys):
    rows = [*(_row(i) for i in range(5)), _row(5, answer="x" * 200)]
    folder = _laid_out(tmp_path, base, Full(), rows=rows, epochs=1.0)
    said = _run(script, folder, monkeypatch, capsys, "--max-steps", "1")

    assert "left out 1 rows longer than 64 tokens, such as rows.jsonl:6" in said


def test_an_output_that_is_not_empty_is_refused(script, base, tmp_path, monkeypatch, capsys):
    folder = _laid_out(tmp_path, base, Full())
    (folder / "output").mkdir()
    (folder / "output" / "mine").touch()
    with pytest.raises(SystemExit) as ended:
        _run(script, folder, monkeypatch, capsys)

    assert ended.value.code == 2


@settings(max_examples=30)
@given(plans)
def test_the_script_is_the_same_for_every_plan_and_its_settings_read_back(plan):
    written = script_files(plan)

    assert written["train.py"] == SCRIPT.read_bytes()
    assert Plan.model_validate_json(written["recipe.json"]) == plan
    assert json.loads(written["recipe.export.json"])["plan_sha256"]


def test_hostile_text_in_rows_is_only_ever_text(script, base, tmp_path, monkeypatch, capsys):
    nasty = "".join(HOSTILE) + "__import__('os').system('touch owned')"
    folder = _laid_out(
        tmp_path, base, Full(), rows=[_row(i, prompt=f"{i}", answer=nasty[:40]) for i in range(6)], epochs=1.0
    )
    monkeypatch.chdir(tmp_path)
    said = _run(script, folder, monkeypatch, capsys, "--max-steps", "1")

    assert "saved" in said
    assert "\x1b" not in said
    assert not (tmp_path / "owned").exists()


def test_the_script_needs_nothing_of_this_project():
    assert not any(
        name in SCRIPT.read_text(encoding="utf-8")
        for name in ("import advisor", "import recipes", "from recipes", "from advisor", "from trainers")
    )
