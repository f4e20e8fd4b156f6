"""Arbitrary plans and hostile strings, for Hypothesis."""

from hypothesis import strategies as st

from recipes.plan import (
    LARGEST,
    Bottleneck,
    Data,
    Evaluation,
    Full,
    Ia3,
    LastLayers,
    Layout,
    Lora,
    Model,
    Named,
    Plan,
    Predicted,
    Prefix,
    PromptTuning,
    PTuning,
    Schedule,
)

HOSTILE = (
    "\x7f",
    '"',
    "'''",
    '"""',
    "\\",
    "# [x]",
    "\n[model]\n",
    "\r",
    "\u0085",
    "\u2028",
    "{{ 7 }}",
    "{% x %}",
    "$(id)",
    "\U0001f600",
    "\x1b[2J",
    "[" * 80,
)

prose = st.lists(
    st.one_of(st.text(st.characters(exclude_categories=["Cs"]), max_size=20), st.sampled_from(HOSTILE)),
    max_size=6,
).map("".join)
line = prose.map(lambda text: "".join(c for c in text if c.isprintable())).filter(bool)
count = st.integers(1, LARGEST)
share = st.floats(0, 1, exclude_max=True)
positive = st.floats(min_value=0, exclude_min=True, allow_infinity=False, allow_nan=False)
sha256 = st.text("0123456789abcdef", min_size=64, max_size=64)

adaptations = st.one_of(
    st.builds(Full),
    st.builds(LastLayers, layers=count),
    st.builds(
        Lora,
        base=st.sampled_from(["dense", "nf4"]),
        double_quantisation=st.booleans(),
        rank=count,
        alpha=positive,
        dropout=share,
        rslora=st.booleans(),
        dora=st.booleans(),
        targets=st.lists(line, min_size=1, max_size=4).map(tuple),
        beneath=st.lists(line, max_size=2).map(tuple),
    ),
    st.builds(Lora, base=st.just("int8")),
    st.builds(Named, patterns=st.lists(line, min_size=1, max_size=4).map(tuple)),
    st.builds(
        Bottleneck,
        placement=st.sampled_from(["houlsby", "pfeiffer"]),
        width=count,
        activation=st.sampled_from(["relu", "gelu", "silu"]),
    ),
    st.builds(Prefix, virtual_tokens=count),
    st.builds(PTuning, virtual_tokens=count, encoder_width=count),
    st.builds(PromptTuning, virtual_tokens=count, start=st.none() | prose),
    st.builds(Ia3),
)
plans = st.builds(
    Plan,
    name=st.from_regex(r"[a-z0-9][a-z0-9._-]{0,63}", fullmatch=True),
    model=st.builds(
        Model, id=line, revision=st.none() | line, dtype=st.sampled_from(["float32", "bfloat16", "float16"])
    ),
    adaptation=adaptations,
    data=st.builds(
        Data,
        train=line,
        train_sha256=sha256,
        held_out=line,
        held_out_sha256=sha256,
        length_tokens=count,
        too_long=st.sampled_from(["refuse", "drop", "truncate", "split"]),
    ),
    schedule=st.builds(
        Schedule,
        epochs=positive,
        max_steps=st.none() | count,
        micro_batch_tokens=count,
        accumulation=count,
        learning_rate=positive,
        warmup_share=share,
        clip_norm=positive,
        optimizer=st.sampled_from(["adamw", "adamw_8bit", "paged_adamw_8bit"]),
        exact_weights=st.booleans(),
        checkpointing=st.booleans(),
        checkpointing_layers=count,
        seed=st.integers(0, LARGEST),
    ),
    evaluation=st.builds(
        Evaluation, rows=count, prompt=st.none() | prose, few_shot_prompt=st.none() | prose, primary=line
    ),
    layout=st.builds(
        Layout,
        processes=count,
        sharding=st.just("none"),  # the others exclude values that are drawn above
        device=st.sampled_from(["auto", "cpu", "cuda"]),
        threads=st.none() | count,
        functions=st.sampled_from(["ours", "stock"]),
        compile=st.sampled_from(["auto", "off", "on"]),
    ),
    predicted=st.none()
    | st.builds(Predicted, peak_bytes=count, seconds_low=st.none() | positive, gpu=st.none() | line),
)
"""Every kind of plan that the schema allows."""

KEYS = (
    "",
    "name",
    "model",
    "model.id",
    "adaptation.base",
    "schedule.learning_rate",
    "data.train",
    "not.a.key",
)
reasons = st.dictionaries(st.sampled_from(KEYS), prose)
