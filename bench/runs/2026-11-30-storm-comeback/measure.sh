#!/bin/sh
# Writes what is beside it. Simulated: the presets, whatever the machine. Real sockets: rounds on an
# otherwise idle machine; give the parts that are wanted, or none for all.
set -eu
gush=$(realpath "${1:?path of gush}")
shift
cd "$(dirname "$0")"

simulated() {
    for preset in article mix drop; do
        "$gush" storm simulate --preset "$preset" --svg "$preset.svg" >"$preset.txt"
        "$gush" storm simulate --preset "$preset" --json >"$preset.json"
    done
    "$gush" storm simulate | sed -n 4p >seeds.txt
    for seed in 1 2 3 4 5 6 7 8 9 10; do
        "$gush" storm simulate --seed "$seed" | sed -n 5,8p >>seeds.txt
    done
}

# A round of 50,000 streams; what follows the name are further options.
round() {
    name=$1
    shift
    "$gush" storm run --subscribers 50000 --connect-rate 5000 --end 150 --check \
        --report "$name.html" "$@" >"$name.txt" 2>"$name.err" || echo "exit $?" >>"$name.txt"
    grep -v '^opening\|^holding\|^all dropped\|wrote' "$name.err" >>"$name.txt" || true
    rm "$name.err"
}

# All streams of a hub that is killed, at the default rate.
killed() {
    for number in 1 2 3; do
        round "killed-$number" --seed "$number"
    done
}

# A hundred streams that are lost alone among 50,000 at the default rate, and at the one before; all of
# them at other rates.
others() {
    round alone-10000 --drop close --dropped 100
    round alone-1000 --drop close --dropped 100 --comeback-rate 1000
    round killed-20000 --comeback-rate 20000
}

slow() {
    round killed-1000 --comeback-rate 1000
}

# What a TLS handshake costs the hub.
handshakes() {
    directory=$(mktemp -d)
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=localhost \
        -keyout "$directory/key.pem" -out "$directory/cert.pem" 2>"$directory/openssl"
    "$gush" serve --listen 127.0.0.1:0 --admin-listen off --anonymous --log memory \
        --publisher-key "a key for the time of one measurement, nobody has to know it" \
        --tls-cert "$directory/cert.pem" --tls-key "$directory/key.pem" >"$directory/out" 2>&1 &
    hub=$!
    until grep -q '^ready' "$directory/out"; do sleep 0.1; done
    address=$(sed -n 's|^listening on https://\([^ ]*\).*|\1|p' "$directory/out")
    before=$(awk '{print $14 + $15}' "/proc/$hub/stat")
    openssl s_time -connect "$address" -new -time 8 2>&1 | grep connections >tls.txt
    after=$(awk '{print $14 + $15}' "/proc/$hub/stat")
    kill "$hub"
    echo "$((after - before)) ticks of $(getconf CLK_TCK) in a second used by the hub" >>tls.txt
    rm -r "$directory"
}

for part in ${*:-simulated killed others slow handshakes}; do
    "$part"
done
