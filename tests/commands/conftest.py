"""What tests of commands do without."""

from __future__ import annotations

from collections.abc import Iterator
from pkgutil import resolve_name
from typing import Any

import pytest

from tests.selection import is_fast


@pytest.fixture(autouse=True, scope="module")
def plots_of_reports(request: pytest.FixtureRequest) -> Iterator[dict[str, Any]]:
    """Save reports that this process writes the half second in which matplotlib draws ten plots.

    Real processes and the tests in `report/` have them, and who patches these functions back.
    """
    places = (
        "fm_mlflow.report.vector_plots.learning_curves",
        "fm_mlflow.report.html.trade_offs",
        "fm_mlflow.report.sweep_html.sweep_plots",
    )
    with pytest.MonkeyPatch.context() as patch:
        functions: dict[str, Any] = {}
        if not is_fast(request.path):
            functions = {place: resolve_name(place) for place in places}
        for place in functions:
            patch.setattr(place, lambda *_: [])
        yield functions
