"""What tests of commands do without."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.selection import is_fast


@pytest.fixture(autouse=True, scope="module")
def _reports_have_no_plots(request: pytest.FixtureRequest) -> Iterator[None]:
    """Save reports that this process writes the half second in which matplotlib draws ten plots.

    `test_compare.py`, real processes and the tests in `report/` have them.
    """
    with pytest.MonkeyPatch.context() as patch:
        if request.path.name != "test_compare.py" and not is_fast(request.path):
            for drawn in (
                "fm_mlflow.report.vector_plots.learning_curves",
                "fm_mlflow.report.html.trade_offs",
                "fm_mlflow.report.sweep_html.sweep_plots",
            ):
                patch.setattr(drawn, lambda *_: [])
        yield
