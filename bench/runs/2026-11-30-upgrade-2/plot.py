#!/usr/bin/env python3
"""Draws a series of the example `upgrades`: plot.py SERIES.csv TITLE > PLOT.svg"""
import sys

W, H, LEFT, TOP, BOTTOM = 1000, 420, 60, 46, 48
TICKS = [1, 3, 10, 30, 100, 300, 1000, 3000]
LINES = [(2, "p50", "#2b6cb0"), (3, "p99", "#b7791f"), (4, "longest", "#c53030")]


def main():
    rows, upgrades = [], []
    for line in open(sys.argv[1]):
        parts = line.strip().split(",")
        if parts[0] == "upgrade":
            upgrades.append([float(part) for part in parts[1:]])
        else:
            rows.append([float(part) for part in parts])
    begin, end = rows[0][0], rows[-1][0]
    import math

    low, high = math.log10(0.5), math.log10(max(max(row[4] for row in rows), 100) * 1.3)

    def x(at):
        return LEFT + (at - begin) / (end - begin) * (W - LEFT - 16)

    def y(ms):
        share = (math.log10(max(ms, 0.5)) - low) / (high - low)
        return H - BOTTOM - share * (H - TOP - BOTTOM)

    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {W} {H}" font-family="sans-serif"'
        ' font-size="13">',
        f'<rect width="{W}" height="{H}" fill="#fff"/>',
        f'<text x="{LEFT}" y="20" font-size="15">{sys.argv[2]}</text>',
    ]
    for ordered, _, taken in upgrades:
        width = max(x(taken) - x(ordered), 1.5)
        out.append(
            f'<rect x="{x(ordered):.1f}" y="{TOP}" width="{width:.1f}"'
            f' height="{H - TOP - BOTTOM}" fill="#cbd5e0"/>'
        )
    for ms in TICKS:
        if math.log10(ms) < high:
            out.append(
                f'<line x1="{LEFT}" x2="{W - 16}" y1="{y(ms):.1f}" y2="{y(ms):.1f}"'
                ' stroke="#e2e8f0"/>'
                f'<text x="{LEFT - 6}" y="{y(ms) + 4:.1f}" text-anchor="end">{ms}</text>'
            )
    for second in range(0, int(end - begin) + 1, 5):
        out.append(
            f'<text x="{x(begin + second):.1f}" y="{H - BOTTOM + 18}"'
            f' text-anchor="middle">{second}</text>'
        )
    out.append(f'<text x="{W / 2}" y="{H - 10}" text-anchor="middle">seconds; grey: from the order'
               ' until the last stream was over</text>')
    out.append(f'<text x="14" y="{TOP - 8}">ms</text>')
    for index, (column, name, color) in enumerate(LINES):
        points = " ".join(f"{x(row[0]):.1f},{y(row[column]):.1f}" for row in rows)
        out.append(f'<polyline points="{points}" fill="none" stroke="{color}" stroke-width="1"/>')
        out.append(f'<text x="{W - 220 + index * 66}" y="20" fill="{color}">{name}</text>')
    out.append("</svg>")
    print("\n".join(out))


main()
