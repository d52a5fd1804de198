"""What two rooms know of judging without a model: refusals, and what rules can see in an answer.

said("عذرا، لا يمكنني مساعدتك في ذلك.").kind      # 'refuses'
figures("ما عاصمة مصر؟", "القاهرة.", CHAT)["total"]  # 0 to 1
"""

from fitra.judge.refusal import Said, said
from fitra.judge.rules import ANSWERS, CHAT, Profile, figures, measured, overlap, prose, topical

__all__ = ["ANSWERS", "CHAT", "Profile", "Said", "figures", "measured", "overlap", "prose", "said", "topical"]
