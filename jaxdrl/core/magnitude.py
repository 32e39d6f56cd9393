"""How large numbers may be that running statistics and returns take. Importing it imports no jax.

Finite is not enough: float32 ends at 3.4e38, and the squares of numbers above 1.8e19 are beyond it.
"""

MAX_MAGNITUDE = 1e15
"""The largest: the squares of ten million such numbers can be added in float32. Larger ones are
counted and left out, as NaN and infinity are."""

UNUSABLE = f"NaN, infinite or beyond {MAX_MAGNITUDE:.0e}".replace("+", "")
"""What is left out, in words."""
