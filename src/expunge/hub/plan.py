"""What of an edit would go to the Hub: the files by their names there, and the model card.

| kind | at the root of the repository | relation to the base |
| --- | --- | --- |
| patch | patch.safetensors, patch.json | adapter |
| LoRA | the LoRA's file | adapter |
| folder | the diffusers folder | finetune |
| checkpoint | the single file | finetune |
| GGUF | the file | quantized |

Each comes with README.md (the card, with the leading scores as model-index), results.json (all scores with intervals,
and hashes) and, if named, LICENSE. No image goes, no record with wordings, nobody who asked, and no prompt of an
explicit concept, of a person or of a user's own list: that is looked for in everything before it is planned.

Source: the Hub's model card metadata. Differs: none.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

from expunge import untrusted
from expunge.config import Settings, knob
from expunge.errors import ExpungeError, UserError
from expunge.evidence.found import Found, records_of_edit
from expunge.evidence.statement import about
from expunge.files import file_digest
from expunge.hub.licences import Licence, licence_of
from expunge.models.patch import Patch
from expunge.models.shareable import CARD, check_made_from, header_of, shareable, shareable_card, unsaid
from expunge.records import HUB_NAME, Evaluation, PatchCard
from expunge.records.patch_file import card_in
from expunge.report.about import About
from expunge.report.card import model_card
from expunge.report.covering import without_folders
from expunge.report.sensitive import redacted, sensitive

Kind = Literal["patch", "LoRA", "folder", "checkpoint", "GGUF"]
RELATIONS: dict[Kind, str] = {"patch": "adapter", "LoRA": "adapter", "folder": "finetune", "checkpoint": "finetune",
                              "GGUF": "quantized"}
EXPLICIT = "not-for-all-audiences"
"""The Hub's tag of what was evaluated with explicit content."""
_LORA = re.compile(r"\.lora_[AB]\.|\.lora_(down|up)\.|_lora\.(down|up)\.|\.(hada|lokr)_w")
_TEXTS = (".json", ".md", ".txt", ".yaml", ".yml", ".csv")
_GOES = (*_TEXTS, ".safetensors", ".model")
"""How files of a folder end that may go: texts, weights, and the vocabularies of SentencePiece."""


class PushSettings(Settings):
    """What `expunge push` is asked; a `--config` file holds these keys."""

    repo: str = knob("", "Where it goes: OWNER/NAME")
    weights: Path | None = knob(None, "What goes in the patch's place: a LoRA or a checkpoint made from it, or a "
                                      "diffusers folder")
    base_model: str = knob("", "The base model's name on the Hub, where the patch's card has none")
    license: str = knob("", "Identifier of the licence; the base model's if it is known")
    license_name: str = knob("", "Name of a licence that has no identifier (with `other`)")
    license_link: str = knob("", "Where that licence is to be read")
    license_file: Path | None = knob(None, "The licence's text, which goes along as LICENSE")
    by: str = knob("", "Who answers for it, as it is to stand in the card")
    public: bool = knob(False, "A repository that everybody reads")
    pull_request: bool = knob(True, "Ask for the change by a pull request; else it is made at once")
    revision: str = knob("", "The branch; main if empty")
    message: str = knob("", "What the change is called")


@dataclass(frozen=True)
class Push:
    """What would go, in full.

    Attributes:
        settings: as they were asked, resolved. kind: what the weights are.
        texts: what is written for it, by name in the repository; files: what is taken as it lies.
    """

    settings: PushSettings
    kind: Kind
    texts: Mapping[str, bytes]
    files: Mapping[str, Path]

    @property
    def listing(self) -> list[tuple[str, int, str]]:
        """(name, bytes, sha256) of everything that would go."""
        made = [(name, len(content), sha256(content).hexdigest()) for name, content in self.texts.items()]
        taken = [(name, file.stat().st_size, file_digest(file)) for name, file in self.files.items()]
        return sorted([*made, *taken])

    @property
    def card(self) -> str:
        """The model card."""
        return self.texts["README.md"].decode()


