"""Rows by the row that they belong to."""

import numpy as np
import pytest

from lightalign.pipelines.inputs.row_groups import RowGroups


def test_groups_are_in_order_and_look_like_a_dictionary_of_tuples():
    """Row 4 comes twice in group 5, as a pair may in a table."""
    groups = RowGroups(np.array([5, 2, 5, 5]), np.array([4, 1, 0, 4]))
    assert dict(groups) == {2: (1,), 5: (0, 4, 4)}
    assert groups == {2: (1,), 5: (0, 4, 4)}
    assert (list(groups), len(groups)) == ([2, 5], 2)
    assert [column.tolist() for column in groups.columns] == [[2, 5, 5, 5], [1, 0, 4, 4]]
    for absent in (-1, 0, 3, 6):
        with pytest.raises(KeyError):
            groups[absent]
