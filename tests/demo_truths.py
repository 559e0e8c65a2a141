"""Drawings' truths that the tests of the demonstration model share."""

from export.demo.scene import Attributes

LESION = Attributes(
    quality="ok",
    monk_tone=9,
    number="single",
    asymmetry="one axis",
    border="irregular",
    colours=("dark brown", "red"),
    diameter_mm="3-6",
    surface="ulcerated",
    width_mm=4.0,
    px_per_mm=12.0,
)
BARE = Attributes(quality="ok", monk_tone=1, number="none", px_per_mm=10.0)
