# How clients are installed, each in the version that its lock file pins; sourced. At once where they are there.

# environment FOLDER REQUIREMENTS: a virtual environment, made anew when its requirements change.
environment() {
  cmp --quiet "$2" "$1/made-from" && return
  rm -rf "$1"
  python3 -m venv "$1"
  "$1/bin/pip" install --quiet --no-input --disable-pip-version-check --requirement "$2"
  cp "$2" "$1/made-from"
}

# modules FOLDER: the packages of its package-lock.json.
modules() {
  cmp --quiet "$1/package-lock.json" "$1/node_modules/made-from" && return
  npm --prefix "$1" ci --silent --no-audit --no-fund
  cp "$1/package-lock.json" "$1/node_modules/made-from"
}
