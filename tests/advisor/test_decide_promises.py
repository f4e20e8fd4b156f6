"""Each promise of the source documents about the decision, by its id: the rule that keeps it and what follows from it.

S-004-04 is the scenario table, S-000-14 the reasons not to train, S-002-03 the limits of prompting, S-003-07 the 90/20
rule; X1-X23 are the contradictions between the documents, on which the advice takes a position.
"""

import pytest

from advisor.data.convert import convert
from advisor.decide import extension, graph, tree
from advisor.decide import predicates as p
from advisor.decide.advise import advise
from advisor.decide.answers import FACTS, parse
from advisor.decide.flips import EXPERIMENTS
from advisor.decide.leaves import LEAVES, PROMPT_LEAVES, SFT_LEAVES, TRAINING_LEAVES
from advisor.decide.questions import BY_FACT
from advisor.plan.defaults import RANKS
from advisor.show.graph import mermaid
from recipes.errors import Failure

EDGES = {edge.id: edge for edge in (*tree.EDGES, *extension.EDGES, *extension.ASSUMED)}
STYLE = {"lacks_style_format": "yes", "lacks_knowledge": "no", "prompt_can_fix": "no"}
SHOWN = {**STYLE, "n_labelled": 2000, "label_quality": "gold", "task_type": "dialogue_task"}
FAR = {"n_labelled": 500_000, "label_quality": "gold", "domain_shift": "large", "lacks_skill": "yes"}
NEARLY = {"prompt_success": 0.9, "target_success": 0.99, **SHOWN, "prompt_can_fix": "unknown"}
RARELY = {"prompt_success": 0.15, "target_success": 0.9}
FACTS_WRONG = {"lacks_knowledge": "yes", "knowledge_change": "daily"}


def _advice(**facts):
    return advise(parse(facts))


def _edges(advice):
    return [step.edge for step in advice.path]


def _plan(advice):
    return [stage.leaf for stage in advice.plan]


KEPT = [
    # (id, facts, the edge that keeps it, leaves that may follow)
    ("S-004-04.1", {**FAR, "vram_gb": 80, "gpus": 8}, "U-1", {"sft_full"}),
    ("S-004-04.2", {**STYLE, "n_labelled": 300, "label_quality": "gold", "iteration": "fast"}, "U-2", {"sft_lora"}),
    ("S-004-04.3", {"lacks_knowledge": "yes", "knowledge_change": "realtime"}, "R-4", {"rag"}),
    ("S-004-04.4", {"output_strictness": "template", "lacks_style_format": "yes", "n_labelled": 300}, "S-1",
     {"sft_lora"}),
    ("S-004-04.5", {"n_labelled": 0, "unlabelled_tokens": 0}, "G-3b", {"few_shot"}),
    ("S-000-14.1", {"prompt_can_fix": "yes"}, "G-4b", {"prompt_engineering"}),
    ("S-000-14.2", FACTS_WRONG, "Q2-Yes", {"rag"}),
    ("S-000-14.3", {"n_labelled": 80, "lacks_style_format": "yes", "task_type": "dialogue_task"}, "W-3c", {"few_shot"}),
    ("S-000-14.3", {**STYLE, "n_labelled": 80, "task_type": "dialogue_task"}, "S-2b", {"few_shot"}),
    ("S-000-14.4", {"iteration": "seconds"}, "S-0g", {"prompt_engineering"}),
    ("S-000-14.4", {**SHOWN, "iteration": "seconds"}, "S-0", {"few_shot"}),
    ("S-002-03.1", SHOWN, "Q5-No", SFT_LEAVES),
    ("S-002-03.2", {"lacks_knowledge": "yes", "corpus_tokens": 10**7, "context_window": 128_000}, "R-0", {"rag"}),
    ("S-002-03.3", {"lacks_knowledge": "yes", "knowledge_change": "static", "corpus_tokens": 50_000,
                    "context_window": 200_000, "requests_per_day": "high", "prompt_cache": "no"}, "R-2", {"rag"}),
    ("S-002-03.4", {"lacks_skill": "yes", "lacks_knowledge": "no", "verifier": "programmatic", "pass_at_k": 0.5},
     "V-5", {"grpo_rlvr"}),
    ("S-002-03.4", FACTS_WRONG, "Q1-Yes", {"rag"}),
    ("S-003-07", NEARLY, "G-8", SFT_LEAVES),
    ("S-003-07", {**RARELY, "lacks_style_format": "yes"}, "T-7", {"rethink"}),
]  # fmt: skip


