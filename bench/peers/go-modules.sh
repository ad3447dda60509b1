# For the peers that are Go modules: a Go that is new enough, by way of the module proxy.
# Sourced after lib.sh.

go_work=${PEERS_WORK:-$target/peers}/go
# The first Go that is fetched; it fetches a newer one by itself where a module asks for it.
go_version=1.26.0

# A Go command with modules, apart from the user's own: go_modules ARGUMENT...
go_modules() {
    local go=go
    [ -f "$go_work/toolchain" ] && go=$(cat "$go_work/toolchain")/bin/go
    env GO111MODULE=on GOPATH="$go_work/path" GOCACHE="$go_work/cache" GOFLAGS=-modcacherw \
        GOTOOLCHAIN=auto GOBIN="$work" "$go" "$@"
}

# Leaves this peer out unless its module can be fetched within 20 s: need_module MODULE@VERSION
need_module() {
    mkdir -p "$go_work/empty"
    # The machine has no way to the proxy, or the answer is too slow: the same for us.
    (cd "$go_work/empty" && GOTOOLCHAIN=local timeout 20 env GO111MODULE=on GOPATH="$go_work/path" \
        GOFLAGS=-modcacherw go mod download "$1" >&2) 2>"$go_work/error.log" ||
        skip "$1: Go modules cannot be fetched from here ($(tail -1 "$go_work/error.log" | sed "s/.*: //; s/[[:space:]]*$//"))"
}

# Debian's Go may be older than the one a module needs, and than the one that can fetch a newer Go.
need_go() {
    apt_install golang-go
    local minor architecture folder
    minor=$(go version | sed -E 's/.*go1\.([0-9]+).*/\1/')
    [ "$minor" -ge 21 ] && return
    architecture=$(go env GOARCH)
    folder=$go_work/path/pkg/mod/golang.org/toolchain@v0.0.1-go$go_version.linux-$architecture
    (cd "$go_work/empty" &&
        go_modules mod download "golang.org/toolchain@v0.0.1-go$go_version.linux-$architecture" >&2) ||
        skip "Go $go_version cannot be fetched"
    # A module's files come without the right to be run.
    chmod +x "$folder"/bin/* "$folder"/pkg/tool/*/*
    echo "$folder" >"$go_work/toolchain"
}
