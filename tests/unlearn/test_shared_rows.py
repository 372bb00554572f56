"""Training in several processes of one launcher: the weights of one, and a process that dies or is stopped."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from expunge.models.patch import Patch
from expunge.models.store import load
from expunge.resume import Inputs
from expunge.train import run_loop
from expunge.unlearn.erase import erase, resolve_method
from expunge.unlearn.recipe import Recipe
from launching import finished, launch

WORKER = """
import json, os, signal, sys

folder, out, method, settings = sys.argv[1:]

from expunge.models.store import load
from expunge.unlearn.erase import erase

died, stopped = int(os.environ.get("DIES_AT", -1)), int(os.environ.get("STOPPED_AT", -1))


def tell(done, total, losses):
    if losses and os.environ["RANK"] == "1" and done == died:
        os._exit(9)
    if losses and os.environ["RANK"] == "1" and done == stopped:
        os.kill(os.getpid(), signal.SIGINT)


try:
    erase(load(folder, device="cpu"), "church", method, anchor="house", keep=["a bridge"],
          prompts=["church", "a church"], settings=json.loads(settings), out=out, own_look=False, progress=tell)
except KeyboardInterrupt as stop:
    print(stop)
    sys.exit(130)
"""
SMALL: dict[str, Any] = {"source": {"kind": "frozen", "trajectories": 2, "grid": 3}, "batch": 3, "steps": 5,
                         "learning_rate": 2e-4, "checkpoint_every": 0.0}
KEPT: dict[str, Any] = {"keep": {"source": {"kind": "frozen", "trajectories": 2, "grid": 3}, "batch": 2},
                        "retain": None}
DENOISED: dict[str, Any] = {"source": {"kind": "noised", "pictures": 2, "grid": 3}, "batch": 3,
                            "keep": {"source": {"pictures": 2, "grid": 3}, "batch": 2}, "retain": None}
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "whole weights, kept": ("ablation-fast", {**SMALL, **KEPT}),
    "a LoRA": ("esd", {**SMALL, "lora_rank": 2}),
    "fewer rows than processes": ("esd", {**SMALL, "batch": 1}),
    "a text encoder under attack": ("advunlearn-fast", {
        **SMALL, **KEPT, "adversary": {"tokens": 2, "warmup": 0, "steps": 2}, "steps": 3}),
    "a bank of prompts": ("counterfactual-fast", {**KEPT, "batch": 3, "steps": 3, "learning_rate": 2e-4,
                                                  "checkpoint_every": 0.0, "source": {"kind": "frozen"}}),
    "activations made again": ("esd", {**SMALL, "checkpointing": True, "scope": "unet"}),
    "a bilevel step": ("erasediff-fast", {**SMALL, **DENOISED, "steps": 2}),
    "a look ahead": ("resalign-fast", {**SMALL, **KEPT, "steps": 2, "update": {
        "kind": "lookahead", "rules": ["descent"], "rates": [1e-3], "lengths": [2], "batch": 3,
        "source": {"pictures": 2, "grid": 3}}}),
    "words that were found": ("stereo-fast", {**SMALL, **KEPT, "steps": 3, "adversary": {
        "kind": "words", "count": 1, "erase_steps": 2, "search_steps": 2, "rows": 3,
        "source": {"pictures": 2, "grid": 3}}}),
    "a mask of weights": ("salun-fast", {**SMALL, **DENOISED, "steps": 3}),
}
ATTACKED = ("a text encoder under attack", "a bank of prompts")
QUICK = "whole weights, kept"
WITHIN = 1e-5
"""Largest distance of all changed weights, as a share of their norm."""
OF_THE_CHANGE = 1e-2
"""The same, as a share of the norm of what changed: along gradients that are rounding alone Adam takes whole steps."""


def trained(folder: Path, out: Path, case: str, count: int, env: dict[str, str] | None = None) -> list[Any]:
    method, settings = CASES[case]
    return launch(count, ["-c", WORKER, str(folder), str(out), method, json.dumps(settings)], env)


def norm(tensors: Mapping[str, Tensor], less: Mapping[str, Tensor]) -> float:
    return float(sum(float((value - less[name]).square().sum()) for name, value in tensors.items()) ** 0.5)


def check_alike(made: Patch, alone: Patch, folder: Path) -> None:
    """The weights are the same, and so is what was done to them, which is much less."""
    assert made.tensors.keys() == alone.tensors.keys()
    nothing = {name: torch.zeros_like(value) for name, value in alone.tensors.items()}
    before = load(folder, device="cpu").parameters_of("denoiser", "text")
    changed = norm(alone.tensors, nothing if alone.card.kind == "lora" else {k: v.detach() for k, v in before.items()})
    apart = norm(made.tensors, alone.tensors)
    assert apart < WITHIN * norm(alone.tensors, nothing)
    assert apart < OF_THE_CHANGE * changed


@pytest.fixture(scope="module")
def alone(pipeline_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Patch]:
    """The edit of one process, made when it is first asked for."""
    class Made(dict[str, Patch]):
        def __missing__(self, case: str) -> Patch:
            method, settings = CASES[case]
            self[case] = erase(load(pipeline_folder, device="cpu"), "church", method, anchor="house", keep=["a bridge"],
                               prompts=["church", "a church"], settings=settings, own_look=False)
            return self[case]

    return Made()


@pytest.mark.parametrize("case", [pytest.param(case, marks=[] if case == QUICK else [pytest.mark.slow])
                                  for case in CASES])
def test_two_processes_train_the_weights_of_one(pipeline_folder: Path, alone: dict[str, Patch], tmp_path: Path,
                                                case: str) -> None:
    finished(trained(pipeline_folder, tmp_path, case, 2))
    made = Patch.load(tmp_path)
    check_alike(made, alone[case], pipeline_folder)
    assert made.card.processes == 2
    assert made.card.losses.keys() == alone[case].card.losses.keys()
    assert ("attack" in made.card.losses) == (case in ATTACKED)
    assert made.card.losses["erase"] == pytest.approx(alone[case].card.losses["erase"], rel=1e-3)
    assert not (tmp_path / "checkpoint.safetensors").exists()


@pytest.mark.slow
def test_four_processes_train_the_weights_of_one(pipeline_folder: Path, alone: dict[str, Patch], tmp_path: Path
                                                 ) -> None:
    finished(trained(pipeline_folder, tmp_path, "whole weights, kept", 4))
    check_alike(Patch.load(tmp_path), alone["whole weights, kept"], pipeline_folder)


@pytest.mark.slow
@pytest.mark.parametrize("count", [1, 3])
def test_where_a_process_died_any_number_of_them_goes_on(pipeline_folder: Path, alone: dict[str, Patch], tmp_path: Path,
                                                         count: int) -> None:
    first, second = trained(pipeline_folder, tmp_path, "whole weights, kept", 2, {"DIES_AT": "3"})
    assert second.wait(240) == 9
    assert "nothing can be exchanged with the other processes" in first.communicate(timeout=240)[0]
    assert (tmp_path / "checkpoint.safetensors").exists()
    finished(trained(pipeline_folder, tmp_path, "whole weights, kept", count))
    check_alike(Patch.load(tmp_path), alone["whole weights, kept"], pipeline_folder)


@pytest.mark.slow
def test_where_one_is_asked_to_stop_all_stop_behind_the_same_step(pipeline_folder: Path, alone: dict[str, Patch],
                                                                  tmp_path: Path) -> None:
    running = trained(pipeline_folder, tmp_path, "whole weights, kept", 2, {"STOPPED_AT": "2"})
    said = [process.communicate(timeout=240)[0] for process in running]
    assert [process.returncode for process in running] == [130, 130], said
    assert all("stopped at step 2; run the same command again" in text for text in said)
    finished(trained(pipeline_folder, tmp_path, "whole weights, kept", 2))
    check_alike(Patch.load(tmp_path), alone["whole weights, kept"], pipeline_folder)


@pytest.mark.slow
def test_what_has_no_steps_is_refused_before_every_process_does_it(pipeline_folder: Path, tmp_path: Path,
                                                                   monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(CASES, "a closed form", ("uce", {}))
    for process in trained(pipeline_folder, tmp_path / "out", "a closed form", 2):
        said = process.communicate(timeout=240)[0]
        assert "the method uce, which does not train by steps, under a launcher of 2 processes" in said
        assert process.returncode
    assert not (tmp_path / "out").exists()


GRADIENTS = """
import sys

