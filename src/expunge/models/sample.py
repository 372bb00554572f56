"""(prompt, seed) -> image, many at once; an image depends on its prompt, seed, sampler and weights alone.

Each distinct prompt is encoded alone and once, and each seed has a generator of its own, so that only the
kernels' rounding knows about the batch: matrix products of different sizes add in different orders.
Measured on CPU in float32 with a small model of random weights, the same (prompt, seed) drawn in other
batches and orders differs by at most about 1e-6 of the pixel range (`tests/models/test_sample.py` prints
and bounds it).

Source: seeds belong to images as in Karras et al. 2022 (EDM), `generate.py`:185. Differs: prompts too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import accumulate, pairwise
from operator import index

import torch
from torch import Tensor

from expunge import untrusted
from expunge.errors import ModelError, UserError, check_type
from expunge.isolated import isolated
from expunge.models.conditioning import Conditioning
from expunge.models.denoising import against, denoise, passes_of
from expunge.models.model import Model
from expunge.pixels import at_size, size_of_most
from expunge.records import Prompt, Sampler
from expunge.runtime import memory_for

ImageSink = Callable[[int, Tensor], None]
"""Called with (index of the item, float32 (3, H, W) pixels) as images are finished."""
DrawProgress = Callable[[int, int], None]
"""Called with (images done, images in all)."""
_SMALLER = ("draw fewer at once (batch, --batch) or smaller ones, or load the model in a smaller number type (dtype, "
            "--dtype bfloat16) or one kind of network at a time (offload, --offload)")
_SEEDS = 2**64
"""How many seeds a generator of torch tells apart."""


@isolated
def draw(model: Model, items: Sequence[tuple[Prompt | str, int]], sampler: Sampler | None = None, *,
         batch: int | Sequence[int] = 32, sink: ImageSink | None = None, progress: DrawProgress | None = None,
         broken: ImageSink | None = None, collect: bool = True) -> Tensor:
    """Draw every item.

    Args:
        items: (prompt, seed) pairs. A prompt whose list gives it a guidance or a size is drawn so.
        sampler: None means 20 steps at the model's own guidance.
        batch: images denoised together (twice as many network rows with guidance): speed, memory and rounding. Or how
            many there are in each of the batches, one after the other.
        sink: told of every image as its batch is done.
        progress: told after every batch.
        broken: told, in place of `sink`, of every image that is not finite, and the others are drawn all the same.
            None means ModelError.
        collect: whether the images are returned, too; without, memory does not grow with them.

    Returns:
        float32 (N, 3, H, W) in [0, 1] on the CPU, in the order of `items`; as it came where `broken` was told. None of
        them unless they are collected.

    Raises:
        UserError: a prompt too long for the text encoder unless the sampler cuts it (before anything is drawn), a batch
            below 1 or batches of other items than there are or that are not drawn alike, something that is no
            prompt with a seed, a seed that no generator takes, images of several sizes, or a negative prompt without
            guidance.
        ModelError: what the model drew is not finite, and nothing is told of it; it would be black, and count as an
            image without the concept.
        ResourceError: memory ran out.
    """
    check_type(model, Model, "model", "what expunge.load returns")
    if sampler is not None:
        check_type(sampler, Sampler, "sampler", "an expunge.Sampler, or None")
    items = _checked(items)
    sampler = sampler or Sampler(guidance=model.guidance)
    ways = [sampler if isinstance(prompt, str) else sampler.of(prompt) for prompt, _ in items]
    if len({*ways}) > 1:
        return _each_way(model, items, ways, batch, sink, progress, broken, collect)
    sampler = ways[0] if ways else sampler
    chunks = _chunks(len(items), batch)
    if sampler.negative and passes_of(model.denoiser.guided, sampler.guidance) == 1:
        takes = model.denoiser.guided == "classifier-free"
        how = f"negative prompt {sampler.negative!r} with guidance {sampler.guidance:g}"
        raise UserError(f"{how}: it would have no effect",
                        accepted="guidance above 1, or no negative prompt" if takes else
                        f"no negative prompt: {model.family} makes no use of one")
    texts = [_text(prompt) for prompt, _ in items]
    if not sampler.truncate:
        model.check_lengths(texts)
    with torch.no_grad():
        uncond = against(model, sampler.guidance, sampler.negative, truncate=sampler.truncate)
    pictures: list[Tensor] = []
    for chunk in chunks:
        count = chunk.stop - chunk.start
        with torch.no_grad():  # texts are encoded alone, so batch by batch they are what they are all at once
            known, rows = encoded(model, texts[chunk], truncate=sampler.truncate)
        with memory_for(f"denoising {count} images together", _SMALLER):
            x = model.initial_noise([seed for _, seed in items[chunk]], sampler.height, sampler.width)
            latents = _latents(model, x, known.at(rows), uncond, sampler)
        with torch.no_grad(), memory_for(f"decoding {count} images", _SMALLER):
            done = model.decode(latents).cpu()  # (B, 3, H, W)
        if broken is None:
            check_finite(model, done, texts[chunk])
        if collect:
            pictures.append(done)
        for offset, picture in enumerate(done):
            finite_sink = sink if broken is None or bool(picture.isfinite().all()) else broken
            if finite_sink is not None:
                finite_sink(chunk.start + offset, picture)
        if progress is not None:
            progress(chunk.stop, len(items))
    return torch.cat(pictures) if pictures else _nothing(model, sampler)


def _checked(items: Iterable[tuple[Prompt | str, int]]) -> list[tuple[Prompt | str, int]]:
    """The items as pairs of a prompt and a seed that is a plain whole number.

    Raises:
        UserError: something else.
    """
    check_type(items, Iterable, "items", "pairs of a prompt and a seed")
    out = []
    for item in items:
        try:
            prompt, seed = ("", None) if isinstance(item, str) else item
            number = None if isinstance(seed, bool) else index(seed)  # type: ignore[arg-type]  # None raises
        except (TypeError, ValueError):
            prompt, number = None, None
        if number is None or not isinstance(prompt, Prompt | str):
            raise UserError(f"{untrusted.shortened(repr(item))} as an image to draw",
                            accepted="a prompt and a whole number as its seed, such as (\"a house\", 0)")
        if not 0 <= number < _SEEDS:
            raise UserError(f"seed {number}", accepted="0 to 2**64 - 1")
        out.append((prompt, number))
    return out


def _latents(model: Model, noise: Tensor, cond: Conditioning, uncond: Conditioning | None, sampler: Sampler) -> Tensor:
    """Clean latents, by the model's own sampler or by the one that is named."""
    if not sampler.scheduler:
        return denoise(model, noise, cond, uncond, sampler.steps, sampler.guidance)
    from expunge.models.schedulers import denoise_by  # loads schedulers that nothing else needs

    return denoise_by(sampler.scheduler, model, noise, cond, uncond, sampler.steps, sampler.guidance)


