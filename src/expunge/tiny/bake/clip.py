"""The world's own CLIP: a BPE vocabulary, a text tower (which also conditions the UNet) and an image tower."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable
from pathlib import Path

import torch
import torch.nn.functional as F
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from torch import Tensor, nn
from transformers import CLIPConfig, CLIPModel, CLIPTextModel, CLIPTokenizer

from expunge.resume import Inputs
from expunge.tiny.bake.judge import Redrawn
from expunge.tiny.bake.sampling import Cells
from expunge.tiny.bake.schedule import descend, warm_then_cosine
from expunge.tiny.pictures import LOOSE, Drawings, render
from expunge.tiny.world import BACKGROUNDS, STYLES, THINGS, Scene, captions
from expunge.train import Losses, Progress, run_loop, step_generator

VOCABULARY = 3072
LENGTH = 77
_SHORT = 28
WIDTH = 128
_START, _END = "<|startoftext|>", "<|endoftext|>"
_WORDS = r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"


def train_tokenizer(texts: Iterable[str], folder: Path, size: int = VOCABULARY, length: int = LENGTH) -> CLIPTokenizer:
    """A CLIP tokenizer with a vocabulary of our own, saved to `folder` in the usual files."""
    tokenizer = Tokenizer(models.BPE(continuing_subword_prefix="", end_of_word_suffix="</w>", unk_token=_END))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(_WORDS), behavior="removed", invert=True),
         pre_tokenizers.ByteLevel(add_prefix_space=False)])
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=size - 2 - len(alphabet), initial_alphabet=sorted(alphabet),
                                  end_of_word_suffix="</w>", show_progress=False)
    tokenizer.train_from_iterator(texts, trainer)
    learned = json.loads(tokenizer.to_str())["model"]
    # CLIP's order: bytes, bytes that end a word, merges, the two special tokens; every byte is thus known.
    pieces = sorted(alphabet) + [f"{byte}</w>" for byte in sorted(alphabet)]
    merges = [tuple(pair) if not isinstance(pair, str) else tuple(pair.split(" ")) for pair in learned["merges"]]
    pieces += [piece for piece in dict.fromkeys("".join(pair) for pair in merges) if piece not in set(pieces)]
    vocabulary = {piece: index for index, piece in enumerate([*pieces, _START, _END])}
    folder.mkdir(parents=True, exist_ok=True)
    CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=length).save_pretrained(folder)
    (folder / "vocab.json").write_text(json.dumps(vocabulary, ensure_ascii=False), encoding="utf-8")
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(" ".join(pair) for pair in merges) + "\n",
                                       encoding="utf-8")
    return CLIPTokenizer.from_pretrained(folder)


def clip_config(vocabulary: int) -> CLIPConfig:
    """Two small towers; ids of the special tokens as in CLIP (the last two)."""
    tower = {"hidden_size": WIDTH, "intermediate_size": 4 * WIDTH, "num_attention_heads": 4,
             "projection_dim": WIDTH}
    ids = {"bos_token_id": vocabulary - 2, "eos_token_id": vocabulary - 1, "pad_token_id": vocabulary - 1}
    return CLIPConfig(
        text_config={**tower, **ids, "vocab_size": vocabulary, "num_hidden_layers": 5,
                     "max_position_embeddings": LENGTH},
        vision_config={**tower, "num_hidden_layers": 4, "image_size": 64, "patch_size": 8},
        projection_dim=WIDTH)


def text_tower(clip: CLIPModel) -> CLIPTextModel:
    """CLIP's text tower alone, as a pipeline holds it."""
    text = CLIPTextModel(clip.config.text_config)
    text.load_state_dict({key: value for key, value in clip.state_dict().items() if key in text.state_dict()} or
                         {key.removeprefix("text_model."): value for key, value in clip.state_dict().items()
                          if key.startswith("text_model.")})
    return text.eval()


