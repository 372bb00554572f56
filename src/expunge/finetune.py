"""A user who fine-tunes a published model on images of their own: all of the UNet, cross-attention, or a LoRA.

    x_t = sqrt(abar_t) x0 + sqrt(1 - abar_t) eps,   t ~ Uniform, eps ~ N(0, I)
    loss = mean |output(x_t, t, caption) - target|^2,   target = eps, or v = sqrt(abar_t) eps - sqrt(1 - abar_t) x0

The one simulator for attacks on weights and for protection against them: `fine_tuning` lends the model to a `Tuner` and
takes it back bit-exactly; `Tuner.train` stops where it is asked to, so that a curve can be measured.

Source: diffusers examples text_to_image/train_text_to_image.py and train_text_to_image_lora.py (what `all` and `lora`
train, AdamW, weight decay 1e-2, clip 1); Ruiz et al. 2023 (DreamBooth), eq. 2 (the prior term); Hu et al. 2021 (LoRA).
Differs: latents are the autoencoder's posterior means, encoded once; float32; no average of the weights; a step's draws
come from its number.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import Parameter

from expunge import untrusted
from expunge.config import Settings, knob
from expunge.errors import UserError
from expunge.isolated import isolated
from expunge.models.conditioning import Conditioning
from expunge.models.hashing import tensors_hash
from expunge.models.lora import Lora, peft, save_lora, with_lora
from expunge.models.model import Model
from expunge.models.sample import encoded
from expunge.records import counted
from expunge.resume import Inputs
from expunge.train import Losses, Progress, in_turn, restored, run_loop, step_generator

log = logging.getLogger(__name__)

_ENDINGS = {".png", ".jpg", ".jpeg", ".webp"}


class FineTune(Settings):
    """How the user trains. On Stable Diffusion 1.x and 2.x the usual rate is 1e-5 (all) or 1e-4 (lora)."""

    scope: Literal["all", "cross-attention", "lora"] = knob(
        "all", "what trains: every tensor of the UNet, its cross-attention, or a LoRA on it")
    lora: Lora = knob(Lora(), "the LoRA, where `scope` is lora")
    text_encoder: bool = knob(False, "the text encoder's layers train too")
    optimizer: Literal["adamw", "sgd"] = knob("adamw", "what takes the steps")
    learning_rate: float = knob(1e-4, "learning rate", unit="per step", gt=0.0, former="rate")
    warmup: int = knob(0, "steps over which the learning rate rises from 0", unit="steps", ge=0)
    weight_decay: float = knob(1e-2, "decoupled weight decay (adamw)", ge=0.0)
    max_grad_norm: float = knob(1.0, "largest norm of the gradient", gt=0.0, former="clip")
    steps: int = knob(200, "optimisation steps", ge=1)
    batch: int = knob(4, "images per step", ge=1)
    drop: float = knob(0.1, "share of the captions that are replaced by the empty one", ge=0.0, le=1.0)
    prior_weight: float = knob(1.0, "weight of the prior term, where there are prior images (DreamBooth)", ge=0.0)


@dataclass(frozen=True)
class TrainingImages:
    """What a user trains on: latents float32 (N, c, h, w) on the model's device, and a caption for each."""

    latents: Tensor
    captions: tuple[str, ...]


@isolated
@torch.no_grad()
def material(model: Model, pictures: Tensor, captions: Sequence[str], batch: int = 16) -> TrainingImages:
    """Images float32 (N, 3, H, W) in [0, 1] and their captions, encoded.

    Raises:
        UserError: no images, another shape, sides that the autoencoder cannot halve, another number of captions, or
            a caption that is too long for the text encoder.
    """
    check_pictures(model, pictures)
    if isinstance(captions, str | None) or not all(isinstance(caption, str) for caption in captions):
        raise UserError(f"captions {captions!r}", accepted="a list of texts, one for each image")
    if len(captions) != len(pictures):
        raise UserError(f"{len(captions)} captions for {len(pictures)} images", accepted="one caption per image")
    model.check_lengths(captions)
    return TrainingImages(torch.cat([model.encode_pixels(part) for part in pictures.split(batch)]), tuple(captions))


