"""The Chinese catalogue: nothing missing, nothing stale, the same places to fill, Chinese punctuation."""

import re
from functools import cache
from gettext import GNUTranslations
from io import BytesIO
from pathlib import Path
from string import Formatter

from babel.messages.catalog import Catalog
from babel.messages.extract import extract_from_dir
from babel.messages.mofile import read_mo, write_mo
from babel.messages.pofile import read_po

ROOT = Path(__file__).parents[2]
PACKAGES = ("advisor", "recipes", "trainers")
KEYWORDS = {"N_": None, "t": None, "n": (1, 2)}
PO = ROOT / "advisor" / "locale" / "zh" / "LC_MESSAGES" / "advisor.po"


def flat(message):
    """Both forms of a plural, or the one sentence."""
    return message if isinstance(message, tuple) else (message,)


@cache
def marked():
    """Every sentence that a person may read."""
    return {
        sentence
        for package in PACKAGES
        for _, _, message, _, _ in extract_from_dir(ROOT / package, [("**.py", "python")], keywords=KEYWORDS)
        if message
        for sentence in flat(message)
    }


@cache
def catalogue() -> Catalog:
    with PO.open("rb") as file:
        return read_po(file)


def said():
    """Pairs of a message and its translation; a plural has one form in Chinese and is filled like its English one."""
    for message in catalogue():
        if isinstance(message.id, tuple):
            yield message.id[1], message.string[0]
        elif message.id:
            yield message.id, message.string


def places(text):
    """What `text` wants filled in: names with their conversions and formats."""
    return sorted(
        (name, spec, conversion) for _, name, spec, conversion in Formatter().parse(text) if name is not None
    )


def test_every_marked_sentence_is_translated():
    missing = marked() - {sentence for message in catalogue() for sentence in flat(message.id)}

    assert not missing


def test_the_catalogue_has_no_stale_entry():
    stale = {sentence for message in catalogue() if message.id for sentence in flat(message.id)} - marked()

    assert not stale


def test_no_translation_is_empty_or_fuzzy():
    assert not [message.id for message in catalogue() if message.id and (not message.string or message.fuzzy)]


def test_a_translation_has_the_same_places_to_fill():
    wrong = [english for english, chinese in said() if places(english) != places(chinese)]

    assert not wrong


def test_commands_and_options_stay_as_they_are_typed():
    typed = re.compile(r"`[^`]+`|--[a-z][a-z-]+")
    wrong = [
        (english, chinese)
        for english, chinese in said()
        if sorted(typed.findall(english)) != sorted(typed.findall(chinese))
    ]

    assert not wrong


def test_chinese_prose_has_full_width_punctuation():
    half_width = re.compile(r"[\u4e00-\u9fff][,;:?!]|[,;?!][\u4e00-\u9fff]")

    assert not [chinese for _, chinese in said() if half_width.search(chinese)]


def test_an_indented_message_stays_indented():
    def indent(text):
        return len(text) - len(text.lstrip(" "))

    assert not [
        english
        for english, chinese in said()
        if english[0] == " " and english[1] == " " and indent(english) != indent(chinese)
    ]


def test_the_catalogue_compiles_as_the_build_does_it():
    compiled = BytesIO()
    write_mo(compiled, catalogue())
    compiled.seek(0)

    words = read_mo(compiled)

    assert words.get("I am not sure").string == "我不确定"


def test_a_plural_is_found_by_its_english_forms():
    compiled = BytesIO()
    write_mo(compiled, catalogue())
    compiled.seek(0)

    assert GNUTranslations(compiled).ngettext("{count} row", "{count} rows", 3) == "{count} 行"
