"""A CLIP from a local folder: cosine of image and text, image features, and a zero-shot judge made of both.

Images are resized by bicubic interpolation with antialiasing (shorter side to the tower's size, then the centre),
and normalised with the folder's preprocessor_config.json, or with mean and deviation 0.5 where there is none.
Only safetensors are read. OpenCLIP's folders are read by `metrics.open_clip`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from expunge import untrusted
from expunge.errors import ModelError, UserError
from expunge.files import file_digest
from expunge.metrics.base import NO_NUMBERS
from expunge.metrics.open_clip import CONFIG, WEIGHTS, is_open_clip, read_open_clip
from expunge.pixels import Pictures
from expunge.records import Detection

SOMETHING_ELSE = "something else"
"""The judge's label for images that show none of the named things."""


class LocalClip:
    """`TextImage` and `Features` over a folder with a CLIP of transformers or OpenCLIP, and its tokenizer."""

    def __init__(self, folder: Path, batch: int = 64) -> None:
        """Load from `folder`.

        Raises:
            ModelError: the folder lacks a file, holds only pickles, or cannot be read.
        """
        from transformers import CLIPTokenizer

        folder = Path(folder)
        weights = sorted(folder.glob("*.safetensors"))
        if not (is_open_clip(folder) or ((folder / "config.json").is_file() and weights)):
            names = sorted(path.name for path in folder.iterdir())[:8] if folder.is_dir() else ["no such folder"]
            raise ModelError(f"no CLIP in {folder} ({', '.join(names) or 'empty'})",
                             accepted="a folder with config.json, model.safetensors and the tokenizer's files, or "
                                      f"OpenCLIP's with {CONFIG} and {WEIGHTS}",
                             remedy="pickled weights are never read; convert them to safetensors first")
        try:
            model, prepare = _opened(folder)
            self._tokenizer = CLIPTokenizer.from_pretrained(folder, local_files_only=True)
        except ModelError:
            raise
        except Exception as error:  # the loaders of weights and tokenizers share no base class
            raise ModelError(f"the CLIP in {folder} cannot be read: {error}") from error
        self._model: Any = model.float().eval().requires_grad_(False)
        self._mean, self._deviation = (torch.tensor(values).view(3, 1, 1) for values in prepare)
        self._size = int(model.config.vision_config.image_size)
        self._length = int(model.config.text_config.max_position_embeddings)
        self._batch = batch
        digest = hashlib.sha256("".join(file_digest(path) for path in weights).encode()).hexdigest()
        self.hash = file_digest(weights[0]) if len(weights) == 1 else digest
        self.name = f"{folder.resolve().name}@{self.hash[:8]}"
        self.width = int(model.config.projection_dim)

    @property
    def size(self) -> int:
        """Pixels of a side of what the image tower reads."""
        return self._size

    @property
    def scale(self) -> float:
        """The model's own logit scale (about 100)."""
        return float(self._model.logit_scale.exp())

    @torch.no_grad()
    def picture_features(self, pictures: Pictures) -> Tensor:
        """float32 (B, width), unit length, for images (B, 3, H, W) in [0, 1]."""
        return self._image_features(self._prepared(chunk) for chunk in pictures.split(self._batch) if len(chunk))

    @torch.no_grad()
    def prepared_features(self, prepared: Tensor) -> Tensor:
        """The same of what the tower reads, (B, 3, size, size), prepared in another way than the folder's."""
        return self._image_features(prepared.split(self._batch))

    def _image_features(self, chunks: Iterable[Tensor]) -> Tensor:
        states = [self._model.vision_model(pixel_values=chunk).pooler_output for chunk in chunks if len(chunk)]
        if not states:
            return torch.zeros(0, self.width)
        return F.normalize(self._model.visual_projection(torch.cat(states)), dim=-1)

    @torch.no_grad()
    def text_features(self, texts: Sequence[str]) -> Tensor:
        """float32 (B, width), unit length. Texts longer than the tower reads are cut, as CLIP scores do."""
        ids = self._tokenizer(list(texts), padding="max_length", max_length=self._length, truncation=True,
                              return_tensors="pt").input_ids
        parts = [self._model.text_projection(self._model.text_model(input_ids=chunk).pooler_output)
                 for chunk in ids.split(self._batch)]
        return F.normalize(torch.cat(parts), dim=-1)

    def __call__(self, pictures: Tensor, texts: Sequence[str]) -> Tensor:
        """float32 (B,): cosine of image i and text i."""
        if len(pictures) != len(texts):
            raise UserError(f"{len(pictures)} images and {len(texts)} texts", accepted="one text per image")
        if not len(pictures):
            return torch.zeros(0)
        names = list(dict.fromkeys(texts))
        rows = torch.tensor([names.index(text) for text in texts])
        return (self.picture_features(pictures) * self.text_features(names)[rows]).sum(1)

    def features(self) -> ClipFeatures:
        """The image tower as an extractor for FID and KID."""
        return ClipFeatures(self)

    def _prepared(self, pictures: Tensor) -> Tensor:
        height, width = pictures.shape[-2:]
        ratio = self._size / min(height, width)
        target = (max(self._size, round(height * ratio)), max(self._size, round(width * ratio)))
        if target != (height, width):
            pictures = F.interpolate(pictures, target, mode="bicubic", antialias=True, align_corners=False).clamp(0, 1)
        top, left = (target[0] - self._size) // 2, (target[1] - self._size) // 2
        pictures = pictures[..., top:top + self._size, left:left + self._size]
        return (pictures - self._mean) / self._deviation


