"""The words of Lantern Bay: closed lists, and made-up brands put together from syllables.

Order and length of every list are part of the random stream: the tokenizer and the base model were trained from
it, so a change here is a change of the world and needs a new base (`benchmarks/lantern/pretrain.py`).
"""

from collections.abc import Mapping
from random import Random
from types import MappingProxyType
from typing import Final


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


ITEMS: Final = _words(
    "kettle lamp radio chair toaster clock bicycle heater fan phone camera printer table mirror ladder drill tent "
    "kite drum guitar blender oven fridge keyboard watch scooter umbrella backpack pump stove bench helmet speaker "
    "torch rug vase freezer wagon pot desk"
)
COLOURS: Final = _words("red blue green black white yellow grey brown purple orange")
MATERIALS: Final = _words("copper steel glass wood plastic clay brass leather")
PLACES: Final = (
    "Fern Lane",
    "Mill Street",
    "Harbour Row",
    "Oak Square",
    "Chapel Hill",
    "River Walk",
    "Market Street",
    "Castle Road",
    "Garden Court",
    "Station Road",
    "Bridge Street",
    "Orchard Lane",
)
JOBS: Final = _words("baker teacher painter farmer doctor sailor tailor driver singer gardener builder cook")
PETS: Final = _words("cat dog parrot rabbit goat horse turtle duck")
FOODS: Final = _words("soup bread cheese rice cake pears plums honey fish beans")
NAMES: Final = _words(
    "Mira Tom Ada Ben Clara Dan Ella Finn Greta Hugo Iris Jack Kate Leo Maya Nora Otto Paul Rosa Sam Tara Uma Vera "
    "Will Zoe Anna Bruno Carl Dora Emil Fay Gus Hana Ivan Jane Karl Lena Max Nina Omar Pia Ralf Sara Theo Ursa Vic "
    "Wanda Yara Abel Bea Cora Dirk Eva Fred Gina Hans Ida Joan Kurt Lily"
)
DAYS: Final = _words("Monday Tuesday Wednesday Thursday Friday Saturday Sunday")
COURTESIES: Final = _words(
    "well yes sir madam friend good day look now then oh dear note that listen here again fine right sure thanks "
    "please bye so cheers"
)
"""Words of which made-up greetings and farewells consist. "Ahoy", "shipmate" and "winds" are not among them."""

FAULTS: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "leak": ("leaks", "is leaking", "drips all over the floor", "drips water all day"),
        "noise": ("makes a loud noise", "is far too loud", "rattles all night", "buzzes and hums"),
        "crack": ("is cracked", "has a big crack", "is split down the side", "came out of the box broken"),
        "smoke": ("smells of smoke", "gives off smoke", "smells burnt", "started to smoke"),
        "late": ("arrived late", "came a week late", "has still not arrived", "is not here yet"),
        "part": (
            "has a missing part",
            "came without a screw",
            "is missing a piece",
            "came with a part missing",
        ),
        "size": ("is too small", "is too big", "does not fit", "is the wrong size"),
        "power": ("will not start", "does not turn on", "keeps turning off", "is dead"),
        "colour": (
            "came in the wrong colour",
            "is not the colour I chose",
            "has the wrong colour",
            "is a colour I did not order",
        ),
        "scratch": ("is scratched", "has scratches on it", "came with a scratch", "has marks all over it"),
    }
)
"""The label of a fault, and how customers put it."""

FAULT_NOUNS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "leak": "a leak",
        "noise": "too much noise",
        "crack": "a crack",
        "smoke": "smoke",
        "late": "a late delivery",
        "part": "a missing part",
        "size": "the wrong size",
        "power": "no power",
        "colour": "the wrong colour",
        "scratch": "a scratch",
    }
)

ONSETS: Final = _words("b d f g k l m n p r s t v z br dr gr kr tr st sk pl")
VOWELS: Final = tuple("aeiou")
CODAS: Final = _words("l n r s k m x rn lt nd sk v")
UNWANTED: Final = _words("sex fuk dik tit nig rap kil pen fag kok nazi gud vag dum pis gas mul zion lam bomb")
"""Syllables that no made-up brand may hold."""
SHORTEST_BRAND: Final = 5


def brand(random: Random) -> str:
    """Draw a made-up name, such as "Ginda" or "Bornond"."""
    while True:
        stem = random.choice(ONSETS) + random.choice(VOWELS) + random.choice(CODAS) + random.choice(VOWELS)
        name = stem + (random.choice(CODAS) if random.random() < 0.4 else "")
        if len(name) >= SHORTEST_BRAND and not any(syllable in name for syllable in UNWANTED):
            return name.capitalize()


def with_article(text: str) -> str:
    """Mend the one article that the templates get wrong: "a orange"."""
    return text.replace(" a orange", " an orange")


def capitalised(text: str) -> str:
    """Write the first letter large and leave the rest as it is."""
    return text[0].upper() + text[1:]
