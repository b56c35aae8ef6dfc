#!/usr/bin/env bash
# The puzzle in one command: sets up .venv, trains four activations on pixels in four scales, five seeds each, on the
# embedded digits, and prints how each ended. Run again, it re-uses the environment and the finished runs.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/setup.sh"
cd "$root"
setup_venv ""
"$python" -m mlp_study.train +sweeps=activation_by_scale data=digits sweep_dir=outputs/quickstart
echo
echo "Each run's record (result.json, curves.csv, W&B run, ...) lies in its folder below $root/outputs/quickstart"
