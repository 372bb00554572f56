"""Flow models are baked from end to end: both families' encoders, transformers and folders."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from diffusers import FluxPipeline, StableDiffusion3Pipeline
from safetensors.torch import load_file
from transformers import CLIPModel

from baking import small
from expunge.models.flux import packed as pack
from expunge.models.flux import unpacked
from expunge.models.sample import draw
from expunge.models.store import load
from expunge.records import Sampler
from expunge.tiny.bake.clip import VOCABULARY, train_tokenizer
from expunge.tiny.bake.corpus import corpus
from expunge.tiny.bake.flow import distilled
from expunge.tiny.bake.flow_text import LENGTH, first_encoder
from expunge.tiny.bake.flux_start import begin_with
from expunge.tiny.bake.flux_text import LENGTH as LONGEST
from expunge.tiny.bake.flux_text import train_unigram
from expunge.tiny.bake.networks import FluxNetwork, Network, StableDiffusion3Network
from expunge.tiny.bake.readings import Readings
from expunge.tiny.bake.recipe import bake

pytestmark = pytest.mark.slow
"""It bakes models."""


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


@pytest.fixture(scope="module")
def flux(baked: Path, flow: Path, pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("flux")
    bake(small(pictures, out, start=baked, make="emoji-flux", flow_start=flow / "emoji-flow"))
    return out


def test_plain_diffusers_opens_a_small_flux_that_draws_what_ours_draws(flux: Path) -> None:
    pipe = FluxPipeline.from_pretrained(flux / "emoji-flux")
    pipe.set_progress_bar_config(disable=True)
    model = load(flux / "emoji-flux", device="cpu")
    text = "a flat emoji of a church"
    tokens = pack(model.initial_noise([3]))
    drawn = pipe(text, latents=tokens, height=64, width=64, num_inference_steps=3, guidance_scale=2.0,
                 max_sequence_length=pipe.text_encoder_2.config.n_positions, output_type="pt").images
    ours = draw(model, [(text, 3)], Sampler(steps=3))
    assert ours.shape == (1, 3, 64, 64), "its own size is that of its pictures, not that of the published model"
    assert torch.allclose(drawn.float(), ours, atol=1e-4)
    assert (model.world, model.guidance, model.denoiser.guided) == ("emoji", 2.0, "embedded")
    assert model.texts[0].length == LONGEST


def test_a_small_flux_hears_its_prompt_and_its_guidance(flux: Path) -> None:
    model = load(flux / "emoji-flux", device="cpu")
    torch.nn.init.normal_(model.network.norm_out.linear.weight, std=0.1)  # three steps leave it deaf
    church, moon = (draw(model, [(text, 0)], Sampler(steps=2)) for text in ("a church", "a black and white moon"))
    strong = draw(model, [("a church", 0)], Sampler(steps=2, guidance=3.0))
    assert not torch.equal(church, moon)
    assert not torch.equal(church, strong)


@pytest.mark.parametrize(("make", "kept"), [("emoji-flow", ("flow-second", "flow-tokenizer-2")),
                                            ("emoji-flux", ("flux-second", "flux-tokenizer-2"))])
def test_a_flow_bake_that_was_stopped_ends_at_the_same_weights(
        make: str, kept: tuple[str, ...], request: pytest.FixtureRequest, pictures: Path, baked: Path, flow: Path,
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole: Path = request.getfixturevalue(make.removeprefix("emoji-"))
    begin = flow / "emoji-flow" if make == "emoji-flux" else None
    settings = small(pictures, tmp_path, start=baked, make=make, flow_start=begin)
    for name in kept:
        shutil.copytree(whole / "work" / name, tmp_path / "work" / name)

    def stop(stage: str, done: int, *_: object) -> None:
        if stage == "transformer" and done == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr("expunge.tiny.bake.flow.CHECKPOINT_SECONDS", 0.0)
    with pytest.raises(KeyboardInterrupt):
        bake(settings, stop)
    assert not (tmp_path / make).exists()
    bake(settings)
    before, after = (load_file(folder / make / "transformer" / "diffusion_pytorch_model.safetensors")
                     for folder in (whole, tmp_path))
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


@pytest.mark.parametrize("network", [
    StableDiffusion3Network(12, 6, num_layers=2, attention_head_dim=8, num_attention_heads=2,
                            caption_projection_dim=16),
    FluxNetwork(12, 6, num_layers=1, num_single_layers=1, attention_head_dim=8, num_attention_heads=2,
                axes_dims_rope=(2, 2, 4))], ids=["sd3", "flux"])
def test_a_fresh_flow_transformer_predicts_nothing_and_learns_by_a_step(network: Network) -> None:
    told = Readings(torch.randn(2, 5, 12), torch.randn(2, 6))
    out = network.velocity(torch.randn(2, 4, 16, 16), torch.tensor([0.5, 0.1]), told, torch.ones(2))
    assert out.shape == (2, 4, 16, 16)
    assert not out.any()
    (out - 1).square().mean().backward()
    assert network.model.proj_out.bias.grad.any()


def test_attention_in_training_is_that_of_drawing() -> None:
    network = FluxNetwork(12, 6, num_layers=1, num_single_layers=1, attention_head_dim=8, num_attention_heads=2,
                          axes_dims_rope=(2, 2, 4))
    for parameter in network.model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    given = (torch.randn(2, 4, 8, 8), torch.tensor([0.5, 0.1]), Readings(torch.randn(2, 5, 12), torch.randn(2, 6)),
             torch.ones(2))
    with torch.no_grad():
        drawing = network.velocity(*given)
        with network.attention():
            training = network.velocity(*given)
    assert torch.allclose(drawing, training, atol=1e-4)
    assert drawing.std() > 0.1


def test_guidance_is_distilled_from_the_network_with_and_without_the_prompt() -> None:
    class Told:
        """A velocity of nothing but what it is told."""

        guided = True

        def velocity(self, x: torch.Tensor, s: torch.Tensor, told: Readings, guidance: torch.Tensor) -> torch.Tensor:
            assert (guidance == 1).all(), "the teacher is asked at guidance 1"
            return told.pooled[:, :1, None, None].expand_as(x)

    x, s, w = torch.zeros(2, 4, 2, 2), torch.zeros(2), torch.tensor([1.0, 3.0])
    told = Readings(torch.zeros(2, 1, 1), torch.full((2, 1), 5.0))
    nothing = Readings(torch.zeros(1, 1, 1), torch.ones(1, 1))
    out = distilled(Told(), x, s, told, nothing, w)
    assert out[:, 0, 0, 0].tolist() == [5.0, 1.0 + 3 * 4.0]


def test_the_unigram_tokenizer_knows_frequent_words_whole_and_every_letter(pictures: Path, tmp_path: Path) -> None:
    words = train_unigram(corpus(pictures), tmp_path, parts=150, words=200)
    assert words.tokenize("an image of a church") == ["\u2581an", "\u2581image", "\u2581of", "\u2581a", "\u2581church"]
    assert words.unk_token_id not in words("churhc! ZX-9").input_ids
    assert words("").input_ids == [words.eos_token_id]
    assert words.model_max_length == LONGEST

def test_the_second_tokenizer_of_a_flow_model_cuts_words_in_other_pieces(pictures: Path, tmp_path: Path) -> None:
    texts = list(corpus(pictures))
    first, second = (train_tokenizer(texts, tmp_path / str(size), size, LENGTH) for size in (VOCABULARY, 900))
    assert len(second) < len(first)
    assert any(first.tokenize(text) != second.tokenize(text) for text in texts)
    assert first.model_max_length == second.model_max_length == LENGTH


def test_a_flux_begins_with_what_a_flow_model_says(flow: Path) -> None:
    pipe = StableDiffusion3Pipeline.from_pretrained(flow / "emoji-flow", text_encoder_3=None, tokenizer_3=None)
    trained = pipe.transformer
    for parameter in trained.parameters():  # three steps leave it near zero
        torch.nn.init.normal_(parameter, std=0.05)
    network = FluxNetwork(7, 5)
    text, counts = torch.randn(40, 6, 7), [2 + i % 3 for i in range(40)]
    for states, end in zip(text, counts, strict=True):
        states[end:] = states[end]  # from its end on, all tell of the whole text
    ends = [1 + i % 2 for i in range(40)]
    said = torch.stack([states[end] @ torch.ones(7, 224) for states, end in zip(text, counts, strict=True)])
    theirs = Readings(said[:, None].expand(-1, 4, -1), torch.randn(40, 5) @ torch.ones(5, 224))
    ours = Readings(text, theirs.pooled[:, :5])
    begin_with(network.model, trained, theirs, ends, ours, counts)
    model = network.model
    with torch.no_grad():
        fitted = model.context_embedder(text[torch.arange(40), torch.tensor(counts)])
        assert torch.allclose(fitted, trained.context_embedder(said), atol=0.05 * float(fitted.std()))
        z = torch.randn(1, 4, 16, 16)
        patches = trained.pos_embed.proj(z).flatten(2).transpose(1, 2)
        assert torch.allclose(model.x_embedder(pack(z)), patches, atol=1e-5)
        tokens = torch.randn(1, 64, 256)
        theirs_out = trained.proj_out(tokens).view(1, 8, 8, 2, 2, 4).permute(0, 5, 1, 3, 2, 4).reshape(1, 4, 16, 16)
        assert torch.allclose(unpacked(model.proj_out(tokens), 8, 8), theirs_out, atol=1e-5)
    assert torch.equal(model.transformer_blocks[2].attn.to_k.weight, trained.transformer_blocks[2].attn.to_k.weight)
    assert not any(block.norm.linear.weight.any() for block in model.single_transformer_blocks)
