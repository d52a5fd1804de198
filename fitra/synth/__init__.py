"""Text made by a model: translations, answers, native instructions.

Every row ends in one state with a reason:

    accept       every gate passed
    refused      a reply came that the gates do not let pass, or the row was not to be asked (another language, a
                 duplicate, a row of an evaluation set)
    quarantine   the row could not be read or asked, or no usable reply came

What is made carries the model's name, and the worse of the licence class of what it was made from and the one that the
model's terms leave.
"""

from fitra.synth.answers import answer, plan_answer
from fitra.synth.native import instruct, plan_instruct
from fitra.synth.translation import plan_translate, translate

__all__ = ["answer", "instruct", "plan_answer", "plan_instruct", "plan_translate", "translate"]
