"""`expunge bake`: drawings in, the embedded model out. Seeded, resumable, one command, CPU or GPU.

Stages, each made once and kept under `out/work`: tokenizer, CLIP, autoencoder, judge, second judge, latents, and a
UNet or (`flow_stages`) a transformer. Then the model is written in plain diffusers form with CLIP, both judges,
statistics of real images and a card beside it.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from safetensors.torch import load_file
from torch import Tensor
from transformers import CLIPModel, CLIPTokenizer

from expunge.errors import UserError
from expunge.files import text_digest, write_json, write_tensors
from expunge.metrics.imagenet import ImageNetFeatures
from expunge.metrics.judge import JudgeNet
from expunge.models.store import make_portable
from expunge.tiny.bake.autoencoder import psnr, refine_decoder, standardize, train_autoencoder
from expunge.tiny.bake.clip import refine_images, text_tower, train_clip, train_tokenizer
from expunge.tiny.bake.corpus import corpus
from expunge.tiny.bake.flow_stages import FlowStages, StableDiffusion3Stages
from expunge.tiny.bake.flux_stages import FluxStages
from expunge.tiny.bake.judge import LABELS, Redrawn, train_judge
from expunge.tiny.bake.scoring import save_judge, score_first_stage, score_judge
from expunge.tiny.bake.second import Studio, bake_second
from expunge.tiny.bake.settings import BakeSettings, Say
from expunge.tiny.bake.statistics import write_real_statistics
from expunge.tiny.bake.tolerance import Lessons
from expunge.tiny.bake.unet import GUIDANCE, SCHEDULER, LatentPool, text_pool, train_unet
from expunge.tiny.bake.xl import write_xl
from expunge.tiny.pictures import STEADY, Drawings, load_drawings, load_others
from expunge.tiny.world import (
    HELD_OUT_VENDORS,
    MODEL_VENDORS,
    NEVER_SEEN,
    STYLES,
    THINGS,
    VENDORS,
)


def bake(settings: BakeSettings, say: Say = lambda *_: None) -> Path:
    """Run every stage that is not yet done and write the model. Returns its folder (`out/emoji-64`, `out/emoji-flux`).

    Raises:
        UserError: the images are not there, `without` names something unknown, or the network that the second judge
            stands on is not installed.
    """
    unknown = [name for name in settings.without if name not in THINGS and name not in STYLES]
    if unknown:
        raise UserError(f"cannot leave out {', '.join(unknown)}: not in the world",
                        accepted=", ".join([*THINGS, *STYLES]))
    look = ImageNetFeatures() if settings.imagenet_pictures else None  # says at once what has to be installed
    if settings.threads:
        torch.set_num_threads(settings.threads)
    work = settings.out / "work"
    work.mkdir(parents=True, exist_ok=True)
    drawings = load_drawings(settings.pictures / "emojicanvas")
    if settings.start is not None:
        _take_over(settings.start, work)
    tokenizer, clip = _text(settings, drawings, work, say)
    autoencoder = _autoencoder(settings, drawings, work, say)
    scores = {"judge": _judge(settings, drawings, autoencoder, work, say), "autoencoder": psnr(autoencoder, drawings)}
    if look is not None:
        studio = lambda: Studio(drawings, load_others(settings.pictures / "emojicanvas-extended" / "emoji64.tar"),
                                autoencoder, look, settings.seed)
        scores["second"] = bake_second(studio, _taught(drawings, ()), work, settings.imagenet_pictures,
                                       settings.imagenet_scored, lambda i, n, losses: say("second judge", i, n, losses))
    _refined_images(settings, clip, tokenizer, drawings, autoencoder, work, say)
    folder = settings.out / settings.make
    if settings.make == "emoji-xl" and settings.start is not None:  # nothing trains: the form alone changes
        write_xl(folder, autoencoder, UNet2DConditionModel.from_pretrained(work / "unet-start"), tokenizer, clip)
    else:
        pool = _latents(settings, _taught(drawings, settings.without), autoencoder, work)
        if settings.make in _FLOWS:
            _FLOWS[settings.make](settings, work, say).write(folder, pool, drawings, autoencoder, tokenizer, clip)
        else:
            unet = _unet(settings, pool, tokenizer, clip, work, say)
            (write_xl if settings.make == "emoji-xl" else write_model)(folder, autoencoder, unet, tokenizer, clip)
            for name in ("vocab.json", "merges.txt"):  # the form that older readers of CLIP tokenizers want
                shutil.copyfile(work / "tokenizer" / name, folder / "tokenizer" / name)
    clip.half().save_pretrained(settings.out / "clip")
    tokenizer.save_pretrained(settings.out / "clip")
    for name in ("judge.safetensors", "judge.json", *(("second.safetensors", "second.json") if look else ())):
        shutil.copyfile(work / name, settings.out / name)
    write_real_statistics(settings.out, _taught(drawings, ()), settings.real_pictures)
    stated = settings.model_dump(mode="json", exclude={"pictures", "out", "start"})
    write_json(settings.out / "bake.json", {"settings": stated, "drawings": drawings.digest, "scores": scores})
    return folder


_FLOWS: dict[str, type[FlowStages]] = {"emoji-flow": StableDiffusion3Stages, "emoji-flux": FluxStages}


def write_model(folder: Path, autoencoder: AutoencoderKL, unet: UNet2DConditionModel, tokenizer: CLIPTokenizer,
                clip: CLIPModel) -> None:
    """A plain diffusers folder in fp16 safetensors, with `expunge.json` naming its world and its guidance."""
    pipe = StableDiffusionPipeline(vae=autoencoder, text_encoder=text_tower(clip), tokenizer=tokenizer, unet=unet,
                                   scheduler=DDIMScheduler(**SCHEDULER), safety_checker=None, feature_extractor=None,
                                   requires_safety_checker=False)
    pipe.to(torch.float16).save_pretrained(folder, safe_serialization=True)
    pipe.to(torch.float32)
    make_portable(folder)
    write_json(folder / "expunge.json", {"world": "emoji", "guidance": GUIDANCE})


def _taught(drawings: Drawings, without: tuple[str, ...]) -> Drawings:
    """What the diffusion model may see: its vendors, the seen things, nothing that is left out."""
    names, styles, vendors = list(THINGS), list(STYLES), list(VENDORS)
    hidden = {names.index(name) for name in (*NEVER_SEEN, *(w for w in without if w in THINGS))}
    keep = torch.tensor([int(o) not in hidden and styles[int(s)] not in without and vendors[int(v)] in MODEL_VENDORS
                         for o, s, v in zip(drawings.objects, drawings.styles, drawings.vendors, strict=True)])
    return drawings.where(keep)


def _take_over(start: Path, work: Path) -> None:
    """Put the finished stages of an earlier bake where this one looks for its own."""
    for source, target in (("clip", "clip"), ("emoji-64/vae", "autoencoder"), ("emoji-64/tokenizer", "tokenizer"),
                           ("emoji-64/unet", "unet-start")):
        if not (start / source).is_dir():
            raise UserError(f"{start} has no {source}", accepted="a folder that `expunge bake` wrote")
        if not (work / target).is_dir():
            _keep_whole(work / target, partial(shutil.copytree, start / source, dirs_exist_ok=True))
    for name in ("judge.safetensors", "judge.json"):
        if not (work / name).is_file():
            shutil.copyfile(start / name, work / name)
    for name in ("second.safetensors", "second.json"):  # older bakes have none: its heads are trained then
        if (start / name).is_file() and not (work / name).is_file():
            shutil.copyfile(start / name, work / name)


def _keep_whole(folder: Path, *write: Callable[[Path], Any]) -> None:
    """Write a stage's folder beside its place, then rename: a stage that was killed half-way does not count as done."""
    part = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir()
    for each in write:
        each(part)
    part.replace(folder)


