"""One self-contained HTML page (videos, pictures, plots and tables inside it, nothing fetched) and its JSON twin."""

import base64
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from matplotlib.figure import Figure
from numpy.typing import NDArray

from resim.data.files import write_aside
from resim.data.video import open_video


class Report:
    """A page built from top to bottom: call the methods in reading order, then :meth:`write`."""

    def __init__(self, title: str) -> None:
        self.title = title
        self._parts: list[dict[str, object]] = []

    def heading(self, text: str) -> None:
        """A section heading."""
        self._parts.append({"kind": "heading", "text": text})

    def paragraph(self, text: str) -> None:
        """A paragraph of plain text."""
        self._parts.append({"kind": "paragraph", "text": text})

    def table(self, rows: Sequence[Mapping[str, object]]) -> None:
        """A table with the first row's keys as columns. Rows with other keys raise ValueError."""
        columns = list(rows[0])
        for row in rows:
            if list(row) != columns:
                raise ValueError(f"table row has columns {list(row)}, the first row has {columns}")
        self._parts.append({"kind": "table", "columns": columns, "rows": [list(row.values()) for row in rows]})

    def video(self, path: Path, caption: str) -> None:
        """An mp4 that starts by itself and loops. ValueError unless it is h264 yuv420p, which every browser plays."""
        with open_video(path) as container:
            codec = container.streams.video[0].codec_context
            found = f"{codec.codec.canonical_name} {codec.pix_fmt}"
        if found != "h264 yuv420p":
            raise ValueError(f"{path}: {found} does not play in every browser; write it as h264 yuv420p")
        source = _data_address("video/mp4", path.read_bytes())
        self._parts.append({"kind": "video", "source": source, "caption": caption})

    def picture(self, picture_HWC: NDArray[np.uint8], caption: str) -> None:
        """A picture (H, W, 3) uint8 RGB, stored losslessly."""
        done, png = cv2.imencode(".png", np.ascontiguousarray(picture_HWC[..., ::-1]))
        if not done:
            raise ValueError(f"picture '{caption}' of shape {picture_HWC.shape} could not be encoded")
        source = _data_address("image/png", png.tobytes())
        self._parts.append({"kind": "picture", "source": source, "caption": caption})

    def plot(self, figure: Figure, caption: str) -> None:
        """A matplotlib figure as inline SVG."""
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", bbox_inches="tight")
        svg = buffer.getvalue()
        self._parts.append({"kind": "plot", "svg": svg[svg.index("<svg") :], "caption": caption})

    def write(self, path: Path) -> None:
        """Write the page; the file appears under its name only when complete."""
        template = _ENVIRONMENT.get_template("page.html.jinja")
        write_aside(path, template.render(title=self.title, parts=self._parts))


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


def _is_number(value: object) -> bool:
    return isinstance(value, int | float | np.number) and not isinstance(value, bool)


def _cell_text(value: object) -> str:
    if not _is_number(value):
        return str(value)
    return f"{value:,}" if isinstance(value, int | np.integer) else f"{value:.4g}"


def _data_address(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


_ENVIRONMENT = Environment(
    loader=PackageLoader("resim", "report"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_ENVIRONMENT.filters["cell_text"] = _cell_text
_ENVIRONMENT.tests["number_cell"] = _is_number
