"""OpenAIGenerator against a real ``transformers serve`` process with a model that knows the alphabet.

It proves the transport. That server ignores n and answers one at a time, and refuses top_k.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from polypref.backends.base import Completion, ModelSpec, Request, Sampling, Usage
from polypref.backends.openai import OpenAIGenerator
from servers import alphabet_model, transformers_serving

pytest.importorskip("fastapi", reason="transformers serve needs the extra transformers[serving]")
pytest.importorskip("uvicorn", reason="transformers serve needs the extra transformers[serving]")
pytestmark = pytest.mark.timeout(180)


def letters(*texts: str) -> list[Request]:
    return [Request(text, [{"role": "user", "content": text}]) for text in texts]


def test_texts_finish_reasons_and_refusals_of_a_real_server(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One server for all, since starting it is what costs."""
    folder, log = tmp_path / "alphabet", tmp_path / "log"
    alphabet_model(folder)
    with transformers_serving(folder, log) as url:
        spec = ModelSpec(path=str(folder), backend="openai", url=url, concurrency=3, timeout=60.0, attempts=2)
        model = OpenAIGenerator(spec)
        try:
            found = model.generate(letters("w", "a", "cab", "y"), Sampling(max_tokens=5, temperature=0.0))
            assert found == [  # the end is a token, too
                [Completion("xyz", finish_reason="stop", usage=Usage(1, 4))],
                [Completion("bcdef", finish_reason="length", usage=Usage(1, 5))],
                [Completion("cdefg", finish_reason="length", usage=Usage(3, 5))],
                [Completion("z", finish_reason="stop", usage=Usage(1, 2))],
            ]

            three = model.generate(letters("w"), Sampling(n=3))
            assert three == [[Completion("xyz", usage=Usage(1, 4))] * 3]

            [[cut]] = model.generate(letters("a"), Sampling(stop=("de",)))
            assert (cut.text, cut.finish_reason) == ("bc", "stop")

            # It tells no log-probabilities: asked for them it still gives its text.
            told = Request("w", [{"role": "user", "content": "w"}], top_logprobs=5)
            [[untold]] = model.generate([told], Sampling(max_tokens=1, temperature=0.0))
            assert (untold.text, untold.error, untold.first_token) == ("x", None, None)

            [[refused]] = model.generate(letters("w"), Sampling(top_k=5))
            assert refused.text == ""
            assert refused.error == "server answered 422: Unexpected fields in the request: {'top_k'}"

            elsewhere = OpenAIGenerator(spec.model_copy(update={"path": "another"}))
            [[unknown]] = elsewhere.generate(letters("w"), Sampling())
            assert unknown.error is not None
            assert unknown.error.startswith("server answered 400: Server is pinned to ")
        except BaseException:
            with capsys.disabled():
                print(f"\n--- transformers serve ---\n{log.read_text()}")
            raise