def planned(run: str | Path, settings: PushSettings, scratch: Path, extra: Mapping[str, str] | None = None) -> Push:
    """What would go, from a patch's folder with an evaluation in it.

    Args:
        scratch: a folder for what has to be written anew; it must be there until the push is over.
        extra: further text files by name, such as results in the Hub's other form.

    Raises:
        UserError: no patch or no evaluation, records of another patch, an unusable name, a licence that nobody says, or
            weights of no known kind.
        ExpungeError: something would go that must not.
    """
    run = Path(run)
    if not HUB_NAME.fullmatch(settings.repo):
        raise UserError(f"repository {settings.repo!r}", accepted="--repo OWNER/NAME")
    patch, run = Patch.load(run), run if run.is_dir() else run.parent
    found = records_of_edit(run)
    evaluation = _evaluation(run, found)
    base = settings.base_model or (patch.card.base if HUB_NAME.fullmatch(patch.card.base) else "")
    licence = licence_of(base or patch.card.base, settings.license, settings.license_name, settings.license_link)
    kind, files, texts = _weights(patch, settings.weights, scratch)
    texts["README.md"] = _card(evaluation, settings, kind, base, licence).encode()
    said = about(shareable_card(patch.card), found, {})
    texts["results.json"] = (json.dumps(said, indent=2, ensure_ascii=False) + "\n").encode()
    if settings.license_file is not None:
        if not settings.license_file.is_file():
            raise UserError(f"no file {settings.license_file}", accepted="a text file of the licence")
        texts["LICENSE"] = untrusted.content(settings.license_file)
    texts |= {name: text.encode() for name, text in (extra or {}).items()}
    files = {name: file for name, file in files.items() if name not in texts}
    made = Push(settings, kind, texts, files)
    _check_unsaid(made, patch)
    return made


def _evaluation(run: Path, found: list[Found]) -> Evaluation:
    known = [one for one in found if isinstance(one.record, Evaluation)]
    if len(known) != 1:
        raise UserError(f"{len(known)} evaluations in {run}" if known else f"no evaluation in {run}",
                        accepted="one evaluation of the patch: its card is made from that",
                        remedy="move the others away" if known else "make one with `expunge evaluate`")
    (one,) = known
    assert isinstance(one.record, Evaluation)
    return one.record


def _weights(patch: Patch, given: Path | None, scratch: Path) -> tuple[Kind, dict[str, Path], dict[str, bytes]]:
    """The kind, files as they lie, and files that are written anew."""
    if given is None:
        shareable(patch).save(scratch / "patch")
        return "patch", {name: scratch / "patch" / name for name in ("patch.safetensors", "patch.json")}, {}
    check_made_from(given, patch)
    if given.is_dir():
        if not (given / "model_index.json").is_file():
            raise UserError(f"{given} is no diffusers folder", accepted="a folder with model_index.json, or a file",
                            remedy="`expunge merge` writes one")
        inside = {file.relative_to(given).as_posix(): file for file in sorted(given.rglob("*"))
                  if file.is_file() and not any(part.startswith(".") for part in file.relative_to(given).parts)}
        odd = [name for name, file in inside.items() if file.suffix.lower() not in _GOES]
        if odd:
            raise UserError(f"{', '.join(odd)} in {given}", accepted=f"files that end in {', '.join(_GOES)}",
                            remedy="take them out of the folder: pickled weights run code when they are opened, and "
                                   "nobody looked into the others (a licence goes with --license-file)")
        cards = {name: file for name, file in inside.items() if file.name == CARD}
        texts = {name: _card_text(shareable_card(card_in(file)))
                 for name, file in cards.items()}
        return "folder", {name: file for name, file in inside.items() if name not in cards}, texts
    if not given.is_file():
        raise UserError(f"no file or folder {given}", accepted="what was made from the patch")
    if given.suffix == ".gguf":
        return "GGUF", {given.name: given}, {}
    if given.suffix != ".safetensors":
        raise UserError(f"{given} is no safetensors file", accepted="a LoRA or a checkpoint in safetensors, a GGUF "
                        "file, or a diffusers folder", remedy="pickled weights run code when they are opened")
    try:
        with untrusted.tensors(given) as opened:
            names, told = list(opened.keys()), opened.metadata() or {}
    except OSError as error:
        raise UserError(f"{given} cannot be read: {error}", accepted="a whole safetensors file",
                        remedy="export it again") from error
    if "card" in told:
        raise UserError(f"{given} is a patch", accepted="a LoRA or a checkpoint made from it",
                        remedy="leave --weights out to push the patch")
    return ("LoRA" if any(map(_LORA.search, names)) else "checkpoint"), {given.name: given}, {}


