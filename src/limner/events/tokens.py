"""Words of a text: what keywords, topics and the default item vectors are made of."""

from __future__ import annotations

import re
from functools import lru_cache

LONGEST = 4_000
"""Characters of a text that are read."""

_WORD = re.compile(r"[\u3400-\u9fff\uf900-\ufaff\u3040-\u30ff]+|[^\W\d_]+(?:['’][^\W\d_]+)*")

STOP = frozenset(
    """a about above after again all also always am an and any are as at back be because been
    before being below between both but by can can't cannot come could did do does doing don't
    done down during each even ever every few first for from further get go going got had has
    have having he her here hers herself him himself his how however i i'm i've if in into is
    isn't it it's its itself just last let like made make many may me might more most much must
    my myself never new no nor not now of off often on once one only or other our ours out over
    own per put quite rather really same see she should since so some still such take than that
    that's the their theirs them themselves then there these they thing things this those though
    through to too two under until up upon us use used very want was wasn't way we well were what
    when where whether which while who whom whose why will with within without would yes yet you
    your yours yourself""".split()
)
"""English words that say nothing of a subject."""

STOP_CJK = frozenset(
    "的了着过是在和与及或也都就还又很太更最不没有这那其之而且但因为所以如果虽然我你您他她它们个只把被让给"
    "对从向到于以吗呢吧啊哦呀哈嘛么什怎哪谁几些"
)
"""Chinese characters that are part of no keyword."""


@lru_cache(maxsize=20_000)
def tokens(text: str) -> tuple[str, ...]:
    """The different words of a text in order: lower case, without stop words.

    Chinese and Japanese, which do not part words, give overlapping pairs of characters (bigrams,
    the usual index terms of such texts), those with a stop character left out.

    >>> tokens("The black Tea, and more tea!")
    ('black', 'tea')
    >>> tokens("很好的绿茶杯")
    ('绿茶', '茶杯')
    """
    found: dict[str, None] = {}
    for run in _WORD.findall(text[:LONGEST].casefold()):
        if _is_cjk(run[0]):
            pairs = (run[i : i + 2] for i in range(len(run) - 1)) if len(run) > 1 else (run,)
            found.update((pair, None) for pair in pairs if not STOP_CJK.intersection(pair))
        else:
            word = run.replace("’", "'").removesuffix("'s")
            if len(word) > 1 and word not in STOP:
                found[word] = None
    return tuple(found)


def _is_cjk(character: str) -> bool:
    return (
        "\u3040" <= character <= "\u30ff"
        or "\u3400" <= character <= "\u9fff"
        or ("\uf900" <= character <= "\ufaff")
    )


def cjk_share(text: str) -> float:
    """Which share of the letters of a text is Chinese or Japanese; 0 without letters.

    >>> cjk_share("好 ok")
    0.3333333333333333
    """
    letters = [character for character in text if character.isalpha()]
    return sum(map(_is_cjk, letters)) / max(len(letters), 1)
