#!/usr/bin/env bash
# Prepares a machine for building Proofline, and says what it does:
#   1. the Debian packages that the build and the tests need (only those that are missing);
#   2. the target by which the verifier is compiled for browsers (wasm32-unknown-unknown);
#   3. librocksdb.a, compiled once per machine into a cache that every cargo profile then links.
# Safe to run again: each step is skipped when its result is there.
#
#   .ci/setup.sh           what building and testing need
#   .ci/setup.sh bench     also what the side-by-side benchmarks need (etcd, PostgreSQL)
set -euo pipefail

cache="${PROOFLINE_CACHE:-$HOME/.cache/proofline}"
here="$(cd "$(dirname "$0")/.." && pwd)"

packages=(clang libclang-dev g++ make pkg-config faketime iproute2 e2fsprogs mount util-linux xfsprogs procps python3-venv)
if [ "${1:-}" = bench ]; then
  packages+=(etcd-server etcd-client postgresql)
fi

missing=()
for package in "${packages[@]}"; do
  dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'install ok installed' || missing+=("$package")
done
if [ "${#missing[@]}" -gt 0 ]; then
  sudo=""
  [ "$(id -u)" -eq 0 ] || sudo=sudo
  echo "setup: installing Debian packages: ${missing[*]}"
  $sudo apt-get update -qq
  # A package that brings a service must not start it here: tests and benches start what they need.
  $sudo env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
fi

if ! rustc --print target-libdir --target wasm32-unknown-unknown | xargs test -d; then
  echo "setup: installing the Rust target wasm32-unknown-unknown"
  rustup target add wasm32-unknown-unknown
fi

# The version and the features come from the lockfile and the workspace manifest: another RocksDB gets another directory.
sys_version="$(awk '/^name = "librocksdb-sys"$/ { getline; gsub(/[^0-9A-Za-z.+-]/, "", $3); print $3 }' "$here/Cargo.lock")"
rocksdb_version="$(awk '/^name = "rocksdb"$/ { getline; gsub(/[^0-9A-Za-z.+-]/, "", $3); print $3 }' "$here/Cargo.lock")"
rocksdb="$cache/rocksdb/$sys_version"
if [ ! -f "$rocksdb/lib/librocksdb.a" ]; then
  echo "setup: compiling RocksDB ($sys_version) once for this machine, about 11 minutes on two cores"
  work="$cache/rocksdb/build"
  mkdir -p "$work/src"
  cat >"$work/Cargo.toml" <<TOML
[package]
name = "rocksdb-once"
version = "0.0.0"
edition = "2024"
[dependencies]
rocksdb = { version = "=$rocksdb_version", default-features = false, features = ["bindgen-runtime", "lz4"] }
[workspace]
TOML
  : >"$work/src/lib.rs"
  started=$SECONDS
  env -u ROCKSDB_LIB_DIR -u ROCKSDB_STATIC -u ROCKSDB_INCLUDE_DIR CARGO_TARGET_DIR="$work/target" \
    cargo build --quiet --release --manifest-path "$work/Cargo.toml" &
  build=$!
  while kill -0 "$build" 2>/dev/null; do
    for _ in $(seq 30); do kill -0 "$build" 2>/dev/null || break; sleep 1; done
    echo "setup:   $(find "$work/target" -name '*.o' -path '*librocksdb-sys*' 2>/dev/null | wc -l) of about 345 files after $((SECONDS - started)) s"
  done
  wait "$build"
  source_dir="$(cargo metadata --format-version 1 --manifest-path "$work/Cargo.toml" \
    | tr ',' '\n' | sed -n 's/.*"manifest_path":"\(.*librocksdb-sys-[^"]*\)\/Cargo.toml".*/\1/p' | head -n 1)"
  mkdir -p "$rocksdb/lib.partial"
  cp "$(find "$work/target/release/build" -name librocksdb.a | head -n 1)" "$rocksdb/lib.partial/librocksdb.a"
  cp -r "$source_dir/rocksdb/include" "$rocksdb/include"
  mv "$rocksdb/lib.partial" "$rocksdb/lib"
  rm -rf "$work"
fi
ln -sfn "$sys_version" "$cache/rocksdb/current"
echo "setup: ready (RocksDB in $rocksdb)"
