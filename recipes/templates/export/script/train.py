"""Fine-tune a language model on your own examples: a script to run, to read and to change.

It needs torch, transformers, peft, safetensors (and bitsandbytes for a 4-bit base), nothing else:

    pip install torch transformers peft safetensors bitsandbytes
    python train.py                    # trains, and saves to ./output
    python train.py --max-steps 5      # a try

This file is the same for every recipe. What differs stands beside it: `recipe.json` (every setting) and two files
of rows (one example a line, as JSON). Nothing in them is ever run as code.

The file reads from top to bottom, in the order in which a run happens:

    1. the model, and which of its weights move
    2. rows to tokens, and which tokens are learned
    3. batches of tokens
    4. the loop
    5. the end: measure, save

Letters in names say what the axes of a tensor are: B rows of a batch, T tokens of a row, V words of the vocabulary,
N tokens that are learned.
"""

import argparse
import json
import math
import os
import random
import sys
import time
from fnmatch import fnmatchcase
from pathlib import Path

import torch
import torch.nn.functional as F
from peft import (
    IA3Config,
    LoraConfig,
    PrefixTuningConfig,
    PromptEncoderConfig,
    PromptTuningConfig,
    get_peft_model,
)
from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig

HERE = Path(__file__).resolve().parent
IGNORED = -100  # the label of a token that is not learned
NOT_A_NUMBER = 5  # exit code: the run was stopped before it could spoil the weights
BAD_DATA = 3  # exit code: the rows cannot be trained on

# What architectures call the projections of keys and values, and the last one of the MLP.
PROJECTIONS = (
    (("k_proj", "v_proj"), "down_proj"),  # Llama, Mistral, Qwen, Gemma
    (("k_proj", "v_proj"), "fc2"),  # OPT, Phi-2
    (("qkv_proj",), "down_proj"),  # Phi-3
    (("query_key_value",), "dense_4h_to_h"),  # GPT-NeoX, BLOOM, Falcon
    (("c_attn",), "mlp.c_proj"),  # GPT-2
)

# A base model has often no chat template. New control tokens would have to be learned first, so plain words do.
PLAIN_TEMPLATE = (
    "{{ bos_token or '' }}"
    "{% for m in messages %}"
    "{% if m['role'] == 'assistant' %}{{ 'Assistant: ' + m['content'] + eos_token }}"
    "{% elif m['role'] == 'user' %}{{ 'User: ' + m['content'] }}"
    "{% else %}{{ m['content'] }}{% endif %}"
    "{% if not loop.last or add_generation_prompt %}{{ '\n' }}{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}Assistant:{% endif %}"
)


# === 1. The model, and which of its weights move ================================================================


def load_model(recipe, device):
    """The base model with the adaptation of the recipe; only what is to be learned has `requires_grad`."""
    dtype = getattr(torch, recipe["model"]["dtype"])
    adaptation = recipe["adaptation"]
    held = adaptation.get("base", "dense")
    quantisation = None
    if held == "int8":  # LLM.int8 (Dettmers et al., 2022): the frozen weights are kept in 8 bits
        quantisation = BitsAndBytesConfig(load_in_8bit=True)
    if held == "nf4":  # QLoRA (Dettmers et al., 2023): they are kept in 4 bits and unpacked when used
        quantisation = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=adaptation["double_quantisation"],
            bnb_4bit_compute_dtype=dtype,
        )
    model = AutoModelForCausalLM.from_pretrained(
        recipe["model"]["id"],
        revision=recipe["model"].get("revision"),
        dtype=dtype,
        quantization_config=quantisation,
        device_map={"": device} if quantisation else None,
        use_safetensors=True,  # other weight files are pickles, and a pickle can run code
        trust_remote_code=False,
    )
    model = model if quantisation else model.to(device)
    for module in model.modules():
        # bitsandbytes 0.50 on a CPU: the first evaluation would repack the weights into a form without gradients
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False
    model.config.use_cache = False  # the cache is for generating text, not for learning
    torch.manual_seed(recipe["schedule"]["seed"])  # decides how what is added begins
    model = adapt(model, adaptation, recipe["model"]["id"])
    if recipe["schedule"]["checkpointing"]:
        model.enable_input_require_grads()  # else a frozen first layer cuts the gradient off
        newer = hasattr(model, "activation_checkpointing_enable")  # the same thing under its name since 5.23
        enable = model.activation_checkpointing_enable if newer else model.gradient_checkpointing_enable
        enable({"use_reentrant": False})
    return model


