import json
import re
from hashlib import sha256
from random import Random

from advisor.learn.lantern.corpus import COPYING, KINDS, corpus
from advisor.learn.lantern.messages import draw_form, draw_message, render
from advisor.learn.lantern.words import FAULTS, UNWANTED, brand
from advisor.learn.lantern.world import SEED, answer, ask, state, world

FIRST_2000_DOCUMENTS = "77e5431922ee2fff848a0569338b9db5f0718b27303510e733ea803ee4bf814f"
"""Of the generator that the shipped tokenizer and weights were trained with."""


def words(texts):
    return set(re.findall(r"[A-Za-z]+", " ".join(texts)))


def test_the_random_stream_is_the_one_that_the_shipped_base_was_trained_with():
    found = sha256()
    for kind, document in corpus(1, 2000):
        found.update(json.dumps([kind, [list(piece) for piece in document]]).encode() + b"\n")

    assert found.hexdigest() == FIRST_2000_DOCUMENTS


def test_another_seed_is_another_town():
    assert world(SEED + 1).canon != world(SEED).canon


def test_the_canon_has_200_facts_and_no_two_about_the_same_thing():
    canon = world().canon

    assert (len(canon), len({fact.key for fact in canon})) == (200, 200)


def test_no_training_text_names_a_fresh_brand():
    assert not words(text for _, document in corpus(1, 2000) for _, text in document) & set(world().fresh)


def test_no_training_text_shows_the_sailors_voice_or_a_ticket():
    texts = [text for _, document in corpus(1, 2000) for _, text in document]

    assert not [text for text in texts if "Ahoy" in text or "shipmate" in text or _is_written_json(text)]


def test_copied_texts_name_no_fresh_brand_either():
    random = Random(5)
    copied = words(text for _ in range(300) for _, text in COPYING.write(world(), random))

    assert not copied & set(world().fresh)


def test_every_kind_of_document_is_drawn_about_as_often_as_its_share_says():
    drawn = [kind for kind, _ in corpus(3, 4000)]

    assert all(abs(drawn.count(kind.name) / 4000 - kind.share) < 0.03 for kind in KINDS)


def test_a_statement_and_an_answer_hold_the_value():
    random = Random(0)

    assert all(
        fact.value.lower() in state(random, fact).lower() and fact.value.lower() in answer(fact).lower()
        for fact in world().canon
    )


def test_a_question_names_the_entity_and_not_the_value():
    random = Random(0)
    asked = [(ask(random, fact), fact) for fact in world().canon]

    assert all(
        fact.entity.name[4:] in question and f" {fact.value}" not in question for question, fact in asked
    )


def test_a_message_says_all_that_its_fields_say():
    random = Random(1)
    messages = [draw_message(random) for _ in range(200)]

    assert all(
        all(message.said[field] in message.text for field in ("name", "item", "colour", "place"))
        and any(way in message.text for way in FAULTS[message.said["fault"]])
        for message in messages
    )


def test_no_drawn_form_is_that_of_a_ticket():
    random = Random(2)
    message = draw_message(random)
    lines = [render(message, ("item",), draw_form(random), {"item": "item"}) for _ in range(2000)]

    assert not [line for line in lines if _is_written_json(line)]


def _is_written_json(text: str) -> bool:
    """A JSON object as `json.dumps` writes it: the form that the ticket task asks for."""
    return re.match(r'\{"\w+": ', text) is not None


def test_no_brand_holds_an_unwanted_syllable():
    random = Random(3)
    brands = [brand(random).lower() for _ in range(3000)]

    assert not [name for name in brands if any(syllable in name for syllable in UNWANTED)]
