#!/bin/sh
# Make .venv with this project in it: `sh tools/setup.sh EXTRA`, where EXTRA is `embedded` (enough
# for the demo) or `dev` (everything). Does nothing when that is there already and pyproject.toml
# and constraints.txt are what they were. Each thing that can be missing on a new machine is told
# in one sentence. PYTHON=/path/to/python chooses the interpreter.
set -u
cd "$(dirname "$0")/.." || exit 1
extra=${1:-dev}
venv=.venv
stamp="$(cat pyproject.toml constraints.txt tools/setup.sh | cksum) $(pwd)"

say() { printf '%s\n' "$*" >&2; }
die() { say "$*"; exit 1; }

stamped() { [ "$(cat "$venv/installed-$1" 2>/dev/null)" = "$stamp" ]; }

# Prints "3.12" for an interpreter that runs and is one of ours; pyenv shims exist, but may fail.
version_of() {
    "$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null </dev/null
}

supported() { case "$1" in 3.11 | 3.12 | 3.13) return 0 ;; *) return 1 ;; esac; }

can_make_environments() { "$1" -c 'import ensurepip, venv' >/dev/null 2>&1 </dev/null; }

find_python() {
    found='' crippled=''
    for candidate in ${PYTHON:-python3.13 python3.12 python3.11 python3 python}; do
        version=$(version_of "$candidate") || continue
        supported "$version" || { found="$found, $candidate is $version"; continue; }
        can_make_environments "$candidate" || { crippled=${crippled:-$version}; continue; }
        python=$candidate
        return 0
    done
    [ -z "$crippled" ] || die "Python $crippled is here without its venv and ensurepip modules:" \
        "install them (on Debian and Ubuntu the package python$crippled-venv) and try again."
    die "This project needs Python 3.11, 3.12 or 3.13, and there is none on the PATH" \
        "(${found:+found:${found#,}; }PYTHON=/path/to/python chooses one)."
}

usable() {
    supported "$(version_of "$venv/bin/python")" && "$venv/bin/python" -m pip --version \
        >/dev/null 2>&1 </dev/null
}

if usable && { stamped "$extra" || stamped dev; }; then exit 0; fi

if ! usable; then
    python=''
    find_python
    say "Making $venv with $python ($(version_of "$python")) ..."
    "$python" -m venv --clear "$venv" >/dev/null 2>&1 </dev/null ||
        die "$python could not make a virtual environment in $(pwd)/$venv:" \
            "is the folder writable, and the disk not full?"
fi

# Without a home that can be written to, pip's cache would be made in the root folder.
[ -n "${HOME:-}" ] && [ -w "$HOME" ] || export PIP_NO_CACHE_DIR=1

say "Installing the project with its '$extra' extra into $venv (about a minute) ..."
log=$venv/setup.log
if ! "$venv/bin/python" -m pip install --disable-pip-version-check --no-input --retries 2 \
    -c constraints.txt -e ".[$extra]" >"$log" 2>&1 </dev/null; then
    if grep -q -E 'Failed to establish|NewConnectionError|ConnectTimeout|ReadTimeout|ProxyError|NameResolution|Could not fetch URL|Connection refused|Network is unreachable' "$log"; then
        die "The package registry cannot be reached, so the dependencies cannot be installed:" \
            "check the network or pip's index settings (pip's words are in $(pwd)/$log)."
    fi
    die "pip could not install the project: $(grep -m 1 -i '^error' "$log" || tail -n 1 "$log")" \
        "(all of it is in $(pwd)/$log)."
fi
rm -f "$venv"/installed-*
printf '%s' "$stamp" >"$venv/installed-$extra"