def adapt(model, adaptation, base):
    """Choose what moves: everything, a part of it, or something small beside frozen weights."""
    if adaptation["kind"] == "named":
        for name, weight in model.named_parameters():
            weight.requires_grad_(any(fnmatchcase(name, pattern) for pattern in adaptation["patterns"]))
        if not any(weight.requires_grad for weight in model.parameters()):
            raise SystemExit(f"no weight matches {', '.join(adaptation['patterns'])}")
        return in_float32(model)
    if adaptation["kind"] in ("prefix", "p_tuning", "prompt_tuning"):
        return get_peft_model(model, learned_positions(adaptation, base))
    if adaptation["kind"] == "ia3":
        return get_peft_model(model, factors(model))
    if adaptation["kind"] == "full":
        return in_float32(model)
    if adaptation["kind"] == "last_layers":
        model.requires_grad_(False)
        blocks = decoder_blocks(model)
        for block in blocks[max(0, len(blocks) - adaptation["layers"]) :]:
            block.requires_grad_(True)
        final_norm(model, blocks).requires_grad_(True)
        head = model.get_output_embeddings()
        if (
            head.weight is not model.get_input_embeddings().weight
        ):  # a tied head is the embedding, which stays
            head.requires_grad_(True)
        return in_float32(model)
    targets = adaptation["targets"]
    return get_peft_model(
        model,
        LoraConfig(
            task_type="CAUSAL_LM",
            r=adaptation["rank"],
            lora_alpha=adaptation["alpha"],
            lora_dropout=adaptation["dropout"],
            use_rslora=adaptation["rslora"],
            use_dora=adaptation["dora"],
            target_modules="all-linear" if targets == ["all-linear"] else targets,
        ),
    )


def learned_positions(adaptation, base):
    """Positions in front of every example: keys and values (prefix), or input vectors (the other two)."""
    count = {"task_type": "CAUSAL_LM", "num_virtual_tokens": adaptation["virtual_tokens"]}
    if adaptation["kind"] == "prefix":
        return PrefixTuningConfig(**count, init_weights="zero")  # drawn ones disturb every layer
    if adaptation["kind"] == "p_tuning":
        return PromptEncoderConfig(**count, encoder_hidden_size=adaptation["encoder_width"])
    if adaptation.get("start"):  # the words that it begins as
        words = {"prompt_tuning_init_text": adaptation["start"], "tokenizer_name_or_path": base}
        return PromptTuningConfig(**count, prompt_tuning_init="TEXT", **words)
    return PromptTuningConfig(**count, prompt_tuning_init="SAMPLE_VOCAB")


def factors(model):
    """IA3 (Liu et al., 2022): learned factors on keys, values and what the last matrix of the MLP reads."""
    names = [name for name, _ in model.named_modules()]
    for attention, mlp in PROJECTIONS:
        if all(any(name.endswith(f".{end}") for name in names) for end in (*attention, mlp)):
            return IA3Config(
                task_type="CAUSAL_LM",
                target_modules=[*attention, mlp],
                feedforward_modules=[mlp],
                fan_in_fan_out=mlp == "mlp.c_proj",
            )
    raise SystemExit("the key, value and MLP projections of this model have unknown names; use LoRA")


def in_float32(model):
    """Keep weights that move in 32 bits: with 16, most steps of training are too small to change them."""
    for weight in model.parameters():
        if weight.requires_grad:
            weight.data = weight.data.float()
    return model


def decoder_blocks(model):
    """The list of transformer blocks: the list of modules that is as long as the configuration says."""
    depth = model.config.get_text_config().num_hidden_layers
    lists = [module for module in model.modules() if isinstance(module, torch.nn.ModuleList)]
    return next(blocks for blocks in lists if len(blocks) == depth)


def final_norm(model, blocks):
    """The normalisation after the last block: the one norm that stands beside the list of blocks."""
    for module in model.modules():
        children = list(module.children())
        if any(child is blocks for child in children):
            return next(c for c in children if "norm" in type(c).__name__.lower())
    raise SystemExit("this model has no final norm where one is expected; use LoRA or full training")


# === 2. Rows to tokens, and which tokens are learned ============================================================


