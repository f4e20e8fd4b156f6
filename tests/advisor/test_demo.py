import json
import os
import subprocess
import sys

import pytest

from advisor.decide.advise import advise
from advisor.decide.answers import parse
from advisor.decide.measured import facts
from advisor.learn.lantern.tasks import task
from advisor.plan.compose import TRAINED_LEAVES
from advisor.show import demo as say
from recipes.exits import Exit
from recipes.plan import Plan
from recipes.read import read
from recipes.report import Arm, Rate, Report


def measured(name, **arms):
    """A report of a task; `arms` are shares by score, as a measurement would find them."""
    return Report(
        run="measured",
        model="base",
        primary=task(name).primary,
        held_out_rows=100,
        arms=[
            Arm(
                name=arm,
                scores={
                    score: Rate(value=share, low=share, high=share, n=100) for score, share in scores.items()
                },
                prompt_tokens=10.0,
                seconds=1.0,
            )
            for arm, scores in arms.items()
        ],
        verdict="not_trained",
        versions={},
        machine={},
        finished="2026-11-20T14:00:00Z",
    )


def advice(name, report):
    found = task(name)
    return advise(parse({**facts(report), **found.declared, "n_labelled": len(found.train)}, "report"))


NEVER_IN_VOICE = {"style": 0.0, "fact": 1.0, "exact": 0.0}
UNKNOWN = {"fact": 0.04, "exact": 0.02}
KNOWN = {"fact": 1.0, "exact": 1.0}


def test_a_voice_that_no_prompt_brings_is_trained():
    report = measured("voice", base=NEVER_IN_VOICE, prompt=NEVER_IN_VOICE, few_shot=NEVER_IN_VOICE)

    assert advice("voice", report).primary == "sft_lora"


def test_a_voice_that_examples_bring_is_not_trained():
    found = {"style": 0.97, "fact": 1.0, "exact": 0.97}
    report = measured("voice", base=NEVER_IN_VOICE, prompt=NEVER_IN_VOICE, few_shot=found)

    assert advice("voice", report).primary not in TRAINED_LEAVES


def test_facts_that_a_note_brings_are_looked_up():
    report = measured("facts", base=UNKNOWN, prompt=UNKNOWN, few_shot=UNKNOWN, context=KNOWN)

    assert advice("facts", report).primary == "rag"


def test_what_the_prompt_solves_stays_with_the_prompt():
    report = measured("easy", base={"exact": 0.0}, prompt={"exact": 1.0}, few_shot={"exact": 1.0})

    assert advice("easy", report).primary == "prompt_engineering"


def test_right_content_in_the_wrong_form_is_constrained_and_not_trained():
    nothing = {"exact": 0.0, "content": 0.0, "boolean": 0.0, "fields": 0.0}
    examples = {"exact": 0.0, "content": 1.0, "boolean": 0.0, "fields": 0.75}
    report = measured("ticket", base=nothing, prompt=nothing, few_shot=examples)

    assert advice("ticket", report).primary == "structured_output"


def test_not_training_names_the_gain_of_what_to_do_instead():
    report = measured("facts", base=UNKNOWN, prompt=UNKNOWN, few_shot=UNKNOWN, context=KNOWN)
    last = list(say.not_trained(advice("facts", report), report))[-1]

    assert "fact 4 % as it is, 100 % with the right note in the prompt" in last


def test_where_no_prompt_helps_the_demo_does_not_pretend_that_one_did():
    nothing = {"exact": 0.0}
    report = measured("hard", base=nothing, prompt=nothing, few_shot=nothing)
    told = "\n".join(say.not_trained(advice("hard", report), report))

    assert "exact 0 % at best" in told
    assert "as it is" not in told


def test_knowledge_that_is_there_leaves_no_doubt_about_a_passage_that_nobody_tried():
    report = measured("voice", base=NEVER_IN_VOICE, prompt=NEVER_IN_VOICE, few_shot=NEVER_IN_VOICE)

    assert advice("voice", report).confidence.band != "low"


# ------------------------------------------------------------------------------------------------ with real processes


def demo(*words, **environment):
    command = [sys.executable, "-m", "advisor", "demo", *words]
    kept = {**os.environ, "HF_HUB_OFFLINE": "1", "ADVISOR_LANG": "en", **environment}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=kept)


@pytest.fixture(scope="module")
def voice(tmp_path_factory):
    """The whole walk once, with few held-out rows: four processes, one of them trains."""
    pytest.importorskip("torch")
    place = tmp_path_factory.mktemp("demo") / "kept"
    done = demo("--rows", "20", "--keep", str(place), "--json")

    assert done.returncode == Exit.OK, done.stderr
    return place, json.loads(done.stdout), done.stderr


def test_the_voice_walk_ends_with_a_tuned_model_that_speaks_and_still_knows(voice):
    _, told, _ = voice
    arms = {arm["name"]: arm["scores"] for arm in told["data"]["report"]["arms"]}

    assert told["schema"] == "advisor/demo/1"
    assert max(arms[name]["style"]["value"] for name in ("base", "prompt", "few_shot")) <= 0.1
    assert arms["tuned"]["style"]["value"] >= 0.9
    assert arms["tuned"]["fact"]["value"] >= 0.8
    assert told["data"]["report"]["verdict"] == "helped"


def test_the_same_graph_gives_other_advice_where_the_numbers_differ(voice):
    _, told, _ = voice

    assert told["data"]["advice"]["primary"] == "sft_lora"
    assert {o["task"]: o["advice"]["primary"] for o in told["data"]["others"]} == {
        "easy": "prompt_engineering",
        "facts": "rag",
    }


def test_everything_that_was_kept_can_be_used_again(voice):
    place, told, _ = voice
    plan = read((place / "voice" / "recipe.toml").read_text(encoding="utf-8"))
    kept = json.loads((place / "voice" / "facts.json").read_text(encoding="utf-8"))

    assert isinstance(plan, Plan)
    assert advise(parse(kept, "file")).primary == told["data"]["advice"]["primary"]
    assert (place / "voice" / "run" / "report.json").is_file()


def test_memory_and_time_were_predicted_before_they_were_measured(voice):
    training = voice[1]["data"]["report"]["training"]

    assert training["memory"]["predicted_bytes"] > 0
    assert training["duration"]["predicted_low"] < training["duration"]["predicted_high"]


def test_the_story_is_told_on_stderr_when_stdout_is_json(voice):
    assert all(f"{number}. " in voice[2] for number in range(1, 7))


def test_a_directory_with_something_in_it_is_left_alone(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    done = demo("--keep", str(tmp_path))

    assert done.returncode == Exit.ENVIRONMENT
    assert "mine.txt" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_without_the_training_extra_the_demo_says_what_to_install(monkeypatch, tmp_path):
    from advisor.cli.demo import command
    from advisor.errors import MissingPackage
    from advisor.run import start

    monkeypatch.setattr(start, "NEEDED", ("no_such_package_at_all",))

    with pytest.raises(MissingPackage, match="no_such_package_at_all") as raised:
        command.main(["--keep", str(tmp_path / "new")], standalone_mode=False)

    assert raised.value.exit_code == Exit.ENVIRONMENT
    assert "finetune-advisor[train]" in raised.value.remedy
