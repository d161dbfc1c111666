"""Rows of the tables that people have: delimited text, JSON or parquet, in any encoding.

`table_files` finds the files of one table and `table` opens them as column names and rows of cells;
`table_images` finds the pictures that rows name or hold, with their ids. The rest reads one format,
or counts the rows that cannot be read.
"""
