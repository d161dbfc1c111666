"""CIFAR in its published packings, made byte by byte; nothing of a pickle is ever run."""

import os
import pickle
import tarfile
from pathlib import Path

import numpy as np
import pytest

from lightalign.featcache.errors import DatasetFormatError, DatasetNotFoundError, SpecError
from lightalign.featcache.modalities.image import decode_image
from lightalign.featcache.sources.readers.plain_pickle import read_plain_pickle
from lightalign.featcache.types import Modality

from ..class_helpers import (
    HUNDRED,
    TEN,
    batches,
    cifar10_binary,
    cifar10_binary_archive,
    cifar10_python,
    cifar10_python_archive,
    cifar100_binary,
    cifar100_binary_archive,
    cifar100_python,
    cifar100_python_archive,
    old_text,
    write_archive,
    write_class_folders,
)
from ..sources_helpers import ids, opened, written

TENS = [cifar10_binary, cifar10_python, cifar10_binary_archive, cifar10_python_archive]
HUNDREDS = [cifar100_binary, cifar100_python, cifar100_binary_archive, cifar100_python_archive]
PACKED = [
    *(("cifar10", write, TEN, 5, 4) for write in TENS),
    *(("cifar100", write, HUNDRED, 1, 8) for write in HUNDREDS),
]
HERE = Path("a-file")


@pytest.mark.parametrize(("name", "write", "classes", "train_files", "per_file"), PACKED)
def test_pixels_and_classes_are_those_that_were_packed(
    name, write, classes, train_files, per_file, tmp_path
):
    source = written(name, write, tmp_path)
    made = batches(train_files=train_files, num_classes=len(classes), per_file=per_file)
    for split, own in (("train", made[:-1]), ("test", made[-1:])):
        pixels = np.concatenate([part for part, _ in own])
        labels = [label for _, part in own for label in part]
        items, pairs = source.items(split, Modality.IMAGE), source.pairs(split)
        assert [item.id for item in items][:2] == [f"{split}-00000", f"{split}-00001"]
        assert pairs.classes.names == classes
        assert list(pairs.classes.of_image.values()) == labels
        for item, expected in zip(items, pixels, strict=True):
            picture = decode_image(item.read_bytes(), item_id=item.id)
            np.testing.assert_array_equal(np.asarray(picture), expected)


@pytest.mark.parametrize(("name", "writers"), [("cifar10", TENS), ("cifar100", HUNDREDS)])
def test_the_fingerprint_does_not_depend_on_the_packing(name, writers, tmp_path):
    sources = [written(name, write, tmp_path / write.__name__) for write in writers]
    for split in ("train", "test"):
        assert len({source.fingerprint(split) for source in sources}) == 1


def test_one_changed_pixel_changes_the_fingerprint_of_its_split_alone(tmp_path):
    before = written("cifar10", cifar10_binary, tmp_path)
    file = tmp_path / "cifar-10-batches-bin" / "data_batch_2.bin"
    content = bytearray(file.read_bytes())
    content[100] ^= 1
    file.write_bytes(content)
    after = opened("cifar10", tmp_path)
    assert before.fingerprint("train") != after.fingerprint("train")
    assert before.fingerprint("test") == after.fingerprint("test")


def test_the_archive_itself_may_be_named(tmp_path):
    cifar10_binary_archive(tmp_path)
    source = opened("cifar10", tmp_path / "cifar-10-binary.tar.gz")
    assert len(ids(source, "train", Modality.IMAGE)) == 20


@pytest.mark.parametrize("write", [cifar10_binary, cifar10_binary_archive])
def test_an_option_of_tables_is_refused_where_the_pictures_are_packed(write, tmp_path):
    write(tmp_path)
    with pytest.raises(SpecError, match=r"source.delimiter is for tables of classes, found none"):
        opened("cifar10", tmp_path, delimiter=";")


@pytest.mark.parametrize("write", [cifar10_binary, cifar10_python])
def test_a_part_of_the_files_is_refused_with_what_is_missing(write, tmp_path):
    write(tmp_path)
    (file,) = tmp_path.rglob("data_batch_3*")
    file.unlink()
    with pytest.raises(DatasetNotFoundError, match=r"lacks data_batch_3.*unpack all of cifar-10"):
        opened("cifar10", tmp_path)


def test_a_file_that_is_cut_off_is_refused(tmp_path):
    cifar10_binary(tmp_path)
    file = tmp_path / "cifar-10-batches-bin" / "data_batch_3.bin"
    file.write_bytes(file.read_bytes()[:-1])
    problem = r"data_batch_3\.bin: has 12,291 bytes, expected a multiple of 3,073"
    with pytest.raises(DatasetFormatError, match=problem):
        opened("cifar10", tmp_path)


