"""Items of each modality as they are before any encoder reads them.

Images are decoded here from files that nobody vouches for, and scenes of coloured shapes are
drawn with their captions. Sources, encoders and contact sheets all read items this way.
"""

from typing import TYPE_CHECKING

from ..exports import lazy_exports

if TYPE_CHECKING:
    from .image import decode_image, upright_rgb
    from .scene_captions import captions
    from .scene_pictures import draw_png
    from .scenes import draw_scenes
else:
    __getattr__ = lazy_exports(
        __name__,
        {
            "captions": "scene_captions",
            "decode_image": "image",
            "draw_png": "scene_pictures",
            "draw_scenes": "scenes",
            "upright_rgb": "image",
        },
    )

__all__ = ["captions", "decode_image", "draw_png", "draw_scenes", "upright_rgb"]
