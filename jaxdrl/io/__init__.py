"""Safe reading and writing of files, and safe output to a terminal."""
