"""A dry run: the trainer on tensors without memory."""

import json
import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F

from recipes.exits import Exit
from recipes.plan import (
    Data,
    Full,
    Ia3,
    LastLayers,
    Layout,
    Lora,
    Model,
    Plan,
    Prefix,
    PromptTuning,
    Schedule,
)
from recipes.write import write
from trainers.__main__ import main
from trainers.dryrun import dry_run, workspaces
from trainers.dryrun.depth import Depth, Shallow, shallows
from trainers.dryrun.device import as_on_cuda
from trainers.memory.live import Recorder
from trainers.memory.trace import Gave, Took, peaks

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")  # peft

CONFIG = {
    "model_type": "llama",
    "vocab_size": 1024,
    "hidden_size": 128,
    "intermediate_size": 256,
    "num_hidden_layers": 9,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "max_position_embeddings": 512,
    "tie_word_embeddings": False,
}


def plan(adaptation=None, functions="ours", base="base", **changes):
    schedule = {"epochs": 1.0, "micro_batch_tokens": 256, "learning_rate": 1e-3} | changes
    return Plan(
        name="dry",
        model=Model(id=base),
        adaptation=adaptation or Lora(rank=4),
        data=Data(
            train="t", train_sha256="0" * 64, held_out="h", held_out_sha256="0" * 64, length_tokens=128
        ),
        schedule=Schedule(**schedule),
        layout=Layout(functions=functions),
    )


def taken(act):
    """The bytes that `act` takes, and what it gives back at once."""
    recorder = Recorder()
    with recorder, as_on_cuda(recorder):
        kept = act()
    del kept
    return [event.bytes for event in recorder.trace if isinstance(event, Took)]


# --- what is counted ---


def test_a_storage_counts_once_however_many_views_it_has_and_until_the_last_is_gone():
    recorder = Recorder()
    with recorder:
        recorder.enter("here")
        base = torch.empty(1000, dtype=torch.float32)
        view = base[:10].view(2, 5)
        del base
        assert not any(isinstance(event, Gave) for event in recorder.trace)
        del view

    assert peaks(recorder.trace) == {"here": 4096}
    assert isinstance(recorder.trace[-1], Gave)


def test_whoever_asks_for_a_value_gets_none_but_goes_on():
    with Recorder():
        x = torch.empty(3)
        assert (x.sum().item(), bool((x > 0).any()), int(torch.empty(1, dtype=torch.int64))) == (
            0.0,
            False,
            0,
        )


def test_dropout_keeps_a_mask_of_one_byte_as_on_a_gpu():
    x = 4 * 256

    def drop():
        given = torch.empty(256, requires_grad=True)
        return F.dropout(given * 1.0, 0.5, training=True)

    assert sorted(taken(drop)) == [256, x, x, x]


def test_the_logarithm_of_a_sum_takes_a_copy_of_its_input_unseen():
    sizes = taken(lambda: torch.empty(4, 1000).logsumexp(-1))

    assert sizes == [16_000, 16, 16_000]


# --- depth ---


@pytest.mark.parametrize(
    ("adaptation", "changes"),
    [
        (Lora(rank=4), {}),
        (Lora(rank=4, base="nf4"), {"checkpointing": True}),
        (Full(), {"checkpointing": True, "accumulation": 3}),
        (Full(), {"functions": "stock"}),
        (LastLayers(layers=4), {}),
    ],
)
def test_shallow_models_give_the_deep_ones_peaks_to_the_rounding(adaptation, changes):
    made = plan(adaptation, **changes)
    shallow, deep = dry_run(made, CONFIG), dry_run(made, CONFIG, reserved=True)

    assert deep.depths == (9,)
    assert max(shallow.depths) < 9
    assert shallow.moments == pytest.approx(
        deep.moments, rel=2e-5
    )  # the norm's list of gradients is rounded once
    assert shallow.trained == deep.trained