class Towers(nn.Module):
    """CLIP with three small classifiers on each tower, which speed up training and are then thrown away."""

    def __init__(self, config: CLIPConfig) -> None:
        super().__init__()
        self.clip = CLIPModel(config)
        counts = (len(THINGS), len(STYLES), len(BACKGROUNDS))
        self.image_heads = nn.ModuleList([nn.Linear(WIDTH, n) for n in counts])
        self.text_heads = nn.ModuleList([nn.Linear(WIDTH, n) for n in counts])

    def forward(self, pixels: Tensor, ids: Tensor, labels: Tensor) -> tuple[Tensor, Losses]:
        """Contrastive loss (rows of equal labels are all positives) plus the classifiers' cross-entropies.

        Args:
            pixels: float32 (B, 3, 64, 64) in [-1, 1].
            ids: int64 (B, T).
            labels: int64 (B, 3): object, style, background.
        """
        image = self.clip.vision_model(pixel_values=pixels).pooler_output
        text = self.clip.text_model(input_ids=ids).pooler_output
        y = F.normalize(self.clip.visual_projection(image), dim=-1)  # (B, D)
        z = F.normalize(self.clip.text_projection(text), dim=-1)  # (B, D)
        logits = y @ z.T * self.clip.logit_scale.exp().clamp_max(100)
        same = (labels[:, None] == labels[None]).all(-1).float()
        target = same / same.sum(1, keepdim=True)
        contrast = (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2
        aside = sum((F.cross_entropy(head(features), labels[:, j])
                     for heads, features in ((self.image_heads, image), (self.text_heads, text))
                     for j, head in enumerate(heads)), torch.zeros(()))
        loss = contrast + 0.5 * aside
        hit = (logits.argmax(1)[:, None] == torch.arange(len(ids))[:, None]).float().mean()
        return loss, {"loss": loss.item(), "contrast": contrast.item(), "aside": aside.item(), "hit": hit.item()}


def train_clip(drawings: Drawings, tokenizer: CLIPTokenizer, out: Path, steps: int, batch: int, seed: int,
               progress: Progress | None = None) -> CLIPModel:
    """Train both towers. Most steps see short captions; every eighth sees long ones over all 77 positions."""
    torch.manual_seed(seed)  # initialisation only
    towers = Towers(clip_config(len(tokenizer)))
    optimizer = torch.optim.AdamW(towers.parameters(), weight_decay=0.02, betas=(0.9, 0.98))
    cells = Cells(drawings.objects, drawings.styles)
    objects, styles, grounds = list(THINGS), list(STYLES), list(BACKGROUNDS)

    def step(number: int) -> Losses:
        draw = step_generator(seed, number, "clip")
        long = number % 8 == 7
        rows = cells.draw(batch // 2 if long else batch, draw)
        render_seed = seed * 1_000_003 + number
        pictures, backgrounds = render(drawings, rows, render_seed, augmentation=LOOSE)
        labels = torch.stack([drawings.objects[rows], drawings.styles[rows], backgrounds], 1)
        texts = []
        for i, (o, s, b) in enumerate(labels.tolist()):
            stream = captions(Scene(objects[o], styles[s], grounds[b]), seed=render_seed * 1009 + i)
            count = 1 + (i % 5 if long else 0)
            texts.append(", ".join(caption.text for caption in itertools.islice(stream, count)))
        ids = tokenizer(texts, padding="max_length", max_length=LENGTH if long else _SHORT, truncation=True,
                        return_tensors="pt").input_ids
        loss, losses = towers.forward(pictures * 2 - 1, ids, labels)
        descend(optimizer, loss, towers.parameters())
        return losses

    run_loop(step, steps, dict(towers.named_parameters()), {"adam": optimizer}, checkpoint=out / "clip.ckpt",
             under=Inputs({"part": "clip", "seed": seed, "batch": batch, "steps": steps}),
             learning_rate={"adam": warm_then_cosine(1.5e-3, steps)},
             progress=progress)
    return towers.clip


def refine_images(clip: CLIPModel, tokenizer: CLIPTokenizer, drawings: Drawings, redrawn: Redrawn, out: Path,
                  steps: int, batch: int, seed: int, progress: Progress | None = None) -> None:
    """Train the image tower alone, in place, towards the text tower as it is: what conditions the UNet stays.

    Each image is told from all others by the text of its scene, by that of its thing, and by that of its style. Half
    of the images went through the autoencoder, as everything that is drawn does.

    Source: Zhai et al. 2022 (LiT: locked text here, locked image there). Differs: texts of all classes at once, which
    is possible because the world has few.
    """
    images = [*clip.vision_model.parameters(), *clip.visual_projection.parameters()]
    optimizer = torch.optim.AdamW(images, weight_decay=0.05, betas=(0.9, 0.98))
    texts, scale = _class_texts(clip, tokenizer), clip.logit_scale.detach().exp().clamp_max(100)
    known = (redrawn.labels[:, 0] < len(THINGS)) & (redrawn.labels >= 0).all(1)
    pool = Redrawn(redrawn.pictures[known], redrawn.labels[known])
    cells = Cells(drawings.objects, drawings.styles)

    def step(number: int) -> Losses:
        draw = step_generator(seed, number, "clip images")
        rows = cells.draw(batch // 2, draw)
        fresh, grounds = render(drawings, rows, seed * 1_000_003 + 90_000_001 + number, augmentation=LOOSE)
        again, more = pool.draw(batch - batch // 2, draw)
        labels = torch.cat([torch.stack([drawings.objects[rows], drawings.styles[rows], grounds], 1), more])
        features = clip.vision_model(pixel_values=torch.cat([fresh, again]) * 2 - 1).pooler_output
        y = F.normalize(clip.visual_projection(features), dim=-1)  # (B, D)
        asked = {"scene": (labels[:, 0] * len(STYLES) + labels[:, 1]) * len(BACKGROUNDS) + labels[:, 2],
                 "thing": labels[:, 0], "style": labels[:, 1]}
        losses = {name: F.cross_entropy(scale * y @ texts[name].T, wanted) for name, wanted in asked.items()}
        loss = sum(losses.values(), torch.zeros(()))
        descend(optimizer, loss, images)
        hit = (y @ texts["thing"].T).argmax(1) == labels[:, 0]
        return {"loss": loss.item(), "hit": hit.float().mean().item(), **{k: v.item() for k, v in losses.items()}}

    state = {name: p for name, p in clip.named_parameters() if name.startswith(("vision_model.", "visual_projection."))}
    run_loop(step, steps, state, {"adam": optimizer}, checkpoint=out / "clip-images.ckpt",
             under=Inputs({"part": "clip-images", "seed": seed, "batch": batch, "steps": steps}),
             learning_rate={"adam": warm_then_cosine(1e-3, steps)},
             progress=progress)


@torch.no_grad()
def _class_texts(clip: CLIPModel, tokenizer: CLIPTokenizer) -> dict[str, Tensor]:
    """Text features of unit length, (classes, D), of all scenes, all things and all styles, in the order of labels."""
    texts = {"scene": [f"{STYLES[s][0]} emoji of {thing} on {ground} background" for thing in THINGS for s in STYLES
                       for ground in BACKGROUNDS],
             "thing": [f"an emoji of a {thing}" for thing in THINGS],
             "style": [f"an emoji in {style} style" for style in STYLES]}
    out = {}
    for name, lines in texts.items():
        ids = tokenizer(lines, padding="max_length", max_length=_SHORT, truncation=True, return_tensors="pt").input_ids
        features = torch.cat([clip.text_model(input_ids=part).pooler_output for part in ids.split(256)])
        out[name] = F.normalize(clip.text_projection(features), dim=-1)
    return out
