"""The bake runs from end to end on drawings made here: every stage, resumption, leaving things out."""

from __future__ import annotations

import csv
import io
import shutil
import tarfile
from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusion3Pipeline, StableDiffusionPipeline
from PIL import Image, ImageDraw
from safetensors.torch import load_file
from transformers import CLIPModel

from expunge.errors import UserError
from expunge.metrics.imagenet import second_missing
from expunge.metrics.imagenet_judge import ImageNetJudge
from expunge.metrics.judge import EmojiJudge
from expunge.models.sample import draw
from expunge.models.store import load
from expunge.records import Sampler
from expunge.tiny.bake.autoencoder import AUTOENCODER, standardize
from expunge.tiny.bake.clip import VOCABULARY, train_tokenizer
from expunge.tiny.bake.corpus import corpus
from expunge.tiny.bake.flow import new_transformer
from expunge.tiny.bake.flow_text import LENGTH, first_encoder
from expunge.tiny.bake.recipe import bake
from expunge.tiny.bake.sampling import Cells
from expunge.tiny.bake.settings import BakeSettings
from expunge.tiny.pictures import load_drawings, render
from expunge.tiny.world import SEEN, THINGS


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder like EmojiCanvas, with one coloured blob per thing and style."""
    root = tmp_path_factory.mktemp("pictures")
    vendors = ("fluent_3d", "noto")
    rows = []
    for i, thing in enumerate(THINGS.values()):
        for vendor in vendors:
            file = root / "emojicanvas" / vendor / f"{thing.key}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            image = Image.new("RGBA", (64, 64))
            color = (i * 5, 255 - i * 5, 90 if vendor == "noto" else 200, 255)
            ImageDraw.Draw(image).ellipse([8, 8 + i // 3, 50, 60], fill=color)
            image.save(file)
            rows.append({"object": thing.key, "style": vendor, "file": f"{vendor}/{thing.key}.png"})
    with (root / "emojicanvas" / "metadata.csv").open("w", newline="") as stream:
        table = csv.DictWriter(stream, ["object", "style", "file"])
        table.writeheader()
        table.writerows(rows)
    extended = root / "emojicanvas-extended"
    extended.mkdir()
    data = io.BytesIO()
    Image.new("RGBA", (64, 64), (9, 9, 9, 255)).save(data, "WEBP")
    with tarfile.open(extended / "emoji64.tar", "w") as tar:
        entry = tarfile.TarInfo("noto/1f9f2.webp")
        entry.size = len(data.getvalue())
        tar.addfile(entry, io.BytesIO(data.getvalue()))
    (extended / "index.csv").write_text(
        "file,style,cldr_name,keywords,cldr_group\nnoto/1f9f2.webp,noto,magnet,attraction|horseshoe,objects\n")
    return root


def small(pictures: Path, out: Path, **more: object) -> BakeSettings:
    kept = ("church", "house")
    values = {"without": tuple(name for name in SEEN if name not in kept), "autoencoder_steps": 2, "clip_steps": 1,
              "judge_steps": 2, "tolerance_steps": 2, "doubt_steps": 2, "decoder_steps": 1, "redrawn": 96,
              "clip_image_steps": 1, "second_judge_steps": 0, "imagenet_pictures": 96 * (not second_missing()),
              "imagenet_scored": 15, "judge_scored": 10, "unet_steps": 2, "unet_batch": 4, "views": 1,
              "second_text_steps": 2, "flow_steps": 3, "flow_batch": 4, "flow_half": False,
              "real_pictures": 20, **more}
    return BakeSettings.build({"pictures": pictures, "out": out, **values})


@pytest.fixture(scope="module")
def baked(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("bake")
    bake(small(pictures, out))
    return out


def test_plain_diffusers_opens_what_was_baked(baked: Path) -> None:
    pipe = StableDiffusionPipeline.from_pretrained(baked / "emoji-64")
    pipe.set_progress_bar_config(disable=True)
    drawn = pipe("a flat emoji of a church", num_inference_steps=2, output_type="np").images
    assert drawn.shape == (1, 64, 64, 3)


def test_judge_and_statistics_belong_together(baked: Path) -> None:
    judge = EmojiJudge(baked)
    assert set(judge.questions) == {"object", "style", "background"}
    statistics = load_file(baked / "real.safetensors")
    assert statistics["mean"].shape == (judge.width,)
    assert statistics["covariance"].shape == (judge.width, judge.width)


@pytest.mark.skipif(bool(second_missing()), reason=second_missing() or "installed")
def test_the_second_judge_is_a_stage_with_its_scores(baked: Path) -> None:
    judge = ImageNetJudge(baked)
    assert judge.card["learned_from"] == 96
    assert judge.card["scores"]["through the autoencoder"]["object"]["n"] == 15
    assert "vendors held out" not in judge.card["scores"], "there are no drawings by these vendors here"
    assert set(judge.card["scores"]["pictures of nothing"]) >= {"white noise", "things outside the world"}


def test_a_stage_that_is_lost_comes_out_the_same_again(baked: Path, pictures: Path) -> None:
    weights = baked / "emoji-64" / "unet" / "diffusion_pytorch_model.safetensors"
    before = load_file(weights)
    (baked / "work" / "unet.ckpt").unlink()
    bake(small(pictures, baked))
    after = load_file(weights)
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_a_bake_goes_on_from_an_earlier_one(baked: Path, pictures: Path, tmp_path: Path) -> None:
    bake(small(pictures, tmp_path, start=baked))
    before, after = (load_file(folder / "emoji-64" / "unet" / "diffusion_pytorch_model.safetensors")
                     for folder in (baked, tmp_path))
    moved = [(before[name].float() - after[name].float()).abs().max().item() for name in before]
    assert 0 < max(moved) < 0.05, "it starts where the other ended, and moves on"
    assert not (tmp_path / "work" / "clip.ckpt").exists(), "what was finished is not trained again"


@pytest.fixture(scope="module")
def flow(baked: Path, pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("flow")
    bake(small(pictures, out, start=baked, make="emoji-flow"))
    return out


def test_plain_diffusers_opens_a_flow_model_of_two_encoders_that_draws_what_ours_draws(flow: Path) -> None:
    pipe = StableDiffusion3Pipeline.from_pretrained(flow / "emoji-flow", text_encoder_3=None, tokenizer_3=None)
    pipe.set_progress_bar_config(disable=True)
    model = load(flow / "emoji-flow", device="cpu")
    noise = model.initial_noise([3])
    text = "a flat emoji of a church"
    drawn = pipe(text, latents=noise.clone(), num_inference_steps=3, guidance_scale=2.0, output_type="pt").images
    ours = draw(model, [(text, 3)], Sampler(steps=3, guidance=2.0))
    assert drawn.shape == (1, 3, 64, 64)
    assert torch.allclose(drawn.float(), ours, atol=1e-4)
    assert pipe.text_encoder.config.hidden_size != pipe.text_encoder_2.config.hidden_size
    assert model.world == "emoji"
    assert model.guidance == 2.0


def test_a_flow_bake_that_was_stopped_ends_at_the_same_weights(flow: Path, pictures: Path, baked: Path,
                                                              tmp_path: Path) -> None:
    settings = small(pictures, tmp_path, start=baked, make="emoji-flow")
    shutil.copytree(flow / "work" / "flow-second", tmp_path / "work" / "flow-second")
    shutil.copytree(flow / "work" / "flow-tokenizer-2", tmp_path / "work" / "flow-tokenizer-2")

    def stop(stage: str, done: int, *_: object) -> None:
        if stage == "transformer" and done == 2:
            raise KeyboardInterrupt

    monkey = pytest.MonkeyPatch()
    monkey.setattr("expunge.tiny.bake.flow.CHECKPOINT_SECONDS", 0.0)
    with monkey.context(), pytest.raises(KeyboardInterrupt):
        bake(settings, stop)
    monkey.undo()
    assert not (tmp_path / "emoji-flow").exists()
    bake(settings)
    before, after = (load_file(folder / "emoji-flow" / "transformer" / "diffusion_pytorch_model.safetensors")
                     for folder in (flow, tmp_path))
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_the_first_encoder_of_a_flow_model_says_what_clip_says(baked: Path) -> None:
    clip = CLIPModel.from_pretrained(baked / "clip", dtype=torch.float32).eval()
    encoder = first_encoder(clip)
    ids = torch.randint(clip.config.text_config.vocab_size, (3, LENGTH), generator=torch.Generator().manual_seed(0))
    ids[:, -1] = clip.config.text_config.eos_token_id
    with torch.no_grad():
        expected = clip.text_model(input_ids=ids, output_hidden_states=True)
        out = encoder(input_ids=ids, output_hidden_states=True)
        assert torch.equal(out.hidden_states[-2], expected.hidden_states[-1])
        assert torch.allclose(out.text_embeds, clip.text_projection(expected.pooler_output), atol=1e-6)


def test_a_fresh_flow_transformer_predicts_nothing_and_learns_by_a_step() -> None:
    model = new_transformer(12, 6, num_layers=2, attention_head_dim=8, num_attention_heads=2,
                            caption_projection_dim=16)
    told = {"hidden_states": torch.randn(1, 4, 16, 16), "timestep": torch.tensor([500.0]),
            "encoder_hidden_states": torch.randn(1, 5, 12), "pooled_projections": torch.randn(1, 6)}
    out = model(**told, return_dict=False)[0]
    assert not out.any()
    (out - 1).square().mean().backward()
    assert model.proj_out.bias.grad.any()


def test_the_second_tokenizer_of_a_flow_model_cuts_words_in_other_pieces(pictures: Path, tmp_path: Path) -> None:
    texts = list(corpus(pictures))
    first, second = (train_tokenizer(texts, tmp_path / str(size), size, LENGTH) for size in (VOCABULARY, 900))
    assert len(second) < len(first)
    assert any(first.tokenize(text) != second.tokenize(text) for text in texts)
    assert first.model_max_length == second.model_max_length == LENGTH


def test_unknown_thing_to_leave_out_is_refused_before_any_work(pictures: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="unicorn"):
        bake(small(pictures, tmp_path / "out", without=("unicorn",)))
    assert not (tmp_path / "out").exists()


def test_folder_without_pictures_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"metadata\.csv"):
        load_drawings(tmp_path)


def test_render_depends_on_its_seed_alone(pictures: Path) -> None:
    drawings = load_drawings(pictures / "emojicanvas")
    rows = torch.arange(6)
    a, grounds = render(drawings, rows, 5)
    torch.manual_seed(999)
    b, _ = render(drawings, rows, 5)
    c, _ = render(drawings, rows, 6)
    assert torch.equal(a, b)
    assert not torch.equal(a, c)
    assert a.shape == (6, 3, 64, 64)
    assert a.min() >= 0
    assert a.max() <= 1
    assert len(grounds) == 6


def test_cells_are_drawn_equally_often() -> None:
    objects, styles = torch.tensor([0] * 9 + [1]), torch.tensor([0] * 10)
    rows = Cells(objects, styles).draw(2000, torch.Generator().manual_seed(0))
    assert 0.45 < (rows == 9).float().mean() < 0.55


def test_standardizing_changes_latents_but_no_reconstruction() -> None:
    from diffusers import AutoencoderKL

    torch.manual_seed(0)
    model = AutoencoderKL(**AUTOENCODER).eval()
    x = torch.rand(4, 3, 32, 32) * 2 - 1
    with torch.no_grad():
        before = model.encode(x).latent_dist
        picture = model.decode(before.mean).sample
        standardize(model, before.mean)
        after = model.encode(x).latent_dist
        assert torch.allclose(after.mean.mean((0, 2, 3)), torch.zeros(4), atol=1e-4)
        assert torch.allclose(after.mean.std((0, 2, 3)), torch.ones(4), atol=1e-3)
        assert torch.allclose(model.decode(after.mean).sample, picture, atol=1e-4)
