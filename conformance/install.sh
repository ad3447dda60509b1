#!/bin/sh
# Installs what the tests need beside Rust: Chromium, Node, Python and the real subscribers of
# conformance/, each pinned; nginx and HAProxy of crates/cli/tests/front. Asks nothing, skips what is there, works as root and with sudo.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
root=$(dirname "$here")
venv=$root/target/venv

say() { printf 'install: %s\n' "$*"; }
has() { command -v "$1" >/dev/null 2>&1; }

# ── Debian packages ────────────────────────────────────────────────────────────────────────────
packages=''
has curl || packages="$packages curl ca-certificates"
has node || packages="$packages nodejs"
has npm || packages="$packages npm"
# Neither is on the path of an ordinary user.
[ -x /usr/sbin/nginx ] || packages="$packages nginx"
[ -x /usr/sbin/haproxy ] || packages="$packages haproxy"
has chromium || has chromium-browser || [ -n "${CHROMIUM:-}" ] || packages="$packages chromium"
# Without a font the screenshots are empty boxes.
dpkg -s fonts-liberation >/dev/null 2>&1 || packages="$packages fonts-liberation"
if ! has python3; then
  packages="$packages python3 python3-venv"
elif ! python3 -c 'import venv, ensurepip' 2>/dev/null; then
  packages="$packages python3-venv"
fi

if [ -n "$packages" ]; then
  if [ "$(id -u)" = 0 ]; then as_root=''; else as_root='sudo -n'; fi
  if [ -n "$as_root" ] && ! has sudo; then
    say "missing:$packages, and neither root nor sudo to install them" >&2
    exit 1
  fi
  say "apt:$packages"
  log=$(mktemp)
  # The lists of a fresh machine are empty, those of an old one name files that are gone.
  # shellcheck disable=SC2086 # words on purpose
  # RUNLEVEL: no server is started, the tests start their own.
  if ! { $as_root apt-get -qq update && $as_root env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 \
    apt-get -qq -y install --no-install-recommends $packages; } >"$log" 2>&1; then
    cat "$log" >&2
    say 'apt failed' >&2
    exit 1
  fi
  rm -f "$log"
else
  say 'Debian packages are there'
fi

# ── npm ────────────────────────────────────────────────────────────────────────────────────────
stamp=$here/node_modules/.installed-lock.json
if cmp -s "$here/package-lock.json" "$stamp"; then
  say 'npm packages are there'
else
  say 'npm ci in conformance/'
  # No package here needs its install script.
  (cd "$here" && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error >/dev/null)
  cp "$here/package-lock.json" "$stamp"
fi

# ── Python ─────────────────────────────────────────────────────────────────────────────────────
requirements=$here/clients/requirements.txt
if cmp -s "$requirements" "$venv/installed-requirements.txt"; then
  say 'Python packages are there'
else
  say "pip in ${venv#"$root/"}"
  # A venv whose Python has been replaced since does not start any more: made anew.
  "$venv/bin/python" -c '' 2>/dev/null || python3 -m venv --clear "$venv"
  "$venv/bin/python" -m pip install --quiet --disable-pip-version-check -r "$requirements"
  cp "$requirements" "$venv/installed-requirements.txt"
fi
say 'done'
