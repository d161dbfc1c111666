"""What stands below the pictures of a contact sheet."""

import numpy as np
import pytest
from PIL import Image

from lightalign.pipelines.search.contact_sheet import Cell, write_sheet


def drawn(folder, name):
    path = folder / "sheet.png"
    cell = Cell(picture=Image.new("RGB", (240, 180)), text="", title="1. 0.500", name=name)
    write_sheet(path, Cell(picture=None, text="a text", title="query", name=""), [cell])
    with Image.open(path) as sheet:
        return np.asarray(sheet)


@pytest.mark.parametrize("length", [40, 400])
def test_long_ids_that_differ_at_the_end_look_different(tmp_path, length):
    first, second = (drawn(tmp_path, f"{'photo' * (length // 5)}.jpg#{part}") for part in (1, 2))
    assert not np.array_equal(first, second)
