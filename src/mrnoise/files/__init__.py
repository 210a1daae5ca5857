"""Files: atomic writes, the door for files of others, numbers as text."""
