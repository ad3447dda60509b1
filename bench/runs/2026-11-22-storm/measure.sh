#!/bin/sh
# Writes what is beside it: tables, JSON and charts of the three presets, and the rows of ten seeds.
# The time is simulated: which machine does it, and how busy that is, does not matter.
set -eu
gush=$(realpath "${1:?path of gush}")
cd "$(dirname "$0")"
for preset in article mix drop; do
    "$gush" storm simulate --preset "$preset" --svg "$preset.svg" >"$preset.txt"
    "$gush" storm simulate --preset "$preset" --json >"$preset.json"
done
"$gush" storm simulate | sed -n 4p >seeds.txt
for seed in 1 2 3 4 5 6 7 8 9 10; do
    "$gush" storm simulate --seed "$seed" | sed -n 5,8p >>seeds.txt
done
