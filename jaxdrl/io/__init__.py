"""Files read and written safely, and what may reach a terminal."""