def _card(evaluation: Evaluation, settings: PushSettings, kind: Kind, base: str, licence: Licence) -> str:
    """The model card with what the Hub wants to know."""
    shown = without_folders(redacted(evaluation))
    tags = ["expunge", "text-to-image", "machine-unlearning", "concept-erasure", shown.card.method]
    if kind in ("LoRA", "folder", "checkpoint"):
        tags.append({"LoRA": "lora", "folder": "diffusers", "checkpoint": "checkpoint"}[kind])
    if sensitive(evaluation.card.request):
        tags.append(EXPLICIT)
    matter: dict[str, Any] = {**licence.matter, "tags": tags}
    if base:
        matter |= {"base_model": base, "base_model_relation": RELATIONS[kind]}
    told = f"{licence.name or licence.id}, inherited from {licence.inherited}" if licence.inherited else \
        licence.name or licence.id
    link = f" ({licence.link})" if licence.link else ""
    use = _USES[kind].format(repo=settings.repo, name=settings.weights.name if settings.weights else "")
    return model_card(shown, About(settings.by.strip(), True, evaluation.digest), matter=matter, what=_WHATS[kind],
                      use=use, licence=f"{told}{link}. Restrictions on use of the base model hold for this, too.")


_EDITED = "A text-to-image diffusion model, edited"
_WHATS: dict[Kind, str] = {
    "patch": "", "folder": f"{_EDITED}.", "checkpoint": f"{_EDITED}, in one file.",
    "LoRA": "A LoRA for a text-to-image diffusion model. It acts at the strength at which it is loaded: at strength 0, "
            "or left off, the base model draws the concept as before.",
    "GGUF": f"{_EDITED}, and quantised afterwards: the scores are those of the edit before that."}
_USES: dict[Kind, str] = {
    "patch": "expunge apply hf://{repo}", "LoRA": 'pipe.load_lora_weights("{repo}", weight_name="{name}")',
    "folder": 'DiffusionPipeline.from_pretrained("{repo}")', "checkpoint": "hf download {repo} {name}",
    "GGUF": "hf download {repo} {name}"}


def _card_text(card: PatchCard) -> bytes:
    return (card.model_dump_json(indent=2) + "\n").encode()


def _check_unsaid(made: Push, patch: Patch) -> None:
    """ExpungeError where a text that must not be handed out is in what would go."""
    words = [text for text in unsaid(patch) if text]
    for name, content in _readable(made):
        odd = next((word for word in words if json.dumps(word, ensure_ascii=False)[1:-1] in content or word in content),
                   None)
        if odd is not None:
            digest = sha256(odd.encode()).hexdigest()[:16]
            raise ExpungeError(f"{name} holds a text that is not to be handed out (sha256 {digest})",
                               remedy="nothing was uploaded; take it out of that file")


def _readable(made: Push) -> Iterator[tuple[str, str]]:
    """Every text that would go: whole text files, and the headers of weights."""
    yield from ((name, content.decode("utf-8", "replace")) for name, content in made.texts.items())
    for name, file in made.files.items():
        if file.suffix.lower() in _TEXTS and file.name not in ("vocab.json", "tokenizer.json", "merges.txt"):
            yield name, untrusted.text(file, errors="replace")
        elif file.suffix.lower() == ".safetensors":
            yield name, json.dumps(header_of(file), ensure_ascii=False)
