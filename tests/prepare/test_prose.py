"""Python's own prose without its markup."""

import re

from vlbert_jax.prepare import prose

TOPIC = """\
Lambdas
*******

   lambda_expr ::= "lambda" [parameter_list] ":" expression

Lambda expressions (sometimes called *lambda forms*) are used to create
non-
empty **functions**.  The "eval()" function is one of them. [1]

   def <lambda>(parameters):
       return expression

* New in version 3.5: A list of :ref:`things <that>` is in ``this`` place, it is not shown.

+-----------+
| A table is not the prose that we look for, as it is. |
+-----------+

The code of it in the following line is not to be kept as prose is:

>>> x = the_code(of, it, in, the=line)

Short of it.

Lambda expressions (sometimes called *lambda forms*) are used to create
non-empty functions.  The "eval()" function is one of them.
"""


def test_a_topic_by_hand(monkeypatch):
    monkeypatch.setattr(prose, "topics", {"lambda": TOPIC})
    train, validation = prose.passages()
    assert train == [
        "Lambda expressions (sometimes called lambda forms) are used to create non-empty"
        " functions. The eval function is one of them.",
        "A list of things is in this place, it is not shown.",
        "The code of it in the following line is not to be kept as prose is:",
    ]
    assert validation == []


def test_the_prose_of_this_python():
    train, validation = prose.passages()
    assert 700 < len(train) < 2500
    assert 0.05 < len(validation) / len(train) < 0.15
    passages = train + validation
    assert len(set(passages)) == len(passages)
    marks = re.compile(r"::=|>>>|\*\*\w+\*\*|``|\+--|  |\n|:\w+:`")
    for passage in passages:
        assert not marks.search(passage), passage
        assert len(passage.split()) >= 8
        assert passage[0].isupper()
    letters = [sum(c.isalpha() or c.isspace() for c in each) / len(each) for each in passages]
    assert min(letters) > 0.7
    assert sum(letters) / len(letters) > 0.93
    assert prose.passages() == (train, validation)


def test_held_out_passages_stand_together():
    """Texts are joined from passages that follow each other: long runs are held out, not bits."""
    number = [f"Passage {n} of the made text is as long as it is." for n in range(400)]
    train, validation = [], []
    for n, passage in enumerate(number):
        (validation if 180 <= n < 200 or 380 <= n < 400 else train).append(passage)
    topics, prose.topics = prose.topics, {"made": "\n\n".join(number)}
    try:
        assert prose.passages() == (train, validation)
    finally:
        prose.topics = topics
