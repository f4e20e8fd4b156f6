"""The questions that settle the decision, in plain language, each with its reason and an everyday picture."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from advisor.decide.answers import FACTS, Answers
from advisor.decide.worlds import MANY_WORLDS, matters, read, worlds
from recipes.words import N_

NOT_SURE: Final = N_("I am not sure")


@dataclass(frozen=True, slots=True)
class Choice:
    """One way to answer; `value` is what a file of facts would hold ("yes", 200, "unknown")."""

    label: str
    value: str | int | float


@dataclass(frozen=True, slots=True)
class Question:
    """One question about one fact; `text`, `why` and `analogy` are message ids, `minutes` what the answer costs."""

    id: str
    fact: str
    text: str
    why: str
    analogy: str
    choices: tuple[Choice, ...]
    minutes: int


UNSURE: Final = Choice(NOT_SURE, "unknown")


def _ask(fact: str, text: str, why: str, analogy: str, *choices: Choice) -> Question:
    return Question(FACTS[fact].group, fact, text, why, analogy, (*choices, UNSURE), FACTS[fact].minutes)


def _yes_no(
    fact: str, text: str, why: str, analogy: str, yes: str = N_("Yes"), no: str = N_("No")
) -> Question:
    return _ask(fact, text, why, analogy, Choice(yes, "yes"), Choice(no, "no"))


QUESTIONS: Final[tuple[Question, ...]] = (
    # The five questions of the source tree, in its order.
    _yes_no(
        "lacks_knowledge",
        N_("Does the model lack knowledge: facts that it needs and cannot know?"),
        N_(
            "Facts are better looked up than trained in. Test it: paste the right passage into the prompt by hand. "
            "If the answer is then right, it was knowledge."
        ),
        N_("A textbook at work (retrieval) against years at medical school (fine-tuning)."),
        N_("Yes: with the right passage in the prompt it would succeed"),
        N_("No: it knows the facts, or they stand in the request"),
    ),
    _ask(
        "knowledge_change",
        N_("How often do these facts change?"),
        N_("An index is mended in seconds; weights have to be trained again each time."),
        N_("A textbook can be replaced by the next edition; an education cannot."),
        Choice(N_("Never, or almost never"), "static"),
        Choice(N_("About once a year"), "yearly"),
        Choice(N_("Every month"), "monthly"),
        Choice(N_("Every day or week"), "daily"),
        Choice(N_("By the minute: prices, stock, orders"), "realtime"),
    ),
    _ask(
        "corpus",
        N_("Is the text that holds these facts huge: more than about 500 MB, 300,000 pages?"),
        N_("Only a huge, unchanging body of text can be worth training into the weights at all."),
        N_("Nobody goes to medical school to learn one leaflet by heart."),
        Choice(N_("Yes, huge"), "huge"),
        Choice(N_("No, smaller than that"), "not_huge"),
    ),
    _yes_no(
        "lacks_style_format",
        N_("Is the content right, but the style, tone or form is not?"),
        N_("Behaviour is what fine-tuning teaches well; facts are not."),
        N_("A general practitioner in a surgical residency: the old knowledge stays, a new skill grows."),
    ),
    _yes_no(
        "prompt_can_fix",
        N_("Can a better prompt with a few examples fix it?"),
        N_("A prompt costs an hour and no data; whatever you train later has to beat it."),
        N_("The prompt is the first weapon: draw it before you forge another."),
        N_("Yes, it was tried and is good enough"),
        N_("No, it was tried and is not good enough"),
    ),
    # What the tree did not ask.
    _ask(
        "prompt_success",
        N_("How often is your best prompt, with examples, right on the best model you may use?"),
        N_("This one number decides whether anything has to be trained; count 20 real items or more."),
        N_("Before you buy a new oven, look at how the recipe turns out in the old one."),
        Choice(N_("Almost always (95 % or more)"), 0.97),
        Choice(N_("About nine times in ten"), 0.9),
        Choice(N_("More often than not"), 0.7),
        Choice(N_("About half the time or less"), 0.4),
        Choice(N_("Hardly ever (20 % or less)"), 0.1),
    ),
    _ask(
        "eval_set_size",
        N_("How many real test items with a pass/fail rule do you have?"),
        N_(
            "Without a test nobody can say whether anything helped. Twenty items are a start, a hundred are good."
        ),
        N_("A touchstone: without it, all that glitters looks like gold."),
        Choice(N_("None"), 0),
        Choice(N_("Fewer than 20"), 10),
        Choice(N_("20 to 99"), 50),
        Choice(N_("100 or more"), 200),
    ),
    _ask(
        "n_labelled",
        N_("How many examples do you have: an input together with the ideal answer?"),
        N_("Below the minimum for the task, training does harm; how many it takes depends on the task."),
        N_("A cook learns a style from a few dozen plates, not from two."),
        Choice(N_("None"), 0),
        Choice(N_("About 10 to 50"), 30),
        Choice(N_("About 50 to 500"), 200),
        Choice(N_("About 500 to 5,000"), 2000),
        Choice(N_("More than 5,000"), 20_000),
    ),
    _ask(
        "label_quality",
        N_("Who checked these examples?"),
        N_("A thousand clean examples beat a hundred thousand noisy ones."),
        N_("Rubbish in, rubbish out."),
        Choice(N_("Experts: all are as good as we want them"), "gold"),
        Choice(N_("Some are checked, some are not"), "mixed"),
        Choice(N_("Nobody: there are wrong or contradicting ones"), "noisy"),
    ),
    _ask(
        "task_type",
        N_("What kind of task is it?"),
        N_("How much data is enough, and whether a small classifier would do, depends on the task."),
        N_("One does not train a surgeon and a radio announcer alike."),
        Choice(N_("Answer questions over documents"), "qa_over_docs"),
        Choice(N_("Sort into classes"), "classification"),
        Choice(N_("Pull out fields"), "extraction"),
        Choice(N_("Write in a certain style"), "style_generation"),
        Choice(N_("Produce JSON or another fixed form"), "structured_output"),
        Choice(N_("Talk with people"), "dialogue_task"),
        Choice(N_("Write code, SQL or a language of our own"), "code_dsl"),
        Choice(N_("Translate"), "translation"),
        Choice(N_("Summarise"), "summarisation"),
        Choice(N_("Reason to an answer that can be checked"), "reasoning_verifiable"),
    ),
    _yes_no(
        "lacks_skill",
        N_("Is the reasoning wrong even when all the facts are there?"),
        N_(
            "Missing skill is neither missing knowledge nor missing style: it needs practice or a stronger model."
        ),
        N_("A doctoral student learns to think in the field, not to recite it."),
    ),
    _yes_no(
        "optimise_cost_latency",
        N_("Is the quality fine already, and price or speed the problem?"),
        N_("Then a smaller model can take over the task of a big one."),
        N_("The intern who watched the professor for a year does the routine cases."),
    ),
    _yes_no(
        "needs_safety_alignment",
        N_("Is it about refusals, values, children or moderation?"),
        N_("Preferences are taught from better and worse answers, not from demonstrations alone."),
        N_("An intern learns the work, a critic learns the taste, and training joins the two."),
    ),
    _ask(
        "n_tasks",
        N_("How many separate tasks shall one model serve?"),
        N_("Several small adapters on one base are cheaper than several models."),
        N_("Post-it notes: one set for each task in the same textbook."),
        Choice(N_("One"), 1),
        Choice(N_("Two to ten"), 5),
        Choice(N_("More"), 30),
    ),
    _ask(
        "output_strictness",
        N_("How strict is the form of the output?"),
        N_("Syntax can be guaranteed while the answer is generated; it need not be trained."),
        N_("A form with boxes beats a lecture on neat handwriting."),
        Choice(N_("Free text"), "free"),
        Choice(N_("A template"), "template"),
        Choice(N_("A JSON schema"), "json_schema"),
        Choice(N_("A grammar, such as SQL"), "dsl_grammar"),
        Choice(N_("Rules about the meaning"), "semantic_rules"),
    ),
    _yes_no(
        "style_stable",
        N_("Is the wanted behaviour settled?"),
        N_("Weights lock in what they were taught; a prompt changes in seconds."),
        N_("One does not engrave a draft."),
    ),
    _yes_no(
        "needs_citations",
        N_("Must answers show where they come from?"),
        N_("What was looked up has a source; what was trained in has none."),
        N_("A cheat sheet can be shown, an education cannot."),
    ),
    _yes_no(
        "retrieval_possible",
        N_("Can the system read documents or a database when it answers?"),
        N_("If it cannot, the weights or a cached prompt are the only places left for facts."),
        N_("A textbook helps only where it may be opened."),
    ),
    _yes_no(
        "per_request_instructions",
        N_("Do the instructions differ from request to request?"),
        N_("What changes with each request belongs into the prompt."),
        N_("One does not study for a year to follow today's note on the door."),
    ),
    _ask(
        "teacher_available",
        N_("Does a stronger model do it well, and may you train on its answers?"),
        N_("Its filtered answers can replace missing data, if its licence allows that."),
        N_("The intern learns from the chief physician's case notes."),
        Choice(N_("No"), "no"),
        Choice(N_("Yes, and its licence allows training"), "yes_licensed"),
        Choice(N_("Yes, but its licence forbids training"), "yes_restricted"),
    ),
    _ask(
        "verifier",
        N_("What can check an answer?"),
        N_("Reinforcement needs a program that tells right from wrong."),
        N_("A chess player improves because each game has a result."),
        Choice(N_("Nothing but people"), "none"),
        Choice(N_("Another model"), "llm_judge"),
        Choice(N_("A program: tests, a calculator, an exact match"), "programmatic"),
    ),
    _ask(
        "pass_at_k",
        N_("If the model tries 8 to 16 times, how often is any try right?"),
        N_("What it never does right cannot be rewarded; what it always does right need not be."),
        N_("One can praise a dog for sitting only once it has sat."),
        Choice(N_("Never"), 0.0),
        Choice(N_("Sometimes"), 0.5),
        Choice(N_("Always"), 1.0),
    ),
    _ask(
        "privacy",
        N_("Where may the data and the model run?"),
        N_("This strikes out what a provider would have to do for you, and on a device what does not fit."),
        N_("Some patients may not leave the hospital."),
        Choice(N_("Anywhere, also at a provider"), "cloud_ok"),
        Choice(N_("In our own cloud account"), "vpc_only"),
        Choice(N_("On our own machines only"), "on_prem"),
        Choice(N_("On a device without a network"), "offline_device"),
    ),
    _ask(
        "team_skill",
        N_("What can your team operate?"),
        N_("A method that nobody can run is no advice."),
        N_("Not a new kitchen for a chef who wanted a booklet."),
        Choice(N_("Nothing yet"), "none"),
        Choice(N_("A provider's interface"), "api"),
        Choice(N_("Training scripts on one machine"), "hf"),
        Choice(N_("Training on many GPUs"), "distributed"),
    ),
)
"""The tree's own questions first, in its order; then what it does not ask."""

BY_FACT: Final = {question.fact: question for question in QUESTIONS}


def next_question(answers: Answers, asked: Collection[str] = ()) -> Question | None:
    """The next question to put, or None when no answer can change the leaf any more.

    What the person was not sure about, and what no question puts, stays unknown: a world in which it were known is
    not on the way that is walked, and a question that matters only there is not put. One that the way looks at now
    goes before one that another answer would have to open.

    Args:
        answers: What is known.
        asked: Facts that were asked already, also those that the person was not sure about.
    """
    worth = matters(worlds(answers, MANY_WORLDS, among=BY_FACT.keys() - set(asked)))
    now = worth & set(read(answers))
    return next((q for q in QUESTIONS if q.fact in (now or worth)), None)
