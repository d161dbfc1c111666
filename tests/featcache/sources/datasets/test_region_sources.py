"""Datasets of boxes in their official layouts: what all share, then each alone, then broken."""

import json
import os
import tracemalloc

import numpy as np
import pytest

from lightalign.featcache.errors import DatasetFormatError, DatasetNotFoundError, SpecError
from lightalign.featcache.sources.opening import define
from lightalign.featcache.store.catalog import read_pairs, write_pairs
from lightalign.featcache.types import IMAGE_TEXT, Modality

from ..region_helpers import (
    BOXES,
    CATEGORIES,
    COCO_IMAGES,
    ENTITIES,
    GENOME,
    REGION_LAYOUTS,
    coco_boxes,
    coco_captions,
    genome_images,
    genome_objects,
    genome_regions,
    official_coco,
    official_coco_of_2014,
    official_entities,
    official_genome,
    write_coco,
)
from ..sources_helpers import ids, opened, texts_of, written

CASES = [
    pytest.param(name, write, id=f"{name}-{write.__name__}")
    for name, writers in REGION_LAYOUTS.items()
    for write in writers
]
INSTANCES = "annotations/instances_train2017.json"
COCO_CAPTIONS = "annotations/captions_train2017.json"
FIRST_SENTENCES, FIRST_BOXES = "Sentences/1000.txt", "Annotations/1000.xml"


def named_boxes(source, split):
    """Return by text id the words of a text that name a box, and the box."""
    links = source.pairs(split)
    texts = texts_of(source, split)
    return {
        text_id: [
            (texts[place][first:last], tuple(links.regions.boxes[box].tolist()))
            for box, first, last in links.regions.of_text(place).tolist()
        ]
        for place, text_id in enumerate(links.ids_of(Modality.TEXT))
    }


def boxes_of(source, split):
    """Return the class and the corners of every box, by image."""
    regions = source.pairs(split).regions
    names = [*regions.class_names, None]
    return {
        image: [
            (names[label], *box)
            for label, box in zip(
                regions.class_of[regions.of_image(place)].tolist(),
                regions.boxes[regions.of_image(place)].tolist(),
                strict=True,
            )
        ]
        for place, image in enumerate(ids(source, split, Modality.IMAGE))
    }


@pytest.mark.parametrize(("name", "write"), CASES)
def test_every_split_has_regions_of_its_items_and_keeps_them_in_a_store(name, write, tmp_path):
    source = written(name, write, tmp_path / "data")
    seen = []
    for split in source.splits():
        links = source.pairs(split)
        images, texts = (ids(source, split, modality) for modality in IMAGE_TEXT)
        assert list(links.ids_of(Modality.IMAGE)) == images
        assert list(links.ids_of(Modality.TEXT)) == texts
        assert links.regions.sizes.tolist() == [[100, 80]] * len(images)
        assert len(links.regions.boxes)
        assert not [item for item in source.items(split, Modality.IMAGE) if item.missing()]
        write_pairs(path := tmp_path / f"pairs--{split}.json", links)
        assert read_pairs(path) == links
        seen += [*images, *texts]
    assert len(set(seen)) == len(seen)
    assert source.skipped_rows() == ()


@pytest.mark.parametrize("name", REGION_LAYOUTS)
def test_the_layouts_of_a_dataset_are_the_same_dataset(name, tmp_path):
    sources = [written(name, write, tmp_path / write.__name__) for write in REGION_LAYOUTS[name]]
    for split in sources[0].splits():
        assert sources[0].fingerprint(split) == sources[1].fingerprint(split)
        assert sources[0].pairs(split) == sources[1].pairs(split)


