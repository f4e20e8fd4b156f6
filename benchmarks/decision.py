"""Score the advice on the cases: pass, fail, forbidden leaves, warnings, bands, and the floors of simpler advice."""

import argparse
import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from advisor.decide.advice import Advice
from advisor.decide.advise import advise
from advisor.decide.answers import Answers, parse
from recipes.errors import Failure

ROOT = Path(__file__).parent.parent
CASES = ROOT / "tests" / "data" / "decision_cases.json"
MORE = ROOT / "tests" / "data" / "decision_sanity.json"
RESULT = ROOT / "benchmarks" / "results" / "decision.json"
REPEATS = 200
CLASSIC = {"RAG": "rag", "FT": "cpt_sft", "Prompt": "few_shot", "FT2": "sft_lora", None: ""}
"""The leaf that stands for a leaf of the bare source tree; where the tree ends, it says nothing."""
COMMON = (
    ("privacy", "on_prem"), ("privacy", "cloud_ok"), ("team_skill", "hf"), ("team_skill", "api"), ("budget", "small"),
    ("starts_from_aligned", "yes"), ("must_keep_general", "yes"), ("eval_set_size", 100), ("frontier_allowed", "yes"),
    ("provider", "openai"), ("date", "2026-11-20"), ("latency", "none"), ("cost_sensitive", "no"), ("vram_gb", 24),
    ("human_fallback", "yes"), ("gpus", 1), ("model_params_b", 8), ("iteration", "days"), ("style_stable", "yes"),
    ("label_quality", "gold"), ("rag_tried", "no"), ("erasure_required", "no"), ("n_tasks", 1), ("prompt_effort", "few_shot"),
    ("prompt_effort", "optimised"), ("requests_per_day", "medium"), ("output_strictness", "free"), ("verifier", "none"),
    ("prompt_success", 0.6), ("target_success", 0.9), ("seq_len", 2048), ("language_shift", "none"), ("domain_shift", "none"),
    ("needs_citations", "no"), ("lacks_skill", "no"), ("optimise_cost_latency", "no"), ("per_request_instructions", "no"),
    ("fewshot_gain", "small"), ("model_strength", "strong"), ("context_window", 128_000), ("prompt_tokens", 500),
    ("n_pref_pairs", 0),
)  # fmt: skip
"""Facts that say nothing unusual: one of them more should hardly ever change what is right."""

