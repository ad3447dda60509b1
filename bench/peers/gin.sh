# What both Gin peers share: built from Debian's Go packages, started alike. Sourced by their run.sh
# after lib.sh; the folder's main.go is the server.

install() {
    apt_install golang-go golang-github-gin-gonic-gin-dev
    # Debian puts the sources of Go libraries here; without modules nothing comes from the network.
    GO111MODULE=off GOPATH=/usr/share/gocode GOFLAGS= GOCACHE="$work/cache" \
        go build -o "$work/server" "$here/main.go"
}

version() {
    go version
    debian_version golang-github-gin-gonic-gin-dev
}

start() {
    # The records of the logger middleware go where a terminal would not slow them down.
    launch "$work/server" "$1" >"$work/out.log" 2>&1
    await_port "$1"
    ready "${pids[0]}"
}
