"""Kill runs at random moments, start them again, and see whether they end as if nobody had: `make faults KILLS=200`.

Each verb of `verbs.py` runs once to its end: the reference. A trial takes a copy of nothing, starts the verb, kills it
at a random moment between 5% and 95% of the reference (every third trial again, in the run after that), and runs it to
its end. Then every file that lies there must be one of the reference's, and hold the same but for times.

Moments are counted in touches of the run's folder (a file opened, renamed, deleted): what lies on disk changes there
alone, so counting those finds every state that a kill can leave, whatever else the machine does. SIGINT and SIGTERM may
come in the middle of anything, so half of them come some processor time after a touch.

Every trial is written down as it ends, so this goes on where it was stopped. What went wrong stays in its folder.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

sys.path[:] = [str(Path(__file__).parents[1]), *map(os.path.abspath, sys.path)]  # runs have other working folders

for _name, _value in {"OMP_NUM_THREADS": "1", "TQDM_DISABLE": "1", "TRANSFORMERS_VERBOSITY": "error",
                      "DIFFUSERS_VERBOSITY": "error"}.items():
    os.environ.setdefault(_name, _value)  # as `expunge` does, before anything is imported

from forked import Cut, Ended, imported, run  # noqa: E402
from verbs import MADE, VERBS, WRITTEN, Verb  # noqa: E402

from expunge.locks import LOCK  # noqa: E402
from kept_files import content  # noqa: E402

SIGNALS = {"SIGKILL": 137, "SIGTERM": 143, "SIGINT": 130}
"""How runs are ended, and with which code a shell sees that."""

_NOBODYS = {LOCK, ".ses"}
"""Names of files that are no results: locks, and a session's number, which onnxruntime leaves among temporary files."""
_CLASSIFIER = """
import sys
from pathlib import Path
from given import classifier
classifier(Path(sys.argv[1]), ("church", "house"))
"""


class Place:
    """A folder in which runs are made, killed and compared."""

    def __init__(self, root: Path) -> None:
        self.root, self.made = root, root / "made"

    def ready(self, names: Iterable[str]) -> None:
        """Make what the verbs are called on, and the references of those called so; what is there stays."""
        table, ready = repr((MADE, WRITTEN, [verb.command for verb in VERBS.values()])), self.root / "ready"
        if ready.exists() and ready.read_text() != table:
            raise SystemExit(f"{self.root} was begun with other commands: delete it, or name another folder with --out")
        if not ready.exists():
            shutil.rmtree(self.made, ignore_errors=True)
            self.made.mkdir(parents=True)
            for name, text in WRITTEN.items():
                (self.made / name).write_text(text)
            subprocess.run([sys.executable, "-c", _CLASSIFIER, str(self.made / "classifier")], check=True,
                           cwd=Path(__file__).parents[1] / "protocols")
            for words in MADE:
                self._whole(words, self.root / "making")
            ready.write_text(table)
        imported(self._modules)
        for name in names:
            self.reference(name)

    def reference(self, name: str) -> Mapping[str, Any]:
        """What an uninterrupted run left: `content` by file, touches and seconds."""
        folder = self.root / "references" / _plain(name)
        kept = folder.with_name(f"{folder.name}.json")
        if not kept.exists():
            shutil.rmtree(folder, ignore_errors=True)
            ended = self._whole(VERBS[name].command, folder)
            kept.write_text(json.dumps({"touches": ended.touches, "seconds": ended.seconds}))
        return {**json.loads(kept.read_text()), "files": _files(folder, VERBS[name])}

    def trial(self, number: int, name: str, cuts: list[Cut]) -> list[str]:
        """Begin a verb, end it by each cut in turn, and let it come to its end; what is wrong then, in words."""
        verb, wrong = VERBS[name], list[str]()
        folder = self.root / "trials" / f"{_plain(name)}-{number}"
        shutil.rmtree(folder, ignore_errors=True)
        for cut in cuts:
            ended = self._run(verb.command, folder, cut)
            if (ended.whole or _there_already(verb, ended)) and (cut.later or ended.touches < cut.touch):
                wrong.append("missed")
            elif ended.code != SIGNALS[cut.signal]:
                wrong.append(f"code {ended.code} after {cut.signal}: {ended.said[-2000:]}")
            elif cut.signal != "SIGKILL":
                wrong += _badly_said(ended)
        last = self._run(verb.command, folder)
        if last.code != 0 and not _there_already(verb, last):
            wrong.append(f"code {last.code} at the end: {last.said[-2000:]}")
        wrong += _unlike(_files(folder, verb), self.reference(name)["files"])
        if verb.after and (ended := self._run(verb.after, folder)).code:
            wrong.append(f"{verb.after[0]}: code {ended.code}: {ended.said[-2000:]}")
        if not [one for one in wrong if one != "missed"]:
            shutil.rmtree(folder)
        return wrong

    def _whole(self, words: tuple[str, ...], folder: Path) -> Ended:
        ended = self._run(words, folder)
        if ended.code:
            raise SystemExit(f"expunge {' '.join(words)} ended with {ended.code}:\n{ended.said}")
        return ended

    def _run(self, words: tuple[str, ...], folder: Path, cut: Cut | None = None) -> Ended:
        (folder / "tmp").mkdir(parents=True, exist_ok=True)
        (folder / "out").mkdir(exist_ok=True)
        environment = {"EXPUNGE_CACHE": str(folder / "pictures"), "TMPDIR": str(folder / "tmp"),
                       "EXPUNGE_FAULTS_MODULES": str(self.root / "modules.new")}
        ended = run([word.format(made=self.made) if "{made}" in word else word for word in words], folder, environment,
                    cut)
        if (self.root / "modules.new").exists():
            names = dict.fromkeys([*self._modules, *(self.root / "modules.new").read_text().split("\n")])
            (self.root / "modules.new").unlink()
            (self.root / "modules").write_text("\n".join(names))
            vars(self).pop("_modules")
        return ended

    @cached_property
    def _modules(self) -> list[str]:
        file = self.root / "modules"
        return file.read_text().split("\n") if file.exists() else []


