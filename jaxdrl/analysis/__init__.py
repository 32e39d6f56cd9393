"""Results of runs: pictures, films, a live view, evaluations, exported policies."""
