#!/usr/bin/env bash
# Runs the independent Python verifier over all vectors, in a Python environment of its own.
# Needs python3 with venv, and access to PyPI the first time. The environment lies in $PROOFLINE_INTEROP_ENV.
set -euo pipefail

here="$(cd "$(dirname "$0")" && pwd)"
environment="${PROOFLINE_INTEROP_ENV:-${XDG_CACHE_HOME:-$HOME/.cache}/proofline/interop-python}"

if [ ! -x "$environment/bin/python" ]; then
  python3 -m venv "$environment"
fi
"$environment/bin/python" -m pip install --quiet --disable-pip-version-check blake3==1.0.11 cbor2==6.2.1 cryptography==50.0.2
PYTHONDONTWRITEBYTECODE=1 exec "$environment/bin/python" "$here/verify_evidence.py" --vectors "$here/../vectors"
