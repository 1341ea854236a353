"""Drop captions that too many images share, such as "1920x1080", "alt_img" and "cristina".

Source: ALIGN (arXiv:2102.05918) section 3, where the examples come from, excludes alt-texts that
are shared by more than 10 images; COYO-700M drops texts that appear more than 10 times.
"""

from dataclasses import dataclass

from filters.rule import Range


@dataclass(frozen=True, slots=True, kw_only=True)
class ImagesPerText(Range):
    """Keep captions whose number of distinct images in the whole crawl is within bounds."""

    column = "images_per_text"
    of_caption = True
    too_low = "images_per_text.too_few"
    too_high = "images_per_text.too_many"
