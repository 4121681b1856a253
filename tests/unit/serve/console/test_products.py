"""Items as products, and pictures of what is believed of them, by hand."""

import re

import pytest

from serve.console.drawing import HEIGHT, WIDTH, posterior, span, trail
from serve.console.formatting import STATIC
from serve.console.products import _WORDS, product
from serve.explanations.estimates import Estimate


def test_a_product_is_what_its_features_say() -> None:
    features = {"name": " Lamp ", "price": 3, "kind": "Lighting", "image": "/pictures/lamp.png"}
    found = product("1", features, ("other",))
    assert (found.name, found.price, found.kind, found.image, found.icon) == (
        "Lamp", 3.0, "Lighting", "/pictures/lamp.png", "lamp",
    )  # fmt: skip


@pytest.mark.parametrize(
    "features", [{}, {"name": 7, "price": "3", "kind": ["x"], "image": {}}, {"name": " ", "price": True}]
)
def test_what_features_do_not_say_is_left_out(features: dict[str, object]) -> None:
    found = product("1", features, ("kitchen",))
    assert (found.name, found.price, found.kind, found.image, found.icon) == ("1", None, "kitchen", None, "cooking-pot")


@pytest.mark.parametrize(
    ("image", "shown"),
    [
        ("/a.png", True),
        ("https://img.example/a.png", True),
        ("https://img.example.evil/a.png", False),
        ("http://img.example/a.png", False),
        ("//img.example/a.png", False),
        ("/\\img.example/a.png", False),
        ("javascript:alert(1)", False),
        ("data:image/png;base64,AA", False),
        ("a.png", False),
        ("https://[", False),
    ],
)
def test_a_picture_is_shown_if_the_pages_policy_lets_it_load(image: str, shown: bool) -> None:
    found = product("1", {"image": image}, (), ("https://img.example",))
    assert found.image == (image if shown else None)


def test_every_icon_is_there() -> None:
    assert all((STATIC / "vendor" / "lucide" / f"{icon}.svg").exists() for icon in {*_WORDS.values(), "package"})


def test_an_axis_holds_all_estimates_and_a_bell_has_its_top_at_the_mean() -> None:
    now, before = Estimate(2.0, 1.0), Estimate(0.0, None)
    axis = span([now, before])
    assert axis == pytest.approx((-1.0 - 0.08 * 6, 5.0 + 0.08 * 6))  # from 2 - 3 to 2 + 3, and a margin
    drawn = str(posterior(now, before, axis, "<b>"))
    assert 'aria-label="&lt;b&gt;"' in drawn
    points = re.search(r'class="now bell" points="([^"]*)"', drawn)
    assert points is not None
    xs, ys = zip(*(map(float, point.split(",")) for point in points[1].split()), strict=True)
    assert xs[ys.index(min(ys))] == pytest.approx((2.0 - axis[0]) / (axis[1] - axis[0]) * WIDTH, abs=0.06)
    assert 0 <= min(xs) < max(xs) <= WIDTH
    assert max(ys) <= HEIGHT
    at_zero = (0.0 - axis[0]) / (axis[1] - axis[0]) * WIDTH
    assert f'class="before point" x1="{at_zero:.1f}"' in drawn  # of who does not know how sure it is, a line


def test_a_trail_ends_at_its_newest_value() -> None:
    drawn = str(trail([1.0, 3.0, 2.0], "worth"))
    points = re.search(r'points="([^"]*)"', drawn)
    assert points is not None
    first, highest, last = ([float(x) for x in point.split(",")] for point in points[1].split())
    assert (first[0], highest[0], last[0]) == (0, WIDTH / 2, WIDTH)
    assert highest[1] < last[1] < first[1]
    assert last[1] == pytest.approx((highest[1] + first[1]) / 2)


def test_estimates_that_are_all_the_same_have_an_axis() -> None:
    assert span([Estimate(1.0, None)]) == (0.5, 1.5)
    assert span([]) == pytest.approx((-0.08, 1.08))
