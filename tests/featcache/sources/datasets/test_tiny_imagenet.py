"""Tiny ImageNet in its published layout."""

import shutil

import pytest

from lightalign.featcache.errors import DatasetFormatError, DatasetNotFoundError
from lightalign.featcache.types import Modality

from ..class_helpers import tiny_imagenet
from ..sources_helpers import ids, opened, written


def test_training_images_are_of_their_folder_and_val_images_of_their_annotation(tmp_path):
    source = written("tiny-imagenet", tiny_imagenet, tmp_path)
    train, val = source.pairs("train"), source.pairs("val")
    assert train.classes.names == val.classes.names == ("Egyptian cat", "goldfish", "crane")
    assert len(train.ids_of(Modality.IMAGE)) == 9
    assert train.classes.of_image["train/n01443537/images/n01443537_2.JPEG"] == 1
    assert val.classes.of_image == {"val/images/val_0.JPEG": 2, "val/images/val_1.JPEG": 0}


def test_the_test_images_without_labels_are_left_out_with_a_note(tmp_path):
    source = written("tiny-imagenet", tiny_imagenet, tmp_path)
    assert source.splits() == ("train", "val")
    assert source.notes() == ("the published test images have no labels and are left out",)


def test_the_folder_as_unpacked_may_stand_below_the_root(tmp_path):
    tiny_imagenet(tmp_path / "tiny-imagenet-200")
    below = opened("tiny-imagenet", tmp_path)
    itself = opened("tiny-imagenet", tmp_path / "tiny-imagenet-200")
    assert below.fingerprint("val") == itself.fingerprint("val")


def test_classes_that_share_their_first_word_go_by_all_of_them_and_the_id(tmp_path):
    tiny_imagenet(tmp_path)
    words = tmp_path / "words.txt"
    words.write_text(words.read_text().replace("goldfish, Carassius", "crane, Grus"))
    assert opened("tiny-imagenet", tmp_path).pairs("val").classes.names == (
        "Egyptian cat",
        "crane, Grus auratus (n01443537)",
        "crane (n02012849)",
    )


def test_without_words_classes_go_by_their_ids_and_a_note_says_so(tmp_path):
    tiny_imagenet(tmp_path)
    (tmp_path / "words.txt").unlink()
    source = opened("tiny-imagenet", tmp_path)
    assert source.pairs("val").classes.names[1] == "n01443537"
    assert source.notes()[0] == "words.txt is missing: classes go by their WordNet ids"


@pytest.mark.parametrize(
    ("file", "old", "new", "problem"),
    [
        ("words.txt", "n02012849\t", "n0\t", r"words\.txt: has no words for n02012849"),
        ("words.txt", "\tcrane", " crane", r"words\.txt, line 2: expected id<TAB>words"),
        ("wnids.txt", "n02124075", "n01443537", r"wnids\.txt: names a class twice"),
        (
            "val/val_annotations.txt",
            "n02012849",
            "n00000000",
            r"val_annotations\.txt, line 1: expected name.JPEG<TAB>class of wnids\.txt",
        ),
    ],
)
def test_a_broken_list_is_refused_with_its_place(file, old, new, problem, tmp_path):
    tiny_imagenet(tmp_path)
    path = tmp_path / file
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(DatasetFormatError, match=problem):
        opened("tiny-imagenet", tmp_path)


def test_a_list_of_no_classes_is_refused(tmp_path):
    tiny_imagenet(tmp_path)
    shutil.rmtree(tmp_path / "val")
    (tmp_path / "wnids.txt").write_text("\n")
    with pytest.raises(DatasetFormatError, match=r"wnids\.txt: names no classes"):
        opened("tiny-imagenet", tmp_path)


def test_lists_without_images_are_not_enough(tmp_path):
    tiny_imagenet(tmp_path)
    for split in ("train", "val"):
        shutil.rmtree(tmp_path / split)
    with pytest.raises((DatasetFormatError, DatasetNotFoundError), match=r"holds no image"):
        opened("tiny-imagenet", tmp_path)


def test_a_class_without_images_stays_a_class_and_is_noted(tmp_path):
    tiny_imagenet(tmp_path)
    shutil.rmtree(tmp_path / "train" / "n01443537")
    source = opened("tiny-imagenet", tmp_path)
    assert len(source.pairs("train").classes.names) == 3
    assert len(ids(source, "train", Modality.IMAGE)) == 6
    assert source.notes()[-1] == "1 of 3 classes without any image"
