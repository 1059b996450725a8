"""Draws a recorded terminal session, an asciicast of version 2, as an animated SVG: `recording.py IN.cast OUT.svg`.

The session only ever appends lines, so its picture is one long text that moves up behind a window, in steps.
"""

import html
import json
import re
import sys

ROWS, LINE, COLUMN, MARGIN = 32, 19, 8.43, 14
LONGEST_PAUSE, LAST_PAUSE = 1.5, 8.0
# Seconds that it takes to read one line: a heading, prose, a command, what it says.
READING = {"1": 1.0, "2": 0.7, "32": 1.4, "": 0.25}
COLORS = {"": "#c9d1d9", "1": "#ffffff", "2": "#8b949e", "32": "#7ee787"}


def looks(text):
    """How a line looks: the number of its color or weight, or nothing."""
    look = re.match(r"[\r\n]*\x1b\[(\d+)m", text)
    return look.group(1) if look else ""


def lines(cast):
    """The lines of a session: (when it appeared, how it looks, what it says), a long one as several."""
    head, *events = (json.loads(line) for line in cast)
    now = before = reading = 0.0
    for at, _, text in events:
        now += max(min(at - before, LONGEST_PAUSE), reading)
        before, reading = at, READING[looks(text)]
        # One event is one command, with its lines, or one line.
        for line in re.sub(r"\x1b\[\d*m", "", text).replace("\r", "").removesuffix("\n").split("\n"):
            for start in range(0, max(len(line), 1), head["width"]):
                yield now, looks(text), line[start : start + head["width"]]


def draw(cast):
    width = json.loads(cast[0])["width"] * COLUMN + 2 * MARGIN
    all_lines = list(lines(cast))
    long = all_lines[-1][0] + LAST_PAUSE
    # The last line that appeared is the window's last.
    steps = {at: (ROWS - number) * LINE for number, (at, _, _) in enumerate(all_lines, 1)}
    frames = "".join(f"{at / long:.3%}{{transform:translateY({y}px)}}" for at, y in steps.items())
    weights = {"1": " font-weight='bold'"}
    texts = "".join(
        f'<text y="{number * LINE}" fill="{COLORS[look]}"{weights.get(look, "")}>{html.escape(text)}</text>\n'
        for number, (_, look, text) in enumerate(all_lines)
        if text.strip()
    )
    height = ROWS * LINE + 2 * MARGIN
    return f"""<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height}" width="{width:.0f}" height="{height}">
<style>text{{font:14px ui-monospace,SFMono-Regular,Menlo,Consolas,"DejaVu Sans Mono",monospace}}
#session{{animation:session {long:.1f}s step-end infinite}}@keyframes session{{{frames}}}</style>
<rect width="100%" height="100%" rx="8" fill="#0d1117"/>
<svg x="{MARGIN}" y="{MARGIN}" width="{width - 2 * MARGIN:.0f}" height="{ROWS * LINE}"><g id="session"><g xml:space="preserve" transform="translate(0 {LINE - 5})">
{texts}</g></g></svg></svg>
"""


if __name__ == "__main__":
    with open(sys.argv[1], encoding="utf-8") as cast:
        picture = draw(cast.read().splitlines())
    with open(sys.argv[2], "w", encoding="utf-8") as out:
        out.write(picture)
