"""What each arm asks."""

from recipes.plan import Evaluation
from recipes.rows import Row, Source, Turn
from trainers.evaluate.arms import applies, examples, turns


def row(question, answer="yes", group=None, system=None, context=None, kind="sft"):
    first = (Turn(role="system", content=system),) if system else ()
    asked = (*first, Turn(role="user", content=question)) if kind == "sft" else ()
    source = Source(file="a.jsonl", line=1, format="chat", group=group or question)
    messages = (*asked, Turn(role="assistant", content=answer))
    return Row(kind=kind, messages=messages, context=context, source=source)


def said(prompt):
    return [(turn.role, turn.content) for turn in prompt]


EVALUATION = Evaluation(prompt="Be brief.", few_shot_prompt="Follow the examples.", shots=2)


def test_base_and_tuned_are_asked_the_row_itself():
    asked = row("Why?", system="You are a clerk.")

    assert turns("base", asked, (), EVALUATION) == turns("tuned", asked, (), EVALUATION) == asked.prompt


def test_the_prompt_stands_above_the_rows_own_system_turn():
    asked = turns("prompt", row("Why?", system="You are a clerk."), (), EVALUATION)

    assert said(asked) == [("system", "Be brief.\n\nYou are a clerk."), ("user", "Why?")]


def test_a_prompt_that_the_row_has_already_is_not_said_twice():
    assert said(turns("prompt", row("Why?", system="Be brief."), (), EVALUATION))[0] == (
        "system",
        "Be brief.",
    )


def test_examples_stand_between_the_instruction_and_the_question():
    asked = turns("few_shot", row("Why?"), (row("How?", "so"), row("When?", "now")), EVALUATION)

    assert said(asked) == [
        ("system", "Follow the examples."),
        ("user", "How?"),
        ("assistant", "so"),
        ("user", "When?"),
        ("assistant", "now"),
        ("user", "Why?"),
    ]


def test_few_shot_without_an_instruction_of_its_own_uses_the_prompt():
    asked = turns("few_shot", row("Why?"), (row("How?"),), Evaluation(prompt="Be brief."))

    assert said(asked)[0] == ("system", "Be brief.")


def test_a_conversation_has_one_system_turn_whatever_the_examples_bring():
    shown = (row("How?", system="You are a clerk."), row("When?", system="You are a smith."))

    asked = turns("few_shot", row("Why?", system="You are a clerk."), shown, EVALUATION)

    assert [role for role, _ in said(asked)].count("system") == 1
    assert said(asked)[0] == ("system", "Follow the examples.\n\nYou are a clerk.")
    assert said(asked)[1] == ("user", "How?")
    assert said(asked)[3] == ("user", "You are a smith.\n\nWhen?")


def test_the_passage_is_handed_over_as_notes():
    asked = turns("context", row("Why?", context="Because."), (), EVALUATION)

    assert said(asked) == [("system", "Use these notes: Because."), ("user", "Why?")]


def test_examples_never_show_the_row_nor_a_relative_of_it():
    asked = row("Why?", group="tides")
    train = [row(f"Q{i}", group="tides") for i in range(20)] + [
        row("Why?", group="copy"),
        row("How?"),
        row("When?"),
    ]

    for count in (1, 2, 5):
        shown = {example.prompt[-1].content for example in examples(asked, train, count)}

        assert shown <= {"How?", "When?"}
        assert len(shown) == min(count, 2)


def test_a_row_sees_the_same_examples_every_time_and_rows_see_different_ones():
    train = [row(f"Q{i}") for i in range(50)]

    assert examples(row("Why?"), train, 3) == examples(row("Why?"), train, 3)
    assert len({examples(row(f"R{i}"), train, 3) for i in range(10)}) > 5


def test_an_arm_without_its_material_does_not_apply():
    rows, train = [row("Why?", context="Because."), row("How?")], [row("When?")]

    assert applies("prompt", rows, train, EVALUATION)
    assert not applies("prompt", rows, train, Evaluation())
    assert not applies("few_shot", rows, train, Evaluation(shots=0))
    assert not applies("few_shot", rows, [], EVALUATION)
    assert not applies("context", rows, train, EVALUATION)
    assert applies("context", rows[:1], train, EVALUATION)


def test_plain_text_is_read_and_not_asked():
    text = [row("", "once upon a time", group="book", kind="text")]

    assert [
        name
        for name in ("base", "prompt", "few_shot", "context", "tuned")
        if applies(name, text, text, EVALUATION)
    ] == [
        "base",
        "tuned",
    ]