@pytest.mark.parametrize(("promise", "facts", "edge", "leaves"), KEPT, ids=[row[0] for row in KEPT])
def test_a_promise_is_kept_by_its_rule(promise, facts, edge, leaves):
    advice = _advice(**facts)

    assert (EDGES[edge].follows or edge) in _edges(advice)
    assert advice.primary in leaves


def test_s_004_04_2_p_tuning_is_named_beside_lora_and_says_why_it_is_second():
    advice = _advice(**STYLE, n_labelled=300, label_quality="gold", iteration="fast")
    offered = next(other for other in advice.alternatives if other.leaf == "p_tuning")

    assert "6 to 17 points" in offered.why


def test_s_004_04_4_strict_output_gets_the_template_before_the_light_tuning():
    plan = _plan(_advice(output_strictness="template", lacks_style_format="yes", n_labelled=300))

    assert plan.index("structured_output") < plan.index("sft_lora")


def test_s_002_03_2_a_text_beyond_the_window_strikes_the_long_context_out():
    advice = _advice(lacks_knowledge="yes", corpus_tokens=10**7, context_window=128_000)

    assert "long_context" in {one.leaf for one in advice.excluded}


def test_s_002_03_3_a_long_prompt_on_every_call_is_a_reason_to_make_it_cheaper():
    dear = parse({"prompt_tokens": 6000, "requests_per_day": "high"})

    assert (EDGES["P-3"].end, EDGES["P-3"].test(dear)) == ("c_cost", True)
    assert "source document 002" in EDGES["P-3"].source
    assert _advice(prompt_success=0.95, target_success=0.9, requests_per_day="high", cost_sensitive="yes",
                   teacher_available="yes_licensed").primary == "distillation"  # fmt: skip


def test_x1_the_minimum_follows_the_task_the_gain_and_the_quality_and_is_never_one_number():
    def least(task, quality="gold", gain=None):
        return p.minimum_examples(task, True, quality, gain)

    assert len({least(task) for task in p.MINIMUM}) > 3
    assert least("style_generation") <= 62 < least("classification") < least("translation") == 5000
    assert least("extraction", "mixed") > least("extraction") > least("extraction", gain="large")
    assert EDGES["S-2b"].contested == "X1"


def test_x2_facts_are_looked_up_unless_they_never_change_and_are_huge_and_retrieval_stays_the_baseline():
    assert _advice(lacks_knowledge="yes", knowledge_change="static", corpus="not_huge").primary == "rag"
    huge = _advice(lacks_knowledge="yes", knowledge_change="static", corpus="huge", eval_set_size=200)

    assert huge.primary == "cpt_sft"
    assert ("rag", "baseline") in [(stage.leaf, stage.role) for stage in huge.plan]
    assert huge.confidence.band != "high"
    assert any("X2" in cap for cap in huge.confidence.caps)


def test_x2_examples_that_state_unknown_facts_are_no_way_to_teach_facts():
    advice = _advice(lacks_knowledge="yes", knowledge_change="static", corpus="not_huge", retrieval_possible="no",
                     train_unknown_fact_share="high")  # fmt: skip

    assert advice.primary not in SFT_LEAVES
    assert "hallucination_from_unknown_facts" in {warning.code for warning in advice.warnings}


def test_x3_the_share_of_use_cases_never_stands_beside_the_success_rate():
    said = " ".join(edge.why for edge in EDGES.values()).casefold()

    assert "use cases" not in said
    assert "tenth" in EDGES["G-8"].why
    assert EDGES["G-8"].grade == "C"


def test_x4_at_or_above_the_target_is_the_end():
    for success in (0.9, 0.95):
        assert (
            _advice(**{**NEARLY, "target_success": 0.9, "prompt_success": success}).primary in PROMPT_LEAVES
        )


def test_x4_below_the_target_at_nine_in_ten_is_contested_and_never_highly_confident():
    advice = _advice(**NEARLY, eval_set_size=200)

    assert any("X4" in cap for cap in advice.confidence.caps)
    assert advice.confidence.band != "high"


def test_x4_the_last_tenth_is_trained_only_where_it_pays():
    assert _advice(**NEARLY, requests_per_day="low", human_fallback="yes").primary == "prompt_engineering"
    assert _advice(**NEARLY, requests_per_day="high", human_fallback="yes").primary in SFT_LEAVES
    assert _advice(**NEARLY, human_fallback="yes").primary in SFT_LEAVES


def test_x5_a_weak_student_is_no_reason_to_rethink():
    assert "T-7" not in _edges(_advice(student_success=0.05, prompt_success=0.7, target_success=0.9, **SHOWN))


