# What the stages share; sourced, from wherever they are started.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

binary=${CARGO_TARGET_DIR:-target}/release/chaturdata-proxy

# need COMMAND=PACKAGES..: installs Debian's packages for those commands that are missing.
need() {
  local pair missing=
  for pair in "$@"; do
    command -v "${pair%%=*}" >/dev/null || missing+=" ${pair#*=}"
  done
  [[ $missing ]] || return 0
  echo "installing$missing"
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >/dev/null
}

# Brings the release binary up to date; at once where it is.
release_binary() {
  toolchain
  cargo build --release --locked --quiet
}

toolchain() {
  command -v cargo >/dev/null || { echo "no cargo: a Rust toolchain of Cargo.toml's rust-version is wanted" >&2; return 1; }
  need cc="gcc libc6-dev" make=make
}

# within SECONDS WHAT COMMAND..: repeats the command until it succeeds.
within() {
  local end=$((SECONDS + $1)) what=$2
  shift 2
  until "$@" >/dev/null 2>&1; do
    if ((SECONDS >= end)); then
      echo "not in time: $what" >&2
      return 1
    fi
    sleep 0.1
  done
}

# Writes the README's marked blocks, in order, as FOLDER/NN-NAME.LANGUAGE. A mark is a comment on the line before a fence:
#   <!-- run: NAME -->              the block must succeed
#   <!-- run: NAME, shows: TEXT --> and print TEXT, which then stands in FOLDER/NN-NAME.LANGUAGE.shows
readme_blocks() {
  awk -v folder="$1" '
    inside && /^```/ { inside = 0; close(file); next }
    inside { print > file; next }
    mark != "" && /^```/ {
      shows = index(mark, ", shows: ") ? substr(mark, index(mark, ", shows: ") + 9) : ""
      name = shows == "" ? mark : substr(mark, 1, index(mark, ", shows: ") - 1)
      file = sprintf("%s/%02d-%s.%s", folder, ++count, name, substr($0, 4))
      printf "" > file
      if (shows != "") { print shows > (file ".shows"); close(file ".shows") }
      inside = 1
    }
    { mark = "" }
    /^<!-- run: .* -->$/ { mark = substr($0, 11, length($0) - 14) }
  ' README.md
}
