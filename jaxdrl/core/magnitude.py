"""How large a number may be to enter running statistics and returns. This module imports no jax.

Being finite is not enough: float32 ends at 3.4e38, and squares of numbers above 1.8e19 overflow it.
"""

MAX_MAGNITUDE = 1e15
"""The largest usable number: the squares of ten million such numbers can be added in float32.
Larger ones are counted and left out, as NaN and infinity are."""

UNUSABLE = f"NaN, infinite or beyond {MAX_MAGNITUDE:.0e}".replace("+", "")
"""What is left out, in words for messages."""
