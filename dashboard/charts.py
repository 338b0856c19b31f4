"""Options of charts by ECharts, which NiceGUI brings along, in colours that fit both themes. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any

GREY = "#7b8891"
LINE = "rgba(123, 136, 145, 0.22)"
PALETTE = ("#2f8fb0", "#d98a2b", "#7a6fc4", "#1f9d78", "#c8506a", "#8a7a3d", "#4f7fd1", "#9a5fb0")
TONES = {"success": "#1f9d78", "failed": "#d23b45", "running": "#d98a2b"}

_AXIS = {
    "axisLine": {"lineStyle": {"color": LINE}},
    "axisTick": {"show": False},
    "axisLabel": {"color": GREY, "fontSize": 11, "hideOverlap": True},
    "splitLine": {"lineStyle": {"color": LINE}},
}

_TOOLTIP = {
    "confine": True,
    "backgroundColor": "#1d2429",
    "borderWidth": 0,
    "textStyle": {"color": "#fff", "fontSize": 12},
}


def lines(series: Mapping[str, Sequence[tuple[int, float | None]]], unit: str = "") -> dict[str, Any]:
    """Lines over time: by name, (milliseconds since the epoch, value). None leaves a gap."""
    return {
        "animation": False,
        "color": list(PALETTE),
        "grid": {"left": 8, "right": 14, "top": 34, "bottom": 6, "containLabel": True},
        "legend": {"top": 0, "left": 0, "icon": "roundRect", "itemWidth": 12, "itemHeight": 4, "type": "scroll",
                   "textStyle": {"color": GREY, "fontSize": 12}},
        "tooltip": {"trigger": "axis", **_TOOLTIP},
        "xAxis": {"type": "time", **_AXIS, "splitLine": {"show": False}},
        "yAxis": {"type": "value", "min": 0, "name": unit, "nameTextStyle": {"color": GREY, "align": "left"}, **_AXIS},
        "series": [
            {"name": name, "type": "line", "showSymbol": False, "lineStyle": {"width": 1.8},
             "data": [list(point) for point in points]}
            for name, points in series.items()
        ],
    }  # fmt: skip


def timeline(runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """A lane per source, and on it a point per run at its time, in the colour of its ending."""
    sources = sorted({run["source"] for run in runs}, reverse=True)
    most = max((run["published"] or 0 for run in runs), default=0) or 1
    return {
        "animation": False,
        "grid": {"left": 8, "right": 18, "top": 8, "bottom": 6, "containLabel": True},
        "tooltip": {"trigger": "item", **_TOOLTIP},
        "xAxis": {"type": "time", "boundaryGap": ["3%", "3%"], **_AXIS},
        "yAxis": {"type": "category", "data": sources, **_AXIS},
        "series": [
            {
                "name": status,
                "type": "scatter",
                "itemStyle": {"color": colour, "opacity": 0.85},
                "data": [
                    {
                        "value": [run["started_at"], run["source"]],
                        "symbolSize": 9 + 15 * ((run["published"] or 0) / most) ** 0.5,
                        "name": run["run_id"],
                    }
                    for run in runs
                    if run["status"] == status
                ],
            }
            for status, colour in TONES.items()
        ],
    }
