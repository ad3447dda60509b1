# Sourced by the scripts here: steps with their times, and messages.

say() { printf '\n== %s\n' "$*"; }
note() { printf '   %s\n' "$*"; }

steps_done=()

# step NAME COMMAND...: runs it, keeps its time, stops the script when it fails. A function given
# as COMMAND must chain its commands with &&: `set -e` does not hold inside a tested command.
step() {
    local name=$1 begin=$SECONDS status=0
    shift
    say "$name"
    "$@" || status=$?
    local took=$((SECONDS - begin))
    if [ "$status" -ne 0 ]; then
        printf '\n== FAILED after %s s: %s (exit %s)\n' "$took" "$name" "$status" >&2
        exit 1
    fi
    steps_done+=("$(printf '%6s s  %s' "$took" "$name")")
}

# Prints the time of each step so far.
times() {
    say "$1"
    printf '%s\n' "${steps_done[@]}"
}
