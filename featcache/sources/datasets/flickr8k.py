"""Flickr8k: 8,000 photos with five captions each.

Source: Hodosh, Young and Hockenmaier, Framing Image Description as a Ranking Task, JAIR 2013.
"""

from ..readers.caption_family import PublishedCaptions
from ..tables.text_files import read_caption_json_lines, read_kaggle_csv, read_token_file


class Flickr8kSource(PublishedCaptions):
    """Read Flickr8k in the official layout, Kaggle's, Karpathy's, or from a `captions.jsonl`.

    The official `dev` is `val`. Kaggle's files give no splits: they come from the official lists
    or Karpathy's JSON file where those are there too, else from a hash of the image names.
    """

    title = "Flickr8k: 8,000 photos, five captions each"
    published_as = "flickr8k"
    caption_files = (
        ("Flickr8k.token.txt", read_token_file),
        ("captions.txt", read_kaggle_csv),
        ("captions.jsonl", read_caption_json_lines),
    )
    text_folders = ("", "Flickr8k_text")
    image_folders = (
        "Flicker8k_Dataset",  # spelled so in the official archive
        "Flickr8k_Dataset",
        "Flickr8k_Dataset/Flicker8k_Dataset",  # where unpacking the archive by name leaves it
        "Images",
        "images",
        "",
    )
    split_lists = (
        ("Flickr_8k.trainImages.txt", "train"),
        ("Flickr_8k.devImages.txt", "val"),
        ("Flickr_8k.testImages.txt", "test"),
    )
    karpathy = "dataset_flickr8k.json"
    get_it = "Get it from https://www.kaggle.com/datasets/adityajn105/flickr8k."
