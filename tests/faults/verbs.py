"""What is killed: each verb at its smallest, as somebody would type it.

A command runs in a folder of its own, writes to `out` in it and draws into `pictures`; `{made}` is the folder of what
was made before (`MADE`, `WRITTEN`), which no run changes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kept_files import content

EDIT = ("--steps", "6", "--set", "batch=2", "--set", "source={trajectories: 2, grid: 3}", "--set", "checkpoint_every=0")
FEW = "{direct: 2, held_out: 0, paraphrase: 0, implicit: 0, near: 2, far: 1, empty: 0, never_seen: 0}"
LOOK = ("--set", f"counts={FEW}", "--seeds", "2", "--steps", "3", "--batch", "4", "--set", "floor_items=2",
        "--set", "draws=100", "--set", "fid_draws=20", "--set", "strips=1")
STEPS = "{steps: 4, batch: 2, source: {trajectories: 2, grid: 3}, checkpoint_every: 0}"
EVALUATION = """\
evaluation: {counts: {direct: 1, held_out: 0, paraphrase: 0, implicit: 0, near: 1, far: 1, empty: 0, never_seen: 0},
             seeds: 2, steps: 3, batch: 4, floor_items: 0, draws: 100, fid_draws: 20, strips: 0}"""


def later_answers(file: Path) -> Any:
    """What a protocol's answers hold by image: a batch that is judged again is written again, and the later counts."""
    images = [line["image"] for line in content(file)]
    return {str([image.get(name) for name in ("row", "seed", "subject", "again")]): image for image in images}

DATED = ("README.md", "environment.json", "bom.cdx.json", "manifest.json", "statement.json", "attestation.dsse.json",
         "model.sig")
"""Files of a bundle that hold times, numbers drawn by chance, or digests and signatures of what does."""


def record_of_export(file: Path) -> Any:
    """What an export's record holds without the digests of files, whose headers tell the day."""
    return {name: value for name, value in content(file).items() if name != "files"}


def page(file: Path) -> bytes:
    """A report without what an edit takes, which of an interrupted one is known in part, and what else the day decides.
    """
    measured = (rb"<dt>Record</dt><dd>[0-9a-f]{16}</dd>", rb"\d{4}-\d\d-\d\dT[\d:+]+", rb"[\d.]+ (s|min|GiB)\b",
                rb" by the clock\b", rb'<section id="cost"(?s:.*?)</section>')
    return re.sub(b"|".join(measured), b"", file.read_bytes())


@dataclass(frozen=True)
class Verb:
    """A command that is killed and started again.

    Attributes:
        command: what is typed behind `expunge`.
        once: it makes something new and refuses to make it twice: where the kill came after its end, the next run may
            say so and nothing else.
        known: by the name of a file or of its folder, how what it holds is compared; others by `content`.
        after: a command that must find the result in order.
    """

    command: tuple[str, ...]
    once: bool = False
    known: Mapping[str, Callable[[Path], Any]] = field(default_factory=dict)
    after: tuple[str, ...] = ()


VERBS: dict[str, Verb] = {
    "erase": Verb(("erase", "church", "--method", "esd", *EDIT, "--no-own-look", "--out", "out")),
    "attack": Verb(("attack", "{made}/edit", "--attacks", "seed-search", "--attacks", "noising", "--count", "2",
                    "--steps", "3", "--fresh", "1", "--control-items", "1", "--each", "--force", "--set",
                    "options={seed-search: {tries: 2}, noising: {strengths: [0.5]}}", "--out", "out")),
    "evaluate": Verb(("evaluate", "{made}/edit", *LOOK, "--out", "out")),
    "evaluate --protocol": Verb(("evaluate", "{made}/edit", "--protocol", "{made}/protocol.yaml", "--file",
                                 "prompts={made}/prompts.csv", "--file", "classifier={made}/classifier", "--batch", "2",
                                 "--store", "pictures", "--out", "out"), known={"answers": later_answers}),
    "bench": Verb(("bench", "{made}/bench.yaml", "--out", "out"), known={"report": page}),
    "sequence": Verb(("sequence", "{made}/sequence.yaml", "--out", "out"), known={"report": page}),
    "guard learn": Verb(("guard", "learn", "--forbidden", "blorp", "--innocent", "mofuu", "--drawings", "2", "--set",
                         "steps=4", "--set", "passes=1", "--set", "rows=2", "--set", "batch=1", "--set",
                         "users.adamw={learning_rate: 0.0003, batch: 2, drop: 0}", "--out", "out")),
    "export": Verb(("export", "{made}/edit", "--to", "lora-kohya", "--drop", "--out", "out/lora.safetensors"),
                   once=True, known={"lora.safetensors.export.json": record_of_export}),
    "export --to folder": Verb(("export", "{made}/edit", "--to", "folder", "--out", "out/model"), once=True,
                               known={"expunge-export.json": record_of_export}),
    "bundle": Verb(("bundle", "{made}/edit", "--out", "out/bundle", "--key", "{made}/keys/expunge.key"), once=True,
                   known=dict.fromkeys(DATED, lambda file: file.stat().st_size > 0),
                   after=("verify", "out/bundle", "--public-key", "{made}/keys/expunge.pub", "--base", "embedded")),
}

MADE: tuple[tuple[str, ...], ...] = (
    ("erase", "church", "--method", "esd", *EDIT, "--no-own-look", "--out", "{made}/edit"),
    ("evaluate", "{made}/edit", *LOOK),
    ("keys", "--out", "{made}/keys"),
)
"""Commands that make what the verbs are called on."""

WRITTEN: Mapping[str, str] = {
    "protocol.yaml": """\
schema: 1
protocol: few
title: a few images that show a church
source: these tests
prompts: {artefact: {role: prompts, what: a list}, columns: {text: prompt, seed: seed}}
sampler: {scheduler: own, steps: 3, guidance: 2.0}
detectors:
  - {name: object, detector: image-classification, artefacts: {folder: {role: classifier, what: a classifier}},
     rule: {labels: [church], rule: top}}
scores:
  - {name: shown, formula: shown, detector: object}
  - {name: apart, formula: distance, options: {distance: ssim}}
""",
    "prompts.csv": "prompt,seed\n" + "".join(f"a church number {k},{k}\n" for k in range(6)),
    "bench.yaml": f"""\
methods:
  - {{method: esd, settings: {STEPS}}}
concepts: [{{concept: church, anchor: house}}]
seeds: [0]
attack: {{attacks: [seed-search], options: {{seed-search: {{tries: 1}}}}, count: 2, control_items: 1, fresh: 1,
         steps: 3, each: true}}
{EVALUATION}
draws: 200
""",
    "sequence.yaml": f"""\
method: esd
settings: {STEPS}
strategy: l2-sp
requests:
  - {{concept: church, anchor: house}}
  - {{concept: bomb, anchor: apple}}
{EVALUATION}
""",
}
"""Files that the verbs are called on, by name."""
