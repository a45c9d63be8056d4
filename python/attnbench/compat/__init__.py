"""Functions of published packages by their names and signatures: only the import changes."""