@pytest.mark.parametrize(
    ("facts", "edge"),
    [
        ({"oracle_context_success": 0.9}, "T-2"),
        ({"lacks_style_format": "yes", "output_strictness": "json_schema"}, "T-1"),
        ({"pass_at_k": 0.4, "verifier": "programmatic"}, "T-4"),
    ],
    ids=["knowledge", "form", "skill"],
)
def test_x5_before_rethinking_knowledge_form_and_skill_are_tested(facts, edge):
    advice = _advice(**RARELY, **facts)

    assert edge in _edges(advice)
    assert advice.primary != "rethink"


def test_x6_several_tasks_get_lora_adapters_and_bottleneck_adapters_stay_on_offer():
    advice = _advice(**SHOWN, n_tasks=5)

    assert advice.primary == "multi_lora"
    assert "adapters" in {other.leaf for other in advice.alternatives}


def test_x7_adapters_of_several_tasks_are_kept_apart_and_a_single_task_has_nothing_to_keep_apart():
    assert "do not merge" in EDGES["U-4"].why
    assert _advice(**SHOWN, n_tasks=1, n_tenants=1).primary == "sft_lora"
    assert [_advice(**SHOWN, **{fact: 3}).primary for fact in ("n_tasks", "n_tenants")] == ["multi_lora"] * 2


def test_x8_the_usual_rank_is_4_to_64_and_more_only_for_large_sets():
    usual = [rank for rows, rank in RANKS if rows <= p.AMPLE]
    large = [rank for rows, rank in RANKS if rows > p.AMPLE]

    assert all(4 <= rank <= 64 for rank in usual)
    assert all(rank <= 256 for rank in large)


def test_x13_the_form_is_constrained_first_then_shown_then_trained():
    schema = {**SHOWN, "output_strictness": "json_schema"}
    edges = [edge.id for edge in extension.EDGES]

    assert _advice(**schema).primary == "structured_output"
    assert edges.index("P-1") < edges.index("P-0")
    assert edges.index("S-8") < edges.index("S-2b") < edges.index("S-1")
    assert _plan(_advice(**schema))[-1] in SFT_LEAVES


def test_x13_rules_of_meaning_are_not_guaranteed_by_syntax():
    assert _advice(**SHOWN, output_strictness="semantic_rules").primary in SFT_LEAVES


def test_x16_where_the_tree_ends_the_other_levers_are_asked_for():
    advice = _advice(lacks_knowledge="no", lacks_style_format="no", optimise_cost_latency="yes",
                     teacher_available="yes_licensed")  # fmt: skip

    assert (advice.classic_leaf, advice.primary) == (None, "distillation")
    assert "O-1" in _edges(advice)


def test_x16_the_ten_edges_stay_untouched_and_the_plan_can_say_both():
    both = _advice(**FACTS_WRONG, lacks_style_format="yes")

    assert len(tree.EDGES) == 10
    assert {"rag", "rag_ft"} <= set(_plan(both))


def test_x16_missing_examples_are_asked_for_in_the_plan():
    assert "get_data" in _plan(_advice(**STYLE, n_labelled=80, task_type="dialogue_task"))


def test_x19_the_oracle_context_test_is_offered_with_the_question():
    asked = _advice(lacks_style_format="yes")

    assert "paste the right passage" in BY_FACT["lacks_knowledge"].why.casefold()
    assert "paste the right passage" in EXPERIMENTS["lacks_knowledge"].casefold()
    assert "lacks_knowledge" in {ask.fact for ask in asked.ask_next}


def test_x19_the_test_answers_the_question_that_nobody_could():
    mended = _advice(oracle_context_success=0.9, prompt_success=0.4, knowledge_change="daily")

    assert ("Q1-Yes" in _edges(mended), mended.primary) == (True, "rag")


def test_x20_lora_is_the_default():
    assert _advice(**SHOWN, vram_gb=24, model_params_b=7).primary == "sft_lora"


def test_x20_full_tuning_needs_scale_distance_and_room():
    room = {"vram_gb": 80, "gpus": 8, "model_params_b": 7}

    assert _advice(**FAR, **room).primary == "sft_full"
    assert _advice(**{**FAR, "n_labelled": 5000}, **room).primary != "sft_full"
    assert _advice(**{**FAR, "domain_shift": "none"}, **room).primary != "sft_full"
    assert _advice(**FAR, vram_gb=24, gpus=1, model_params_b=7).primary != "sft_full"


def test_x20_qlora_where_sixteen_bit_lora_does_not_fit():
    assert _advice(**SHOWN, vram_gb=12, model_params_b=7).primary == "sft_qlora"


def test_x17_labels_with_parentheses_are_quoted_when_drawn():
    whole = graph.build("classic")
    drawn = mermaid(tuple(graph.nodes(whole)), tuple(graph.edges(whole)))

    assert '["Fine-Tuning (Knowledge Injection)"]' in drawn