@pytest.mark.parametrize(("name", "write"), CASES)
def test_an_image_that_is_gone_is_missing_and_all_gone_are_refused(name, write, tmp_path):
    source = written(name, write, tmp_path)
    split = source.splits()[0]
    first = source.items(split, Modality.IMAGE)[0]
    before = source.fingerprint(split)
    first.path.unlink()
    again = opened(name, tmp_path)
    missing = [item.id for item in again.items(split, Modality.IMAGE) if item.missing()]
    assert missing == [first.id]
    assert again.fingerprint(split) != before
    assert again.pairs(split) == source.pairs(split)
    for path in tmp_path.rglob("*.jpg"):
        path.unlink()
    with pytest.raises(DatasetNotFoundError, match="put the image files beside the boxes"):
        opened(name, tmp_path)


@pytest.mark.parametrize("name", REGION_LAYOUTS)
def test_without_its_files_a_dataset_says_what_it_looked_for(name, tmp_path):
    with pytest.raises(DatasetNotFoundError, match=r"looked for .*\.(json|txt)"):
        opened(name, tmp_path)


@pytest.mark.parametrize("name", REGION_LAYOUTS)
def test_images_elsewhere_are_read_where_a_root_allows_them_alone(name, tmp_path):
    root = tmp_path / "data"
    before = written(name, REGION_LAYOUTS[name][0], root)
    split = before.splits()[0]
    fingerprint = before.fingerprint(split)
    folder = before.items(split, Modality.IMAGE)[0].path.parent
    (tmp_path / "photos").mkdir()
    folder.rename(moved := tmp_path / "photos" / folder.name)
    found = opened(name, root, root=str(tmp_path / "photos"))
    assert not [item for item in found.items(split, Modality.IMAGE) if item.missing()]
    assert found.fingerprint(split) == fingerprint
    with pytest.raises(SpecError, match=r"source\.root must be the absolute path of a folder"):
        opened(name, root, root="photos")
    moved.rename(folder)
    first = before.items(split, Modality.IMAGE)[0].path
    first.rename(tmp_path / "photos" / first.name)
    first.symlink_to(tmp_path / "photos" / first.name)
    with pytest.raises(DatasetFormatError, match=r"lies outside of .*--set source.root=") as told:
        opened(name, root)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("name", ["flickr30k-entities", "visual-genome"])
def test_the_family_of_a_folder_is_found(name, tmp_path):
    REGION_LAYOUTS[name][0](tmp_path)
    assert define(f"mine={tmp_path}", home=tmp_path / "home").kind == name


def test_coco_has_boxes_with_classes_and_captions_that_name_none(tmp_path):
    source = written("coco-instances", official_coco, tmp_path)
    assert source.splits() == ("train", "val")
    names = [f"{number:012}.jpg" for number in COCO_IMAGES["train"]]
    two = [("dog", 0, 20, 30, 60.25), ("person", 10.5, 20, 40.5, 60.25)]
    assert boxes_of(source, "train") == {names[0]: two, names[1]: two, names[2]: []}
    assert list(source.pairs("val").regions.class_names) == ["person", "dog"]
    assert texts_of(source, "train")[:6] == [
        *(f"A photo 9 of {n}." for n in range(5)),
        "A photo 25 of 0.",
    ]
    assert ids(source, "train", Modality.TEXT)[5] == f"{names[1]}#0"
    assert not any(named_boxes(source, "train").values())
    crowds = "left out: a box of many things is of no single one"
    assert source.notes() == (f"1 crowd of train {crowds}", f"1 crowd of val {crowds}")


def test_coco_of_2017_comes_before_that_of_2014(tmp_path):
    official_coco_of_2014(tmp_path)
    before = opened("coco-instances", tmp_path).items("train", Modality.IMAGE)[0].path
    assert before.parent.name == "train2014"
    write_coco(tmp_path, "2017")
    after = opened("coco-instances", tmp_path).items("train", Modality.IMAGE)[0].path
    assert after.parent.name == "train2017"


def test_lists_of_coco_may_come_in_any_order(tmp_path):
    before = written("coco-instances", official_coco, tmp_path)
    value = json.loads((tmp_path / INSTANCES).read_text())
    value = {key: value[key] for key in ("annotations", "info", "categories", "images")}
    (tmp_path / INSTANCES).write_text(json.dumps(value))
    assert opened("coco-instances", tmp_path).pairs("train") == before.pairs("train")


