"""How long a user waits for nothing: `import expunge`, lists and help, each in a fresh interpreter.

    python benchmarks/startup.py [--repeats 7]
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time

from expunge.runtime import machine

HEAVY = ("torch", "diffusers", "transformers", "pydantic")
CASES = {
    "python -c pass": ["-c", "pass"],
    "import expunge": ["-c", "import expunge"],
    "expunge --help": ["-m", "expunge", "--help"],
    "expunge ls methods": ["-m", "expunge", "ls", "methods"],
    "expunge attack --help": ["-m", "expunge", "attack", "--help"],
    "expunge erase --help": ["-m", "expunge", "erase", "--help"],
}


def main() -> None:
    """Print the table."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--repeats", type=int, default=7)
    repeats = options.parse_args().repeats
    print(f"{machine()}; Python {sys.version.split()[0]}; {repeats} repeats")
    for name, arguments in CASES.items():
        times = []
        for _ in range(repeats):
            began = time.perf_counter()
            subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
            times.append(time.perf_counter() - began)
        times.sort()
        print(f"{name:<21} fastest {times[0]:.3f} s, median {times[len(times) // 2]:.3f} s, slowest {times[-1]:.3f} s")
    print(f"loaded by `expunge --help`: {', '.join(loaded()) or 'none'} of {', '.join(HEAVY)}")


def loaded() -> list[str]:
    """Which heavy libraries `expunge --help` imports."""
    script = ("import sys; from expunge.cli import run; run(['--help']); "
              f"print('\\nLOADED', *[name for name in {HEAVY!r} if name in sys.modules])")
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return done.stdout.rsplit("LOADED", 1)[1].split()


if __name__ == "__main__":
    main()
