"""A protocol's result for the Hub: metadata of a model card, and entries of `.eval_results/`.

    model-index           in a card's front matter, read by every version of the Hub: all scores, with interval and n
    .eval_results/*.yaml  beside the weights: shown on the model's page and on a benchmark's leaderboard. Only of a
                          protocol that names a benchmark, and of a run that is the protocol's without a change

Source: Hugging Face Hub documentation, "Model Cards" and "Evaluation Results". Differs: no token, for nobody but the
Hub signs results; no `source`, which the Hub takes with an address alone, that of a page of the user's.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from expunge.files import slug, write_text
from expunge.protocols.table import check_names_numbers, counts_for, own_scores
from expunge.records import Score
from expunge.records.protocol import ProtocolResult

CARD, RESULTS = "model-index.yaml", ".eval_results"


def write_for_hub(result: ProtocolResult, folder: Path) -> None:
    """`model-index.yaml`, and an entry under `.eval_results/` where there is one to be made.

    Raises:
        UserError: a stand-in took part. StorageError: they cannot be written.
    """
    import yaml

    name = "-".join(filter(None, (slug(result.model.rpartition("/")[2]), result.patch_hash[:8])))
    dump = lambda value: yaml.safe_dump(value, sort_keys=False, allow_unicode=True, width=110)
    write_text(folder / CARD, dump(card_metadata(result, name or result.protocol)))
    entries = eval_results(result)
    if entries:
        write_text(folder / RESULTS / f"{result.protocol}.yaml", dump(entries))


def card_metadata(result: ProtocolResult, name: str) -> dict[str, Any]:
    """The `model-index` of a model card: the scores of the model that was measured, with interval and n.

    Raises:
        UserError: a stand-in took part.
    """
    check_names_numbers(result)
    metrics = [{"type": name, "value": score.value, "name": score.title or name, "args": {
        "n": score.n, **({"low": score.low, "high": score.high} if score.low is not None else {})}}
               for name, score in own_scores(result).items() if score.value is not None]
    return {"model-index": [{"name": name, "results": [{
        "task": {"type": "text-to-image"},
        "dataset": {"type": result.protocol, "name": result.title, "args": {"source": result.source}},
        "metrics": metrics}]}]}


def eval_results(result: ProtocolResult) -> list[dict[str, Any]]:
    """The entries of `.eval_results/*.yaml`; none where the protocol names no benchmark or the run deviates from it.

    A run without an edit says what the original does. A task that the run has no number for is left out, and told
    beside the table (`table.unanswered`).

    Raises:
        UserError: a stand-in took part.
    """
    check_names_numbers(result)
    benchmark = counts_for(result)
    if benchmark is None:
        return []
    scores = own_scores(result)
    dataset = {"id": benchmark.dataset, "revision": benchmark.revision} if benchmark.revision else \
        {"id": benchmark.dataset}
    return [{"dataset": {**dataset, "task_id": task}, "value": benchmark.times * score.value, "date": result.created,
             "notes": _notes(result, score, benchmark.times)}
            for name, task in benchmark.tasks.items()
            if (score := scores.get(name)) is not None and score.value is not None]


def _notes(result: ProtocolResult, score: Score, times: float) -> str:
    ends = "" if score.low is None or score.high is None else \
        f"; 95% interval {times * score.low:.4g} to {times * score.high:.4g}"
    return f"expunge {result.versions.get('expunge', '')}, protocol {result.protocol} (version {result.version}), " \
           f"n {score.n}{ends}"
