"""The questions F01-F23 behind the vocabulary: what is asked, why, an everyday picture, and how to find the answer."""

from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from recipes.words import N_


@dataclass(frozen=True, slots=True)
class Group:
    """One question that several facts answer; all four are message ids."""

    question: str
    why: str
    analogy: str
    measure: str


GROUPS: Final = MappingProxyType(
    {
        "F01": Group(
            N_("How often is your best prompt right, how often must it be, and what does a failure cost?"),
            N_("The distance between the two is all that training could gain; at the target there is nothing to gain."),
            N_("One weighs oneself before the diet, not after."),
            N_("Write the best prompt you can, with three to eight examples, and count on 20 to 50 real items.")),
        "F02": Group(
            N_("How many real test items with a pass/fail rule are there?"),
            N_("Without them nobody can say whether anything helped."),
            N_("A touchstone shows what only glitters."),
            N_("Take 50 real requests at random and write down for each what counts as right.")),
        "F03": Group(
            N_("If you paste the right passage by hand, does it succeed?"),
            N_("If it does, knowledge was missing, and knowledge is looked up rather than trained in."),
            N_("An examination with the book open shows what was only not remembered."),
            N_("Paste the right passage into 20 failed items: 70 % or more right is knowledge, 30 % or fewer is not.")),
        "F04": Group(
            N_("Is the content right and only form, tone or consistency wrong, and do examples in the prompt help?"),
            N_("Form is what both examples and fine-tuning teach well; how much examples help says how near it is."),
            N_("The patient got the right treatment in the wrong words."),
            N_("Read 20 failed items for content alone; then compare them with no example and with five in the prompt.")),
        "F05": Group(
            N_("Is the reasoning wrong although the facts are there, does any of several tries succeed, and what can check it?"),
            N_("Skill comes from practice, and practice needs some success and somebody who keeps the score."),
            N_("One learns to ride by falling off less often, not by reading about it."),
            N_("Sample 16 answers for each of 20 items and let a program count the items with any right one.")),
        "F06": Group(
            N_("Is the quality fine already, and price, speed or volume the problem?"),
            N_("Then a smaller model, a shorter prompt or a cache may do the same for less."),
            N_("One does not send the professor to take the temperature."),
            N_("Multiply requests a day by tokens a request by the price, and compare with the budget.")),
        "F07": Group(
            N_("How often do the facts change?"),
            N_("Weights are as old as their training; an index is as new as its last entry."),
            N_("Nobody learns the timetable by heart."),
            N_("Look at when the last ten corrections of these facts were made.")),
        "F08": Group(
            N_("How much text holds the facts, and how much raw text of the field is there?"),
            N_("Little text fits into the prompt, much is searched, and only a great deal can be trained on."),
            N_("A leaflet is read, a library has a catalogue."),
            N_("Count pages times 400 or megabytes times 250,000 tokens.")),
        "F09": Group(
            N_("Must answers show sources, do users have different rights, must facts be deletable?"),
            N_("Weights cite nothing, know no rights and forget nothing on demand."),
            N_("What has been said in the meeting cannot be put back into the safe."),
            N_("Ask whoever answers for data protection, and whoever would be asked for the source.")),
        "F10": Group(
            N_("Can the system read documents or a database when it answers?"),
            N_("If it can, that is where facts belong."),
            N_("A textbook helps only where it may be opened."),
            N_("Try a keyword search over the files on the machine that will answer.")),
        "F11": Group(
            N_("Is retrieval built, does it find the right passage, how does it fail, and what else was tried?"),
            N_("Whether the passage was missed or misread are two different repairs."),
            N_("Before blaming the reader, look whether the book was on the desk."),
            N_("For 30 questions, look whether the right passage is among the first five retrieved.")),
        "F12": Group(
            N_("How many pairs of input and ideal answer are there, who checked them, do experts agree?"),
            N_("Training repeats what it is shown, mistakes included, and below a minimum it harms."),
            N_("A cook learns a style from a few dozen plates, if they are good ones."),
            N_("Count them, let an expert check 50 at random, and let a second expert label the same 50.")),
        "F13": Group(
            N_("Are there better and worse answers to the same question, or thumbs, or people who would rate?"),
            N_("What people prefer can be taught even where nobody can write the ideal answer."),
            N_("The guest cannot cook, but knows which soup was better."),
            N_("Count the ratings in the logs; two for one question make a pair.")),
        "F14": Group(
            N_("Does a stronger model do it well, and may you train on its answers?"),
            N_("Its answers can stand in for examples that nobody has written, if its licence allows that."),
            N_("The intern learns from the chief physician's case notes."),
            N_("Let it answer 20 items, count, and read the terms of use for training on outputs.")),
        "F15": Group(
            N_("What kind of task is it?"),
            N_("How much data is enough, and whether a small classifier would do, depends on it."),
            N_("One does not train a surgeon and a radio announcer alike."),
            N_("Name the one thing that makes an answer right: a class, a field, a text, a result.")),
        "F16": Group(
            N_("How strict is the form of the output?"),
            N_("Syntax can be guaranteed while answering; only rules of meaning have to be learned."),
            N_("A form with boxes beats a lecture on neat handwriting."),
            N_("Feed 20 outputs to the program that will read them and see what it refuses.")),
        "F17": Group(
            N_("How far are domain and language from what the base model has seen?"),
            N_("A distant field may need reading before it needs practice."),
            N_("One learns the language before the law that is written in it."),
            N_("Compare perplexity and tokens a word on your text with everyday text.")),
        "F18": Group(
            N_("Is the wanted behaviour settled, and how fast must changes reach the users?"),
            N_("Weights lock in what they were taught; a prompt changes in seconds."),
            N_("One does not engrave a draft."),
            N_("Look at how often the guidelines changed in the last three months.")),
        "F19": Group(
            N_("Is it about refusals, values, minors or moderation, and is the base model already aligned?"),
            N_("Safety is taught from preferences, and any tuning can weaken what was there."),
            N_("A new job should not cost the old manners."),
            N_("Read the model card, and try 20 requests that ought to be refused.")),
        "F20": Group(
            N_("How many tasks or customers share the model, and what else must it still be able to do?"),
            N_("Several small adapters on one base are cheaper than several models, and each can forget."),
            N_("One set of post-it notes for each task in the same textbook."),
            N_("List the tasks that use the model today, and one test for each.")),
        "F21": Group(
            N_("Where may data and model run, and is a provider's tuning open to you?"),
            N_("This strikes out whole ways before anything is measured."),
            N_("Some patients may not leave the hospital."),
            N_("Read the contract on data, and open the provider's tuning page with your own account.")),
        "F22": Group(
            N_("Which model, and which hardware?"),
            N_("Memory decides how the weights may move: all of them, a few beside them, or a few beside 4-bit ones."),
            N_("First measure the kitchen, then order the oven."),
            N_("Run `advisor doctor` on the machine, or look the card up with `advisor gpus`.")),
        "F23": Group(
            N_("Who builds and runs it, and with what money?"),
            N_("A method that nobody can operate is no advice."),
            N_("Not a new kitchen for a chef who wanted a booklet."),
            N_("Ask who would be called at night when it breaks.")),
    }
)  # fmt: skip
"""By the id that `Fact.group` names; F24 (licences) has no fact and is checked against the catalogue."""
