"""What commands show: the live view, tables, and the terminal that they write to."""
