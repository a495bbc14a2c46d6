"""How loops over a book are compiled, here and in the stages that read books."""

from components import compiling

# `_nrt=False`: such functions make no arrays, so none has to be counted while it is passed on; to count every
# array of a book at every row takes nine tenths of the time. Numba refuses one that makes an array.
# Divisions by 0 give what they give in NumPy.
compiled = compiling.compiled(nogil=True, error_model="numpy", _nrt=False)
# The same, as part of each loop that calls it: a call would pass on every array of the book.
inlined = compiling.compiled(nogil=True, error_model="numpy", _nrt=False, inline="always")