def test_s_000_13_what_is_trained_has_to_beat_the_untuned_model_and_a_strong_prompt():
    stage = next(stage for stage in _advice(**SHOWN).plan if stage.role == "primary")

    assert stage.leaf in TRAINING_LEAVES
    assert "baselines" in stage.attachments


def test_s_003_06_what_differs_by_request_belongs_into_the_prompt():
    advice = _advice(lacks_style_format="yes", per_request_instructions="yes")

    assert advice.primary == "prompt_engineering"
    assert "P-4" in _edges(advice)


def test_x9_the_formula_is_shown_instead_of_the_slogan_and_the_memory_is_asked_for():
    assert 7 * p.FULL_BYTES == 112
    assert "needs about 116 GB, 24 GB stated" in {
        str(one.reason) for one in _advice(**SHOWN, vram_gb=24, model_params_b=7).excluded
    }
    assert "memory" in FACTS["vram_gb"].means


def test_x10_seventy_billion_on_one_48_gb_card_is_possible_under_stated_conditions():
    advice = _advice(**SHOWN, vram_gb=48, gpus=1, model_params_b=70)

    assert advice.primary == "sft_qlora"
    assert "tight_memory_short_sequences" in {warning.code for warning in advice.warnings}
    assert "memory_limits" in next(s for s in advice.plan if s.role == "primary").attachments


def test_x11_four_bits_save_three_quarters_of_the_weights_and_less_of_the_whole():
    whole = 1 - p.needed_gb(7, p.QLORA_BYTES) / p.needed_gb(7, p.LORA_BYTES)

    assert 1 - p.QLORA_BYTES / p.LORA_BYTES == pytest.approx(0.74)
    assert whole < 0.6


def test_x12_fresh_facts_and_a_fast_answer_are_two_questions():
    assert FACTS["knowledge_change"].group != FACTS["latency"].group
    assert _advice(lacks_knowledge="yes", knowledge_change="realtime").primary == "rag"
    assert "rag" not in _plan(_advice(**SHOWN, latency="tight"))


def test_x14_what_is_learned_and_which_weights_move_are_chosen_apart():
    pairs = {**SHOWN, "n_pref_pairs": 5000, "model_params_b": 7}
    found = {_advice(**pairs, vram_gb=memory).axes for memory in (12, 24)}

    assert {one.objective for one in found} == {"preference"}
    assert {one.update for one in found} == {"qlora", "lora"}


def test_x15_rejected_answers_need_a_real_flaw_only_where_safety_is_the_task():
    safe = _advice(n_pref_pairs=3000, needs_safety_alignment="yes")
    tone = _advice(**SHOWN, n_pref_pairs=3000)

    assert (safe.primary, tone.primary) == ("dpo", "dpo")
    assert ("A-1" in _edges(safe), "A-1" in _edges(tone)) == (True, False)
    assert "real flaw" in EDGES["A-1"].why
    assert "flaw" not in EDGES["S-5a"].why


def test_x18_json_with_comments_is_explained_with_its_place(tmp_path):
    path = tmp_path / "sample.json"
    path.write_text(
        '[\n  // a remark\n  {"instruction": "a", "input": "", "output": "b"},\n]', encoding="utf-8"
    )

    with pytest.raises(Failure) as caught:
        convert(path)

    said = f"{caught.value} {getattr(caught.value, 'problems', '')}"
    assert "sample.json" in said or caught.value.where
    assert "comment" in said.casefold()


def test_x21_lora_is_no_bottleneck_adapter_and_the_leaf_of_that_name_is():
    assert "bottleneck" in LEAVES["adapters"].means
    assert not [
        name for name in ("sft_lora", "sft_qlora", "multi_lora") if "bottleneck" in LEAVES[name].means
    ]


def test_x22_instructions_and_examples_are_two_shapes_of_one_objective(tmp_path):
    rows = []
    for name, text in (
        ("sft.jsonl", '{"input": "Say hello.", "output": "Hello."}'),
        ("instruction.jsonl", '{"instruction": "Say hello.", "input": "", "output": "Hello."}'),
    ):
        (tmp_path / name).write_text(text + "\n", encoding="utf-8")
        rows.append([turn.content for turn in convert(tmp_path / name).rows[0].messages])

    assert rows[0] == rows[1]


def test_x23_every_training_checks_what_was_forgotten():
    assert all("retention_check" in LEAVES[name].attachments for name in TRAINING_LEAVES)


def test_every_contradiction_between_the_documents_is_named_by_a_test():
    named = {name.split("_")[1] for name in globals() if name.startswith("test_x")}

    assert named == {f"x{number}" for number in range(1, 24)}
