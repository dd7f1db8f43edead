"""How the notebooks draw: one look for all figures, and the few kinds of picture that they share.

No arithmetic of the models is here. A figure is an SVG on white paper, so that it reads on a dark
page too.
"""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib
import matplotlib.pyplot as plt
import numpy
from matplotlib.axes import Axes
from matplotlib_inline.backend_inline import set_matplotlib_formats

BLUE, ORANGE, GREEN, RED, GREY = "#2f6db3", "#d97b29", "#3b8f5a", "#c0392b", "#7a7a7a"
SCALE, BOTH_WAYS = "Blues", "RdBu_r"  # from little to much; from minus to plus


def begin() -> None:
    """Set the look of all figures of a notebook."""
    set_matplotlib_formats("svg", metadata={"Date": None, "Creator": None})
    matplotlib.rcParams.update(
        {
            "svg.hashsalt": "refimpl",  # names inside the file: the same in every run
            "figure.facecolor": "white",
            "figure.constrained_layout.use": True,
            "figure.figsize": (6.4, 3.2),
            "font.size": 10,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.titlesize": 10,
            "axes.prop_cycle": matplotlib.cycler(color=[BLUE, ORANGE, GREEN, RED, GREY]),
            "image.cmap": SCALE,
            "legend.frameon": False,
        }
    )


def grid(
    ax: Axes,
    values: numpy.ndarray,
    *,
    rows: Sequence[str] = (),
    columns: Sequence[str] = (),
    title: str = "",
    numbers: str | None = None,
    signed: bool = False,
) -> None:
    """Draw a matrix as coloured squares, its rows and columns named.

    ``numbers`` is a format (".2f") for the value in each square; ``signed`` colours from minus to
    plus, with 0 white.
    """
    most = float(numpy.abs(values).max()) or 1.0
    limits = (-most, most) if signed else (float(values.min()), float(values.max()))
    image = ax.imshow(
        values, cmap=BOTH_WAYS if signed else SCALE, vmin=limits[0], vmax=limits[1], aspect="auto"
    )
    ax.set_xticks(
        range(len(columns)), columns, rotation=45 if max(map(len, columns), default=0) > 3 else 0
    )
    ax.set_yticks(range(len(rows)), rows)
    ax.set_title(title)
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    if numbers is None:
        return
    for (i, j), value in numpy.ndenumerate(values):
        red, green, blue, _ = image.cmap(image.norm(value))
        dark = 0.3 * red + 0.6 * green + 0.1 * blue < 0.5
        ax.text(
            j,
            i,
            format(value, numbers),
            ha="center",
            va="center",
            fontsize=8,
            color="white" if dark else "black",
        )


def show(figure: plt.Figure) -> None:
    """Show a figure here, once."""
    plt.show()
    plt.close(figure)