def read_rows(path):
    """The examples: one JSON object a line, with `messages` of role and content."""
    lines = path.read_bytes().split(b"\n")
    return [json.loads(line) for line in lines if line.strip()]


def examples(tokenizer, rows, data):
    """Turn rows into (ids, labels). A label is the id itself where it is learned, and IGNORED elsewhere."""
    kept, too_long = [], []
    if not rows:
        stop(BAD_DATA, "there are no rows")
    for row in rows:
        place = f"{row['source']['file']}:{row['source']['line']}"
        if row.get("kind") == "text":
            kept += windows(*text_example(tokenizer, row), data["length_tokens"])
            continue
        ids, labels = chat_example(tokenizer, row["messages"], place)
        if len(ids) > data["length_tokens"]:
            too_long.append(place)
        else:
            kept.append((ids, labels))
    if too_long and (data["too_long"] == "refuse" or not kept):
        stop(
            BAD_DATA,
            f"{len(too_long)} rows are longer than {data['length_tokens']} tokens, such as {too_long[0]}",
        )
    if too_long:  # never cut: an answer without its end teaches not to stop
        say(
            f"left out {len(too_long)} rows longer than {data['length_tokens']} tokens, such as {too_long[0]}"
        )
    return kept


def text_example(tokenizer, row):
    """Plain text: every token is learned, and where the text ends is learned, too."""
    ids = tokenizer(row["messages"][0]["content"])["input_ids"]
    if ids[-1:] != [tokenizer.eos_token_id]:
        ids = [*ids, tokenizer.eos_token_id]
    return ids, list(ids)


def windows(ids, labels, length):
    """Long texts in pieces. Neighbours share one token, so that each token is predicted exactly once."""
    pieces = []
    for start in range(0, max(1, len(ids) - 1), max(1, length - 1)):
        pieces.append((ids[start : start + length], [IGNORED, *labels[start + 1 : start + length]]))
    return pieces


def chat_example(tokenizer, messages, place):
    """A conversation: the answers and the token that ends each of them are learned, everything else is not.

    Where an answer begins and ends in the rendered text is found by rendering the conversation up to there. Then
    the whole text is split into tokens once, and a token is learned when it begins inside an answer.
    """
    messages = [{key: message.get(key) for key in ("role", "content", "train")} for message in messages]
    text = render(tokenizer, messages)
    encoded = tokenizer(
        text, add_special_tokens=False, return_offsets_mapping=True
    )  # the template wrote them
    ids, offsets = encoded["input_ids"], encoded["offset_mapping"]
    labels = [IGNORED] * len(ids)
    for number, message in enumerate(messages):
        if message["role"] != "assistant" or message["train"] is False:
            continue
        before = render(tokenizer, messages[:number], answer_follows=True)
        upto = render(tokenizer, messages[: number + 1])
        if not (text.startswith(upto) and upto.startswith(before)):
            if number == len(messages) - 1:
                stop(
                    BAD_DATA,
                    f"{place}: the chat template writes the prompt differently when an answer follows it",
                )
            continue  # some templates shorten earlier answers: those are then not learned
        end = len(upto.rstrip())  # the stop token, but not the line break after it
        for i, (first, _) in enumerate(offsets):
            if len(before) <= first < end:
                labels[i] = ids[i]
    last = max((i for i, label in enumerate(labels) if label != IGNORED), default=None)
    if last is None:
        stop(BAD_DATA, f"{place}: no token of this row would be learned")
    if (
        ids[last] != tokenizer.eos_token_id and ids[last] not in tokenizer.added_tokens_decoder
    ):  # the template does not end answers, so we do
        ids, labels = (
            [*ids[: last + 1], tokenizer.eos_token_id],
            [*labels[: last + 1], tokenizer.eos_token_id],
        )
    return ids, labels


def render(tokenizer, messages, answer_follows=False):
    """The conversation as the model reads it."""
    turns = [{"role": message["role"], "content": message["content"]} for message in messages]
    return tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=answer_follows)


# === 3. Batches of tokens =======================================================================================


def micro_batches(items, most_tokens):
    """Neighbouring examples, together at most `most_tokens` long when padded to the longest of them."""
    batch, longest = [], 0
    for item in items:
        width = max(longest, len(item[0]))
        if batch and width * (len(batch) + 1) > most_tokens:
            yield batch
            batch, width = [], len(item[0])
        batch, longest = [*batch, item], width
    if batch:
        yield batch


