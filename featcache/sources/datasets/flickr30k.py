"""Flickr30k: 31,000 photos with five captions each.

Source: Young, Lai, Hodosh and Hockenmaier, From Image Descriptions to Visual Denotations, TACL
2014; splits of Karpathy and Fei-Fei, CVPR 2015.
"""

from ..readers.caption_family import PublishedCaptions
from ..tables.text_files import read_bar_file, read_token_file


class Flickr30kSource(PublishedCaptions):
    """Read Flickr30k in the official layout, Kaggle's, or from Karpathy's JSON file.

    Splits come from `dataset_flickr30k.json` (its `restval` is `train`), else from a hash of the
    image names. Captions come from the caption file where there is one, else from the JSON file.
    """

    title = "Flickr30k: 31,000 photos, five captions each"
    published_as = "flickr30k"
    caption_files = (
        ("results_20130124.token", read_token_file),
        ("results.csv", read_bar_file),
    )
    text_folders = ("", "flickr30k_images")
    image_folders = (
        "flickr30k_images/flickr30k_images",  # Kaggle's archive nests them
        "flickr30k_images",
        "flickr30k-images",
        "images",
        "Images",
        "",
    )
    karpathy = "dataset_flickr30k.json"
    get_it = "Get it from https://www.kaggle.com/datasets/hsankesara/flickr-image-dataset."
