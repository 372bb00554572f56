"""Does refresh learning help continual learning? On real images, paired by seed, with what it costs.

    python benchmarks/refresh.py --out refresh.json [--data digits] [--epochs 10] [--rates 0.1]
    python benchmarks/refresh.py --out emoji.json --data emoji --pictures FOLDER [--choices refresh.json]
    python benchmarks/refresh.py --cost --choices refresh.json

digits: scikit-learn's 1797 handwritten digits of 8 x 8, five tasks of two digits, a perceptron. emoji: EmojiCanvas,
five tasks of four things at 32 x 32, a small CNN; it learns from nine art teams' drawings and is asked about those of
four others. Both are asked class-incrementally (among all classes) and task-incrementally (among the task's own).

Every choice (learning rate, weights of terms, gamma of the paper's rule) is made on three tuning seeds, 1000 to 1002,
by the mean of both accuracies on a fifth of the samples to learn, which is held out for that; what is reported comes
from other seeds, 0 and up, and from samples that no choice was made on. With and without refresh a seed has
the same network, batches and draws from memory, so differences are paired. Intervals are 95% t-intervals over seeds.
With --choices, weights of terms and gammas are those that another run chose on its own data: nothing is tuned.

Costs are processor time, the best of interleaved repetitions, as a ratio to the same method without refresh in the same
process: of steps alone, and of learning two tasks with the Fisher information measured between them.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import torch
import torch.nn.functional as F
from scipy import stats
from torch import Tensor, nn

import expunge
from expunge.continual import OBJECTIVES, REFRESHES, LearnedSequence, Learner, Objective, Samples, Task, learn
from expunge.files import check_writable, write_json
from expunge.runtime import machine
from expunge.tiny.pictures import load_drawings, render
from expunge.tiny.world import HELD_OUT_VENDORS, SEEN, THINGS, VENDORS

TUNING = (1000, 1001, 1002)
METHODS = ("er", "der++", "ewc")
VARIANTS = ("paper", "noise", "ascent", "released", "safe", "large")
"""paper: as stated, noise at temperature 1, gamma tuned; noise: the same without the ascent, a control; ascent: the
same without the noise, gamma tuned; released, safe: the presets; large: safe with a hundred times its gamma."""
GAMMAS = {"paper": (1e-7, 1e-6, 1e-5, 1e-4), "ascent": (1e-4, 1e-3, 1e-2)}
SCORES = ("class_incremental", "task_incremental")


@dataclass(frozen=True)
class Setting:
    """A sequence of tasks and what learns it.

    Attributes:
        tasks, network: the network by seed; base: what every run shares. rates: learning rates to choose among.
    """

    name: str
    tasks: Sequence[Task]
    network: Callable[[], nn.Module]
    base: Learner
    rates: Sequence[float]


def digits() -> Setting:
    """Five tasks of two digits; 1200 samples to learn, the rest to look at."""
    from sklearn.datasets import load_digits

    read = load_digits()
    order = torch.randperm(len(read.target), generator=torch.Generator().manual_seed(0))
    x = torch.tensor(read.images, dtype=torch.float32)[order] / 16
    y = torch.tensor(read.target, dtype=torch.int64)[order]
    train = torch.arange(len(y)) < 1200
    return Setting("digits", _tasks(x, y, train, 2, 5), _perceptron,
                   Learner(epochs=5, batch=16, memory=100, memory_batch=16), (0.03, 0.1, 0.3))


def emoji(folder: Path) -> Setting:
    """Five tasks of four things; art teams that are looked at are not learned from."""
    drawings = load_drawings(folder)
    things = [list(THINGS).index(name) for name in SEEN[:20]]
    held_out = torch.tensor([list(VENDORS).index(name) for name in HELD_OUT_VENDORS])
    known = torch.isin(drawings.objects, torch.tensor(things))
    foreign = torch.isin(drawings.vendors, held_out)
    parts = []
    learned, asked = (torch.nonzero(known & side)[:, 0] for side in (~foreign, foreign))
    for rows, copies, seed in ((learned, 16, 1), (asked, 8, 2)):
        pictures = [2 * F.avg_pool2d(render(drawings, rows, 1000 * seed + copy)[0], 2) - 1 for copy in range(copies)]
        labels = torch.tensor([things.index(int(thing)) for thing in drawings.objects[rows]]).repeat(copies)
        parts.append((torch.cat(pictures), labels))
    (x, y), (x_test, y_test) = parts
    train = torch.arange(len(y) + len(y_test)) < len(y)
    return Setting("emoji", _tasks(torch.cat([x, x_test]), torch.cat([y, y_test]), train, 4, 5), _cnn,
                   Learner(epochs=3, batch=32, memory=200, memory_batch=32), (0.03,))


def candidates(setting: Setting, method: str) -> Iterable[Learner]:
    """Everything that is tried for a method without refresh."""
    def learner(rate: float, objective: Objective) -> Learner:
        return setting.base.model_copy(update={"learning_rate": rate, "objective": objective})

    preset = OBJECTIVES[method]
    if method == "ewc":
        for rate, weight in itertools.product(setting.rates, (1.0, 10.0, 100.0)):
            yield learner(rate, Objective(weights=(preset.weights[0].model_copy(update={"weight": weight}),)))
        return
    for rate, *weights in itertools.product(setting.rates, *[(0.5, 1.0, 2.0) if term.target == "label" else (0.2, 1.0)
                                                             for term in preset.outputs]):
        terms = tuple(term.model_copy(update={"weight": weight})
                      for term, weight in zip(preset.outputs, weights, strict=True))
        yield learner(rate, Objective(outputs=terms))


def refreshed(plain: Learner, variant: str, gamma: float | None = None) -> Learner:
    """The same with refresh."""
    preset = REFRESHES[{"ascent": "paper", "large": "safe"}.get(variant, variant)]
    changes: dict[str, Any] = {} if gamma is None else {"gamma": gamma}
    if variant == "ascent":
        changes["noise"] = 0.0
    if variant == "large":
        changes["gamma"] = 100 * preset.refresh.gamma
    return plain.model_copy(update={**vars(preset), "refresh": preset.refresh.model_copy(update=changes)})


def noise_alone(paper: Learner) -> Learner:
    """The same noise with a millionth of the ascent: its spread is that of gamma times noise."""
    assert paper.refresh is not None
    changes = {"gamma": 1e-6 * paper.refresh.gamma, "noise": 1e6 * paper.refresh.noise}
    return paper.model_copy(update={"refresh": paper.refresh.model_copy(update=changes)})


def run(setting: Setting, learner: Learner, seed: int) -> LearnedSequence:
    """One sequence."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = setting.network()
    return learn(network, setting.tasks, learner, seed=seed)


