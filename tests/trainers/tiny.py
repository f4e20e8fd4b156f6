"""A tiny model, tokenizer and recipe: made anew from a seed, so that nothing is shipped and nothing is fetched."""

import hashlib
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from recipes.plan import Adaptation, Data, Evaluation, Layout, Lora, Model, Plan, Schedule
from recipes.rows import Row, Source, Turn
from recipes.write import write

SPECIALS = ("<|pad|>", "<|bos|>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>")
MERGES = [("a", "b"), ("Ġ", "a"), ("ab", "c"), ("Ċ", "a")]
MARKED = (
    "{{ bos_token }}{% for m in messages %}{{ '<|' + m['role'] + '|>' }}"
    "{% if m['role'] == 'assistant' %}{% generation %}{{ ' ' + m['content'] + '<|end|>' }}{% endgeneration %}"
    "{% else %}{{ ' ' + m['content'] + '<|end|>' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
UNMARKED = MARKED.replace("{% generation %}", "").replace("{% endgeneration %}", "")


def tokenizer(template=MARKED):
    """Bytes with a few merges: enough for tokens that would straddle a boundary."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    words = [*SPECIALS, *alphabet, *("".join(pair) for pair in MERGES)]
    model = BPE(vocab={word: number for number, word in enumerate(words)}, merges=MERGES)
    backend = Tokenizer(model)
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.decoder = decoders.ByteLevel()
    made = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token="<|pad|>",
        bos_token="<|bos|>",
        eos_token="<|end|>",
        additional_special_tokens=list(SPECIALS[3:]),
        model_max_length=256,
    )
    made.chat_template = template
    return made


def model(seed=0, **changes):
    """Two layers, hidden 64, grouped heads; untied unless asked."""
    torch.manual_seed(seed)
    settings = {
        "vocab_size": len(SPECIALS) + 256 + len(MERGES),
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 256,
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "tie_word_embeddings": False,
    }
    return LlamaForCausalLM(LlamaConfig(**{**settings, **changes}))


def row(*contents, line=1, kind="sft", train=None, name="data.jsonl"):
    """Turns of user and assistant by turns; a system turn first where the number is odd."""
    roles = ["user", "assistant"] * len(contents)
    roles = ["system", *roles] if len(contents) % 2 and kind == "sft" else roles
    roles = ["assistant"] if kind == "text" else roles[: len(contents)]
    flags = train or [None] * len(contents)
    turns = tuple(
        Turn(role=role, content=content, train=flag)
        for role, content, flag in zip(roles, contents, flags, strict=True)
    )
    form = "text" if kind == "text" else "chat"
    return Row(kind=kind, messages=turns, source=Source(file=name, line=line, format=form, group=str(line)))


def rows(count, start=0):
    """Questions of uneven length with a rule behind the answers."""
    return [
        row(f"say {'ab ' * (1 + n % 5)}{n}", f"ahoy {n % 7}{'!' * (n % 3)}", line=n + 1)
        for n in range(start, start + count)
    ]


def write_model(directory, made=None, template=MARKED):
    """A model directory as `save_pretrained` writes it."""
    directory.mkdir(parents=True, exist_ok=True)
    (made or model()).save_pretrained(directory)
    tokenizer(template).save_pretrained(directory)
    return directory


def write_rows(path, some):
    path.write_text("".join(one.model_dump_json(exclude_none=True) + "\n" for one in some), encoding="utf-8")
    return hashlib.sha256(path.read_bytes()).hexdigest()


def plan(home, *, adaptation: Adaptation | None = None, train=None, held_out=None, **changes):
    """A plan whose rows lie in `home`; the base is `home/base`. `changes` are fields of the schedule."""
    home = Path(home)
    sums = (
        write_rows(home / "train.jsonl", train or rows(24)),
        write_rows(home / "held.jsonl", held_out or rows(4, 90)),
    )
    schedule = {"epochs": 2.0, "micro_batch_tokens": 128, "learning_rate": 1e-3, "save_every_steps": 2}
    return Plan(
        name="tiny",
        model=Model(id="base", dtype="float32"),
        adaptation=adaptation or Lora(rank=4, alpha=8.0),
        data=Data(
            train="train.jsonl",
            train_sha256=sums[0],
            held_out="held.jsonl",
            held_out_sha256=sums[1],
            length_tokens=64,
        ),
        schedule=Schedule(**{**schedule, **changes}),
        evaluation=Evaluation(rows=4, max_new_tokens=4, shots=0),
        layout=Layout(device="cpu", threads=1),
    )


def write_recipe(home, made):
    path = Path(home) / "recipe.toml"
    path.write_text(write(made, {}), encoding="utf-8")
    return path