def steps(items, schedule):
    """For each step its micro-batches; each epoch in another order."""
    order = random.Random(schedule["seed"])
    whole = math.floor(schedule["epochs"])
    for epoch in range(math.ceil(schedule["epochs"])):
        shuffled = order.sample(items, len(items))
        if epoch == whole:  # the last epoch may be a part of one
            shuffled = shuffled[: math.ceil(len(items) * (schedule["epochs"] - whole))]
        batches = list(micro_batches(shuffled, schedule["micro_batch_tokens"]))
        for start in range(0, len(batches), schedule["accumulation"]):
            yield batches[start : start + schedule["accumulation"]]


def padded(batch, device):
    """A micro-batch as tensors [B, T] int64: ids, attention mask and labels. Padding is masked by its position."""
    longest = max(len(ids) for ids, _ in batch)
    ids_BT = torch.zeros(len(batch), longest, dtype=torch.long)
    mask_BT = torch.zeros(len(batch), longest, dtype=torch.long)
    labels_BT = torch.full((len(batch), longest), IGNORED)
    for row, (ids, labels) in enumerate(batch):
        ids_BT[row, : len(ids)] = torch.tensor(ids)
        mask_BT[row, : len(ids)] = 1
        labels_BT[row, : len(ids)] = torch.tensor(labels)
    return ids_BT.to(device), mask_BT.to(device), labels_BT.to(device)


def learned(batch):
    """How many tokens of a micro-batch are predicted and learned (the first of a row has nothing before it)."""
    return sum(label != IGNORED for _, labels in batch for label in labels[1:])


# === 4. The loop ================================================================================================


def summed_loss(model, batch, device):
    """The negative log-likelihood of the learned tokens, in nats, summed (not averaged)."""
    ids_BT, mask_BT, labels_BT = padded(batch, device)
    narrow = (
        model.config.dtype != torch.float32
    )  # then the arithmetic is in 16 bits, and the sums below in 32
    with torch.autocast(device, dtype=torch.bfloat16, enabled=narrow):
        logits_BTV = model(input_ids=ids_BT, attention_mask=mask_BT).logits
    logits_BTV = logits_BTV[:, -ids_BT.shape[1] :]  # of learned positions in front nothing is predicted
    target_BT = labels_BT[:, 1:]  # the token at place t is predicted from those before it
    learned_BT = target_BT != IGNORED
    logits_NV = logits_BTV[:, :-1][learned_BT].float()
    return F.cross_entropy(logits_NV, target_BT[learned_BT], reduction="sum")


def make_optimizer(model, schedule):
    """AdamW; vectors (norms, biases) are not decayed towards zero, matrices are."""
    moving = [weight for weight in model.parameters() if weight.requires_grad]
    return torch.optim.AdamW(
        [
            {"params": [w for w in moving if w.ndim > 1], "weight_decay": schedule["weight_decay"]},
            {"params": [w for w in moving if w.ndim <= 1], "weight_decay": 0.0},
        ],
        lr=schedule["learning_rate"],
    )


def rate_at(step, total, schedule):
    """The learning rate as a share of its peak: it rises during warm-up and then falls."""
    warmup = math.ceil(total * schedule["warmup_share"])
    if step < warmup:
        return (step + 1) / (warmup + 1)
    done = (step - warmup) / max(1, total - warmup)
    shapes = {"cosine": (1 + math.cos(math.pi * done)) / 2, "linear": 1 - done, "constant": 1.0}
    return shapes[schedule["decay"]]