def test_without_captions_coco_has_images_with_boxes_alone(tmp_path):
    official_coco(tmp_path)
    for file in (tmp_path / "annotations").glob("captions_*"):
        file.unlink()
    source = opened("coco-instances", tmp_path)
    links = source.pairs("train")
    assert links.pairs == {}
    assert len(links.regions.mention_ends) == 0
    assert len(links.regions.boxes) == 4
    assert "train has no captions: captions_train2017.json is not there" in source.notes()
    write_pairs(path := tmp_path / "pairs--0.json", links)
    assert read_pairs(path) == links


NO_AREA, NOT_FINITE = "the box has no area", "the box is not finite"
REACHES_OUT = "the box reaches out of its picture"
BAD_BOXES = [
    pytest.param([40, 20, -30, 10], NO_AREA, id="x2 < x1"),
    pytest.param([40, 20, 30, 0], NO_AREA, id="y2 = y1"),
    pytest.param([float("nan"), 20, 30, 10], NOT_FINITE, id="nan"),
    pytest.param([40, 20, float("inf"), 10], NOT_FINITE, id="infinite"),
    pytest.param([40, 20, 10**400, 10], NOT_FINITE, id="400 digits"),
    pytest.param([80, 20, 21.5, 10], REACHES_OUT, id="right of the picture"),
    pytest.param([-1.5, 20, 30, 10], REACHES_OUT, id="left of the picture"),
    pytest.param([0, 70, 30, 11.01], REACHES_OUT, id="below the picture"),
    pytest.param([100.25, 20, 0.5, 10], NO_AREA, id="in the pixel beside the picture"),
    pytest.param([50, 20, 1e-9, 10], NO_AREA, id="smaller than a float32 can tell"),
]


@pytest.mark.parametrize(("box", "reason"), BAD_BOXES)
def test_a_bad_box_of_coco_is_left_out_and_listed_with_its_place(box, reason, tmp_path):
    before = written("coco-instances", official_coco, tmp_path)
    value = json.loads((tmp_path / INSTANCES).read_text())
    value["annotations"][2]["bbox"] = box
    (tmp_path / INSTANCES).write_text(json.dumps(value))
    source = opened("coco-instances", tmp_path)
    name = f"{9:012}.jpg"
    assert boxes_of(source, "train")[name] == boxes_of(before, "train")[name][:1]
    (row,) = source.skipped_rows()
    assert (row.place, row.reason) == ("instances_train2017.json, annotation 3", reason)
    note = f"1 region left out, {reason}: instances_train2017.json, annotation 3"
    assert note in source.notes()


def test_a_box_that_reaches_out_by_a_pixel_is_cut(tmp_path):
    official_coco(tmp_path)
    value = json.loads((tmp_path / INSTANCES).read_text())
    value["annotations"][1]["bbox"] = [-1, -0.5, 102, 81]
    (tmp_path / INSTANCES).write_text(json.dumps(value))
    source = opened("coco-instances", tmp_path)
    assert boxes_of(source, "train")[f"{9:012}.jpg"][0] == ("dog", 0, 0, 100, 80)
    assert source.skipped_rows() == ()


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"image_id": 42}, "the box is of an image that is not listed"),
        ({"category_id": 2}, "the box is of a category that is not listed"),
    ],
)
def test_a_box_of_nothing_that_is_listed_is_left_out(changed, reason, tmp_path):
    official_coco(tmp_path)
    value = json.loads((tmp_path / INSTANCES).read_text())
    value["annotations"][1] |= changed
    (tmp_path / INSTANCES).write_text(json.dumps(value))
    source = opened("coco-instances", tmp_path)
    assert [row.reason for row in source.skipped_rows()] == [reason]
    assert len(source.pairs("train").regions.boxes) == 3