def test_an_archive_that_is_cut_off_is_refused(tmp_path):
    cifar10_binary_archive(tmp_path)
    file = tmp_path / "cifar-10-binary.tar.gz"
    file.write_bytes(file.read_bytes()[:-1000])
    with pytest.raises(DatasetFormatError, match=r"cannot be read: .*; get it again"):
        opened("cifar10", tmp_path)


def test_a_class_beyond_the_last_is_refused(tmp_path):
    cifar10_binary(tmp_path)
    file = tmp_path / "cifar-10-batches-bin" / "test_batch.bin"
    file.write_bytes(b"\x0a" + file.read_bytes()[1:])
    with pytest.raises(DatasetFormatError, match=r"classes are 0 to 9, found \[\d, 10\]"):
        opened("cifar10", tmp_path)


@pytest.mark.parametrize(
    ("name", "classes", "problem"),
    [
        ("cifar10", TEN[:9], "holds 9 classes, and cifar10 has 10"),
        ("cifar10", (*TEN, "van"), "holds 11 classes, and cifar10 has 10"),
        ("cifar100", TEN, "holds 10 classes, and cifar100 has 100"),
    ],
)
def test_folders_of_other_classes_are_refused_and_sent_to_image_folder(
    name, classes, problem, tmp_path
):
    write_class_folders(tmp_path, count=1, classes=classes)
    with pytest.raises(DatasetFormatError, match=problem) as caught:
        opened(name, tmp_path)
    assert f"--data image-folder={tmp_path}" in str(caught.value)
    assert opened("image-folder", tmp_path).pairs("train").classes.names == classes


def test_an_archive_writes_nothing_wherever_its_members_point(tmp_path):
    root = tmp_path / "root"
    root.mkdir()
    archive = root / "cifar-10-binary.tar.gz"
    write_archive(archive, "../..", {"escaped.bin": b"x"})
    with tarfile.open(archive) as packed:
        assert packed.getnames() == ["../../escaped.bin"]
    with pytest.raises(DatasetNotFoundError, match="lacks data_batch_1"):
        opened("cifar10", root)
    assert [path.name for path in tmp_path.rglob("*")] == ["root", "cifar-10-binary.tar.gz"]


class _Hostile:
    """Make a folder when it is unpickled."""

    def __init__(self, place):
        self.place = place

    def __reduce__(self):
        return os.mkdir, (str(self.place),)


@pytest.mark.parametrize("protocol", range(5))
@pytest.mark.parametrize("file", ["meta", "train"])
def test_a_hostile_pickle_is_refused_and_not_run(file, protocol, tmp_path):
    root = tmp_path / "root"
    written("cifar100", cifar100_python, root)
    hostile = pickle.dumps({"fine_labels": _Hostile(tmp_path / "made")}, protocol=protocol)
    pickle.loads(hostile)
    (tmp_path / "made").rmdir()  # it would have been
    (root / "cifar-100-python" / file).write_bytes(hostile)
    with pytest.raises(DatasetFormatError, match=r"the name 'posix\.mkdir', which is no plain"):
        opened("cifar100", root)
    assert not (tmp_path / "made").exists()


