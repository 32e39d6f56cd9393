"""Where the time of an update goes."""
