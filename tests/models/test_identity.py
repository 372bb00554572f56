"""Two models that draw differently have different identities; two that are equal have one."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline
from safetensors.torch import load_file, save_file
from transformers import CLIPTokenizer

from expunge.errors import ExpungeError
from expunge.models.cache import ImageCache
from expunge.models.families import FAMILIES
from expunge.models.model import Model
from expunge.models.patch import Patch
from expunge.models.sample import draw
from expunge.models.sd import StableDiffusion
from expunge.models.store import load
from expunge.records import Prompt, Request, Sampler

PROMPTS = ("a church", "A Church, ON a   hill", "caf\u00e9 ! a dog", "a church by the sea <|endoftext|> and a dog")


@pytest.fixture
def folder(pipeline_folder: Path, tmp_path: Path) -> Path:
    """A copy that a test may change."""
    return Path(shutil.copytree(pipeline_folder, tmp_path / "pipeline"))


def opened(folder: Path) -> Any:
    return load(folder, device="cpu")


def key(model: Any) -> tuple[str, str]:
    """What drawn images are kept by, beside prompt, seed and sampler."""
    return model.hash, model.drawing


def pictures(model: Any) -> torch.Tensor:
    return draw(model, [(prompt, 0) for prompt in PROMPTS], Sampler(steps=2, guidance=3.0))


def fields(value: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every leaf of a JSON value; of long lists and mappings (a vocabulary) the first, the last and one between."""
    if isinstance(value, dict | list) and value:
        entries = list(value) if isinstance(value, dict) else list(range(len(value)))
        for entry in entries if len(entries) <= 60 else [entries[0], entries[len(entries) // 2], entries[-1]]:
            yield from fields(value[entry], (*place, entry))
    else:
        yield place


def changed(value: Any) -> list[Any]:
    """Other values that a field may have."""
    words = {"gelu": "relu", "quick_gelu": "gelu", "silu": "gelu", "epsilon": "v_prediction", "leading": "trailing",
             "scaled_linear": "linear", "default": "scale_shift", "right": "left"}
    if isinstance(value, bool):
        return [not value]
    if isinstance(value, int):
        return [value + 1, value * 2]
    if isinstance(value, float):
        return [value * 1.5 + 0.01]
    if isinstance(value, str):
        return [words[value]] if value in words else ["!", f"{value}x"]
    return [True, 2] if value is None else [["DownBlock2D"]]


def mutations(folder: Path, pattern: str) -> Iterator[tuple[Path, tuple[Any, ...], Any, str]]:
    for file in sorted(folder.glob(pattern)):
        whole = json.loads(file.read_text())
        for place in fields(whole):
            told = json.loads(file.read_text())
            inner = told
            for entry in place[:-1]:
                inner = inner[entry]
            for other in changed(inner[place[-1]]):
                before, inner[place[-1]] = inner[place[-1]], other
                yield file, place, other, json.dumps(told)
                inner[place[-1]] = before
            if isinstance(inner, dict):
                left = inner.pop(place[-1])
                yield file, place, "(left out)", json.dumps(told)
                inner[place[-1]] = left


def with_networks_of(first: Any) -> Callable[[Path], Any]:
    """Opens a folder's tokenizer and scheduler around the networks of a model that is there already."""
    from expunge.models.opening import quiet

    known = {"hash": first.hash, "encoder_hash": first.encoder_hash}

    def opened_around(folder: Path) -> Any:
        with quiet():
            words = CLIPTokenizer.from_pretrained(folder / "tokenizer", local_files_only=True)
            scheduler = DDIMScheduler.from_pretrained(folder / "scheduler", local_files_only=True)
        pipe = StableDiffusionPipeline(**first.components, tokenizer=words, scheduler=scheduler, safety_checker=None,
                                       feature_extractor=None, requires_safety_checker=False)
        return Model(FAMILIES["StableDiffusionPipeline"].make(pipe), "around", remember=lambda take: known)

    return opened_around


def draws_otherwise_under_one_key(folder: Path, pattern: str, around: bool = False) -> tuple[list[str], int, int]:
    """Changes of fields that change an image and not the key; how many changed images; how many the key alone.

    `around`: of tokenizer and scheduler, whose networks need not be opened anew for every change.
    """
    first = opened(folder)
    again = with_networks_of(first) if around else opened
    expected, mine = pictures(first), key(first)
    wrong, seen, alone = [], 0, 0
    for file, place, other, text in mutations(folder, pattern):
        kept = file.read_text()
        try:
            file.write_text(text)
            model = again(folder)
            now, its = pictures(model), key(model)
        except Exception:  # a folder that cannot be opened or drawn with has no images
            continue
        finally:
            file.write_text(kept)
        differs = now.shape != expected.shape or not now.equal(expected)
        seen += differs
        alone += its != mine and not differs
        if differs and its == mine:
            wrong.append(f"{file.parent.name}/{file.name} {place}: {other!r}")
    return wrong, seen, alone


@pytest.mark.slow
@pytest.mark.parametrize(("pattern", "least"), [("tokenizer/tokenizer_config.json", 1), ("scheduler/*.json", 3)])
def test_no_field_of_tokenizer_or_scheduler_changes_a_picture_and_not_the_key(folder: Path, pattern: str, least: int
                                                                             ) -> None:
    assert key(with_networks_of(opened(folder))(folder)) == key(opened(folder))
    wrong, seen, _ = draws_otherwise_under_one_key(folder, pattern, around=True)
    assert wrong == []
    assert seen >= least


@pytest.mark.slow
@pytest.mark.parametrize("pattern", ["*.json", "unet/*.json", "vae/*.json", "text_encoder/*.json", "tokenizer/*.json",
                                     "scheduler/*.json"])
def test_no_field_of_the_folder_changes_a_picture_and_not_the_key(folder: Path, pattern: str) -> None:
    wrong, seen, alone = draws_otherwise_under_one_key(folder, pattern)
    print(f"{pattern}: {seen} changes change images, {alone} the key alone")
    assert wrong == []


@pytest.mark.slow
@pytest.mark.parametrize("file", ["unet/config.json", "vae/config.json", "text_encoder/config.json",
                                  "model_index.json"])
def test_bookkeeping_changes_no_key(folder: Path, file: str) -> None:
    before = key(opened(folder))
    told = json.loads((folder / file).read_text())
    told |= {"_name_or_path": "/elsewhere", "_diffusers_version": "0.20.0"}
    if file.startswith("text"):
        told |= {"transformers_version": "4.1.0", "architectures": ["Other"], "attention_dropout": 0.1}
    (folder / file).write_text(json.dumps(told))
    assert key(opened(folder)) == before


def test_the_same_folder_elsewhere_and_a_drawn_with_model_have_the_key_of_the_first(folder: Path, model: Any) -> None:
    pictures(model)
    model.encode(["a church"])
    again = opened(folder)
    assert key(again) == key(model)
    model.texts[0].tokenizer("a dog", padding="max_length", max_length=7, truncation=True)  # leaves its lengths behind
    assert opened(folder).parts == parts_now(model)


def parts_now(model: Any) -> str:
    from expunge.models.identity import parts_digest

    return parts_digest(model.denoiser)


def _tokenizer(folder: Path, **settings: Any) -> None:
    file = folder / "tokenizer" / "tokenizer_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | settings))


def test_other_padding_is_another_model_and_the_cache_gives_each_its_own(folder: Path, model: Any, tmp_path: Path
                                                                         ) -> None:
    _tokenizer(folder, pad_token="!")
    other = opened(folder)
    assert other.hash == model.hash
    assert other.parts != model.parts
    assert other.drawing != model.drawing
    item, cache = [(Prompt(text="a church", role="direct"), 3)], ImageCache(tmp_path / "cache")
    sampler = Sampler(steps=3)
    for one in (model, other, model):
        cached = cache.draw(one, item, sampler)[1]
        assert float((cached - draw(one, item, sampler)).abs().max()) < 0.01
    assert float((draw(model, item, sampler) - draw(other, item, sampler)).abs().max()) > 1e-4


@pytest.mark.parametrize("rules", [{"normalizer": None}, {"normalizer": {"type": "Lowercase"}}],
                         ids=["no normaliser", "lower case only"])
def test_other_normaliser_is_another_model(folder: Path, model: Any, rules: dict[str, Any]) -> None:
    file = folder / "tokenizer" / "tokenizer.json"
    told = json.loads(file.read_text())
    assert told["normalizer"] != rules["normalizer"]
    file.write_text(json.dumps(told | rules))
    other = opened(folder)
    if not draw(other, [("A  Church", 0)], Sampler(steps=2)).equal(draw(model, [("A  Church", 0)], Sampler(steps=2))):
        assert other.drawing != model.drawing


def _as_before_tokenizer_json(folder: Path) -> tuple[Path, Path]:
    """The tokenizer as Stable Diffusion's folders have it: a vocabulary and merges, no file of rules."""
    file = folder / "tokenizer" / "tokenizer.json"
    rules = json.loads(file.read_text())["model"]
    vocabulary, merges = file.with_name("vocab.json"), file.with_name("merges.txt")
    vocabulary.write_text(json.dumps(rules["vocab"]))
    merges.write_text("#version: 0.2\n" + "".join(
        f"{pair if isinstance(pair, str) else ' '.join(pair)}\n" for pair in rules["merges"]))
    file.unlink()
    return vocabulary, merges


def test_vocabulary_and_merges_are_the_same_model_as_one_file_of_rules_and_count_alike(folder: Path, model: Any
                                                                                      ) -> None:
    vocabulary, merges = _as_before_tokenizer_json(folder)
    old = opened(folder)
    assert pictures(old).equal(pictures(model))
    assert key(old) == key(model)
    words = json.loads(vocabulary.read_text())
    one, other = "church</w>", "castle</w>"
    vocabulary.write_text(json.dumps(words | {one: words[other], other: words[one]}))
    assert opened(folder).drawing != model.drawing
    vocabulary.write_text(json.dumps(words))
    lines = merges.read_text().splitlines()
    merges.write_text("\n".join(lines[:-1]) + "\n")
    assert opened(folder).drawing != model.drawing


@pytest.mark.parametrize(("part", "change"), [
    ("text_encoder", {"hidden_act": "gelu"}), ("text_encoder", {"layer_norm_eps": 1e-3}),
    ("text_encoder", {"num_attention_heads": 2}), ("unet", {"act_fn": "gelu"}), ("unet", {"norm_eps": 1e-3}),
    ("unet", {"attention_head_dim": 4}), ("unet", {"freq_shift": 1}), ("vae", {"scaling_factor": 0.5}),
    ("vae", {"act_fn": "gelu"})], ids=str)
def test_other_architecture_on_the_same_weights_is_another_model(folder: Path, model: Any, part: str,
                                                                 change: dict[str, Any]) -> None:
    file = folder / part / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    other = opened(folder)
    assert not pictures(other).equal(pictures(model))
    assert other.hash == model.hash
    assert other.parts != model.parts


def learned(pipe: Any, words: dict[str, torch.Tensor]) -> None:
    """Add words to a pipeline as textual inversion does: "<x>" has as many vectors as rows are given."""
    for word, vectors in words.items():
        pipe.load_textual_inversion({word: vectors}, token=word)


def _folder_with(folder: Path, out: Path, words: dict[str, torch.Tensor]) -> Path:
    pipe = StableDiffusionPipeline.from_pretrained(folder, safety_checker=None)
    learned(pipe, words)
    pipe.save_pretrained(out)
    return out


def test_learned_words_of_several_vectors_are_read_as_diffusers_reads_them(folder: Path, tmp_path: Path) -> None:
    vectors = torch.randn(3, 32, generator=torch.Generator().manual_seed(0))
    taught = _folder_with(folder, tmp_path / "taught", {"<thing>": vectors, "<one>": vectors[:1] + 1})
    model, pipe = opened(taught), StableDiffusionPipeline.from_pretrained(taught, safety_checker=None)
    for prompt in ("a <thing> on a hill", "a <one>", "<thing> and <thing>", "a dog"):
        theirs = pipe.encode_prompt(prompt, "cpu", 1, False)[0]
        assert model.encode([prompt]).states.equal(theirs), prompt

    added = model.texts[0].tokenizer.convert_tokens_to_ids(["<thing>", "<thing>_1", "<thing>_2"])
    assert model.texts[0].tokens("<thing>") == added


@pytest.mark.slow
def test_other_vectors_or_names_of_learned_words_are_other_models(folder: Path, tmp_path: Path) -> None:
    vectors = torch.randn(2, 32, generator=torch.Generator().manual_seed(0))
    taught = [opened(_folder_with(folder, tmp_path / str(i), words)) for i, words in enumerate((
        {"<thing>": vectors}, {"<thing>": vectors + 1}, {"<other>": vectors}, {"<thing>": vectors[:1]}))]
    assert len({key(model) for model in taught}) == 4


def test_one_weight_of_any_part_is_another_model(folder: Path, model: Any) -> None:
    for part in ("unet", "vae", "text_encoder"):
        (file,) = (folder / part).glob("*.safetensors")
        before = load_file(file)
        name = sorted(before)[0]
        save_file({**before, name: before[name] + 0.01}, file, {"format": "pt"})
        assert opened(folder).hash != model.hash
        save_file(before, file, {"format": "pt"})
    assert key(opened(folder)) == key(model)


def test_digests_tell_their_scheme(model: Any) -> None:
    assert model.drawing.startswith("2-")
    assert model.parts.startswith("2-")


def test_the_first_scheme_left_out_how_a_tokenizer_pads(folder: Path, model: Any) -> None:
    """Kept only to know what older versions recorded."""
    _tokenizer(folder, pad_token="!")
    other = opened(folder)
    assert other.former_drawing == model.former_drawing
    assert len(other.former_drawing) == 16
    file = folder / "unet" / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"act_fn": "gelu"}))
    assert opened(folder).former_drawing != model.former_drawing