def train(model, items, schedule, device, max_steps):
    """Learn. One step: gradients of several micro-batches, divided by the learned tokens of all of them."""
    total = sum(1 for _ in steps(items, schedule))
    total = min(filter(None, (total, schedule.get("max_steps"), max_steps)))
    moving = [weight for weight in model.parameters() if weight.requires_grad]
    optimizer = make_optimizer(model, schedule)
    model.train()
    started = time.monotonic()
    for step, batches in enumerate(steps(items, schedule)):
        if step == total:
            break
        tokens = sum(map(learned, batches))
        rate = schedule["learning_rate"] * rate_at(step, total, schedule)
        for group in optimizer.param_groups:
            group["lr"] = rate
        loss = 0.0
        for batch in batches:
            part = (
                summed_loss(model, batch, device) / tokens
            )  # so uneven micro-batches weigh what they should
            if not torch.isfinite(part):
                stop(NOT_A_NUMBER, f"the loss of step {step + 1} is {part.item()}: lower the learning rate")
            part.backward()
            loss += part.item()
        norm = torch.nn.utils.clip_grad_norm_(moving, schedule["clip_norm"])
        if not torch.isfinite(norm):
            stop(NOT_A_NUMBER, f"the gradient of step {step + 1} is not finite: lower the learning rate")
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        clock = time.monotonic() - started
        say(f"step {step + 1}/{total}  loss {loss:.4f}  rate {rate:.2e}  gradient {norm:.3f}  {clock:.1f} s")


# === 5. The end: measure, save ==================================================================================


@torch.no_grad()
def held_out_loss(model, items, most_tokens, device):
    """The mean loss per token on rows that were never trained on: the number that has to fall."""
    model.eval()
    batches = list(micro_batches(items, most_tokens))
    total = sum(summed_loss(model, batch, device).item() for batch in batches)
    return total / max(1, sum(map(learned, batches)))


def save(model, tokenizer, recipe, output):
    """The adapter, or the whole model, with its tokenizer."""
    if recipe["adaptation"]["kind"] != "lora":
        model.to(getattr(torch, recipe["model"]["dtype"]))
        model.config.use_cache = True
    model.save_pretrained(output)
    tokenizer.save_pretrained(output)


def say(text):
    """One line, at once, and with nothing in it that a terminal would obey."""
    print("".join(c if c.isprintable() else "?" for c in text), flush=True)


def stop(code, reason):
    """End the run with a sentence."""
    say(f"stopped: {reason}")
    raise SystemExit(code)


def main():
    """The whole run, in order."""
    parser = argparse.ArgumentParser(description="Fine-tune the model of recipe.json on the rows beside it.")
    parser.add_argument("--recipe", type=Path, default=HERE / "recipe.json")
    parser.add_argument("--output", type=Path, default=HERE / "output")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), help="default: as the recipe says")
    parser.add_argument("--max-steps", type=int, help="stop after so many steps")
    options = parser.parse_args()
    recipe = json.loads(options.recipe.read_text(encoding="utf-8"))
    if options.output.exists() and any(options.output.iterdir()):
        stop(2, f"{options.output} is not empty; choose another place with --output")

    wish = options.device or recipe["layout"]["device"]
    device = ("cuda" if torch.cuda.is_available() else "cpu") if wish == "auto" else wish
    torch.manual_seed(recipe["schedule"]["seed"])
    if recipe["layout"].get("threads"):
        torch.set_num_threads(recipe["layout"]["threads"])
    if recipe["layout"].get("deterministic"):
        os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"  # read at the first product on a GPU
        torch.use_deterministic_algorithms(True)

    tokenizer = AutoTokenizer.from_pretrained(recipe["model"]["id"], revision=recipe["model"].get("revision"))
    if tokenizer.eos_token is None:
        stop(BAD_DATA, "the tokenizer has no token that ends a text, so no answer could ever end")
    tokenizer.chat_template = tokenizer.chat_template or PLAIN_TEMPLATE
    model = load_model(recipe, device)
    everything = sum(weight.numel() for weight in model.parameters())
    moving = sum(weight.numel() for weight in model.parameters() if weight.requires_grad)
    say(f"{recipe['model']['id']} on {device}: {moving:,} of {everything:,} stored weights move")

    beside = options.recipe.resolve().parent
    items = examples(tokenizer, read_rows(beside / recipe["data"]["train"]), recipe["data"])
    judged = examples(tokenizer, read_rows(beside / recipe["data"]["held_out"]), recipe["data"])
    say(f"{len(items)} examples to learn from, {len(judged)} held out")

    width = recipe["schedule"]["micro_batch_tokens"]
    say(f"held-out loss before: {held_out_loss(model, judged, width, device):.4f}")
    train(model, items, recipe["schedule"], device, options.max_steps)
    say(f"held-out loss after: {held_out_loss(model, judged, width, device):.4f}")
    save(model, tokenizer, recipe, options.output)
    say(f"saved to {options.output}")


if __name__ == "__main__":
    sys.exit(main())