def test_most_boxes_bad_are_an_error_that_names_the_first(tmp_path):
    official_coco(tmp_path)
    for split in ("train", "val"):
        file = tmp_path / "annotations" / f"instances_{split}2017.json"
        value = json.loads(file.read_text())
        for annotation in value["annotations"][1:]:  # as if corners stood there
            annotation["bbox"] = [90, 70, 95, 75]
        file.write_text(json.dumps(value))
    message = (
        r"instances_train2017.json, annotation 2: the box reaches out of its picture "
        r"\(6 of 6 regions cannot be read\)"
    )
    with pytest.raises(DatasetFormatError, match=message):
        opened("coco-instances", tmp_path)


def test_captions_of_other_images_and_empty_ones_are_left_out(tmp_path):
    official_coco(tmp_path)
    value = json.loads((tmp_path / COCO_CAPTIONS).read_text())
    value["annotations"][0]["caption"] = " "
    value["annotations"][1]["image_id"] = 7
    (tmp_path / COCO_CAPTIONS).write_text(json.dumps(value))
    source = opened("coco-instances", tmp_path)
    assert len(texts_of(source, "train")) == 13
    assert [(row.place, row.reason) for row in source.skipped_rows()] == [
        ("captions_train2017.json, annotation 1", "the caption is empty"),
        (
            "captions_train2017.json, annotation 2",
            "the caption is of an image that is not listed",
        ),
    ]


BOXES_OF_COCO = coco_boxes("train", COCO_IMAGES["train"])
IMAGE, ANNOTATION = BOXES_OF_COCO["images"][0], BOXES_OF_COCO["annotations"][1]


def coco_with(**lists):
    return {**BOXES_OF_COCO, **lists}


@pytest.mark.parametrize(
    ("file", "value", "message"),
    [
        (INSTANCES, [ANNOTATION], r'expected {"images": \[...\], "annotations": \[...\], "cat'),
        (INSTANCES, coco_captions((9,)), "image 1: expected the keys id, file_name, width and hei"),
        (INSTANCES, {"images": [IMAGE]}, 'expected {"images"'),
        (INSTANCES, coco_with(images=[{**IMAGE, "width": 0}]), "image 1: expected the keys id, "),
        (INSTANCES, coco_with(images=[{**IMAGE, "width": True}]), "image 1: expected the keys"),
        (INSTANCES, coco_with(images=[{**IMAGE, "height": "80"}]), "image 1: expected the keys"),
        (INSTANCES, coco_with(images=[{**IMAGE, "id": -1}]), "image 1: expected the keys id, file"),
        (INSTANCES, coco_with(images=[{**IMAGE, "file_name": ""}]), "image 1: expected the keys"),
        (INSTANCES, coco_with(images=[IMAGE, IMAGE]), "image 2: image 9 is there twice"),
        (
            INSTANCES,
            coco_with(images=[IMAGE, {**IMAGE, "id": 25}]),
            "image 2: image '000000000009.jpg' is there twice",
        ),
        (INSTANCES, coco_with(images=[]), "holds no images"),
        (INSTANCES, coco_with(annotations=[3]), "annotation 1: expected an object in the list 'an"),
        (
            INSTANCES,
            coco_with(annotations=[{**ANNOTATION, "bbox": [1, 2, 3]}]),
            "annotation 1: expected the keys image_id, category_id and bbox with four numbers",
        ),
        (
            INSTANCES,
            coco_with(annotations=[{**ANNOTATION, "bbox": ["1", 2, 3, 4]}]),
            "annotation 1: expected the keys",
        ),
        (
            INSTANCES,
            coco_with(annotations=[{**ANNOTATION, "bbox": [True, 2, 3, 4]}]),
            "annotation 1: expected the keys",
        ),
        (
            INSTANCES,
            coco_with(annotations=[{**ANNOTATION, "image_id": "9"}]),
            "annotation 1: expected the keys",
        ),
        (INSTANCES, coco_with(categories=[{"id": 1}]), "category 1: expected the keys id and name"),
        (INSTANCES, coco_with(categories=CATEGORIES[:1] * 2), "category 2: category 1 is there tw"),
        (COCO_CAPTIONS, {"annotations": [{"image_id": 9}]}, "annotation 1: expected the keys"),
        (COCO_CAPTIONS, BOXES_OF_COCO, "annotation 1: expected the keys image_id and caption"),
    ],
)
def test_a_broken_file_of_coco_is_refused_in_one_line_with_the_place(
    file, value, message, tmp_path
):
    official_coco(tmp_path)
    if "holds no" in message:  # in both
        (tmp_path / "annotations" / "instances_val2017.json").unlink()
    (tmp_path / file).write_text(json.dumps(value))
    with pytest.raises(DatasetFormatError, match=rf"{file}(, |: ){message}") as refused:
        opened("coco-instances", tmp_path)
    assert "\n" not in str(refused.value)