def test_recomputing_keeps_nothing_of_frozen_blocks_below_the_first_that_moves():
    made = plan(LastLayers(layers=4), checkpointing=True)
    less, more = dry_run(made, CONFIG), dry_run(made, CONFIG | {"num_hidden_layers": 12})
    weights = more.moments["load"] - less.moments["load"]

    assert more.moments["loss"] - less.moments["loss"] == weights


def test_nothing_of_a_step_outlives_it():
    steps = [plan(checkpointing=kept, accumulation=2) for kept in (True, False)]
    held = [dry_run(one, CONFIG, label_share=0.1).moments["step"] for one in steps]

    assert held[0] == held[1]


def test_offloaded_checkpoints_are_not_on_the_device():
    kept, away = (plan(checkpointing=True, checkpointing_offload=off) for off in (False, True))
    per_block = 2 * 256 * 128  # bytes of one block's input
    saved = dry_run(kept, CONFIG).moments["loss"] - dry_run(away, CONFIG).moments["loss"]

    assert saved == pytest.approx(9 * per_block, abs=2 * per_block)


def test_blocks_that_differ_are_all_run():
    uneven = CONFIG | {"layer_types": ["linear_attention", "full_attention", "full_attention"] * 3}

    assert shallows(plan(), uneven, 9) == (Shallow(Depth(0, 9), 1),)
    assert len(shallows(plan(), CONFIG, 9)) == 2


def test_every_nth_checkpoint_is_kept_apart_by_its_remainder():
    found = shallows(plan(checkpointing=True, checkpointing_layers=4), CONFIG, 37)

    assert [one.depth.moving for one in found] == [9, 13]
    assert sum(one.factor for one in found) == 1
    assert sum(one.factor * one.depth.moving for one in found) == 37


# --- what it knows of a run ---


@pytest.fixture(scope="module")
def lora():
    return dry_run(plan(), CONFIG)


def test_weights_adapters_and_moments_are_what_their_shapes_say(lora):
    blocks = 9 * (2 * 128 * 128 + 2 * 64 * 128 + 3 * 128 * 256 + 2 * 128)
    weights = blocks + 2 * 1024 * 128 + 128
    adapters = 9 * 4 * (2 * (128 + 128) + 2 * (128 + 64) + 3 * (128 + 256))

    assert lora.trained == adapters
    assert lora.moments["load"] - sum(workspaces()) == pytest.approx(2 * weights, rel=3e-3)
    resident = 2 * weights + 3 * 4 * adapters
    assert lora.moments["step"] - sum(workspaces()) == pytest.approx(
        resident + 4 * adapters, rel=5e-2
    )  # steps and batches, each a block of its own


def test_what_saves_memory_in_a_run_saves_it_in_a_dry_run(lora):
    peak = {
        "stock": dry_run(plan(functions="stock"), CONFIG),
        "checkpoints": dry_run(plan(checkpointing=True), CONFIG),
        "4 bit": dry_run(plan(Lora(rank=4, base="nf4")), CONFIG),
        "full": dry_run(plan(Full()), CONFIG),
        "twice the tokens": dry_run(plan(micro_batch_tokens=512), CONFIG),
        "half of the labels": dry_run(plan(), CONFIG, label_share=0.5),
    }

    assert {name for name, found in peak.items() if found.allocated < lora.allocated} == {
        "checkpoints",
        "4 bit",
        "half of the labels",
    }


def test_dropout_costs_memory():
    assert dry_run(plan(Lora(rank=4, dropout=0.1)), CONFIG).allocated > dry_run(plan(), CONFIG).allocated


@pytest.mark.parametrize("adaptation", [Ia3(), Prefix(virtual_tokens=8), PromptTuning(virtual_tokens=8)])
def test_every_way_to_move_weights_can_be_run_dry(adaptation):
    found = dry_run(plan(adaptation), CONFIG)

    assert found.trained > 0
    assert found.allocated > found.moments["load"]


def test_attention_is_the_kernel_of_variable_length_and_never_a_square(lora):
    longer = plan().model_copy(update={"data": plan().data.model_copy(update={"length_tokens": 256})})

    assert dry_run(longer, CONFIG).allocated == pytest.approx(lora.allocated, rel=1e-3)


