"""What of rows is trained, token by token: the very mask that a run makes, written down for a reader."""

import json
import sys
from pathlib import Path

from transformers import AutoTokenizer, PreTrainedTokenizerBase

from recipes.rows import Row
from trainers import data
from trainers.errors import DatasetError
from trainers.policy.source import inspect


def show(model: Path, rows: Path) -> int:
    """Write one JSON object a row on stdout: `place`, and `spans` of text and whether they are trained, or `flaw`.

    Raises:
        DatasetError: The file holds no rows.
        MissingWeights, PickleRefused, CodeRefused: The model is not one whose tokenizer may be opened.
    """
    inspect(model)
    tokenizer = AutoTokenizer.from_pretrained(model, trust_remote_code=False)
    data.ensure_template(tokenizer)
    for row in data.read_rows(rows):
        sys.stdout.write(json.dumps(_shown(tokenizer, row)) + "\n")
    return 0


def _shown(tokenizer: PreTrainedTokenizerBase, row: Row) -> dict[str, object]:
    try:
        example = data.masked(tokenizer, row)
    except DatasetError as flaw:
        return {"place": data.place(row), "flaw": flaw.places[0] if flaw.places else str(flaw)}
    spans: list[tuple[list[int], bool]] = []
    for token, trained in zip(example.ids, example.trained, strict=True):
        if not spans or spans[-1][1] != trained:
            spans.append(([], trained))
        spans[-1][0].append(token)
    return {
        "place": data.place(row),
        "spans": [
            {"text": str(tokenizer.decode(ids)), "tokens": len(ids), "trained": trained}
            for ids, trained in spans
        ],
    }
