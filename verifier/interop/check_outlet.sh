#!/usr/bin/env bash
# Checks one message of an outlet with other people's code: a question as JSON on standard input, the answer on standard output.
# Needs python3 with venv, and access to PyPI the first time. The environment is that of run.sh.
set -euo pipefail

here="$(cd "$(dirname "$0")" && pwd)"
environment="${PROOFLINE_INTEROP_ENV:-${XDG_CACHE_HOME:-$HOME/.cache}/proofline/interop-python}"

# One at a time: tests run side by side.
mkdir -p "$(dirname "$environment")"
exec 9>"$environment.lock"
flock 9
if [ ! -x "$environment/bin/python" ]; then
  python3 -m venv "$environment"
fi
if ! "$environment/bin/python" -c 'import jwt, sys; sys.exit(jwt.__version__ != "2.10.1")' 2>/dev/null; then
  "$environment/bin/python" -m pip install --quiet --disable-pip-version-check 'PyJWT==2.10.1' cryptography==50.0.2
fi
flock -u 9
PYTHONDONTWRITEBYTECODE=1 exec "$environment/bin/python" "$here/check_outlet.py"
