"""The optimisation loop: killed at any moment and started again, it ends at the same weights."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from expunge.errors import ConfigError, ExpungeError, ModelError, TrainingError
from expunge.resume import Inputs
from expunge.train import Losses, Trained, run_loop, step_generator

STEPS = 12
UNDER = Inputs({"steps": 6})


class Run:
    """A small regression under Adam with a running average of its weights."""

    def __init__(self) -> None:
        self.weight = torch.nn.Parameter(torch.ones(3))
        self.average = self.weight.detach().clone()
        self.optimizer = torch.optim.Adam([self.weight], lr=0.1)
        self.asked: list[int] = []

    def step(self, number: int) -> Losses:
        self.asked.append(number)
        x = torch.randn(4, 3, generator=step_generator(0, number))
        loss = (x @ self.weight).square().mean()
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.average.lerp_(self.weight.detach(), 0.5)
        return {"loss": float(loss.detach())}

    @property
    def state(self) -> dict[str, Tensor]:
        return {"weight": self.weight, "average": self.average}

    def go(self, steps: int = STEPS, checkpoint: Path | None = None, **more: object) -> list[Losses]:
        return self.train(steps, checkpoint, **more).losses

    def train(self, steps: int = STEPS, checkpoint: Path | None = None, **more: object) -> Trained:
        return run_loop(self.step, steps, self.state, {"adam": self.optimizer}, checkpoint=checkpoint,
                        **{"under": UNDER, "every": 0.0, **more})  # type: ignore[arg-type]


@pytest.mark.parametrize("stop", [1, 5, STEPS - 1])
def test_interrupted_run_ends_at_the_same_weights(tmp_path: Path, stop: int) -> None:
    whole, first, second = Run(), Run(), Run()
    expected = whole.go()

    def interrupt(done: int, total: int, losses: Losses) -> None:
        if done == stop + 1:
            os.kill(os.getpid(), signal.SIGINT)

    # However far the last checkpoint is back, the step in which Ctrl-C fell is finished and kept.
    with pytest.raises(KeyboardInterrupt, match=f"stopped at step {stop + 1}; run the same command again"):
        first.go(checkpoint=tmp_path / "c", progress=interrupt, every=1e9)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    history = second.go(checkpoint=tmp_path / "c")
    assert second.asked == list(range(stop + 1, STEPS))
    assert history == expected
    assert torch.equal(second.weight, whole.weight)
    assert torch.equal(second.average, whole.average)


class Torn(Run):
    """A run that a second Ctrl-C tears inside its third step."""

    def step(self, number: int) -> Losses:
        losses = super().step(number)
        if number == 2:
            raise KeyboardInterrupt
        return losses


def test_an_interrupt_inside_a_step_leaves_the_last_checkpoint_and_says_which(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt, match="stopped at step 2; run the same command again"):
        Torn().go(checkpoint=tmp_path / "c")
    with pytest.raises(KeyboardInterrupt, match="nothing was kept yet"):
        Torn().go(checkpoint=tmp_path / "d", every=1e9)
    assert not (tmp_path / "d").exists()


def test_whoever_watches_stops_a_run_between_steps_and_the_step_is_kept(tmp_path: Path) -> None:
    whole, first, second = Run(), Run(), Run()
    expected = whole.go()

    def stop(done: int, total: int, losses: Losses) -> None:
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt, match="stopped at step 3; run the same command again"):
        first.go(checkpoint=tmp_path / "c", progress=stop, every=1e9)
    assert second.go(checkpoint=tmp_path / "c") == expected
    assert second.asked == list(range(3, STEPS))
    assert torch.equal(second.weight, whole.weight)
    with pytest.raises(KeyboardInterrupt):
        Run().go(progress=stop)


KILLED = """
import sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from test_train import Run
Run().go(400, Path(sys.argv[2]), progress=lambda done, total, losses: time.sleep(0.05))
"""


def test_killed_process_resumes_to_the_same_weights(tmp_path: Path) -> None:
    file = tmp_path / "c"
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(Path(__file__).parent), str(file)])
    deadline = time.monotonic() + 300  # a busy machine takes its time to import torch
    while not file.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(0.2)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert process.returncode == -signal.SIGKILL
    resumed, whole = Run(), Run()
    resumed.go(400, file, every=60.0)
    whole.go(400)
    assert 0 < resumed.asked[0] < 400
    assert torch.equal(resumed.weight, whole.weight)
    assert file in tmp_path.iterdir()


def test_finished_run_does_nothing_again(tmp_path: Path) -> None:
    first, again = Run(), Run()
    expected = first.go(checkpoint=tmp_path / "c")
    assert again.go(checkpoint=tmp_path / "c") == expected
    assert again.asked == []
    assert torch.equal(again.weight, first.weight)


def test_checkpoint_of_other_settings_is_refused(tmp_path: Path) -> None:
    Run().go(checkpoint=tmp_path / "c")
    with pytest.raises(ConfigError, match="other settings"):
        Run().go(checkpoint=tmp_path / "c", under=Inputs({"steps": 7}))


@pytest.mark.parametrize("damage", ["truncate", "garbage", "empty"])
def test_damaged_checkpoint_is_a_clear_error(tmp_path: Path, damage: str) -> None:
    file = tmp_path / "c"
    Run().go(checkpoint=file)
    whole = file.read_bytes()
    file.write_bytes({"truncate": whole[:len(whole) // 2], "garbage": b"\xff" * 100, "empty": b""}[damage])
    with pytest.raises(ModelError, match=r"damaged.*delete it to start over"):
        Run().go(checkpoint=file)


def test_a_flipped_bit_of_a_checkpoint_is_noticed(tmp_path: Path) -> None:
    file = tmp_path / "c"
    Run().go(checkpoint=file)
    whole = file.read_bytes()
    names = whole.index(b'"history"'), whole.index(b"}", whole.index(b'"history"'))
    for place in (len(whole) - 2, (sum(names)) // 2):  # in a tensor, and in a loss of before
        file.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1:])
        with pytest.raises(ModelError, match=r"damaged.*delete it to start over"):
            Run().go(checkpoint=file)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_loss_that_is_not_a_number_stops_at_the_last_good_state(tmp_path: Path, value: float) -> None:
    run, file = Run(), tmp_path / "c"
    good = run.step

    def step(number: int) -> Losses:
        return {"loss": value} if number == 4 else good(number)

    with pytest.raises(TrainingError, match=r"not finite at step 5 of 12.*; the checkpoint holds step 4"):
        run_loop(step, STEPS, run.state, {"adam": run.optimizer}, checkpoint=file, every=0.0)
    assert torch.equal(load_file(file)["state/weight"], run.weight)


def test_learning_rate_belongs_to_the_step_and_to_one_optimizer() -> None:
    run, other = Run(), torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=0.3)
    seen: list[tuple[float, float]] = []
    run_loop(run.step, 3, run.state, {"adam": run.optimizer, "other": other},
             learning_rate={"adam": lambda i: 0.5 ** i},
             progress=lambda *_: seen.append((run.optimizer.param_groups[0]["lr"], other.param_groups[0]["lr"])))
    assert seen == [(1.0, 0.3), (0.5, 0.3), (0.25, 0.3)]


def test_learning_rate_of_an_unknown_optimizer_is_refused() -> None:
    run = Run()
    with pytest.raises(ExpungeError, match="'adma'; accepted: adam"):
        run.go(3, learning_rate={"adma": lambda i: 1.0})
    assert not run.asked


def test_seconds_are_those_of_all_sessions(tmp_path: Path) -> None:
    file = tmp_path / "c"
    first = Run().train(2, file, began=time.monotonic() - 1000)
    assert 1000 <= first.seconds < 1100
    second = Run().train(4, file, began=time.monotonic() - 500)
    assert 1500 <= second.seconds < 1700
    assert 1500 <= Run().train(4, file).seconds < 1700


def test_checkpoint_of_an_earlier_version_without_time_and_seal_counts_from_now(tmp_path: Path) -> None:
    file, resumed, whole = tmp_path / "c", Run(), Run()
    Run().train(5, file, began=time.monotonic() - 1000)
    with safe_open(file, "pt") as opened:
        told = opened.metadata()
    del told["seconds"], told["seal"]
    save_file(load_file(file), file, told)
    assert resumed.train(checkpoint=file).seconds < 100
    assert resumed.asked[0] == 5
    whole.go()
    assert torch.equal(resumed.weight, whole.weight)


@pytest.mark.parametrize("name", ["another", "weight"])
def test_checkpoint_of_other_tensors_is_refused_and_changes_nothing(tmp_path: Path, name: str) -> None:
    Run().go(checkpoint=tmp_path / "c")
    run = Run()
    state = {"average": run.average, name: torch.zeros(1)}
    with pytest.raises(ModelError, match=f"does not fit: '{name}' is missing or has another shape"):
        run_loop(run.step, STEPS, state, {"adam": run.optimizer}, checkpoint=tmp_path / "c", under=UNDER)
    assert torch.equal(run.average, torch.ones(3))


def test_step_generator_depends_on_seed_step_and_stream_only() -> None:
    draw = lambda *key: torch.randn(2, generator=step_generator(*key)).tolist()
    state = torch.random.get_rng_state()
    assert draw(0, 1, "a") == draw(0, 1, "a")
    assert len({tuple(draw(*key)) for key in [(0, 1, "a"), (1, 1, "a"), (0, 2, "a"), (0, 1, "b")]}) == 4
    assert torch.equal(torch.random.get_rng_state(), state)


def test_checkpoint_on_a_read_only_place_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(Exception, match="cannot write"):
        Run().go(checkpoint=tmp_path / "file" / "c")
    assert os.listdir(tmp_path) == ["file"]