def patch_of(model: Any, scope: str = "xattn") -> Patch:
    tensors = {name: parameter + 0.1 for name, parameter in model.parameters_in(scope).items()}
    return Patch.of(tensors, model=model, request=Request(concept="church", prompts=("a church",)), method="esd",
                    settings={}, seed=0)


def test_patch_for_a_base_that_reads_otherwise_goes_on_with_a_word(folder: Path, model: Any,
                                                                   caplog: pytest.LogCaptureFixture) -> None:
    patch = patch_of(model)
    _tokenizer(folder, pad_token="!")
    other = opened(folder)
    for _ in range(2):
        other.apply(patch)
        other.remove()
    (said,) = [record.message for record in caplog.records]
    assert said.startswith(f"{folder} has the weights of {model.name}, but reads or computes otherwise")
    old = Patch(patch.tensors, patch.card.model_copy(update={"base_parts": "", "base_rounded": {}}))
    caplog.clear()
    other.apply(old)
    assert caplog.records == []


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["float16", "bfloat16"])
@pytest.mark.parametrize("scope", ["xattn", "text"])
def test_patch_and_copy_of_its_base_in_half_precision_fit_each_other(
        folder: Path, model: Any, tmp_path: Path, kind: str, scope: str, caplog: pytest.LogCaptureFixture) -> None:
    pipe = StableDiffusionPipeline.from_pretrained(folder, safety_checker=None)
    pipe.to(getattr(torch, kind)).save_pretrained(tmp_path / "half")
    patch = patch_of(model, scope)
    for dtype in (None, kind):
        half = load(tmp_path / "half", device="cpu", dtype=dtype)
        assert half.hash != model.hash
        half.apply(patch)
        half.remove()
    assert f"the numbers are equal when they are rounded to {kind}" in caplog.text
    model.apply(patch_of(opened(tmp_path / "half"), scope))
    model.remove()
    with torch.no_grad():
        next(half.network.parameters()).add_(0.1)
        next(half.texts[0].module.parameters()).add_(0.1)
    moved = Model(StableDiffusion(_pipe_of(half, pipe)), "moved")
    with pytest.raises(ExpungeError, match="a patch for"):
        moved.apply(patch)


def _pipe_of(model: Any, pipe: Any) -> Any:
    pipe.unet, pipe.text_encoder, pipe.vae = model.network, model.texts[0].module, model.components["vae"]
    return pipe