@dataclass(frozen=True)
class PictureFolder:
    """The images of a folder in the order of their names.

    Attributes:
        files: where they lie; pictures: float32 (N, 3, H, W) in [0, 1].
        left_out: why each other image file is not among them, by name.
    """

    files: tuple[Path, ...]
    pictures: Tensor
    left_out: Mapping[str, str]

    @property
    def notices(self) -> list[str]:
        """In a sentence for each reason, how many are left out."""
        total, counts = len(self.files) + len(self.left_out), Counter(self.left_out.values())
        return [f"{count} of {counted(total, 'images')} left out: {why} "
                f"({next(name for name, its in self.left_out.items() if its == why)}{' first' * (count > 1)})."
                for why, count in counts.items()]


def picture_folder(folder: str | Path) -> PictureFolder:
    """A user's folder. A file that cannot be read, or of another size than most, is left out by itself.

    Raises:
        UserError: no image there, none that can be read, or no size that more have than any other.
    """
    files = sorted(file for file in Path(folder).glob("*") if file.suffix.lower() in _ENDINGS)
    if not files:
        raise UserError(f"no images in {folder}", accepted="a folder with .png, .jpg or .webp files")
    arrays, left_out = dict[Path, np.ndarray](), dict[str, str]()
    for file in files:
        try:
            with untrusted.image(file) as opened:
                arrays[file] = np.array(opened.convert("RGB"))
        except OSError:
            left_out[file.name] = "it cannot be read"
    if not arrays:
        raise UserError(f"no image in {folder} can be read, {files[0].name} first",
                        accepted="whole .png, .jpg or .webp files")
    (size, most), *others = Counter(array.shape for array in arrays.values()).most_common()
    if others and others[0][1] == most:
        raise UserError(f"images of different sizes in {folder}", accepted="images of one size, the model's own")
    left_out |= {file.name: f"its size is not that of most ({size[1]} x {size[0]})" for file, array in arrays.items()
                 if array.shape != size}
    chosen = {file: array for file, array in arrays.items() if array.shape == size}
    pictures = torch.from_numpy(np.stack([*chosen.values()])).permute(0, 3, 1, 2).float() / 255
    for name, why in left_out.items():
        log.warning("%s in %s is left out: %s", name, folder, why)
    return PictureFolder(tuple(chosen), pictures, left_out)


def check_pictures(model: Model, pictures: Tensor) -> None:
    """UserError unless these are images (N, 3, H, W) in [0, 1] that the model's autoencoder can take."""
    accepted = "a tensor (N, 3, height, width) of floating point numbers in [0, 1]"
    if not isinstance(pictures, Tensor) or not pictures.is_floating_point():
        what = f"of {pictures.dtype}" if isinstance(pictures, Tensor) else f"as {type(pictures).__name__}"
        raise UserError(f"images {what}", accepted=accepted, remedy="divide bytes by 255")
    shape = tuple(pictures.shape)
    if len(shape) != 4 or shape[1] != 3 or not shape[0]:
        raise UserError(f"images of shape {shape}", accepted="(N, 3, height, width) with N at least 1")
    if shape[2] % model.factor or shape[3] % model.factor:
        raise UserError(f"images of {shape[3]} x {shape[2]} pixels", accepted=f"sides in multiples of {model.factor}",
                        remedy="resize or crop them")
    low, high = (float(value) for value in pictures.aminmax())
    if not (low >= 0.0 and high <= 1.0):  # numbers that are none are refused, too
        raise UserError(f"images with values from {low:g} to {high:g}", accepted=accepted)


def check_tuning(model: Model, settings: FineTune) -> None:
    """UserError where the model's weights are not float32, or peft is needed and not installed."""
    if model.dtype != torch.float32 or model.held:
        raise UserError(f"the model's weights are {model.held or model.dtype}", accepted="torch.float32",
                        remedy="load the model with dtype float32 to train it")
    if settings.scope == "lora":
        peft()