def cuts_of(number: int, seed: int, touches: int, seconds: float) -> list[Cut]:
    """The cuts of a trial: the same for the same numbers."""
    chance = random.Random(f"{seed}/{number}")
    cuts = []
    for _ in range(2 if chance.random() < 1 / 3 else 1):
        signal, share = chance.choice(list(SIGNALS)), chance.uniform(0.05, 0.95)
        later = 0.0 if signal == "SIGKILL" or chance.random() < 0.5 else chance.uniform(0, 3 * seconds / touches)
        cuts.append(Cut(signal, max(1, int(share * touches)), later))
    return cuts


def _files(folder: Path, verb: Verb) -> dict[str, Any]:
    """What lies in a run's folder, by name: folders, too, for one may be left over."""
    there = [file for file in sorted(folder.rglob("*")) if file.name not in _NOBODYS]
    return {str(file.relative_to(folder)): "folder" if file.is_dir() else
            verb.known.get(file.name, verb.known.get(file.parent.name, content))(file) for file in there}


def _unlike(found: Mapping[str, Any], meant: Mapping[str, Any]) -> list[str]:
    wrong = [f"left over: {name}" for name in found if name not in meant]
    wrong += [f"lost: {name}" for name in meant if name not in found]
    return wrong + [f"differs: {name}: {_first_difference(found[name], meant[name])}" for name in found
                    if name in meant and found[name] != meant[name]]


def _first_difference(one: Any, other: Any, at: str = "") -> str:
    if isinstance(one, dict) and isinstance(other, dict):
        for key in dict.fromkeys([*one, *other]):
            if one.get(key) != other.get(key):
                return _first_difference(one.get(key), other.get(key), f"{at}.{key}")
    if isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        for place, (a, b) in enumerate(zip(one, other, strict=True)):
            if a != b:
                return _first_difference(a, b, f"{at}[{place}]")
    if isinstance(one, bytes) and isinstance(other, bytes):
        same = next((k for k, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), 0)
        one, other = one[max(0, same - 40):same + 40], other[max(0, same - 40):same + 40]
    return f"{at} {str(one)[:200]!r}, not {str(other)[:200]!r}"


def _there_already(verb: Verb, ended: Ended) -> bool:
    """Whether it was refused because an earlier run had come to its end."""
    return verb.once and ended.code == 2 and "exists already" in ended.said


def _badly_said(ended: Ended) -> list[str]:
    lines = ended.said.strip().splitlines()
    wrong = ["a traceback"] if "Traceback" in ended.said else []
    wrong += [] if lines and lines[-1].startswith("interrupted: ") else ["no short message at the end"]
    return [f"{one}: {ended.said[-2000:]}" for one in wrong]


def _plain(name: str) -> str:
    return name.replace(" ", "_")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=200, help="trials in all, those made before included")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("runs/faults"))
    parser.add_argument("--only", action="append", default=[], choices=list(VERBS))
    given = parser.parse_args()
    place, file = Place(given.out.resolve()), given.out / f"kills-{given.seed}.json"
    names = given.only or list(VERBS)
    place.ready(names)
    trials = json.loads(file.read_text()) if file.exists() else []
    done = {trial["number"] for trial in trials}
    for number in range(given.kills):
        if number in done:
            continue
        name = names[number % len(names)]
        reference = place.reference(name)
        cuts = cuts_of(number, given.seed, reference["touches"], reference["seconds"])
        wrong = place.trial(number, name, cuts)
        trials.append({"number": number, "verb": name, "cuts": [vars(cut) for cut in cuts], "wrong": wrong})
        neighbour = file.with_suffix(".part")
        neighbour.write_text(json.dumps(trials, indent=1))
        neighbour.replace(file)
        how = ", ".join(f"{cut.signal} at {cut.touch} + {cut.later:.2f} s" for cut in cuts)
        print(f"{number + 1}/{given.kills} {name}: {how}: {'; '.join(wrong)[:3000] or 'the same'}", flush=True)
    bad = Counter(trial["verb"] for trial in trials if set(trial["wrong"]) - {"missed"})
    for name in names:
        mine = [trial for trial in trials if trial["verb"] == name]
        print(f"{name}: {sum(len(trial['cuts']) - trial['wrong'].count('missed') for trial in mine)} kills, "
              f"{bad[name]} of {len(mine)} runs did not end as they should")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
