#!/usr/bin/env bash
# Make .venv and install everything the toolkit needs into it. `make setup` calls this.
#
# Usage: tools/setup.sh                       with python3, or the newest of python3.10 ... python3.13 if that is unfit
#        PYTHON=python3.12 tools/setup.sh     with this Python
#
# A second run with the same requirements does nothing. A run that was cut off goes on with the same command.
set -euo pipefail
cd "$(dirname "$0")/.."

venv=.venv
needed_gb=10 # 6.5 GB stay; pip holds the archives, 3 GB, until it is done

say() { printf '%s\n' "$*"; }
fail() { printf 'error: %s\n' "$*" >&2; exit 2; }
version_of() { "$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null || true; }
fits() { case "$(version_of "$1")" in 3.10 | 3.11 | 3.12 | 3.13) return 0 ;; *) return 1 ;; esac; }

choose_python() {
    if [ -n "${PYTHON:-}" ]; then
        command -v "$PYTHON" >/dev/null || fail "PYTHON=$PYTHON: no such program"
        fits "$PYTHON" || fail "PYTHON=$PYTHON is Python $(version_of "$PYTHON"); 3.10, 3.11, 3.12 or 3.13 is needed"
        echo "$PYTHON"
        return
    fi
    for candidate in python3 python3.13 python3.12 python3.11 python3.10; do
        if fits "$candidate"; then
            echo "$candidate"
            return
        fi
    done
    fail "no Python 3.10 to 3.13 found (python3 is $(version_of python3)); install one, then: PYTHON=/path/to/python3.12 make setup"
}

if [ -x $venv/bin/python ] && [ -n "${PYTHON:-}" ] && [ "$(version_of "$PYTHON")" != "$(version_of $venv/bin/python)" ]; then
    fail "$venv has Python $(version_of $venv/bin/python), PYTHON=$PYTHON is $(version_of "$PYTHON"); remove $venv first (make clean-venv)"
fi

# The stamp's name changes with what is to be installed and with the place: a virtual environment cannot be moved.
stamp=$venv/installed-$({ pwd; cat requirements.lock pyproject.toml tools/install_detectron2; } | cksum | cut -d ' ' -f 1)
if [ -e "$stamp" ] && $venv/bin/python -c '' 2>/dev/null; then
    exit 0
fi

python=$(choose_python)
free_kb=$(df -Pk . | awk 'NR == 2 { print $4 }')
have_kb=$(if [ -d $venv ]; then du -sk $venv | cut -f 1; else echo 0; fi)
if [ $((free_kb + have_kb)) -lt $((needed_gb * 1000 * 1000)) ]; then
    fail "$PWD: the installation needs $needed_gb GB while it runs (6.5 GB stay) and the disk has $((free_kb / 1000 / 1000)) GB free; make room and run the same command again"
fi

if ! $venv/bin/python -m pip --version >/dev/null 2>&1; then
    say "making $venv with Python $(version_of "$python")"
    "$python" -m venv $venv || fail "$python -m venv failed (see above); on Debian or Ubuntu install python$(version_of "$python")-venv"
fi

say "installing $(grep -c == requirements.lock) pinned packages, 6.5 GB, into $venv: about 3 minutes where the network is fast"
# -qq: errors are shown, warnings are not. --no-deps: the lock file is whole, and holds one OpenCV alone.
SECONDS=0
$venv/bin/python -m pip install -qq --disable-pip-version-check --no-deps -r requirements.lock -e . ||
    fail "pip failed (see above); run the same command again to go on, docs/install.md helps with what is known"
$venv/bin/python tools/install_detectron2
# yapf, which mmengine imports, writes a cache at its first import and renames the file into place before it has its
# content: of several processes that start at once, as ranks and tests do, one may read an empty file and end there.
$venv/bin/python -c 'import mmengine' || fail "mmengine does not import (see above); docs/install.md helps with what is known"

rm -f $venv/installed-*
touch "$stamp"
say "ready after $SECONDS s; what there is: make doctor"