def test_a_hostile_pickle_in_an_archive_is_refused_and_not_run(tmp_path):
    hostile = pickle.dumps(_Hostile(tmp_path / "made"), protocol=2)
    files = {"train": hostile, "test": hostile, "meta": hostile}
    write_archive(tmp_path / "cifar-100-python.tar.gz", "cifar-100-python", files)
    with pytest.raises(DatasetFormatError, match=r"nothing of it was run"):
        opened("cifar100", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["cifar-100-python.tar.gz"]


@pytest.mark.parametrize(
    ("opcodes", "refused"),
    [
        (b"cos\nsystem\n(S'true'\ntR.", "name 'os.system'"),
        (b"(S'true'\nios\nsystem\n.", "opcode INST"),
        (b"(cos\nsystem\nS'true'\no.", "opcode OBJ"),
        (b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x04true\x85R.", "name 'os.system'"),
        (b"\x80\x02cnumpy\ndtype\n)\x81.", "opcode NEWOBJ"),
        (b"\x80\x02\x82\x01.", "opcode EXT1"),
        (b"Pname\n.", "opcode PERSID"),
        (b"cnumpy\nndarray\n(tR.", "a call of ndarray"),
        (b"cnumpy\ndtype\n(S'O8'\nI0\nI1\ntR.", r"a call of dtype with \('O8', 0, 1\)"),
        (b"c_codecs\nencode\n(S'true'\nS'idna'\ntR.", "a call of encode"),
        (b"cnumpy\ndtype\n(S'a'\nI1\ndb.", "a state for what is no array"),
        (b"cnumpy\ndtype\n(N(S'a'\nI1\ndtb.", "a state for what is no array"),
    ],
)
def test_what_is_no_plain_data_is_named_and_refused(opcodes, refused):
    with pytest.raises(DatasetFormatError, match=f"has (the )?{refused}"):
        read_plain_pickle(opcodes, file=HERE)


DEEP = b")" + b"\x85" * 300_000  # an empty tuple in a tuple, and so on


@pytest.mark.parametrize(
    ("opcodes", "refused"),
    [
        (b"}" + DEEP + b"K\x01s.", "more than 1000 tuples"),
        (b"}U\x01x" + DEEP + b"s.", "more than 1000 tuples"),
        (b"cnumpy\ndtype\n" + b"]" * 1000 + b"a" * 999 + b"\x85R.", "no whole pickle"),
        (b"cnumpy\nndarray\n" + b"]" * 1000 + b"a" * 999 + b"\x85R.", "a call of ndarray"),
        (b"})K\x01s.", "a key of type tuple"),
        (b"}G" + bytes(8) + b"K\x01s.", "a key of type float"),
        (b"(]K\x01d.", "unhashable type: 'list'"),
        (b"}r\xff\xff\xff\x7f.", "place 2147483647 of the memo"),
    ],
)
def test_what_would_recurse_too_deep_is_refused(opcodes, refused):
    with pytest.raises(DatasetFormatError, match=refused):
        read_plain_pickle(b"\x80\x02" + opcodes, file=HERE)


def test_names_of_classes_that_are_no_texts_are_refused(tmp_path):
    cifar100_python(tmp_path)
    (meta,) = tmp_path.rglob("meta")
    meta.write_bytes(pickle.dumps({"fine_label_names": [*HUNDRED[:99], [[]]]}, protocol=2))
    with pytest.raises(DatasetFormatError, match="'fine_label_names' is no list of texts"):
        opened("cifar100", tmp_path)


@pytest.mark.parametrize(
    "opcodes",
    [
        b"",
        b".",
        b"}",
        b"(.",
        b"e.",
        b"}(U\x01au.",
        b"g7\n.",
        b"](]I1\ne.",
        b"\xff.",
        b"NR.",
        b"I1\nI2\n.",
        b"}(S'a'\nI1\ndb.",
    ],
)
def test_what_is_no_whole_pickle_is_refused(opcodes):
    with pytest.raises(DatasetFormatError, match="a-file"):
        read_plain_pickle(opcodes, file=HERE)


@pytest.mark.parametrize("protocol", range(5))
def test_plain_data_is_read_as_pickle_reads_it(protocol):
    shared = ["again", -3]
    plain = {
        "numbers": [0, 255, 256, 70000, -1, 2**40, 0.5, True, False, None],
        "texts": ["", "Zürich", b"x", bytes(range(256)), "x" * 300],
        "nested": {"a": (1, (2, 3), ()), "b": [[], {}], "c": (1, 2, 3, 4)},
        "twice": [shared, shared],
    }
    arrays = {
        "bytes": np.arange(12, dtype=np.uint8).reshape(3, 4),
        "integers": np.array([[1, -2], [3, 2**40]], dtype=">i8"),
        "floats": np.asfortranarray(np.linspace(0, 1, 6, dtype=np.float32).reshape(2, 3)),
    }
    found = read_plain_pickle(pickle.dumps({**plain, **arrays}, protocol=protocol), file=HERE)
    assert {key: found[key] for key in plain} == plain
    for key, array in arrays.items():
        np.testing.assert_array_equal(found[key], array)
        assert found[key].dtype == array.dtype


def test_texts_of_python_2_come_with_one_character_a_byte():
    found = read_plain_pickle(b"\x80\x02}" + old_text("key") + old_text(b"\xff") + b"s.", file=HERE)
    assert found == {"key": "\xff"}


@pytest.mark.skipif(
    not Path(os.environ.get("LIGHTALIGN_TEST_DATA", "nowhere"), "cifar10").is_dir(),
    reason="set LIGHTALIGN_TEST_DATA to a folder that holds cifar10",
)
def test_real_cifar10_in_folders_is_read_whole():
    source = opened("cifar10", Path(os.environ["LIGHTALIGN_TEST_DATA"], "cifar10"))
    assert {split: len(ids(source, split, Modality.IMAGE)) for split in source.splits()} == {
        "train": 3500,
        "val": 500,
        "test": 1000,
    }
    assert source.pairs("val").classes.names == TEN
    assert all(item.path.is_file() for item in source.items("test", Modality.IMAGE))