def diffusion_loss(model: Model, x0: Tensor, eps: Tensor, t: Tensor, cond: Conditioning) -> Tensor:
    """(B,) squared error of the network's output, averaged over each row; x0, eps (B, c, h, w), t float32 (B,)."""
    out = model.predict(model.process.noised(x0, eps, t), t, cond)
    return (out - model.process.target(x0, eps, t)).square().mean((1, 2, 3))


@contextmanager
def fine_tuning(model: Model, learned: TrainingImages, settings: FineTune | None = None, *, seed: int = 0,
                frozen: Collection[str] = (), prior: TrainingImages | None = None) -> Iterator[Tuner]:
    """Lend the model to a user who trains it in place; afterwards it is as before, bit for bit, whatever happened.

    Inside, no patch may be put on or taken off: that would take the training with it.

    Args:
        learned: what the user trains on.
        seed: decides every random draw of the training.
        frozen: full names of parameters that do not train; no LoRA is put on a layer whose weight is among them.
        prior: images of what is to stay as it is, one for each image of a batch (DreamBooth).

    Raises:
        UserError: weights not in float32, peft missing, LoRA targets that are not there, or nothing left to train.
    """
    settings = FineTune.given(settings)
    check_tuning(model, settings)
    with _trainable(model, settings, frozenset(frozen), seed) as params:
        yield Tuner(model, learned, settings, params, seed, prior)