def test_an_image_of_coco_outside_of_the_folder_is_refused(tmp_path):
    official_coco(tmp_path)
    value = json.loads((tmp_path / INSTANCES).read_text())
    value["images"][0]["file_name"] = "../../other.jpg"
    (tmp_path / INSTANCES).write_text(json.dumps(value))
    with pytest.raises(DatasetFormatError, match=r"image '../../other.jpg' lies outside of"):
        opened("coco-instances", tmp_path)


def test_boxes_of_coco_take_little_memory(tmp_path):
    """20,000 boxes: as objects of JSON they take 30 MB."""
    official_coco(tmp_path)
    value = coco_boxes("train", COCO_IMAGES["train"])
    value["annotations"] *= 4000
    (tmp_path / INSTANCES).write_text(json.dumps(value))
    tracemalloc.start()
    try:
        source = opened("coco-instances", tmp_path)
        assert len(source.pairs("train").regions.boxes) == 16_000
        assert tracemalloc.get_traced_memory()[1] < 12 * 2**20
    finally:
        tracemalloc.stop()


FRONT, BACK, DOG = (0, 0, 30, 80), (30, 10, 60, 70), (40, 40, 100, 80)


def test_words_of_captions_name_the_boxes_of_their_chain(tmp_path):
    source = written("flickr30k-entities", official_entities, tmp_path)
    assert source.splits() == ("train", "val", "test")
    assert texts_of(source, "test") == [
        "Two girls hold a dog in the park .",
        "Children with their pet see it .",
        "A game in the park .",
    ]
    assert named_boxes(source, "test") == {
        "3000.jpg#0": [("Two girls", FRONT), ("Two girls", BACK), ("a dog", DOG)],
        "3000.jpg#1": [("Children", FRONT), ("Children", BACK), ("their pet", DOG)],
        "3000.jpg#2": [],
    }
    assert boxes_of(source, "test") == {
        "3000.jpg": [("people", *FRONT), ("people", *BACK), ("animals", *DOG)]
    }
    # the park, in the first and the third caption of six images
    assert source.notes() == ("12 phrases without a box in the captions",)


def test_phrases_alone_are_texts_once_an_image(tmp_path):
    official_entities(tmp_path)
    (tmp_path / "Sentences" / "3000.txt").write_text(
        "[/EN#7/people Two girls] hold [/EN#8/animals A dog] .\n"
        "[/EN#8/animals a dog] is by [/EN#9/scene the park] and [/EN#0/notvisual it] .\n"
    )
    source = opened("flickr30k-entities", tmp_path, texts="phrases")
    assert named_boxes(source, "test") == {
        "3000.jpg#0": [("two girls", FRONT), ("two girls", BACK)],
        "3000.jpg#1": [("a dog", DOG)],
    }
    assert source.notes() == ("6 phrases without a box left out",)
    captions = opened("flickr30k-entities", tmp_path)
    assert source.fingerprint("test") != captions.fingerprint("test")


def test_equal_words_of_two_chains_name_the_boxes_of_both(tmp_path):
    official_entities(tmp_path)
    (tmp_path / FIRST_SENTENCES.replace("1000", "3000")).write_text(
        "[/EN#8/animals One] beside [/EN#7/people one] .\n"
    )
    source = opened("flickr30k-entities", tmp_path, texts="phrases")
    assert named_boxes(source, "test") == {
        "3000.jpg#0": [("one", DOG), ("one", FRONT), ("one", BACK)]
    }