def _text(settings: BakeSettings, drawings: Drawings, work: Path, say: Say) -> tuple[CLIPTokenizer, CLIPModel]:
    if (work / "clip" / "config.json").is_file():
        clip = CLIPModel.from_pretrained(work / "clip", dtype=torch.float32).eval()
        return CLIPTokenizer.from_pretrained(work / "clip"), clip
    tokenizer = train_tokenizer(corpus(settings.pictures), work / "tokenizer")
    clip = train_clip(drawings, tokenizer, work, settings.clip_steps, 128, settings.seed,
                      lambda i, n, losses: say("clip", i, n, losses)).eval()
    _keep_whole(work / "clip", tokenizer.save_pretrained, clip.save_pretrained)
    return tokenizer, clip


def _autoencoder(settings: BakeSettings, drawings: Drawings, work: Path, say: Say) -> AutoencoderKL:
    if (work / "autoencoder" / "config.json").is_file():
        return AutoencoderKL.from_pretrained(work / "autoencoder").eval()
    model = train_autoencoder(drawings, work, settings.autoencoder_steps, 48, settings.seed,
                              lambda i, n, losses: say("autoencoder", i, n, losses)).eval()
    standardize(model, LatentPool.make(model, drawings, 1, settings.seed).latents.float())
    refine_decoder(model, drawings, work, settings.decoder_steps, 48, settings.seed,
                   lambda i, n, losses: say("decoder", i, n, losses))
    _keep_whole(work / "autoencoder", model.save_pretrained)
    return model