def by_way(ways: Sequence[Sampler]) -> dict[Sampler, list[int]]:
    """The places of what is drawn alike, in the order of the first ones."""
    out: dict[Sampler, list[int]] = {}
    for place, way in enumerate(ways):
        out.setdefault(way, []).append(place)
    return out


def _each_way(model: Model, items: Sequence[tuple[Prompt | str, int]], ways: Sequence[Sampler],
              batch: int | Sequence[int], sink: ImageSink | None, progress: DrawProgress | None,
              broken: ImageSink | None, collect: bool) -> Tensor:
    """`draw` for items that are not all drawn alike: those that are, together."""
    if not isinstance(batch, int):
        raise UserError(f"batches of {batch} for prompts with guidances or sizes of their own",
                        accepted="one number, so that those that are drawn alike can be drawn together")
    if len({(way.height, way.width) for way in ways}) > 1 and sink is None:
        raise UserError("images of several sizes", accepted="prompts of one size, or a sink that takes each image")
    done, pictures = 0, dict[int, Tensor]()
    for way, places in by_way(ways).items():
        def keep(row: int, picture: Tensor, places: Sequence[int] = places) -> None:
            if sink is not None:
                sink(places[row], picture)

        def lose(row: int, picture: Tensor, places: Sequence[int] = places) -> None:
            if broken is not None:
                broken(places[row], picture)

        def tell(count: int, total: int, before: int = done) -> None:
            if progress is not None:
                progress(before + count, len(items))

        own = [(_text(items[place][0]), items[place][1]) for place in places]
        made = draw(model, own, way, batch=batch, sink=keep, progress=tell,
                    broken=lose if broken is not None else None, collect=collect)
        pictures |= zip(places, made, strict=False)  # none of them where they are not collected
        done += len(places)
    if not collect:
        return _nothing(model, ways[0])
    return at_one_size([pictures[place] for place in range(len(items))])


