#!/usr/bin/env bash
# Says where the time of a load goes: profiles every thread of three nodes and of the load generator for three seconds, and
# sums symbols by what they belong to. Usage: benches/profile.sh BATCH. Needs perf (Debian: linux-perf) and a release build.
set -euo pipefail
cd "$(dirname "$0")/.."
batch="${1:?how many events a batch has}"
bench="${CARGO_TARGET_DIR:-target}/release/proofline-bench"
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
"$bench" load --nodes 3 --batch "$batch" --in-flight 64 --seconds 6 --data "$work/data" > "$work/load" 2>&1 &
load=$!
# Past the start and the warm-up of two seconds.
perf record -F 499 -g -a -D 3500 -o "$work/perf" -- sleep 6.5 > "$work/record" 2>&1
wait "$load"
tail -n 2 "$work/load"
report() { perf report -i "$work/perf" --no-children -g none "$@" 2> /dev/null | grep -E '^ +[0-9]'; }
echo "by thread"
report --sort comm | head -n 4
echo "by what it is"
report --comm tokio-rt-worker,apply,journal --sort sym | awk '
  function kind(s) {
    if (s ~ /curve25519|ed25519|sha512|subtle/) return "Ed25519"
    if (s ~ /rocksdb/) return "RocksDB"
    if (s ~ /\[k\]/) return "kernel"
    if (s ~ /mi_|malloc|calloc|realloc|cfree/) return "allocator"
    if (s ~ /__mem/) return "copying and comparing bytes"
    if (s ~ /blake3|sha256|frontier/) return "hashes and trees"
    if (s ~ /prost|proofline_proto|Message/) return "protobuf"
    if (s ~ /h2::|hyper|tonic|tokio|tower|http::|futures|mio|bytes::|core::task|parking_lot/) return "HTTP/2, gRPC and the runtime"
    if (s ~ /openraft/) return "openraft"
    return "ledger, node and the rest"
  }
  { share = $1; sub(/%/, "", share); of[kind($0)] += share; all += share }
  END { for (k in of) printf "%5.0f %%  %s\n", 100 * of[k] / all, k }' | sort -rn
