"""Methods that a person asks for by name: what moves in each, and the learning rate that goes with it.

The advice never leads here by itself: docs/adr/0022 says which of them are worth asking for.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from advisor.plan.proposal import Reason
from recipes.plan import Adaptation, Bottleneck, Ia3, Lora, Named, Prefix, PromptTuning, PTuning
from recipes.words import N_


@dataclass(frozen=True, slots=True)
class Method:
    """One way to move weights, in its usual form.

    `small` is the learning rate measured on the embedded model, `rate` the published one for models of usual size;
    a LoRA has none here, since its rates stand in `defaults`.
    """

    adaptation: Adaptation
    text: str
    source: str
    small: float | None = None
    rate: float | None = None
    rate_source: str = ""

    @property
    def why(self) -> Reason:
        """Why somebody would ask for it."""
        return Reason(self.text, {}, self.source)


METHODS: Final[Mapping[str, Method]] = MappingProxyType(
    {
        "dora": Method(
            Lora(dora=True), N_("length and direction of each row learn apart: LoRA, a little nearer to full tuning"), "liu2024"
        ),
        "rslora": Method(
            Lora(rslora=True, rank=64, alpha=32.0), N_("a high rank whose scale falls with its root only"), "kalajdzievski2023"
        ),
        "qdora": Method(Lora(base="nf4", dora=True), N_("DoRA on a 4-bit base"), "liu2024"),
        "lora_8bit": Method(
            Lora(base="int8"), N_("an 8-bit base: half the memory of 16 bit, nearer to it than 4 bit"), "dettmers2022"
        ),
        "named": Method(
            Named(patterns=("model.layers.*.mlp.*",)), N_("the weights whose names match move: here the MLPs"), "ours", 1e-3, 2e-5, "trl"
        ),
        "bottleneck": Method(
            Bottleneck(), N_("small networks between the blocks: as good as LoRA, and slower, since they cannot be merged"),
            "pfeiffer2021", 3e-3, 1e-4, "pfeiffer2021",
        ),
        "prefix": Method(
            Prefix(), N_("learned keys and values before each document: the model itself stays as it is"), "li2021",
            1e-1, 5e-3, "peft-comparison",
        ),
        "p_tuning": Method(
            PTuning(), N_("learned input vectors, made by a small network while they learn"), "liu2021", 3e-2, 1e-3, "ours"
        ),
        "prompt_tuning": Method(
            PromptTuning(), N_("a few learned input vectors: the smallest adapter, for large models"), "lester2021",
            3e-1, 3e-2, "ours",
        ),
        "ia3": Method(
            Ia3(), N_("learned factors on keys, values and MLPs: few weights, little capacity"), "liu2022", 3e-2, 3e-3, "liu2022"
        ),
    }
)  # fmt: skip
FEW_WEIGHTS: Final = ("prefix", "p_tuning", "prompt_tuning", "ia3")
"""Kinds with so few weights that a lower rate for little data keeps them from learning (benchmarks/strategies.py)."""
FEW_WEIGHTS_PASSES: Final = 4
"""How much longer they are trained: with the usual passes none of them learned the embedded task, with these all did."""
SMALL_TEXT: Final = N_(
    "measured on the embedded model: {base}, times {factor} for batch and amount of data ({size} parameters)"
)
USUAL_TEXT: Final = N_("the published rate of {method}: {base}, times {factor} for batch and amount of data")


def rated(adaptation: Adaptation) -> tuple[str, Method] | None:
    """The method whose learning rate an adaptation takes, with its name; None where `defaults` has its rate."""
    for name, method in METHODS.items():
        if method.rate is not None and method.adaptation.kind == adaptation.kind:
            return name, method
    return None