import torch

from expunge import runtime
from expunge.models.store import load
from expunge.unlearn.change import low_rank, whole
from expunge.unlearn.shared_rows import shared_out

folder, out = sys.argv[1:]
gradients = {}
for kind, scope, dtype in (("whole", "xattn", "float32"), ("whole", "text", "float32"),
                           ("masters", "xattn", "bfloat16"), ("low rank", "xattn", "float32")):
    model = load(folder, device="cpu", dtype=dtype)
    names = model.parameters_in(scope)
    if kind == "low rank":
        names = [name for name in names if name.endswith("weight")]
    with (low_rank(model, names, 2, seed=0) if kind == "low rank" else whole(model, names)) as change:
        if kind == "low rank":
            for p in change.params.values():
                torch.nn.init.normal_(p, std=0.1, generator=torch.Generator().manual_seed(p.numel()))
        student = shared_out(model, change, runtime.current())
        texts = ["church", "a church", "house", "a house", ""]
        table = model.texts[0].table
        tokens = model.texts[0].laid_out(texts)
        free = table[tokens.ids].requires_grad_()
        x, t = student.initial_noise([0, 1, 2, 3, 4]), torch.tensor([3.0, 50.0, 200.0, 500.0, 900.0])
        told = student.encode(texts) if scope == "text" else student.encode_embedded(texts, tokens, free)
        out_c = student.predict(x, t, told)
        gaps = out_c.flatten(1).square().mean(1)
        on_weights = sum(p.square().sum() for p in change.params.values())
        loss = torch.relu(gaps - gaps.mean()).sum().sqrt() + (out_c[0] * out_c[4]).mean() + 0.01 * on_weights
        ask = {**change.params, **({} if scope == "text" else {"embeddings": free})}
        grads = torch.autograd.grad(loss, list(ask.values()), allow_unused=True, retain_graph=True)
        loss.backward()
        for (name, p), grad in zip(ask.items(), grads):
            assert (grad is None) == (p.grad is None) and (grad is None or torch.equal(grad, p.grad)), name
            gradients[f"{kind} {scope} {name}"] = grad if grad is None else grad.clone()
