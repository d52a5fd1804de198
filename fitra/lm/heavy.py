"""Imports torch and transformers with the garbage collector off: they make a million objects and drop none, and
looking through them again and again took a fifth of the start-up."""

import gc

_was_on = gc.isenabled()
gc.disable()
try:
    import torch  # noqa: F401
    import transformers.modeling_utils  # noqa: F401
finally:
    if _was_on:
        gc.freeze()  # what is loaded stays: later collections need not look at it
        gc.enable()
