"""Attack the readers and the config: python scripts/fuzz.py [--count 1000] [--seed 0] [kind ...], from a clone.

1,000 mutations of each kind of file, and every key that Hydra knows, set to hostile values by an override, a YAML file
and a run's folder. It ends with 1 if a command touched a canary, hung, or said anything but one clear line.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import resource
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
os.environ["WANDB_MODE"] = "disabled"

from tests.security.fuzz import KINDS, Tally, fuzz, fuzz_hydra, hydra_keys, make_base

MEMORY = 2 * 2**20  # kilobytes that the process may take


def show(name: str, tally: Tally) -> int:
    """Print what came of one kind; returns the faults."""
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(
        f"{name:<20} {tally.mutations:>6} tried  {len(tally.faults):>3} faults  slowest {tally.slowest:.1f} s  "
        f"memory {memory / 2**10:.0f} MB",
        flush=True,
    )
    for fault in tally.faults[:10]:
        print(f"  {fault}", flush=True)
    return len(tally.faults) + (memory > MEMORY)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kinds", nargs="*", help=f"of {', '.join([*KINDS, 'hydra'])}; default: all")
    parser.add_argument("--count", type=int, default=1000, help="mutations of each kind")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    faults = 0
    with tempfile.TemporaryDirectory() as place, contextlib.chdir(place):
        base, work = Path(place, "base"), Path(place, "work")
        base.mkdir()
        with contextlib.redirect_stdout(io.StringIO()):
            make_base(base)
        for name in asked.kinds or [*KINDS, "hydra"]:
            work.mkdir(exist_ok=True)
            if name == "hydra":
                (work / "hydra").mkdir()
                faults += show(name, fuzz_hydra(work / "hydra", hydra_keys()))
            else:
                faults += show(name, fuzz(base, work, name, asked.count, asked.seed))
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