def held_out(setting: Setting) -> Setting:
    """The same without what is reported on: four fifths of each task's samples to learn, and the fifth to choose by."""
    tasks = []
    for task in setting.tasks:
        asked = torch.arange(len(task.train.labels)) % 5 == 4
        learn_from, look_at = (Samples(task.train.inputs[rows], task.train.labels[rows]) for rows in (~asked, asked))
        tasks.append(Task(learn_from, look_at, task.classes))
    return replace(setting, tasks=tasks)


def value(learned: LearnedSequence) -> float:
    """What is tuned for."""
    return fmean(getattr(learned, score).final_average for score in SCORES)


def tuned(setting: Setting, options: Iterable[Learner]) -> tuple[Learner, list[dict[str, Any]]]:
    """The best on the tuning seeds, and how all did; runs that break off count as 0."""
    best, highest, told = None, -math.inf, []
    setting = held_out(setting)
    for option in options:
        try:
            got = fmean(value(run(setting, option, seed)) for seed in TUNING)
        except Exception as error:  # a setting that diverges is one that is not chosen
            got, reason = 0.0, str(error)
        else:
            reason = ""
        told.append({"learner": option.model_dump(mode="json"), "value": got, "broke_off": reason})
        if got > highest:
            best, highest = option, got
    assert best is not None
    return best, told


def cost(setting: Setting, learners: Mapping[str, Learner], repetitions: int) -> dict[str, dict[str, float]]:
    """Processor time of each over that of the first: "steps", what more epochs add; "all", of two tasks as they are."""
    tasks = [replace(task, test=Samples(task.test.inputs[:1], task.test.labels[:1])) for task in setting.tasks[:2]]
    best = {name: {"all": math.inf, "twice": math.inf} for name in learners}
    for repetition, (name, learner), key in itertools.product(range(repetitions), learners.items(), ("all", "twice")):
        epochs = learner.epochs * (2 if key == "twice" else 1)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(repetition)
            network = setting.network()
        began = time.process_time()
        learn(network, tasks, learner.model_copy(update={"epochs": epochs}), seed=repetition)
        best[name][key] = min(best[name][key], time.process_time() - began)
    seconds = {name: {"steps": one["twice"] - one["all"], "all": one["all"]} for name, one in best.items()}
    plain = next(iter(seconds.values()))
    return {name: {what: one[what] / plain[what] for what in one} for name, one in seconds.items()}


def interval(values: Sequence[float]) -> tuple[float, float]:
    """Mean and half width of its 95% t-interval."""
    half = float(stats.t.ppf(0.975, len(values) - 1)) * stdev(values) / math.sqrt(len(values))
    return fmean(values), half