def test_other_texts_than_captions_and_phrases_are_refused(tmp_path):
    official_entities(tmp_path)
    with pytest.raises(SpecError, match=r"source\.texts must be captions or phrases, found"):
        opened("flickr30k-entities", tmp_path, texts="words")


def test_without_lists_the_splits_are_chosen_and_noted(tmp_path):
    official_entities(tmp_path)
    for name in ENTITIES:
        (tmp_path / f"{name}.txt").unlink()
    source = opened("flickr30k-entities", tmp_path)
    assert sorted(map(len, (source.ids(split, Modality.IMAGE) for split in source.splits()))) == [
        1,
        1,
        4,
    ]
    assert source.notes()[0].startswith("no file gives the splits: 1 test and 1 val images chosen")


def test_images_that_no_list_has_or_that_lack_a_file_are_left_out(tmp_path):
    official_entities(tmp_path)
    (tmp_path / "val.txt").write_text("")
    (tmp_path / "train.txt").write_text("1000\n1001\n1002\n1003\n1004\n")
    (tmp_path / FIRST_BOXES).unlink()
    source = opened("flickr30k-entities", tmp_path)
    assert source.splits() == ("train", "test")
    assert ids(source, "train", Modality.IMAGE) == ["1001.jpg", "1002.jpg", "1003.jpg"]
    assert [(row.place, row.reason) for row in source.skipped_rows()] == [
        ("1000 of train.txt, line 1", "there is no Annotations/<name>.xml of it"),
        ("1004 of train.txt, line 5", "there is no Sentences/<name>.txt of it"),
    ]
    unlisted = "1 image of Sentences left out: no split in train.txt, val.txt, test.txt"
    assert unlisted in source.notes()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("1000", "val.txt, line 1: 1000 is in train.txt, line 1, too"),
        ("../1000", "val.txt, line 1: expected the number of an image, found '../1000'"),
    ],
)
def test_a_broken_list_of_images_is_refused(line, message, tmp_path):
    official_entities(tmp_path)
    (tmp_path / "val.txt").write_text(f"{line}\n")
    with pytest.raises(DatasetFormatError, match=message):
        opened("flickr30k-entities", tmp_path)


BRACKET = "a bracket is not [/EN#number/type words]"


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("[/EN#7/people Two girls hold a dog .", BRACKET),
        ("Two girls] hold a dog .", BRACKET),
        ("[/EN#7 Two girls] hold a dog .", BRACKET),
        ("[/EN#x/people Two girls] hold a dog .", BRACKET),
        ("[/EN#7/people] hold a dog .", BRACKET),
        ("[/EN#7/people [/EN#8/animals a dog]] .", BRACKET),
        ("[/EN#7/people   ] hold a dog .", "a pair of brackets holds no words"),
    ],
)
def test_a_caption_with_broken_markup_is_left_out_and_listed(line, reason, tmp_path):
    official_entities(tmp_path)
    (tmp_path / FIRST_SENTENCES).write_text(f"\n{line}\n[/EN#8/animals A dog] .\n")
    source = opened("flickr30k-entities", tmp_path)
    assert texts_of(source, "train")[0] == "A dog ."
    (row,) = source.skipped_rows()
    assert (row.place, row.reason) == (f"{FIRST_SENTENCES}, line 2", reason)
    assert f"1 caption left out, {reason}: {FIRST_SENTENCES}, line 2" in source.notes()


def test_most_captions_with_broken_markup_are_an_error(tmp_path):
    official_entities(tmp_path)
    for file in (tmp_path / "Sentences").iterdir():
        file.write_text("[7 Two girls] hold a dog .\nA dog .\n[8 A dog] .\n")
    message = r"Sentences/1000.txt, line 1: a bracket is not .* \(12 of 18 captions cannot be read"
    with pytest.raises(DatasetFormatError, match=message):
        opened("flickr30k-entities", tmp_path)


