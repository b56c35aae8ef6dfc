#!/usr/bin/env bash
# Every check of this project, with its own set-up on a fresh machine: ruff, mypy, the docs, then all tests.
# Arguments go to pytest: bash scripts/test.sh -m "not slow"
set -uo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/setup.sh"
cd "$root" || exit 1

# Debian packages that tests need, each as "file package"; installed only where the file (a pattern) is missing and apt-get
# may be used. Tests of what is missing still are skipped, and say so.
debian_packages=(
    "/usr/bin/chromium chromium"            # opens the report's page
    "/usr/bin/chromedriver chromium-driver" # drives it
    "/usr/sbin/slurmctld slurmctld"         # a cluster of one node: its controller,
    "/usr/sbin/slurmd slurmd"               # its node,
    "/usr/bin/sbatch slurm-client"          # its commands,
    "/usr/sbin/munged munge"                # and its credentials
    "/usr/lib/postgresql/*/bin/initdb postgresql" # a study of several processes on a real server
)

setup_debian() {
    local entry missing=() as_root=()
    for entry in ${debian_packages[@]+"${debian_packages[@]}"}; do
        compgen -G "${entry%% *}" >/dev/null || missing+=("${entry#* }")
    done
    [ ${#missing[@]} -eq 0 ] && return
    [ "$(id -u)" -eq 0 ] || as_root=(sudo -n)
    if command -v apt-get >/dev/null && ${as_root[@]+"${as_root[@]}"} true 2>/dev/null; then
        ${as_root[@]+"${as_root[@]}"} apt-get update -qq
        ${as_root[@]+"${as_root[@]}"} env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}"
    else
        echo "missing and not installable here: ${missing[*]}" >&2
    fi
}

failed=()
check() {
    echo "== $*"
    "$python" -m "$@" || failed+=("$*")
}

setup_venv "[dev]" || exit 1
setup_debian
check ruff check .
check ruff format --check .
check mypy
check mkdocs build --quiet --strict --site-dir build/site
if [ ${#failed[@]} -gt 0 ]; then
    printf "failed before the tests: %s\n" "${failed[@]}"
fi
# pytest last, so that its summary is the last line.
echo "== pytest $*"
"$python" -m pytest "$@"
status=$?
[ ${#failed[@]} -eq 0 ] || status=1
exit "$status"