if runtime.first():
    torch.save(gradients, out)
"""


@pytest.mark.slow
def test_gradients_of_losses_that_are_no_mean_are_those_of_one_process(pipeline_folder: Path, tmp_path: Path) -> None:
    """Of weights, masters, LoRAs, a text encoder and token embeddings, with a term on the weights alone in the loss."""
    for count in (1, 2, 4):
        finished(launch(count, ["-c", GRADIENTS, str(pipeline_folder), str(tmp_path / f"{count}.pt")]))
    one, *others = (torch.load(tmp_path / f"{count}.pt") for count in (1, 2, 4))
    largest = max(float(grad.norm()) for grad in one.values() if grad is not None)
    for several in others:
        assert several.keys() == one.keys()
        for name, grad in one.items():
            assert (grad is None) == (several[name] is None), name
            if grad is not None:  # a bias of keys has none but for rounding; bfloat16 rounds rows
                most = (0.05 if "masters" in name else 1e-4) * float(grad.norm()) + 1e-7 * largest
                assert float((several[name] - grad).norm()) <= most, name
    assert sum(grad is not None and float(grad.norm()) > 0 for grad in one.values()) > 40


BEGINNING = """
import sys
from pathlib import Path

import torch

from expunge import runtime
from expunge.errors import ConfigError
from expunge.resume import Inputs
from expunge.train import run_loop

folder, settings = sys.argv[1:]
rank = runtime.current().rank
place = Path(folder) / (str(rank) if settings == "places" else "")
try:
    run_loop(lambda number: {"loss": 0.0}, 3, {"w": torch.zeros(1)}, {}, checkpoint=place / "checkpoint.safetensors",
             under=Inputs({"seed": rank if settings == "seeds" else 0}), processes=runtime.current())
except ConfigError as error:
    print(error)
    sys.exit(2)
"""


@pytest.mark.slow
@pytest.mark.parametrize(("settings", "told"), [("seeds", "train under different settings"),
                                                ("places", "begin at steps 2, 0")])
def test_processes_that_do_not_begin_alike_are_told(tmp_path: Path, settings: str, told: str) -> None:
    if settings == "places":
        (tmp_path / "0").mkdir()
        (tmp_path / "1").mkdir()
        run_loop(lambda number: {"loss": 0.0}, 2, {"w": torch.zeros(1)}, {},
                 checkpoint=tmp_path / "0" / "checkpoint.safetensors", under=Inputs({"seed": 0}))
    for process in launch(2, ["-c", BEGINNING, str(tmp_path), settings]):
        output = process.communicate(timeout=240)[0]
        assert process.returncode == 2, output
        assert told in output


@pytest.mark.slow
def test_the_command_erases_and_rehearses_in_two_processes(pipeline_folder: Path, tmp_path: Path) -> None:
    """Each process rehearses alone, by its own clock; one of them prints."""
    verb = ["-m", "expunge", "erase", "church", "--model", str(pipeline_folder), "--anchor", "house", "--device", "cpu",
            "--no-own-look", "--steps", "2", "--batch", "2", "--set", "source.trajectories=2", "--set", "source.grid=3",
            "--out", str(tmp_path / "out")]
    running = launch(2, [*verb, "--dry-run"])
    said = [process.communicate(timeout=240)[0] for process in running]
    assert [process.returncode for process in running] == [0, 0], said
    assert [text.count("# estimate:") for text in said] == [1, 0]
    running = launch(2, verb)
    said = [process.communicate(timeout=240)[0] for process in running]
    assert [process.returncode for process in running] == [0, 0], said
    assert [text.count("patch: ") for text in said] == [1, 0]
    assert Patch.load(tmp_path / "out").card.processes == 2


def test_memory_of_several_processes_counts_their_sums_and_their_share_of_rows(pipeline_folder: Path) -> None:
    model = load(pipeline_folder, device="cpu")
    recipe = resolve_method("esd", {"batch": 8, "source": {"trajectories": 2, "grid": 3}}, model)
    assert isinstance(recipe, Recipe)
    names = tuple(model.parameters_in(recipe.scope))
    one, four = recipe.footprint(model, names).parts, recipe.footprint(model, names, 4).parts
    assert four["gradients"] == 3 * one["gradients"]
    assert one["activations"] / 5 < four["activations"] < one["activations"] / 3