def at_one_size(pictures: Sequence[Tensor]) -> Tensor:
    """(N, 3, H, W): the images (3, h, w), those of other sizes than most brought to the size of most (bilinear)."""
    size = size_of_most([tuple(picture.shape[-2:]) for picture in pictures])
    return torch.stack([at_size(picture, size) for picture in pictures])


def _text(prompt: Prompt | str) -> str:
    return prompt if isinstance(prompt, str) else prompt.text


def check_finite(model: Model, pictures: Tensor, texts: Sequence[str] = ()) -> Tensor:
    """The images (B, 3, H, W), drawn for `texts`, if any were told.

    Raises:
        ModelError: one is not finite: it would be black, and count as an image without the concept.
    """
    broken = [row for row, picture in enumerate(pictures) if not bool(picture.isfinite().all())]
    if broken:
        whose = f" for {texts[broken[0]]!r}" if texts else ""
        raise ModelError(f"{model.name} drew values that are not finite{whose}", accepted="finite pixels",
                         remedy="load the model with dtype float32 or bfloat16; if it has a patch on, make that again")
    return pictures


def _chunks(count: int, batch: int | Sequence[int]) -> list[slice]:
    """Where each batch of `count` items begins and ends."""
    if isinstance(batch, bool | str) or not (isinstance(batch, Sequence) or hasattr(batch, "__index__")):
        raise UserError(f"batch of {batch!r}", accepted="a whole number, or a list of them")
    batch = batch if isinstance(batch, Sequence) else index(batch)
    if isinstance(batch, int) and batch >= 1:
        return [slice(first, min(first + batch, count)) for first in range(0, count, batch)]
    sizes = [batch] if isinstance(batch, int) else batch
    if min(sizes, default=1) < 1 or sum(sizes) != count:
        raise UserError(f"batch of {batch}", accepted="1 or more" if isinstance(batch, int) else
                        f"batches of 1 or more, {count} items together")
    ends = list(accumulate(sizes, initial=0))
    return [slice(first, end) for first, end in pairwise(ends)]


def encoded(model: Model, texts: Sequence[str], *, truncate: bool = False) -> tuple[Conditioning, Tensor]:
    """What the model is told of the distinct texts, each encoded in a batch of its own, and the (N,) row of each text.

    Kernels round by the shape of a batch: a text that is always encoded alone is read alike whatever stands beside it.
    Without texts there is one row, the empty text's.
    """
    distinct = {text: row for row, text in enumerate(dict.fromkeys(texts or [""]))}
    known = Conditioning.cat(model.encode([text], truncate=truncate) for text in distinct)
    return known, torch.tensor([distinct[text] for text in texts], dtype=torch.int64, device=known.device)


@torch.no_grad()
def _nothing(model: Model, sampler: Sampler) -> Tensor:
    side = model.decode(model.initial_noise([0], sampler.height, sampler.width)).shape
    return torch.empty((0, *side[1:]))
