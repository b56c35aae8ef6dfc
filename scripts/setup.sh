# Sourced by quickstart.sh and test.sh: `setup_venv EXTRAS` makes .venv with the tested versions, or re-uses what is there.
# PYTHON names the interpreter to start from; without it the first of python3, python3.13, 3.12, 3.11 that fits is used.

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
python="$root/.venv/bin/python"

fits() { "$1" -c 'import sys, venv; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null; }

find_python() {
    local candidate
    for candidate in ${PYTHON:+"$PYTHON"} python3 python3.13 python3.12 python3.11 python; do
        if fits "$candidate"; then
            echo "$candidate"
            return
        fi
    done
    echo "no Python 3.11 to 3.13 with its venv module found; set PYTHON=/path/to/python" >&2
    return 1
}

make_venv() {
    local base
    base="$(find_python)" || return 1
    echo "making .venv with $("$base" --version)" >&2
    if "$base" -c 'import ensurepip' 2>/dev/null; then
        "$base" -m venv --clear "$root/.venv"
    else # Debian without python3-venv: its own pip can fill an environment that has none
        "$base" -m venv --clear --without-pip "$root/.venv" && "$base" -m pip --python "$python" install --quiet pip
    fi
}

setup_venv() {
    local extras="$1" wanted stamp
    # The path belongs to the stamp: an environment does not survive the move of its folder.
    wanted="$(cat "$root/pyproject.toml" "$root/constraints.txt" | cksum) $root"
    if [ -x "$python" ] && fits "$python"; then
        for stamp in "$root/.venv/installed$extras" "$root/.venv/installed[dev]"; do # [dev] has all that the plain install has
            [ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ] && return
        done
    fi
    if ! [ -x "$python" ] || ! fits "$python" || ! "$python" -m pip --version >/dev/null 2>&1; then
        make_venv || return 1
    fi
    echo "installing mlp_study$extras into .venv (about two minutes the first time)" >&2
    (cd "$root" && "$python" -m pip install --quiet -e ".$extras" -c constraints.txt) || return 1
    echo "$wanted" >"$root/.venv/installed$extras"
}
