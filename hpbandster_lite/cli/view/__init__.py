"""What the commands print: the status, tables, reports, and the console for them."""
