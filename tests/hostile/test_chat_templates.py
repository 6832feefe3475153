"""Chat templates that loop, grow, read attributes, or are nonsense."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from attempts import attempt, depths, fuzz, tell
from hypothesis import strategies as st

from backends.tiny import CHATML, build_tokenizer
from polypref.backends import template_limits
from polypref.backends.template_limits import unbounded
from polypref.backends.templates import PromptTemplate
from polypref.errors import ModelError

LOOP = "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}"


def check(text: str) -> None:
    PromptTemplate(build_tokenizer(template=text)).check()


@pytest.mark.parametrize(
    "added",
    [
        LOOP,
        "{% set ns = namespace(n=0) %}{% for a in range(99999) %}{% for b in range(99999) %}{% set ns.n = ns.n + 1 %}"
        "{% endfor %}{% endfor %}",
        "{% for m in messages %}{% for a in 'x'.join(range(9999)|map('string')) %}{% for b in range(99999) %}"
        "{% endfor %}{% endfor %}{% endfor %}",
    ],
    ids=["loops", "counts", "a long text"],
)
def test_a_template_that_loops_is_ended_and_the_next_one_renders(added: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(template_limits, "SECONDS", 0.2)
    with pytest.raises(ModelError, match=r"renders for more than .* s; mend the template"):
        check(added + CHATML)
    check(CHATML)
    tell("chat templates that loop", Counter(refused=1))


@pytest.mark.parametrize(
    "added",
    [
        "{{ 'a' * 10000000000 }}",
        "{% set n = 99999 %}{{ n * n }}",
        "{{ 10 ** 10 ** 10 }}",
        "{{ 'a'.center(10000000000) }}",
        "{{ '%s'|format(1) ~ 10000000000 }}",
        "{% macro m(x) %}{{ m(x) }}{% endmacro %}{{ m(1) }}",
        "{% for i in range(10**9) %}{% endfor %}",
        "{% for i in range(1000000000) %}{% endfor %}",
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ messages.__init__.__globals__ }}",
        "{{ raise_exception.__globals__['sys'] }}",
        "{{ cycler.__init__.__globals__.os.popen('id').read() }}",
        "{% include '/etc/passwd' %}",
        "{% import '/etc/passwd' as x %}",
        "{{ messages.append(messages) }}",
        "{{ '{0.__class__.__init__.__globals__}'.format(messages) ~ 0 }}",
        "{{ (" * 3000,
    ],
)
def test_a_template_that_grows_recurses_or_reads_attributes_is_refused(added: str) -> None:
    counts = Counter({attempt(lambda: check(added + CHATML)): 1})
    assert counts["refused"] == 1
    tell("chat templates that grow, recurse or read attributes", counts)


@pytest.mark.parametrize("text", ["{{ '  ' * depth }}", "{{ 3 * n }}", CHATML, "{{ x[1:] }} {{ a - b }}"])
def test_usual_arithmetic_is_let_through(text: str) -> None:
    assert unbounded(text) is None


PIECES = (
    "{% for m in messages %}",
    "{% endfor %}",
    "{{ m['content'] }}",
    "{{ m.role }}",
    "{% if loop.last %}",
    "{% endif %}",
    "{{",
    "{% set x = x ~ x %}",
    "{{ messages[99] }}",
    "{{ undefined.x }}",
    "{% generation %}",
    "{{ add_generation_prompt }}",
    "{{ messages|tojson }}",
    "{% break %}",
    "<|im_start|>",
    "<|im_end|>\n",
    "{{ 1 / 0 }}",
    "{{ strftime_now('%Y') }}",
    "{# ",
    "\0",
    "{{ raise_exception(1) }}",
    "{% set messages = none %}",
    "{{ bos_token * 2 }}",
    "{{ ''|int(messages) }}",
    CHATML,
)


@depths
def test_templates_of_random_pieces_are_refused_or_taken(examples: int, tmp_path: Path) -> None:
    texts = st.lists(st.sampled_from(PIECES), min_size=1, max_size=6).map("".join)
    counts = fuzz("chat templates, of random pieces", texts, check, examples)
    assert counts["refused"] > 0