def chosen_there(setting: Setting, other: Mapping[str, Any]) -> dict[str, Learner]:
    """The learners of another run's method, on this setting."""
    shared = setting.base.model_dump(mode="json", include={"epochs", "batch", "memory", "memory_batch"})
    learners = {}
    for name, learner in other["learners"].items():
        rate = learner["learning_rate"] if learner["learning_rate"] in setting.rates else setting.rates[0]
        learners[name] = Learner.build({**learner, **shared, "learning_rate": rate})
    return {**learners, "noise": noise_alone(learners["paper"]), "large": refreshed(learners[""], "large")}


def chosen_here(setting: Setting, method: str) -> tuple[dict[str, Learner], dict[str, list[dict[str, Any]]]]:
    """The best learners on the tuning seeds, with and without refresh, and all that was tried."""
    plain, tried = tuned(setting, candidates(setting, method))
    learners, searches = {"": plain}, {"": tried}
    for variant in VARIANTS:
        if variant == "noise":
            learners[variant] = noise_alone(learners["paper"])
        elif variant in GAMMAS:
            learners[variant], searches[variant] = tuned(
                setting, [refreshed(plain, variant, gamma) for gamma in GAMMAS[variant]])
        else:
            learners[variant] = refreshed(plain, variant)
    return learners, searches


def measure(setting: Setting, method: str, chosen: argparse.Namespace, other: Mapping[str, Any] | None
            ) -> dict[str, Any]:
    """One method with and without refresh."""
    seeds = range(chosen.seeds)
    learners, searches = (chosen_there(setting, other), {}) if other else chosen_here(setting, method)
    learners = {name: learners[name] for name in ("", *chosen.variants.split(","))}
    results = {name: [run(setting, learner, seed) for seed in seeds] for name, learner in learners.items()}
    return {"data": setting.name, "method": method, "seeds": list(seeds),
            "learners": {name: learner.model_dump(mode="json") for name, learner in learners.items()},
            "tuning": searches, "cost": cost(setting, learners, chosen.repetitions),
            "runs": {name: [one.model_dump(mode="json", exclude={"settings"}) for one in runs]
                     for name, runs in results.items()},
            "scores": {name: {score: {what: [getattr(getattr(one, score), what) for one in runs]
                                      for what in ("final_average", "forgetting")} for score in SCORES}
                       for name, runs in results.items()}}


def costs(setting: Setting, others: Mapping[str, Any], chosen: argparse.Namespace) -> None:
    """Print what refresh costs each method, on a machine that has nothing else to do."""
    print(f"{machine(torch.device('cpu'))}; one thread; torch {torch.__version__}; processor time beside the method "
          f"alone, best of {chosen.repetitions} in turn\n")
    print("| data | method | refresh | time, steps | time, all |\n| --- | --- | --- | --- | --- |")
    for method in chosen.methods.split(","):
        learners = chosen_there(setting, others[method])
        for name, each in cost(setting, learners, chosen.repetitions).items():
            print(f"| {setting.name} | {method} | {name or 'none'} | {each['steps']:.2f} | {each['all']:.2f} |",
                  flush=True)
    print(f"| emoji-64's UNet | esd-fast | update refresh | {of_an_edit(3):.2f} | |")


def of_an_edit(repetitions: int) -> float:
    """Processor time of a step of `esd-fast` with refresh before every second one, over one without: of 32 steps."""
    model = expunge.load("embedded", device="cpu")

    def seconds(steps: int, refreshed: bool) -> float:
        update = {"update": {"kind": "refresh", "update": {"max_grad_norm": 1.0}}} if refreshed else {}
        began = time.process_time()
        expunge.erase(model, "church", "esd-fast", settings={"steps": steps, **update})
        return time.process_time() - began

    best = dict.fromkeys(itertools.product((16, 48), (False, True)), math.inf)
    for _, key in itertools.product(range(repetitions), best):
        best[key] = min(best[key], seconds(*key))
    return (best[48, True] - best[16, True]) / (best[48, False] - best[16, False])


