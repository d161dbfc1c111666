"""One evaluation task a file."""