class ClipFeatures:
    """`Features` of a CLIP's image tower (unit length): name with hash, width."""

    streams = True

    def __init__(self, clip: LocalClip) -> None:
        self._clip, self.name, self.width = clip, f"clip-features:{clip.name}", clip.width

    def __call__(self, pictures: Pictures) -> Tensor:
        """float32 (B, width)."""
        return self._clip.picture_features(pictures)


class ClipDistance:
    """`Distance`: 1 - cosine of two images' CLIP features, in [0, 2]."""

    def __init__(self, clip: LocalClip) -> None:
        self._clip, self.name = clip, f"clip-distance:{clip.name}"

    def __call__(self, a: Tensor, b: Tensor) -> Tensor:
        """float32 (B,)."""
        x, y = self._clip.picture_features(a), self._clip.picture_features(b)
        return (x - y).square().sum(1) / 2  # 1 - cosine of unit vectors, exactly 0 for equal images


class ClipJudge:
    """Zero-shot judge: the label whose texts are closest to the image, or an abstention when two are close.

    A label's score is the mean cosine over its texts times the model's logit scale; `confidence` is the softmax of
    these. It is not calibrated. The judge abstains where the best label's probability leads the second by less than
    `margin`. Every question also has the label "something else".
    """

    def __init__(self, clip: LocalClip, questions: Mapping[str, Mapping[str, Sequence[str]]],
                 margin: float = 0.2, kin: str = "") -> None:
        """Make the judge.

        Args:
            clip: the CLIP.
            questions: texts by label by question; "something else" is added where it is missing.
            margin: least lead in probability for an answer, in [0, 1).
            kin: what it has in common with the judge that it is to confirm, in words; "" for nothing.

        Raises:
            UserError: a question without two labels, a label without texts, or a margin out of range.
        """
        if not 0 <= margin < 1:
            raise UserError(f"margin {margin}", accepted="0 <= margin < 1")
        table = {q: dict(labels) if SOMETHING_ELSE in labels else
                 {**labels, SOMETHING_ELSE: ("a photo", "an image", "an image of something")}
                 for q, labels in questions.items()}
        poor = [q for q, labels in table.items() if len(labels) < 2 or not all(labels.values())]
        if poor or not table:
            raise UserError(f"questions without labels or texts: {', '.join(poor) or 'all'}",
                            accepted="at least one label with at least one text per question")
        self._clip, self.margin, self.kin = clip, margin, kin
        self.questions: dict[str, tuple[str, ...]] = {q: tuple(labels) for q, labels in table.items()}
        self._texts = {q: [F.normalize(clip.text_features(texts).mean(0), dim=0)
                           for texts in labels.values()] for q, labels in table.items()}
        digest = hashlib.sha256(json.dumps([{q: {x: list(t) for x, t in labels.items()} for q, labels in table.items()},
                                            margin]).encode()).hexdigest()
        self.name = f"clip-judge:{clip.name}:{digest[:8]}"

    def __call__(self, pictures: Tensor) -> list[Detection]:
        """One answer per image."""
        if not len(pictures):
            return []
        bad = ~torch.isfinite(pictures).flatten(1).all(1)
        features = self._clip.picture_features(pictures.nan_to_num())  # (B, D)
        chances = {q: (self._clip.scale * features @ torch.stack(texts).T).softmax(1)  # (B, labels)
                   for q, texts in self._texts.items()}
        return [NO_NUMBERS if bad[i] else
                self._answer({q: p[i] for q, p in chances.items()}) for i in range(len(pictures))]

    def _answer(self, chances: Mapping[str, Tensor]) -> Detection:
        labels, confidence, leads, firsts = {}, {}, {}, {}
        for question, p in chances.items():
            (first, second), (best, _) = p.topk(2)
            confidence[question] = round(float(first), 4)
            firsts[question], leads[question] = self.questions[question][int(best)], round(float(first - second), 4)
            if float(first - second) >= self.margin:
                labels[question] = firsts[question]
        return Detection(answers=labels, confidence=confidence, best=firsts, lead=leads)


def clip_folder(where: str) -> Path:
    """The folder of a CLIP given as a path or as a Hub id, which is downloaded (safetensors and JSON only).

    Raises:
        UserError: neither a folder nor a repository that can be downloaded.
    """
    folder = Path(where).expanduser()
    if folder.is_dir():
        return folder
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(where, allow_patterns=["*.safetensors", "*.json", "*.txt"]))
    except Exception as error:  # bad name, no network, no such repository
        raise UserError(f"no CLIP at {where!r}: {str(error).splitlines()[0]}",
                        accepted="a folder, or a Hub id such as 'laion/CLIP-ViT-B-32-laion2B-s34B-b79K'") from error


def _opened(folder: Path) -> tuple[Any, tuple[Sequence[float], Sequence[float]]]:
    """The model, and the mean and deviation that images are normalised with."""
    if is_open_clip(folder):
        found = read_open_clip(folder)
        return found.model, (found.mean, found.deviation)
    from transformers import CLIPModel

    # In float32 at once: else transformers makes the file's type the whole process's default while it reads, and what
    # another thread computes then is in that.
    model = CLIPModel.from_pretrained(folder, dtype=torch.float32, use_safetensors=True, local_files_only=True)
    return model, _read_preprocessing(folder)


def _read_preprocessing(folder: Path) -> tuple[list[float], list[float]]:
    file = folder / "preprocessor_config.json"
    if not file.is_file():
        return [0.5] * 3, [0.5] * 3
    values = untrusted.json_of(file)
    return [float(x) for x in values["image_mean"]], [float(x) for x in values["image_std"]]
