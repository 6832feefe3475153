"""Fakes of every protocol: deterministic to the byte, instant, with nothing heavy imported.

Stage tests and ``recipes/smoke.yaml`` run on them. A fake model's path is ``fake``, any name that begins with it, or
a folder that a fake training wrote; options follow a question mark, ``fake-policy?version=2&errors=0.1``:

    version   another version is another model (0)
    errors    share of completions that fail (0)
    length    share of completions that are cut off at their length (0.1)
    stray     share of completions in another language (0.05)
    unclosed  share of translations without their closing tag (0.05)
    judges    1: a judge's question is answered with a verdict, the same for two answers in either order (0)
    sleep     seconds that each request, answer or training step takes (0)

What a fake gives depends on the name, the options but for ``sleep``, and the request; on nothing else.
"""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

from polypref import languages
from polypref.backends.base import (
    Answer,
    Completion,
    Identified,
    Judged,
    Logprob,
    ModelSpec,
    Pooling,
    PreferenceRow,
    Progress,
    Request,
    Sampling,
    Text,
)
from polypref.backends.reward_training import RewardRow, RewardTrainOptions
from polypref.backends.training import TrainOptions
from polypref.errors import InputError, ModelError, did_you_mean

OPTIONS = {"version": 0.0, "errors": 0.0, "length": 0.1, "stray": 0.05, "unclosed": 0.05, "judges": 0.0, "sleep": 0.0}
WORDS = {
    "en": ["the", "river", "runs", "to", "sea", "and", "some", "birds", "follow", "it", "home"],
    "es": ["el", "río", "corre", "al", "mar", "y", "unos", "pájaros", "lo", "siguen", "a", "casa"],
    "de": ["der", "Fluss", "läuft", "zum", "Meer", "und", "einige", "Vögel", "folgen", "ihm", "heim"],
    "fr": ["le", "fleuve", "court", "vers", "la", "mer", "et", "des", "oiseaux", "le", "suivent"],
    "ru": ["река", "бежит", "к", "морю", "и", "птицы", "летят", "за", "ней", "домой"],
    "sw": ["mto", "unakimbia", "baharini", "na", "ndege", "wanaufuata", "hadi", "nyumbani"],
}
OTHER_WORDS = ["la", "mi", "tu", "sa", "re", "ko", "ni", "ve", "do", "shi"]
MODEL_TYPE = "polypref-fake"
_TO_TRANSLATE = re.compile(r".*<sentence>(.*)</sentence>", re.DOTALL)
_JUDGED = re.compile(r"<answer (?:([AB]) )?(\w+)>\n(.*?)\n</answer (?:\1 )?\2>", re.DOTALL)
_MARKER = re.compile(r"\[([A-Za-z]{2,3}(?:-[A-Za-z0-9]{2,8})*)\]")


def _digest(*parts: Any) -> bytes:
    return hashlib.blake2b(json.dumps(parts, ensure_ascii=False, sort_keys=True).encode(), digest_size=32).digest()


def _share(*parts: Any) -> float:
    """A number in [0, 1) by hash."""
    return int.from_bytes(_digest(*parts)[:4], "big") / 2**32


class _FakeModel:
    """The name and the options of a fake model, read from its path."""

    def __init__(self, spec: ModelSpec) -> None:
        name, _, query = spec.path.partition("?")
        if (Path(spec.path) / "config.json").is_file():
            config = json.loads((Path(spec.path) / "config.json").read_text(encoding="utf-8"))
            if config.get("model_type") != MODEL_TYPE:
                raise ModelError(f"{spec.path} is a checkpoint of a real model; open it with backend: hf")
            name, self.options = config["name"], OPTIONS | config["options"]
        elif name.startswith("fake"):
            self.options = _read_options(spec.path, query)
        else:
            raise ModelError(
                f"{spec.path!r} is no fake model; write fake, fake?version=1 or a folder that a fake training wrote,"
                " or choose another backend"
            )
        self.name: str = name
        self.thinks = bool(spec.chat_template_kwargs.get("enable_thinking"))
        # What came later is heard only where it was asked for, so that older fakes stay who they were.
        told = ("version", "errors", "length", "stray")
        heard = {k: v for k, v in self.options.items() if k in told or (k != "sleep" and v != OPTIONS[k])}
        self.fingerprint: str = "fake-" + _digest(name, heard, spec.adapter, self.thinks).hex()[:24]

    def sleep(self) -> None:
        if self.options["sleep"]:
            time.sleep(self.options["sleep"])


def _read_options(path: str, query: str) -> dict[str, float]:
    options = dict(OPTIONS)
    for key, value in parse_qsl(query, keep_blank_values=True):
        if key not in options:
            raise ModelError(f"{path!r} has no option {key}: {did_you_mean(key, options)}")
        try:
            options[key] = float(value)
        except ValueError:
            raise ModelError(f"{path!r}: {key} is {value!r}; it must be a number") from None
    return options


