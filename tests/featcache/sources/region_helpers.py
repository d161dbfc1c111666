"""Small datasets of boxes in the official layouts that the sources read."""

import json

from .sources_helpers import write_images

COCO_IMAGES = {"train": (9, 25, 30), "val": (42, 61)}
CATEGORIES = [
    {"supercategory": "person", "id": 1, "name": "person"},
    {"supercategory": "animal", "id": 18, "name": "dog"},
]


def coco_boxes(split, numbers, year="2017"):
    """Return a file of boxes: two of every image but the last, and a crowd."""
    annotations = [
        {
            "segmentation": [[1.5, 2, 3, 4.25, 5, 6]],
            "area": 12.5,
            "iscrowd": 0,
            "image_id": number,
            "bbox": [10.5 * n, 20, 30, 40.25],
            "category_id": (18, 1)[n],
            "id": 100 * number + n,
        }
        for number in numbers[:-1]
        for n in (0, 1)
    ]
    crowd = {
        "segmentation": {"counts": [1, 2, 3], "size": [80, 100]},
        "iscrowd": 1,
        "image_id": numbers[0],
        "bbox": [0, 0, 100, 80],
        "category_id": 1,
        "id": 7,
    }
    return {
        "info": {"year": int(year), "list": [{"a": ["]}"]}]},
        "licenses": [{"id": 1}],
        "images": [
            {
                "license": 1,
                "file_name": f"{number:012}.jpg",
                "coco_url": f"http://images.cocodataset.org/{split}{year}/{number:012}.jpg",
                "height": 80,
                "width": 100,
                "id": number,
            }
            for number in numbers
        ],
        "annotations": [crowd, *annotations],
        "categories": CATEGORIES,
    }


def coco_captions(numbers):
    rows = [(number, n) for n in range(5) for number in numbers]
    return {
        "images": [{"id": number} for number in numbers],
        "annotations": [
            {"image_id": number, "id": 10 * number + n, "caption": f"A photo {number} of {n}.\n"}
            for number, n in rows
        ],
    }


def write_coco(root, year):
    (root / "annotations").mkdir(parents=True, exist_ok=True)
    for split, numbers in COCO_IMAGES.items():
        name = f"{split}{year}.json"
        boxes, captions = coco_boxes(split, numbers, year), coco_captions(numbers)
        (root / "annotations" / f"instances_{name}").write_text(json.dumps(boxes))
        (root / "annotations" / f"captions_{name}").write_text(json.dumps(captions))
        write_images(root / f"{split}{year}", [f"{number:012}.jpg" for number in numbers])


def official_coco(root):
    write_coco(root, "2017")


def official_coco_of_2014(root):
    write_coco(root, "2014")


ENTITIES = {"train": ("1000", "1001", "1002", "1003"), "val": ("2000",), "test": ("3000",)}
SENTENCES = (
    "[/EN#7/people Two girls] hold [/EN#8/animals a dog] in [/EN#9/scene the park] .",
    "[/EN#7/people/other Children] with [/EN#8/animals their pet] see [/EN#0/notvisual it] .",
    "A game in [/EN#9/scene the park] .",
)
# chain 7 has two boxes, of which the second is of chain 10 as well; chain 9 is the scene
BOXES = """<annotation>
\t<filename>{name}.jpg</filename>
\t<size><width>100</width><height>80</height><depth>3</depth></size>
\t<object><name>7</name>
\t\t<bndbox><xmin>1</xmin><ymin>1</ymin><xmax>30</xmax><ymax>80</ymax></bndbox>
\t</object>
\t<object><name>7</name><name>10</name>
\t\t<bndbox><xmin>31</xmin><ymin>11</ymin><xmax>60</xmax><ymax>70</ymax></bndbox>
\t</object>
\t<object><name>8</name>
\t\t<bndbox><xmin>41</xmin><ymin>41</ymin><xmax>100</xmax><ymax>80</ymax></bndbox>
\t</object>
\t<object><name>9</name><scene>1</scene><nobndbox>0</nobndbox></object>
</annotation>
"""


def write_entities(folder, photos):
    (folder / "Sentences").mkdir(parents=True)
    (folder / "Annotations").mkdir()
    for split, names in ENTITIES.items():
        (folder / f"{split}.txt").write_text("".join(f"{name}\n" for name in names))
        for name in names:
            (folder / "Sentences" / f"{name}.txt").write_text("\n".join(SENTENCES) + "\n")
            (folder / "Annotations" / f"{name}.xml").write_text(BOXES.format(name=name))
    everything = [f"{name}.jpg" for names in ENTITIES.values() for name in names]
    write_images(photos, everything)


def official_entities(root):
    write_entities(root, root / "flickr30k-images")


def entities_in_a_folder(root):
    write_entities(root / "flickr30k_entities", root / "images")


GENOME = tuple(range(1, 31))


def genome_images():
    return [
        {
            "image_id": number,
            "url": f"https://cs.stanford.edu/people/rak248/{genome_archive(number)}/{number}.jpg",
            "width": 100,
            "height": 80,
            "coco_id": None,
            "flickr_id": None,
        }
        for number in GENOME
    ]


def genome_archive(number):
    return "VG_100K_2" if number % 3 == 1 else "VG_100K"


def genome_regions():
    return [
        {
            "id": number,
            "regions": [
                {
                    "region_id": 10 * number + n,
                    "width": 30,
                    "height": 20,
                    "image_id": number,
                    "phrase": f"thing {n} of {number} ",
                    "y": 5,
                    "x": 10 * n,
                }
                for n in range(2)
            ],
        }
        for number in GENOME
    ]


def genome_objects():
    return [
        {
            "image_id": number,
            "objects": [
                {
                    "synsets": ["tree.n.01"],
                    "h": 70,
                    "object_id": number,
                    "merged_object_ids": [],
                    "names": ["Tree" if number % 2 else "a  tree", "plant"],
                    "w": 50,
                    "y": 0,
                    "x": 10,
                }
            ],
            "image_url": "https://x/1.jpg",
        }
        for number in reversed(GENOME)
    ]


def write_genome(root, photos):
    for name, value in (
        ("image_data.json", genome_images()),
        ("region_descriptions.json", genome_regions()),
        ("objects.json", genome_objects()),
    ):
        (root / name).write_text(json.dumps(value))
    for number in GENOME:
        write_images(photos(number), [f"{number}.jpg"])


def official_genome(root):
    write_genome(root, lambda number: root / genome_archive(number))


def genome_in_one_folder(root):
    write_genome(root, lambda number: root / "images")


REGION_LAYOUTS = {
    "coco-instances": [official_coco, official_coco_of_2014],
    "flickr30k-entities": [official_entities, entities_in_a_folder],
    "visual-genome": [official_genome, genome_in_one_folder],
}