class Tuner:
    """A user in the middle of training.

    Attributes:
        params: what trains, by full name. optimizer: over all of them. done: steps taken.
    """

    def __init__(self, model: Model, learned: TrainingImages, settings: FineTune, params: dict[str, Parameter],
                 seed: int, prior: TrainingImages | None) -> None:
        self.settings, self.params, self.done = settings, params, 0
        self._model, self._seed, self._sets = model, seed, [learned, *([prior] if prior else [])]
        self._texts = {text: row for row, text in enumerate(dict.fromkeys(["", *learned.captions,
                                                                           *(prior.captions if prior else ())]))}
        self.optimizer: torch.optim.Optimizer = (
            torch.optim.AdamW(params.values(), lr=settings.learning_rate, weight_decay=settings.weight_decay)
            if settings.optimizer == "adamw" else torch.optim.SGD(params.values(), lr=settings.learning_rate))
        self._known = None if settings.text_encoder else self._encoded()

    def loss(self, number: int) -> Tensor:
        """The loss of step `number`, with its gradient; the same whenever it is asked for at the same weights."""
        with torch.enable_grad():
            rows = [self._points(learned, number, place) for place, learned in enumerate(self._sets)]
            x0, eps, t = (torch.cat([part[k] for part in rows]).to(self._model.device) for k in range(3))
            texts = torch.cat([part[3] for part in rows])
            each = diffusion_loss(self._model, x0, eps, t, self._told(texts)).chunk(len(rows))
            prior = self.settings.prior_weight * each[1].mean() if len(each) > 1 else 0.0
            return each[0].mean() + prior

    def step(self, number: int) -> Losses:
        """One optimisation step."""
        loss = self.loss(number)
        self.optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.params.values(), self.settings.max_grad_norm)
        self.optimizer.step()
        return {"loss": float(loss.detach())}

    def train(self, at: Collection[int] = (), *, checkpoint: Path | None = None,
              progress: Progress | None = None) -> Iterator[int]:
        """Train for `settings.steps` steps; pause, and yield the steps done, at each number in `at` and at the end.

        Args:
            at: numbers of steps, 0 for the model before training; those beyond the end are not reached.
            checkpoint: file to keep and to go on from. Numbers that an earlier call has passed are not yielded again.
            progress: told of every step.

        Raises:
            TrainingError: a loss is not finite. ConfigError, ModelError: the checkpoint is another run's, or damaged.
        """
        last = self.settings.steps
        for stop in sorted({number for number in at if 0 <= number < last} | {last}):
            if self.done < stop or checkpoint:
                self._advance(stop, checkpoint, progress)
            if self.done == stop:
                yield stop

    def rows(self, steps: int) -> int:
        """Rows that `steps` steps send through the UNet, three for one with a gradient (forward and backward)."""
        return 3 * steps * self.settings.batch * len(self._sets)

    def save_lora(self, path: Path) -> Path:
        """Write the LoRA as it is now, for diffusers (`pipe.load_lora_weights(path)`) and for the attack `adapter`.

        Raises:
            UserError: this is no training of a LoRA alone. StorageError: it cannot be written.
        """
        if self.settings.scope != "lora" or self.settings.text_encoder:
            raise UserError("training of more or other than a LoRA fits no LoRA file",
                            accepted="scope lora, without the text encoder")
        return save_lora(path, self.params, self.settings.lora)

    def _advance(self, stop: int, checkpoint: Path | None, progress: Progress | None) -> None:
        first = 0 if checkpoint else self.done  # a checkpoint knows how far it is, and counts from 0

        def tell(done: int, total: int, losses: Losses) -> None:
            if progress is not None:
                progress(first + done, self.settings.steps, losses)

        trained = run_loop(lambda number: self.step(first + number), stop - first, self.params,
                           {"user": self.optimizer}, checkpoint=checkpoint, progress=tell,
                           under=self._inputs() if checkpoint else None,
                           learning_rate={"user": lambda number: self._rate(first + number)})
        self.done = first + len(trained.losses)

    def _rate(self, number: int) -> float:
        return self.settings.learning_rate * min(1.0, (number + 1) / max(1, self.settings.warmup))

    def _points(self, learned: TrainingImages, number: int, place: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """x0, eps (B, c, h, w), t (B,) and the captions' rows (B,) of one step: images in shuffled rounds."""
        count, batch = len(learned.captions), self.settings.batch
        picked = in_turn(count, batch, number, self._seed, f"order/{place}")
        generator = step_generator(self._seed, number, f"points/{place}")
        t = self._model.process.schedule.draw(batch, generator)
        eps = torch.randn(batch, *learned.latents.shape[1:], generator=generator)
        bare = torch.rand(batch, generator=generator) < self.settings.drop
        texts = torch.tensor([self._texts[learned.captions[k]] for k in picked.tolist()]).masked_fill(bare, 0)
        return learned.latents[picked.to(learned.latents.device)], eps.to(learned.latents), t, texts

    def _told(self, rows: Tensor) -> Conditioning:
        if self._known is not None:
            return self._known.at(rows)
        names = list(self._texts)
        return self._model.encode([names[row] for row in rows.tolist()])

    @torch.no_grad()
    def _encoded(self) -> Conditioning:
        return encoded(self._model, [*self._texts])[0]

    def _inputs(self) -> Inputs:
        """All that decides the weights after a given number of steps."""
        model, sets = self._model, {f"images {number}": [tensors_hash({"latents": one.latents}), one.captions]
                                    for number, one in enumerate(self._sets, 1)}
        own = partial(self.settings.model_dump, mode="json", exclude={"steps"})
        return Inputs({"settings": own(), "seed": self._seed,
                       "trained": sorted(self.params), "model": model.hash, "process": model.process.description,
                       "parts": model.parts, "patch": model.patch_hash, **sets},
                      former={"settings": own(by_alias=True)})


@contextmanager
def _trainable(model: Model, settings: FineTune, frozen: frozenset[str], seed: int
               ) -> Iterator[dict[str, Parameter]]:
    """What trains, with gradients on; afterwards the model is as before."""
    chosen: dict[str, Parameter] = {}
    if settings.scope != "lora":
        chosen = model.parameters_of("denoiser") if settings.scope == "all" else model.parameters_in("xattn")
    if settings.text_encoder:
        chosen = chosen | model.parameters_in("text")
    chosen = {name: p for name, p in chosen.items() if name not in frozen}
    with ExitStack() as stack:
        stack.enter_context(restored(chosen))
        if settings.scope == "lora":
            chosen = chosen | stack.enter_context(with_lora(model, settings.lora, seed=seed, frozen=frozen))
        if not chosen:
            raise UserError("nothing is left to train: every tensor of the scope is frozen",
                            accepted="at least one tensor that is not frozen")
        for p in chosen.values():
            p.requires_grad_(True)
        yield chosen