Case = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one piece of advice did on one case."""

    case: Case
    advice: Advice
    grade: str
    forbidden: tuple[str, ...]
    unwarned: tuple[str, ...]

    @property
    def overconfident(self) -> bool:
        """High confidence where the source itself is undecided."""
        return self.case.get("difficulty") == "ambiguous" and self.advice.confidence.band == "high"


def grade(case: Case, leaf: str) -> str:
    """Pass, fail or tolerated, as the cases define it."""
    if leaf in case["recommended"]:
        return "pass"
    return "fail" if leaf in case["unacceptable"] else "tolerated"


def facts(case: Case, *, inferred: bool = True) -> Answers:
    """The facts of a case, with or without those whose exact value was chosen when it was written."""
    situation = case["situation"]
    left_out = () if inferred else situation.get("inferred_facts", ())
    return parse({name: value for name, value in situation["facts"].items() if name not in left_out}, "file")


def outcome(case: Case, *, inferred: bool = True) -> Outcome:
    """Advise on one case."""
    return judged(case, advise(facts(case, inferred=inferred)))


def without_one(case: Case) -> Iterator[Outcome]:
    """Advise on one case again and again, each time with another of its facts left out."""
    known = case["situation"]["facts"]
    for left_out in known:
        kept = {name: value for name, value in known.items() if name != left_out}
        yield judged(case, advise(parse(kept, "file")))


def with_one(case: Case) -> Iterator[Outcome]:
    """Advise on one case again and again, each time with another fact that many projects would state as well."""
    known = case["situation"]["facts"]
    for name, value in COMMON:
        if known.get(name, "unknown") == "unknown":
            try:
                answers = parse({**known, name: value}, "file")
            except Failure:  # it contradicts what the case says
                continue
            yield judged(case, advise(answers))


def judged(case: Case, advice: Advice) -> Outcome:
    """Hold one piece of advice against its case."""
    plan = {stage.leaf for stage in advice.plan}
    warned = {warning.code for warning in advice.warnings}
    return Outcome(
        case,
        advice,
        grade(case, advice.primary),
        tuple(leaf for leaf in case.get("forbidden_anywhere", ()) if leaf in plan),
        tuple(code for code in case.get("must_warn", ()) if code not in warned),
    )


def rates(grades: Iterable[str]) -> dict[str, float]:
    """Shares of pass, fail and tolerated."""
    found = list(grades)
    return {name: round(found.count(name) / len(found), 3) for name in ("pass", "fail", "tolerated")}


def floor(cases: list[Case], answer: Callable[[Case], str]) -> dict[str, float]:
    """What simpler advice reaches."""
    return rates(grade(case, answer(case)) for case in cases)


def summary(outcomes: list[Outcome]) -> dict[str, object]:
    """The figures of one run over cases."""
    wanted = sum(len(o.case.get("must_warn", ())) for o in outcomes)
    missed = sum(len(o.unwarned) for o in outcomes)
    bands = {
        band: [o.grade for o in outcomes if o.advice.confidence.band == band]
        for band in ("high", "medium", "low")
    }
    return {
        "cases": len(outcomes),
        **rates(o.grade for o in outcomes),
        "forbidden": sum(bool(o.forbidden) for o in outcomes),
        "must_warn_recall": round(1 - missed / wanted, 3) if wanted else None,
        "overconfident": sum(o.overconfident for o in outcomes),
        "bands": {band: {"cases": len(found), **rates(found)} for band, found in bands.items() if found},
    }


def speed(cases: list[Case]) -> float:
    """Pieces of advice a second of processor time, with flips and confidence; other processes do not count."""
    ready = [facts(case) for case in cases]
    began = time.process_time()
    for number in range(REPEATS):
        advise(ready[number % len(ready)])
    return REPEATS / (time.process_time() - began)


def main() -> None:
    """Run all cases, print the table, write the result."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--cases", type=Path, default=CASES)
    options.add_argument("--more", type=Path, default=MORE)
    options.add_argument("--result", type=Path, default=RESULT)
    chosen = options.parse_args()
    read = json.loads(chosen.cases.read_text(encoding="utf-8"))
    cases, contract = read["cases"], read["seed_contract_cases"]
    scored = [case for case in cases if case.get("scored", True)]
    more = json.loads(chosen.more.read_text(encoding="utf-8"))["cases"]
    full = [outcome(case) for case in scored]
    beyond = [outcome(case) for case in more]
    for one in [*[outcome(case) for case in contract], *full, *beyond]:
        _tell(one)
    result = {
        "contract": summary([outcome(case) for case in contract]),
        "published": summary(full),
        "without_inferred_facts": summary([outcome(case, inferred=False) for case in scored]),
        "beyond": summary(beyond),
        "beyond_without_inferred_facts": summary([outcome(case, inferred=False) for case in more]),
        "one_common_fact_added": summary([one for case in [*scored, *more] for one in with_one(case)]),
        "one_fact_left_out": summary([one for case in [*scored, *more] for one in without_one(case)]),
        "floors": {
            "always rag": floor(scored, lambda _: "rag"),
            "always sft_lora": floor(scored, lambda _: "sft_lora"),
            "always prompt_engineering": floor(scored, lambda _: "prompt_engineering"),
            "always few_shot": floor(scored, lambda _: "few_shot"),
            "classic tree": floor(scored, lambda case: CLASSIC[advise(facts(case)).classic_leaf]),
        },
        "advices_per_second": round(speed(scored)),
    }
    print(json.dumps(result, indent=1))
    chosen.result.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def _tell(one: Outcome) -> None:
    remarks = [f"forbidden {one.forbidden}"] * bool(one.forbidden) + [f"no warning {one.unwarned}"] * bool(
        one.unwarned
    )
    remarks += ["overconfident"] * one.overconfident
    sure = one.advice.confidence
    row = f"{one.grade:<10} {one.case['id']:<24} {one.advice.primary:<20} {sure.band:<7} {sure.value:.2f}"
    print(" ".join([row, *remarks]))


if __name__ == "__main__":
    main()