def table(measured: Sequence[Mapping[str, Any]]) -> str:
    """Markdown: accuracies and forgetting in per cent, differences paired by seed."""
    lines = ["| data | method | refresh | class-incremental | forgetting | task-incremental | forgetting | difference, "
             "class | difference, task | time, steps | time, all |", f"|{' --- |' * 11}"]
    for one in measured:
        for name, scores in one["scores"].items():
            cells = [f"{100 * m:.1f} ± {100 * h:.1f}" for score in SCORES
                     for m, h in (interval(scores[score][what]) for what in ("final_average", "forgetting"))]
            gaps = []
            for score in SCORES:
                pairs = zip(scores[score]["final_average"], one["scores"][""][score]["final_average"], strict=True)
                mean, half = interval([after - before for after, before in pairs])
                sign = " **+**" if mean > half else " **−**" if mean < -half else ""
                gaps.append(f"{100 * mean:+.2f} ± {100 * half:.2f}{sign}" if name else "")
            lines.append(f"| {one['data']} | {one['method']} | {_told(one, name)} | {' | '.join(cells)} | "
                         f"{' | '.join(gaps)} | {one['cost'][name]['steps']:.2f} | {one['cost'][name]['all']:.2f} |")
    return "\n".join(lines)


def main() -> None:
    """Measure, write, print."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--data", choices=("digits", "emoji"), default="digits")
    options.add_argument("--pictures", type=Path, help="an EmojiCanvas folder, for emoji")
    options.add_argument("--methods", default=",".join(METHODS))
    options.add_argument("--seeds", type=int, default=10)
    options.add_argument("--repetitions", type=int, default=7)
    options.add_argument("--epochs", type=int, help="passes over each task [default: 5 digits, 3 emoji]")
    options.add_argument("--rates", type=float, nargs="+", help="learning rates to choose among")
    options.add_argument("--variants", default=",".join(VARIANTS), help="which of these to run beside none")
    options.add_argument("--choices", type=Path, help="what another run wrote, whose choices are taken over")
    options.add_argument("--cost", action="store_true", help="measure costs alone, of the learners in --choices")
    options.add_argument("--out", type=Path, help="where the record goes")
    chosen = options.parse_args()
    if chosen.cost and chosen.choices is None:
        options.error("--cost needs --choices")
    if not chosen.cost and chosen.out is None:
        options.error("--out is missing")
    if chosen.data == "emoji" and chosen.pictures is None:
        options.error("emoji needs --pictures FOLDER")
    torch.set_num_threads(1)
    setting = digits() if chosen.data == "digits" else emoji(chosen.pictures)
    setting = replace(setting, rates=tuple(chosen.rates or setting.rates), base=setting.base.model_copy(
        update={"epochs": chosen.epochs or setting.base.epochs}))
    others = {} if chosen.choices is None else {
        one["method"]: one for one in json.loads(chosen.choices.read_text(encoding="utf-8"))["measured"]}
    missing = [method for method in chosen.methods.split(",") if chosen.choices and method not in others]
    if missing:
        options.error(f"{chosen.choices} has no choices for {', '.join(missing)}")
    if chosen.cost:
        costs(setting, others, chosen)
        return
    check_writable(chosen.out.parent)
    told = "tuned on seeds 1000 to 1002" if chosen.choices is None else f"choices of {chosen.choices.name}"
    began, measured = time.monotonic(), []
    for method in chosen.methods.split(","):
        measured.append(measure(setting, method, chosen, others.get(method)))
        write_json(chosen.out, {"data": setting.name, "tuning_seeds": TUNING, "choices": told,
                                "machine": machine(torch.device("cpu")),
                                "torch": torch.__version__, "seconds": round(time.monotonic() - began),
                                "measured": measured})
        print(table(measured[-1:]), flush=True)
    print(f"\n{machine(torch.device('cpu'))}; one thread; torch {torch.__version__}; seeds 0 to {chosen.seeds - 1}, "
          f"{told}; {time.monotonic() - began:.0f} s\n\n{table(measured)}")


def _told(one: Mapping[str, Any], name: str) -> str:
    refresh = one["learners"][name]["refresh"]
    return f"{name} (gamma {refresh['gamma']:g})" if refresh else "none"


def _tasks(x: Tensor, y: Tensor, train: Tensor, classes: int, count: int) -> list[Task]:
    """Tasks of `classes` labels each, in order."""
    out = []
    for first in range(0, classes * count, classes):
        mine = (y >= first) & (y < first + classes)
        learn_at, look_at = mine & train, mine & ~train
        out.append(Task(Samples(x[learn_at], y[learn_at]), Samples(x[look_at], y[look_at]),
                        tuple(range(first, first + classes))))
    return out


def _perceptron() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 100), nn.ReLU(), nn.Linear(100, 100), nn.ReLU(),
                         nn.Linear(100, 10))


def _cnn() -> nn.Module:
    blocks = [layer for i, o in ((3, 16), (16, 32), (32, 64))
              for layer in (nn.Conv2d(i, o, 3, stride=2, padding=1), nn.GroupNorm(4, o), nn.ReLU())]
    return nn.Sequential(*blocks, nn.Flatten(), nn.Linear(64 * 16, 20))


if __name__ == "__main__":
    main()
