"""One self-contained HTML page (videos, pictures, plots and tables inside it, nothing fetched) and its JSON twin."""

import base64
import html
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from resim.data.files import write_aside
from resim.data.video import open_video

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2em auto; max-width: 1500px; padding: 0 1em; color: #1b1e22; }
table { border-collapse: collapse; margin: 1em 0; }
th, td { border-bottom: 1px solid #d5d9de; padding: .3em .8em; text-align: left; vertical-align: top; }
td.number { text-align: right; font-variant-numeric: tabular-nums; }
figure { margin: 1em 0; }
figcaption { color: #555c66; font-size: .9em; }
video, img, svg { max-width: 100%; height: auto; }
"""


class Report:
    """A page built from top to bottom: call the methods in reading order, then :meth:`write`."""

    def __init__(self, title: str) -> None:
        self.title = title
        self._parts = [f"<h1>{html.escape(title)}</h1>"]

    def heading(self, text: str) -> None:
        """A section heading."""
        self._parts.append(f"<h2>{html.escape(text)}</h2>")

    def paragraph(self, text: str) -> None:
        """A paragraph of plain text."""
        self._parts.append(f"<p>{html.escape(text)}</p>")

    def table(self, rows: Sequence[Mapping[str, object]]) -> None:
        """A table with the first row's keys as columns. Rows with other keys raise ValueError."""
        columns = list(rows[0])
        head = "".join(f"<th>{html.escape(column)}</th>" for column in columns)
        lines = []
        for row in rows:
            if list(row) != columns:
                raise ValueError(f"table row has columns {list(row)}, the first row has {columns}")
            lines.append("".join(_cell(row[column]) for column in columns))
        body = "".join(f"<tr>{line}</tr>" for line in lines)
        self._parts.append(f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>")

    def video(self, path: Path, caption: str) -> None:
        """An mp4 that starts by itself and loops. ValueError unless it is h264 yuv420p, which every browser plays."""
        with open_video(path) as container:
            codec = container.streams.video[0].codec_context
            found = f"{codec.codec.canonical_name} {codec.pix_fmt}"
        if found != "h264 yuv420p":
            raise ValueError(f"{path}: {found} does not play in every browser; write it as h264 yuv420p")
        source = _data_address("video/mp4", path.read_bytes())
        self._figure(f'<video autoplay loop muted playsinline controls src="{source}"></video>', caption)

    def picture(self, picture_HWC: NDArray[np.uint8], caption: str) -> None:
        """A picture (H, W, 3) uint8 RGB, stored losslessly."""
        done, png = cv2.imencode(".png", np.ascontiguousarray(picture_HWC[..., ::-1]))
        if not done:
            raise ValueError(f"picture '{caption}' of shape {picture_HWC.shape} could not be encoded")
        address = _data_address("image/png", png.tobytes())
        self._figure(f'<img alt="{html.escape(caption)}" src="{address}">', caption)

    def plot(self, figure: Figure, caption: str) -> None:
        """A matplotlib figure as inline SVG."""
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", bbox_inches="tight")
        svg = buffer.getvalue()
        self._figure(svg[svg.index("<svg") :], caption)

    def write(self, path: Path) -> None:
        """Write the page; the file appears under its name only when complete."""
        page = (
            f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{html.escape(self.title)}</title>'
            f"<style>{STYLE}</style></head><body>{''.join(self._parts)}</body></html>"
        )
        write_aside(path, page)

    def _figure(self, content: str, caption: str) -> None:
        self._parts.append(f"<figure>{content}<figcaption>{html.escape(caption)}</figcaption></figure>")


def write_json(path: Path, value: Mapping[str, object]) -> None:
    """Write JSON that any reader accepts: a NaN or infinite number raises ValueError, nothing is half-written."""
    write_aside(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def line_plot(curves: Mapping[str, tuple[Sequence[float], Sequence[float]]], x_label: str, y_label: str) -> Figure:
    """One axis with a labelled line per (x values, y values)."""
    figure = Figure(figsize=(7, 3.2))
    axis = figure.add_subplot()
    for name, (x, y) in curves.items():
        axis.plot(x, y, marker="." if len(x) < 40 else None, label=name)
    axis.set(xlabel=x_label, ylabel=y_label)
    axis.grid(alpha=0.3)
    axis.legend()
    return figure


def bar_plot(values: Mapping[str, float], label: str) -> Figure:
    """A horizontal bar per name, in the order given, with its value beside it."""
    figure = Figure(figsize=(7, 0.6 + 0.27 * len(values)))
    axis = figure.add_subplot()
    bars = axis.barh(list(values), list(values.values()))
    axis.bar_label(bars, fmt="%.3f", padding=3)
    axis.invert_yaxis()
    axis.margins(x=0.12)
    axis.set(xlabel=label)
    return figure


def _cell(value: object) -> str:
    if isinstance(value, bool) or not isinstance(value, int | float | np.number):
        return f"<td>{html.escape(str(value))}</td>"
    text = f"{value:,}" if isinstance(value, int | np.integer) else f"{value:.4g}"
    return f'<td class="number">{text}</td>'


def _data_address(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
