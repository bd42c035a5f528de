# A built binary in front of its own sandbox, over HTTP, for suites to reach; sourced, with $binary set, in this folder.
scratch=$(mktemp -d)
# The script's key, and one that it does not know.
export CALLER_KEY=sk-suite-7d1f0c6a9b3e42 WRONG_KEY=sk-wrong-52c8e07d11fa96
failed=()

finish() {
  local status=$?
  # Both are asked to stop, and must, before their state goes.
  [[ ! -v proxy ]] || { kill "$proxy" && wait "$proxy"; } || { echo "the proxy ended with $?"; status=1; }
  [[ ! -v sandbox ]] || { kill "$sandbox" && wait "$sandbox"; } || { echo "the sandbox ended with $?"; status=1; }
  if ((status)); then
    tail -n 40 "$scratch"/*.log
  fi
  rm -rf "$scratch"
  exit "$status"
}

free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }

# Starts both, until the end of the script.
stand() {
  trap finish EXIT
  export SANDBOX_URL=http://127.0.0.1:$(free_port) PROXY_URL=http://127.0.0.1:$(free_port)
  unset CHATURDATA_API_KEY
  "$binary" sandbox --listen "${SANDBOX_URL#http://}" --script script.toml >"$scratch/sandbox.log" 2>&1 &
  sandbox=$!
  CHATURDATA_PROXY_PACE__INTERVAL=200ms CHATURDATA_PROXY_PACE__MIN_GAP=100ms \
    "$binary" --listen "${PROXY_URL#http://}" --upstream-url "$SANDBOX_URL" --state-dir "$scratch/state" --log trace \
    >"$scratch/proxy.log" 2>&1 &
  proxy=$!
  curl --silent --retry 50 --retry-delay 0 --retry-max-time 10 --retry-connrefused "$SANDBOX_URL/" "$PROXY_URL/livez" >"$scratch/up"
}

# suite NAME COMMAND..: runs one, and notes where it failed.
suite() {
  local name=$1 began=$SECONDS
  shift
  echo "== $name"
  "$@" || failed+=("$name")
  echo "== $name: $((SECONDS - began)) s"
}

# Tells what failed, the log's secrecy included: it was kept at its most verbose.
verdict() {
  if grep --extended-regexp "$CALLER_KEY|$WRONG_KEY|A plain answer|orders in the North" "$scratch/proxy.log" | head -n 3 | grep .; then
    failed+=("keys and texts stay out of the log")
  fi
  if ((${#failed[@]})); then
    printf 'FAILED: %s\n' "${failed[@]}"
    exit 1
  fi
}
