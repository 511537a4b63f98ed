"""How figures of matplotlib get their layout."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def lay_out(figure: Figure) -> None:
    """Run a figure's layout engine now, and not again when the figure is drawn or saved.

    To lay out a figure takes about as long as to draw it, and `savefig` draws it once more for it.
    """
    engine = figure.get_layout_engine()
    if engine is not None:
        engine.execute(figure)
        figure.set_layout_engine(None)
