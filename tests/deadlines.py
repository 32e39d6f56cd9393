"""Hard limits on the time of a test that has threads or processes of its own."""

import threading


def within(seconds, function):
    """What `function` returns or raises; fails if it has done neither in time."""
    found = {}

    def run():
        try:
            found["returned"] = function()
        except BaseException as error:
            found["raised"] = error

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    assert not thread.is_alive(), f"not done after {seconds} s"
    if "raised" in found:
        raise found["raised"]
    return found["returned"]