def corners(**changed):
    texts = {"xmin": "41", "ymin": "41", "xmax": "100", "ymax": "80", **changed}
    return "".join(f"<{name}>{text}</{name}>" for name, text in texts.items())


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"xmax": "40"}, NO_AREA),
        ({"xmax": "20"}, NO_AREA),
        ({"ymin": "nan"}, NOT_FINITE),
        ({"xmax": "102"}, REACHES_OUT),
        ({"ymin": "-1"}, REACHES_OUT),
    ],
)
def test_a_bad_box_of_entities_is_left_out_with_what_names_it(changed, reason, tmp_path):
    official_entities(tmp_path)
    content = BOXES.format(name="3000")
    (tmp_path / "Annotations" / "3000.xml").write_text(
        content.replace(corners(), corners(**changed))
    )
    source = opened("flickr30k-entities", tmp_path)
    assert boxes_of(source, "test") == {"3000.jpg": [("people", *FRONT), ("people", *BACK)]}
    assert named_boxes(source, "test")["3000.jpg#0"] == [("Two girls", FRONT), ("Two girls", BACK)]
    (row,) = source.skipped_rows()
    assert (row.place, row.reason) == ("Annotations/3000.xml, object 3", reason)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("<annotation>", "is not XML: no element found"),
        ('{"boxes": []}', "is not XML: not well-formed"),
        ("<boxes><size><width>9</width><height>9</height></size></boxes>", "expected <annotation>"),
        ("<annotation><size><width>9</width></size></annotation>", "expected <annotation> with <s"),
        (BOXES.replace("<width>100", "<width>0"), "expected <annotation> with <size> of <width>"),
        (BOXES.replace("<width>100", "<width>1e2"), "expected <annotation> with <size> of <wid"),
        (BOXES.replace("<name>8", "<name>dog"), "object 3: expected <name> with the number of a"),
        (BOXES.replace("<xmin>41", "<xmin>x"), "object 3: expected <bndbox> with the numbers"),
        (BOXES.replace("<xmin>41</xmin>", ""), "object 3: expected <bndbox> with the numbers"),
        ('<!DOCTYPE a [<!ENTITY b "c">]><annotation/>', "declares a document type"),
        ("<annotation>" + " " * 2**22, "cannot be read: .* bytes are more than the"),
    ],
)
def test_a_broken_file_of_boxes_is_refused_in_one_line(content, message, tmp_path):
    official_entities(tmp_path)
    (tmp_path / FIRST_BOXES).write_text(content)
    with pytest.raises(DatasetFormatError, match=rf"1000.xml(, |: ){message}") as refused:
        opened("flickr30k-entities", tmp_path)
    assert "\n" not in str(refused.value)


def test_a_pipe_in_the_place_of_a_file_is_never_waited_for(tmp_path):
    official_entities(tmp_path)
    (tmp_path / FIRST_BOXES).unlink()
    os.mkfifo(tmp_path / FIRST_BOXES)
    source = opened("flickr30k-entities", tmp_path)
    assert source.skipped_rows()[0].reason == "there is no Annotations/<name>.xml of it"


def test_phrases_of_regions_mention_their_own_box_and_objects_have_classes(tmp_path):
    source = written("visual-genome", official_genome, tmp_path)
    everything = {}
    for split in source.splits():
        everything |= named_boxes(source, split)
        for image, boxes in boxes_of(source, split).items():
            name = "tree" if int(image.removesuffix(".jpg")) % 2 else "a tree"
            two = [(None, 0, 5, 30, 25), (None, 10, 5, 40, 25)]
            assert boxes == [*two, (name, 10, 0, 60, 70)]
    assert everything == {
        f"{number}.jpg#{n}": [(f"thing {n} of {number}", (10 * n, 5, 10 * n + 30, 25))]
        for number in GENOME
        for n in (0, 1)
    }
    note = "there are no official splits: 3 test and 3 val images chosen by the SHA-256 of"
    assert source.notes()[0].startswith(note)
    assert len(source.ids("train", Modality.IMAGE)) == 24


