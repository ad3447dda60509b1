#!/usr/bin/env python3
"""Draws the stacks of `perf script` as a flame graph in SVG.

    perf record -g -F 999 -p PID -- sleep 3 && perf script | bench/scenarios/flame.py > flame.svg

The width of a box is its share of the samples; what calls stands below what is called.
"""
import html
import re
import sys

WIDTH, ROW, LEFT = 1180, 17, 10
SHARE_MIN = 0.002  # narrower boxes would be invisible
KERNEL, OURS, LIBC = "#c9773b", "#3b7dc9", "#6a9a4b"


def stacks(lines):
    """(frames from the root up, is this frame the kernel's) for each sample."""
    stack = []
    for line in lines:
        if not line.strip():
            if stack:
                yield stack[::-1]
            stack = []
        elif line[0].isspace():
            found = re.match(r"\s+[0-9a-f]+ (.+) \((.*)\)$", line.rstrip())
            if found:
                name = re.sub(r"\+0x[0-9a-f]+$", "", found[1])
                name = re.sub(r"::h[0-9a-f]{16}$", "", name)
                origin = found[2]
                kind = KERNEL if "kernel" in origin or origin.startswith("[") else OURS
                stack.append((name, LIBC if "libc" in origin else kind))
    if stack:
        yield stack[::-1]


def tree(samples):
    root = {"count": 0, "below": {}}
    for stack in samples:
        root["count"] += 1
        node = root
        for frame in stack:
            node = node["below"].setdefault(frame, {"count": 0, "below": {}})
            node["count"] += 1
    return root


def boxes(node, total, x, level):
    for (name, color), child in sorted(node["below"].items()):
        width = child["count"] / total * WIDTH
        if child["count"] / total >= SHARE_MIN:
            yield name, color, x, level, width, child["count"]
            yield from boxes(child, total, x, level + 1)
        x += width


def main():
    root = tree(stacks(sys.stdin))
    total = root["count"] or 1
    drawn = list(boxes(root, total, 0, 0))
    height = (max((box[3] for box in drawn), default=0) + 1) * ROW + 40
    print(f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH + 2 * LEFT} {height}" '
          'font-family="monospace" font-size="11">')
    print('<rect width="100%" height="100%" fill="#fff"/>')
    print(f'<text x="{LEFT}" y="16">{total:,} samples; blue: gush, green: libc, '
          'orange: kernel</text>')
    for name, color, x, level, width, count in drawn:
        y = height - 10 - (level + 1) * ROW
        label = html.escape(name if len(name) * 6.7 < width else name[:max(0, int(width / 6.7) - 1)])
        print(f'<g><title>{html.escape(name)}: {count / total:.1%}</title>'
              f'<rect x="{LEFT + x:.1f}" y="{y}" width="{max(width - 0.5, 0.3):.1f}" '
              f'height="{ROW - 1}" fill="{color}"/>'
              f'<text x="{LEFT + x + 3:.1f}" y="{y + 12}" fill="#fff">{label}</text></g>')
    print("</svg>")


if __name__ == "__main__":
    main()
