"""The bases of every options tree: what a model is and how it is opened, and how answers are drawn."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    field_validator,
    model_validator,
)

from polypref import languages
from polypref.backends.released import hub_id
from polypref.errors import InputError


def _tag(code: str) -> str:
    try:
        return languages.normalise(code)
    except InputError as error:
        raise ValueError(str(error)) from None


Tag = Annotated[str, AfterValidator(_tag)]
"""A language in an options tree; any code or English name becomes its BCP-47 tag."""


class Options(BaseModel):
    """The base of every options tree: frozen, and unknown keys are mistakes.

    ``BESIDE`` names the fields that change how fast or where something is computed, never what: a shard stays good
    when they change.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    BESIDE: ClassVar[frozenset[str]] = frozenset()

    def identity(self, fingerprint: Callable[[ModelSpec], str]) -> dict[str, Any]:
        """What the outcome depends on, as a JSON object: every model is its fingerprint, ``BESIDE`` is left out."""
        own = {"model": fingerprint(self)} if isinstance(self, ModelSpec) else {}
        return own | {
            name: _identity(getattr(self, name), fingerprint)
            for name in type(self).model_fields
            if name not in self.BESIDE
        }


def _identity(value: Any, fingerprint: Callable[[ModelSpec], str]) -> Any:
    if isinstance(value, Options):
        return value.identity(fingerprint)
    if isinstance(value, Mapping):
        return {str(k): _identity(v, fingerprint) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_identity(v, fingerprint) for v in value]
    return value


class ModelSpec(Options):
    """Which model, and how it is opened. A bare string is its ``path``."""

    BESIDE = frozenset(
        {"path", "name", "adapter", "revision", "device", "attention", "batch_tokens", "compile"}
        | {"url", "api_key_env", "concurrency", "timeout", "attempts", "price"}
    )

    path: str = Field(description="a folder, a hub name, a name of polypref ls models, or the model's name on a server")
    name: str | None = Field(None, description="how results call it")
    backend: Literal["hf", "vllm", "openai", "fake"] = Field(
        "hf", description="transformers, vllm in this process, a server, or a fake; a server only generates"
    )
    adapter: str | None = Field(None, description="a LoRA adapter (folder or hub name) on top of path")
    revision: str | None = Field(None, description="a branch, tag or commit of the hub; of a server, its weights' name")
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto", description="bfloat16 where CUDA has it, else float32"
    )
    device: str | None = Field(None, description="cpu, cuda, cuda:1, …; the best there is when left out")
    attention: str | None = Field(None, description="attn_implementation of transformers")
    batch_tokens: int | None = Field(
        None, gt=0, description="tokens of one forward pass, padding included; 16384, to score on a CPU 1024"
    )
    compile: bool = Field(False, description="compile the layers for scoring (torch.compile) where a compiler is")
    trust_remote_code: bool = Field(False, description="run the code that comes with a model")
    chat_template_kwargs: dict[str, Any] = Field(
        default_factory=dict, description="arguments of the chat template, e.g. {enable_thinking: false}"
    )
    url: str | None = Field(None, description="base URL of an OpenAI-compatible server, ending with /v1")
    api_key_env: str = Field("OPENAI_API_KEY", description="the environment variable that holds the key")
    concurrency: int = Field(32, gt=0, description="requests in flight at once (openai)")
    timeout: float = Field(600.0, gt=0, description="seconds for one request (openai)")
    attempts: int = Field(5, gt=0, description="tries for one request before it is recorded as failed (openai)")
    price: tuple[NonNegativeFloat, NonNegativeFloat] | None = Field(
        None, description="of a million tokens asked and of a million answered, in any currency (openai)"
    )

    @model_validator(mode="before")
    @classmethod
    def _named(cls, value: Any) -> Any:
        """A bare string is a path; a released checkpoint's name becomes its hub id, except where a server serves it."""
        value = {"path": value} if isinstance(value, str) else value
        if not isinstance(value, dict) or value.get("backend", "hf") not in ("hf", "vllm"):
            return value
        return value | {"path": hub_id(value["path"])} if isinstance(value.get("path"), str) else value

    @field_validator("path")
    @classmethod
    def _not_empty(cls, value: str) -> str:
        if not value.strip():
            raise ValueError("must name a folder, a hub model or a server's model")
        return value


class Sampling(Options):
    """How answers are drawn. A field that is None is not sent to a server, and has the library's default elsewhere."""

    n: int = Field(1, gt=0, description="answers a prompt")
    temperature: float | None = Field(None, ge=0, description="0 is greedy")
    top_p: float | None = Field(None, gt=0, le=1, description="share of the probability that is kept")
    top_k: int | None = Field(None, gt=0, description="tokens that are kept")
    repetition_penalty: float | None = Field(None, gt=0, description="1 is none")
    max_tokens: int = Field(512, gt=0, description="tokens of one answer")
    stop: tuple[str, ...] = Field((), description="texts that end an answer and are left out of it")
    seed: int = Field(0, description="of the samples' noise")