def test_without_objects_boxes_have_no_classes(tmp_path):
    official_genome(tmp_path)
    (tmp_path / "objects.json").unlink()
    source = opened("visual-genome", tmp_path)
    assert "boxes have no classes: objects.json is not there" in source.notes()
    regions = source.pairs("train").regions
    assert len(regions.class_names) == 0
    assert set(regions.class_of.tolist()) == {-1}


def test_a_bad_box_of_a_phrase_takes_the_phrase_with_it(tmp_path):
    official_genome(tmp_path)
    regions, objects = genome_regions(), genome_objects()
    regions[0]["regions"][1]["width"] = -30
    regions[1]["regions"][0]["phrase"] = " "
    regions[2]["id"] = 77
    objects[0]["objects"][0]["h"] = 90
    (tmp_path / "region_descriptions.json").write_text(json.dumps(regions))
    (tmp_path / "objects.json").write_text(json.dumps(objects))
    source = opened("visual-genome", tmp_path)
    texts = {text for split in source.splits() for text in texts_of(source, split)}
    gone = {"thing 1 of 1", "thing 0 of 2", "thing 0 of 3", "thing 1 of 3"}
    assert not gone & texts
    assert len(texts) == 56
    file = "region_descriptions.json"
    assert [(row.place, row.reason) for row in source.skipped_rows()] == [
        (f"{file}, image 1, region 2", NO_AREA),
        (f"{file}, image 2, region 1", "the phrase is empty"),
        *(
            (f"{file}, image 3, region {n}", "the box is of an image that is not listed")
            for n in (1, 2)
        ),
        ("objects.json, image 1, object 1", REACHES_OUT),
    ]


REGION = genome_regions()[0]["regions"][0]
THING = genome_objects()[0]["objects"][0]


@pytest.mark.parametrize(
    ("file", "value", "message"),
    [
        ("image_data.json", {"images": []}, r"expected \[{...}, ...\]: found '{' instead of '\['"),
        ("image_data.json", [], "holds no images"),
        ("image_data.json", [3], "image 1: expected an object: found 3"),
        (
            "image_data.json",
            [{**genome_images()[0], "width": None}],
            "image 1: expected the keys image_id, url, width and height",
        ),
        ("image_data.json", genome_images()[:1] * 2, "image 2: image '1.jpg' is there twice"),
        ("region_descriptions.json", {"1": []}, r"expected \[{...}, ...\]"),
        ("region_descriptions.json", [{"id": 1}], "image 1: expected the keys id and regions"),
        (
            "region_descriptions.json",
            [{"id": 1, "regions": [[]]}],
            r"image 1, region 1: found \[\]",
        ),
        (
            "region_descriptions.json",
            [{"id": 1, "regions": [{**REGION, "phrase": None}]}],
            "image 1, region 1: expected the keys phrase, x, y, width and height",
        ),
        (
            "region_descriptions.json",
            [{"id": 1, "regions": [{**REGION, "x": "3"}]}],
            "image 1, region 1: expected the keys x, y, width, height",
        ),
        (
            "objects.json",
            [{"image_id": 1, "objects": [{**THING, "names": []}]}],
            "image 1, object 1: expected the keys names, x, y, w and h",
        ),
        ("objects.json", [{"image_id": 1, "regions": []}], "image 1: expected the keys id and obj"),
    ],
)
def test_a_broken_file_of_visual_genome_is_refused_in_one_line_with_the_place(
    file, value, message, tmp_path
):
    official_genome(tmp_path)
    (tmp_path / file).write_text(json.dumps(value))
    with pytest.raises(DatasetFormatError, match=rf"{file}(, |: ){message}") as refused:
        opened("visual-genome", tmp_path)
    assert "\n" not in str(refused.value)


def test_boxes_are_float32_in_pixels(tmp_path):
    source = written("visual-genome", official_genome, tmp_path)
    assert source.pairs("train").regions.boxes.dtype == np.float32