def _judge(settings: BakeSettings, drawings: Drawings, autoencoder: AutoencoderKL, work: Path, say: Say
           ) -> dict[str, Any]:
    """Train, calibrate and save the judge; score it on fresh augmentations, and a second one on unseen vendors."""
    if not (work / "judge.json").is_file():
        others = load_others(settings.pictures / "emojicanvas-extended" / "emoji64.tar")
        redrawn = _redrawn(settings, autoencoder, drawings, others, work / "redrawn.safetensors")
        net = _first_judge(settings, drawings, others, redrawn, work / "judge-plain.safetensors", say)
        lessons = Lessons(drawings, others, redrawn, settings.seed)
        lessons.teach_changes(net, work, settings.tolerance_steps, lambda i, n, losses: say("tolerance", i, n, losses))
        lessons.teach_doubt(net, work, settings.doubt_steps, lambda i, n, losses: say("doubt", i, n, losses))
        looking, scores = score_judge(net, drawings, _taught(drawings, ()), others, autoencoder, settings.judge_scored)
        if settings.second_judge_steps:
            scores["vendors held out"] = _second_judge(settings, drawings, others, autoencoder, work, say)
        save_judge(net, work, looking, scores)
    card: dict[str, Any] = json.loads((work / "judge.json").read_text(encoding="utf-8"))
    return dict(card["scores"])


def _first_judge(settings: BakeSettings, drawings: Drawings, others: Drawings, redrawn: Redrawn, file: Path, say: Say
                 ) -> JudgeNet:
    """The judge after its first stage, with weights as they are kept in `file` (fp16)."""
    if not file.is_file():
        net = train_judge(drawings, others, redrawn, file.parent, settings.judge_steps, 96, settings.seed,
                          lambda i, n, losses: say("judge", i, n, losses))
        write_tensors(file, {key: value.detach().half().contiguous() for key, value in net.state_dict().items()}, {})
    net = JudgeNet({question: len(names) for question, names in LABELS.items()})
    net.load_state_dict({key: value.float() for key, value in load_file(file).items()})
    return net


def _second_judge(settings: BakeSettings, drawings: Drawings, others: Drawings, autoencoder: AutoencoderKL,
                  work: Path, say: Say) -> dict[str, dict[str, Any]]:
    """Accuracy on whole vendors of a judge that never saw them; of the first stage alone, without views."""
    apart = torch.isin(drawings.vendors, torch.tensor([list(VENDORS).index(v) for v in HELD_OUT_VENDORS]))
    known, unknown = drawings.where(~apart), drawings.where(apart)
    redrawn = _redrawn(settings, autoencoder, known, others, work / "second-redrawn.safetensors")
    net = train_judge(known, others, redrawn, work, settings.second_judge_steps, 96, settings.seed,
                      lambda i, n, losses: say("judge on fewer vendors", i, n, losses), name="second-judge")
    return score_first_stage(net, known, unknown, settings.judge_scored)


def _refined_images(settings: BakeSettings, clip: CLIPModel, tokenizer: CLIPTokenizer, drawings: Drawings,
                    autoencoder: AutoencoderKL, work: Path, say: Say) -> None:
    """Train CLIP's image tower further, in place; not when an earlier bake's CLIP was taken over."""
    if settings.start is not None or not settings.clip_image_steps:
        return
    others = load_others(settings.pictures / "emojicanvas-extended" / "emoji64.tar")
    redrawn = _redrawn(settings, autoencoder, drawings, others, work / "redrawn.safetensors")
    refine_images(clip, tokenizer, drawings, redrawn, work, settings.clip_image_steps, 128, settings.seed,
                  lambda i, n, losses: say("clip images", i, n, losses))


def _redrawn(settings: BakeSettings, autoencoder: AutoencoderKL, drawings: Drawings, others: Drawings, file: Path
             ) -> Redrawn:
    if not file.is_file():
        made = Redrawn.make(autoencoder, drawings, others, settings.redrawn, settings.seed)
        write_tensors(file, {"pictures": made.pictures, "labels": made.labels}, {})
    return Redrawn(**load_file(file))


def _unet(settings: BakeSettings, pool: LatentPool, tokenizer: CLIPTokenizer, clip: CLIPModel, work: Path, say: Say
          ) -> UNet2DConditionModel:
    encoder = clip.text_model
    texts = text_pool(tokenizer, encoder, pool.scenes, settings.seed)
    ids = tokenizer([""], padding="max_length", max_length=77, return_tensors="pt").input_ids
    with torch.no_grad():
        empty = encoder(ids).last_hidden_state
    start = UNet2DConditionModel.from_pretrained(work / "unet-start") if settings.start is not None else None
    return train_unet(pool, texts, empty, work, start, steps=settings.unet_steps, batch=settings.unet_batch,
                      seed=settings.seed, peak=settings.unet_rate,
                      progress=lambda i, n, losses: say("unet", i, n, losses))


def _latents(settings: BakeSettings, drawings: Drawings, autoencoder: AutoencoderKL, work: Path) -> LatentPool:
    key = text_digest(f"{settings.seed}/{settings.views}/{settings.without}/{STEADY}/{drawings.digest}")[:12]
    file = work / f"latents-{key}.safetensors"
    if file.is_file():
        tensors: dict[str, Tensor] = load_file(file)
        return LatentPool(tensors["latents"], tensors["scenes"])
    pool = LatentPool.make(autoencoder, drawings, settings.views, settings.seed)
    write_tensors(file, {"latents": pool.latents, "scenes": pool.scenes}, {})
    return pool
