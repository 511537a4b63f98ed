"""Test images as pictures in the page: their pixels, their number, their size."""

from __future__ import annotations

import base64
import io
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from fm_mlflow.analysis.comparison import Comparison, WrongExample, WrongExamples, WrongKind
from fm_mlflow.report.contents import contents
from fm_mlflow.report.html import to_html
from fm_mlflow.report.markdown import to_markdown
from fm_mlflow.report.pictures import Pictures, draw
from tests.report import comparisons
from tests.report.page import parse


def pixels(uri: str) -> Image.Image:
    head, _, content = uri.partition(",")
    assert head == "data:image/png;base64"
    return Image.open(io.BytesIO(base64.b64decode(content)))


@pytest.mark.parametrize("shape", [(28, 28), (28, 28, 1), (20, 30, 3), (8, 8, 4)])
def test_a_small_image_keeps_its_pixels(shape: tuple[int, ...]) -> None:
    image = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    pictures = draw({7: image})
    assert pictures == draw({7: image})
    assert pictures.missing == ""
    drawn = np.asarray(pixels(pictures.images[7]))
    np.testing.assert_array_equal(drawn, image.reshape(drawn.shape))


def test_a_large_image_becomes_smaller() -> None:
    image = np.zeros((600, 300, 3), np.uint8)
    assert pixels(draw({0: image}).images[0]).size == (28, 56)


def test_a_page_has_room_for_so_many() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (60, 56, 56, 3), np.uint8)
    pictures = draw(dict(enumerate(noise)))
    assert list(pictures.images) == list(range(len(pictures.images)))
    assert 10 < len(pictures.images) < 60
    assert sum(map(len, pictures.images.values())) <= 250_000
    assert pictures.missing


def of_wrong_examples() -> Comparison:
    example = WrongExample(3, 6, ((6, 5), (0, 4)))
    kind = WrongKind("Only cnn is right", 20, (example, replace(example, position=4)))
    wrong = WrongExamples((("cnn", 5), ("mlp", 5)), 10_000, "x", (kind,))
    made = comparisons.comparison()
    without_plots = tuple(replace(group, curves=()) for group in made.groups)
    return replace(made, groups=without_plots, fronts=(), wrong=wrong)


def test_a_picture_has_its_class_and_what_each_model_says() -> None:
    images = {3: np.zeros((28, 28), np.uint8)}
    page = parse(to_html(of_wrong_examples(), draw(images)))
    (section,) = page.all("section", id="wrong")
    assert section.all("h3")[0].text == "Only cnn is right: 20 examples of 10,000, the first 2 here"
    (shown,) = section.all("li")  # of the other one there is no picture
    assert shown.all("img")[0].attributes["alt"] == "Test example 3: Shirt"
    assert [each.text for each in shown.all("p")] == [
        *("Shirt", "Shirt cnn ✓", "T-shirt/top mlp ✗ (4 of 5)"),
    ]
    assert section.all("table") == []


def test_without_pictures_a_table_and_why() -> None:
    made = of_wrong_examples()
    page = parse(to_html(made, Pictures({}, "they are elsewhere.")))
    (section,) = page.all("section", id="wrong")
    assert "No pictures: they are elsewhere." in section.text
    row = [cell.text for cell in section.all("tbody")[0].all("td")]
    assert row == ["Shirt", "Shirt", "T-shirt/top 4 of 5 runs"]
    text = to_markdown(made)
    assert "### Only cnn is right: 20 examples of 10,000, the first 2 here" in text
    assert "| 3 | Shirt | Shirt | T-shirt/top 4 of 5 runs |" in text
    assert [table.title for table in contents(made).wrong] == [
        "Only cnn is right: 20 examples of 10,000, the first 2 here"
    ]
