"""What is made of runs: pictures, films, a live view, evaluations, exported policies."""