def test_a_model_that_refuses_packed_rows_is_run_row_by_row_and_says_so():
    capped = CONFIG | {"model_type": "gemma2", "query_pre_attn_scalar": 32, "sliding_window": 64}
    found = dry_run(plan(), capped)

    assert any("soft cap" in note for note in found.notes)
    assert found.allocated > found.moments["load"]


# --- the command ---


def home_of(tmp_path, made):
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "config.json").write_text(json.dumps(CONFIG))
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(write(made, {}))
    return recipe


def test_a_directory_with_a_config_is_enough(tmp_path, capsys, lora):
    assert main(["dry-run", str(home_of(tmp_path, plan())), "--json"]) == Exit.OK
    told = json.loads(capsys.readouterr().out)

    assert told["schema"] == "trainers/dry-run/1"
    assert told["peak_allocated_bytes"] == lora.allocated
    assert told["moments"] == dict(lora.moments)
    assert told["reserved"] is None
    assert told["versions"]["torch"]


def test_what_the_allocator_would_hold_is_at_least_what_is_handed_out(tmp_path, capsys):
    assert main(["dry-run", str(home_of(tmp_path, plan())), "--json", "--reserved"]) == Exit.OK
    told = json.loads(capsys.readouterr().out)

    assert told["reserved"]["segments"] >= told["peak_allocated_bytes"]
    assert told["reserved"]["expandable"] >= told["peak_allocated_bytes"]


def test_people_get_a_table_with_the_highest_moment_marked(tmp_path, capsys, lora):
    assert main(["dry-run", str(home_of(tmp_path, plan()))]) == Exit.OK

    marked = [line for line in capsys.readouterr().out.splitlines() if line.startswith("*")]
    assert [line.split()[1] for line in marked] == [lora.winner]


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ("{", "not the configuration of a model"),
        ("[]", "not the configuration of a model"),
        ('{"model_type": "no-such-thing"}', "transformers cannot load it"),
        ('{"model_type": "llama", "hidden_size": "wide"}', "transformers cannot load it"),
    ],
)
def test_a_config_that_is_none_is_refused_in_words(tmp_path, capsys, config, says):
    recipe = home_of(tmp_path, plan())
    (tmp_path / "base" / "config.json").write_text(config)

    assert main(["dry-run", str(recipe)]) == Exit.USAGE
    assert says in capsys.readouterr().err


def test_a_model_that_is_not_here_asks_for_its_config(tmp_path, capsys):
    recipe = home_of(tmp_path, plan(base="Qwen/Qwen3-8B"))

    assert main(["dry-run", str(recipe)]) == Exit.USAGE
    assert "--config FILE" in capsys.readouterr().err
    assert main(["dry-run", str(recipe), "--config", str(tmp_path / "base" / "config.json")]) == Exit.OK


def test_several_processes_are_refused(tmp_path, capsys):
    made = plan()
    wide = made.model_copy(update={"layout": made.layout.model_copy(update={"processes": 2})})

    assert main(["dry-run", str(home_of(tmp_path, wide))]) != Exit.OK
    assert "one process" in capsys.readouterr().err


def test_modules_that_a_model_does_not_have_are_refused(tmp_path, capsys):
    assert main(["dry-run", str(home_of(tmp_path, plan(Lora(targets=("nothing",)))))]) == Exit.USAGE
    assert "nothing" in capsys.readouterr().err


def test_a_trainer_s_process_asks_for_segments_that_grow():
    spy = "import runpy, os, sys; sys.argv = ['trainers', '--help']\n" + (
        "try: runpy.run_module('trainers', run_name='__main__')\n"
        "except SystemExit: print(os.environ['PYTORCH_ALLOC_CONF'])"
    )
    said = subprocess.run([sys.executable, "-c", spy], capture_output=True, text=True, check=True)

    assert said.stdout.splitlines()[-1] == "expandable_segments:True"
