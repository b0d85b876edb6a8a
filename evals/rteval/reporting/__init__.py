"""Reports of a judged run: files that people and other programs read. Nothing is measured or judged here."""