def _language(request: Request) -> str:
    """The language to answer in: the last part of the request's id that is a tag (``uf-1/es``), else the marker
    ``[es]`` in the prompt, else English."""
    import langcodes

    for part in reversed(request.id.split("/")[1:]):
        if langcodes.tag_is_valid(part):
            return languages.normalise(part)
    found = _MARKER.search(str(request.messages[-1]["content"]))
    return found[1] if found else "en"


class FakeGenerator(_FakeModel):
    """Answers in words of the prompt's language, after the marker that ``FakeLanguageIdentifier`` reads."""

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[list[Completion]]:
        """Like ``Generator.generate``; greedy sampling gives n equal answers."""
        out = []
        for request in requests:
            self.sleep()
            out.append([self._sample(request, sampling, k) for k in range(sampling.n)])
        return out

    def _sample(self, request: Request, sampling: Sampling, k: int) -> Completion:
        noise = _digest(self.fingerprint, list(request.messages))
        if sampling.temperature != 0:
            noise = _digest(noise.hex(), sampling.seed, request.id, k)
        if _share(noise.hex(), "error") < self.options["errors"]:
            return Completion(text="", finish_reason=None, error="the fake model was asked to fail")
        if self.options["judges"] and (verdict := self._verdict(str(request.messages[-1]["content"]))):
            return Completion(verdict)
        lang = _language(request)
        asked = _TO_TRANSLATE.search(str(request.messages[-1]["content"]))
        if asked:
            return self._translation(asked[1], lang, request.prefill, noise.hex())
        if _share(noise.hex(), "stray") < self.options["stray"]:
            lang = "en" if lang != "en" else "es"
        known = WORDS.get(lang, OTHER_WORDS)
        length = 3 + noise[0] % 18
        words = [f"[{lang}]"] + [known[noise[i % 32] % len(known)] for i in range(1, length)]
        cut = _share(noise.hex(), "length") < self.options["length"]
        words = words[: min(sampling.max_tokens, length // 2 if cut else length)]
        return Completion(
            text=" ".join(words),
            token_ids=tuple(int.from_bytes(_digest(word)[:2], "big") for word in words),
            finish_reason="length" if len(words) < length else "stop",
            thinking=f"[en] what would {noise.hex()[:4]} say" if self.thinks else None,
        )

    def _verdict(self, question: str) -> str | None:
        """The better of two answers, or a number from 1 to 10, by a hash of the answers alone."""
        worth = {letter or "": _share(self.fingerprint, text) for letter, _, text in _JUDGED.findall(question)}
        if worth.keys() == {"A", "B"}:
            return f"[[{max(worth, key=lambda letter: worth[letter])}]]" if len(set(worth.values())) > 1 else "[[C]]"
        return f"[[{1 + int(10 * worth[''])}]]" if worth.keys() == {""} else None

    def _translation(self, text: str, lang: str, prefill: str, noise: str) -> Completion:
        """The text word by word, its marker that of ``lang``, as a model that was asked for tags answers."""
        known = WORDS.get(lang, OTHER_WORDS)
        places = {word: place for words in (OTHER_WORDS, *WORDS.values()) for place, word in enumerate(words)}
        translated = re.sub(
            r"\w+", lambda word: known[places[word[0]] % len(known)] if word[0] in places else word[0], text
        )
        marked = _MARKER.sub(f"[{lang}]", translated)
        closing = "" if _share(noise, "unclosed") < self.options["unclosed"] else "</translated>"
        return Completion(("" if prefill else "<translated>") + marked + closing)


class FakeLogprobs(_FakeModel):
    """A negative log-probability a word, by hash of the model, the prompt, the word and its place. Whole multiples of
    2⁻¹³, so that sums are exact in any order."""

    def logprobs(self, answers: Sequence[Answer]) -> list[Logprob]:
        """Like ``LogprobModel.logprobs``; a finished answer has one token more."""
        out = []
        for answer in answers:
            self.sleep()
            words = answer.text.split() + (["<end>"] if answer.finished else [])
            prompt = _digest(self.fingerprint, list(answer.messages)).hex()
            shares = (_digest(prompt, place, word) for place, word in enumerate(words))
            steps = sum(1 + int.from_bytes(share[:2], "big") for share in shares)
            out.append(Logprob(sum=-steps / 8192, tokens=len(words)))
        return out


class FakeScorer(_FakeModel):
    """A score in [0, 1) by hash of the model, the prompt and the answer."""

    def __init__(self, spec: ModelSpec | None = None) -> None:
        super().__init__(spec or ModelSpec(path="fake", backend="fake"))

    def score(self, answers: Sequence[Judged]) -> list[float]:
        """Like ``Scorer.score``."""
        out = []
        for answer in answers:
            self.sleep()
            out.append(_share(self.fingerprint, list(answer.messages), answer.text))
        return out


class FakeHiddenStates(_FakeModel):
    """Sixteen numbers in [−1, 1) by hash of the text, the layer and the pooling, and a quarter as much of the model."""

    layers = 4

    def hidden(self, texts: Sequence[Text], layers: Sequence[int], pooling: Pooling) -> list[Any]:
        """Like ``HiddenStates.hidden``; layer 0 is the same in all fakes, an embedding that no training moves."""
        import numpy

        def vector(*parts: Any) -> Any:
            return numpy.frombuffer(_digest(*parts), dtype="<u2").astype(numpy.float32) / 2**15 - 1

        def state(text: Text, layer: int) -> Any:
            said = [list(text.messages), text.answer, layer, pooling]
            own = 0.25 * vector(self.fingerprint, *said) if layer else 0
            return vector(*said) + own

        numbers = [range(self.layers + 1)[layer] for layer in layers]
        return [numpy.array([state(text, n) for text in texts]).astype(numpy.float32) for n in numbers]


class FakeLanguageIdentifier:
    """Reads the marker that ``FakeGenerator`` writes; a text without one has no language."""

    fingerprint = "fake-marker-1"

    def __init__(self, tags: Sequence[str] = ()) -> None:
        self.languages = tuple(tags)

    def identify(self, texts: Sequence[str]) -> list[Identified]:
        """Like ``LanguageIdentifier.identify``."""
        found = (_MARKER.search(text) for text in texts)
        return [Identified(match[1] if match else None, 1.0 if match else 0.0, "fake") for match in found]


class FakeTrainer:
    """Writes a checkpoint folder that a fake ``ModelSpec`` opens; its fingerprint follows rows, start and options."""

    fingerprint = "fake-trainer-1"

    def train(
        self, rows: Sequence[PreferenceRow], start: ModelSpec, options: TrainOptions, folder: Path, progress: Progress
    ) -> dict[str, Any]:
        """Like ``Trainer.train``: as many steps as the options ask, each a call of ``progress``."""
        if not rows:
            raise InputError("no preference pair is left to train on; see the reasons counted by the pair stage")
        model = _FakeModel(start)
        seen = _digest(model.fingerprint, [asdict(row) for row in rows], options.model_dump(mode="json"))
        steps = options.max_steps or max(1, round(len(rows) * options.epochs / options.batch_size))
        curve = []
        for step in range(1, steps + 1):
            model.sleep()
            loss = 0.25 + 0.5 / step + _share(seen.hex(), step) / 64
            curve.append({"step": step, "loss": loss, "nll": loss / 2, "reward_margin": 1 - loss, "accuracy": 0.75})
            progress("train", step, steps)
        _write(folder, seen, model.options)
        return {
            "rows": len(rows),
            "steps": steps,
            "tokens": sum(len(answer.text.split()) for row in rows for answer in (row.chosen, row.rejected)),
            "seconds": 0.0,
            "dropped": {},
            "languages": dict(sorted(Counter(row.lang for row in rows).items())),
            "curve": curve,
        }


class FakeRewardTrainer:
    """Writes a folder that ``FakeScorer`` opens; its fingerprint follows rows, start and options."""

    fingerprint = "fake-reward-trainer-1"

    def train(
        self,
        rows: Sequence[RewardRow],
        validation: Sequence[RewardRow],
        start: ModelSpec | None,
        options: RewardTrainOptions,
        folder: Path,
        progress: Progress,
    ) -> dict[str, Any]:
        """Like ``RewardTrainer.train``: as many steps as the options ask; the last is selected."""
        if not rows:
            raise InputError("no row is left to train on; look at the preference data")
        model = _FakeModel(start or ModelSpec(path="fake", backend="fake"))
        seen = _digest(model.fingerprint, [asdict(row) for row in rows], options.model_dump(mode="json"))
        steps = options.max_steps or max(1, round(len(rows) * options.epochs / options.batch_size))
        curve = []
        for step in range(1, steps + 1):
            model.sleep()
            loss = 0.25 + 0.5 / step + _share(seen.hex(), step) / 64
            curve.append({"step": step, "loss": loss, "accuracy": 1 - loss, "margin": 1 - loss})
            progress("train", step, steps)
        judged = [{name: curve[-1][name] for name in ("step", "loss", "accuracy")}] if validation else []
        _write(folder, seen, model.options)
        return {
            "rows": len(rows),
            "validation_rows": len(validation),
            "steps": steps,
            "seconds": 0.0,
            "truncated": {"train": 0, "validation": 0},
            "dropped": {},
            "languages": dict(sorted(Counter(row.lang for row in rows).items())),
            "curve": curve,
            "validation": judged,
            "selected_step": steps,
            "head": "new",
            "pad_token": None,
        }


def _write(folder: Path, seen: bytes, options: dict[str, float]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    config = {"model_type": MODEL_TYPE, "name": f"fake-{seen.hex()[:16]}", "options": options}
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
