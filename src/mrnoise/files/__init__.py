"""Files: atomic writes, numbers as text."""
