"""Pictures of benchmarks/results.json: bars with the range of the rounds, as SVG, for light and dark pages.

A writer of our own, a page long: what plots for people to explore would be the largest package of the development
environment, and draws text as outlines or with fonts of its own. Same figures, same bytes. Pure.
"""

from html import escape
from typing import NamedTuple

WIDTH = 880
NAMES = 270
"""Where bars begin, in px."""
NUMBERS = 170
"""Room behind the longest bar for its figure."""
ROW, BAR, HEAD = 34, 18, 64

# On a page that asks for dark the same classes have other colours; the background is the page's own.
STYLE = """
text{font-family:system-ui,sans-serif;font-size:14px;fill:#1f2937}
.title{font-size:16px;font-weight:600}.note{font-size:12px;fill:#57606a}
.ours{fill:#1a7f64}.other{fill:#8c96a1}.range{stroke:#1f2937;stroke-width:1.5;fill:none}
.bold{font-weight:600}
@media (prefers-color-scheme:dark){text{fill:#e6edf3}.note{fill:#9da7b1}.ours{fill:#3fb991}.other{fill:#6e7681}
.range{stroke:#e6edf3}}
""".replace("\n", "")


class Bar(NamedTuple):
    """One candidate: its median, with the lowest and the highest of the rounds."""

    name: str
    median: float
    low: float
    high: float
    ours: bool = False
    note: str = ""


def chart(title: str, note: str, bars: list[Bar]) -> str:
    """An SVG document with a bar for each candidate, in their order. Raises ValueError for none."""
    if not bars:
        raise ValueError(f"nothing to draw: {title}")
    longest = max(bar.high for bar in bars) or 1.0
    height = HEAD + ROW * len(bars) + 8
    said = "; ".join(f"{bar.name}: {figure(bar.median)}" for bar in bars)
    spoken = escape(f"{title}, {note}. {said}")
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{spoken}">',
        f"<style>{STYLE}</style>",
        f'<text class="title" x="16" y="26">{escape(title)}</text>',
        f'<text class="note" x="16" y="46">{escape(note)}</text>',
    ]
    for number, bar in enumerate(bars):
        parts += _row(bar, HEAD + ROW * number, (WIDTH - NAMES - NUMBERS) / longest)
    return "\n".join([*parts, "</svg>", ""])


def _row(bar: Bar, top: float, scale: float) -> list[str]:
    middle, end, bold = top + BAR / 2, NAMES + bar.high * scale, " bold" if bar.ours else ""
    kind = "ours" if bar.ours else "other"
    width = max(bar.median * scale, 1)
    parts = [
        f'<text class="name{bold}" x="{NAMES - 12}" y="{middle + 5:g}" text-anchor="end">{escape(bar.name)}</text>',
        f'<rect class="{kind}" x="{NAMES}" y="{top:g}" width="{width:.1f}" height="{BAR}" rx="3"/>',
    ]
    if bar.high > bar.low:
        low, high = NAMES + bar.low * scale, end
        parts.append(
            f'<path class="range" d="M{low:.1f} {middle:g}H{high:.1f}M{low:.1f} {middle - 4:g}v8'
            f'M{high:.1f} {middle - 4:g}v8"/>'
        )
    text = f"{figure(bar.median)}{f'  ({bar.note})' if bar.note else ''}"
    parts.append(f'<text class="figure{bold}" x="{end + 10:.1f}" y="{middle + 5:g}">{escape(text)}</text>')
    return parts


def figure(value: float) -> str:
    """A figure as people read it: 66,908 or 15.3."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
