"""Base classes of strategy parameters: pydantic models that reject a field without effect."""

from __future__ import annotations

import inspect
from collections.abc import Collection, Mapping
from functools import cache
from typing import Any, ClassVar, Self, TypeAlias, TypeVar, get_args

from pydantic import (
    BaseModel,
    ConfigDict,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    PydanticUserError,
    ValidationError,
    ValidatorFunctionWrapHandler,
    model_validator,
)
from pydantic.fields import FieldInfo
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import (
    CoreSchema,
    InitErrorDetails,
    PydanticCustomError,
    core_schema,
    to_json,
)

V = TypeVar("V", bound="Variants")

Use: TypeAlias = tuple[str, Mapping[str, Collection[object]]]
"""A field, and the values of other fields that give it an effect; one of them is enough."""


class Params(BaseModel):
    """Base of every strategy's parameters. Frozen; unknown fields and fields without effect are errors.

    `uses` lists the fields that have an effect only with certain values of other fields. If a field has several entries, each
    must hold. A field whose value is None leaves the choice to the strategy, so it may give any other field an effect. A field
    at its default is never an error. If one field decides which other fields exist, use `Variants`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    uses: ClassVar[tuple[Use, ...]] = ()

    @classmethod
    def all_fields(cls) -> Mapping[str, FieldInfo]:
        """Every field that a request may set, including those of all variants."""
        return cls.model_fields

    @property
    def chains(self) -> int:
        """Maximum number of drafts: `n`, or 1 without a field `n`.

        Override it if other fields decide the number.
        """
        n: int = getattr(self, "n", 1)
        return n

    @property
    def concurrency(self) -> int:
        """Maximum number of concurrent drafts: `width`, or all drafts without a field `width`.

        Override it if other fields decide the number. The default deadline allows for it.
        """
        return getattr(self, "width", None) or self.chains

    @property
    def sequential_calls(self) -> int:
        """Maximum number of full completions that a draft needs one after another, itself included.

        1 plus `max_rounds`, or 1 without a field `max_rounds`. The default budget and deadline allow for them. Override it
        if a round has several long calls, for example a review and a revision.
        """
        rounds: int = getattr(self, "max_rounds", None) or 0
        return 1 + rounds

    @model_validator(mode="after")
    def _each_has_an_effect(self) -> Self:
        for name, others in self.uses:
            given = {other: getattr(self, other) for other in others}
            is_used = any(given[o] is None or given[o] in values for o, values in others.items())
            value, default = getattr(self, name), type(self).model_fields[name].default
            if not is_used and value != default:
                raise _without_effect(name, value, default, given, others)
        return self


def _without_effect(
    name: str,
    value: object,
    default: object,
    given: Mapping[str, object],
    others: Mapping[str, Collection[object]],
) -> ValidationError:
    """Build the error of a field that has no effect with the values `given`, located at the field."""
    beside = " and ".join(f"{other} {each!r}" for other, each in given.items())
    chosen = " or ".join(f"{other} = {_listed(values)}" for other, values in others.items())
    message = f"{name}: has no effect with {beside}; omit it, or set {chosen}"
    problem = PydanticCustomError("without_effect", "{message}", {"message": message})
    details = InitErrorDetails(type=problem, loc=(name,), input=value)
    return ValidationError.from_exception_data(name, [details])


def _listed(values: Collection[object]) -> str:
    if isinstance(values, range):
        return f"{values.start} to {values.stop - 1}"
    return " or ".join(map(repr, values))


class Variants(Params):
    """Parameters in which one field, the discriminator, decides which other fields exist.

    A class that sets `discriminator` has the fields that all variants share. Each of its direct subclasses is a variant. A
    variant has the discriminator, a `Literal` of one or several strings, and the fields that have an effect with it. The
    discriminator has a default in exactly one variant and is required in the others::

        class Vote(Variants):
            discriminator = "stop"
            n: int = 8

        class Adaptive(Vote):
            stop: Literal["adaptive"] = "adaptive"
            confidence: float = 0.95

        class Window(Vote):
            stop: Literal["esc"]
            window: int = 5

    Register `Vote`. It has no instances: `Vote.model_validate({"stop": "esc"})` returns a `Window`, and without `stop` an
    `Adaptive`. `Vote.model_json_schema()` is a `oneOf` with a `discriminator`. A field of another variant is dropped if it has
    its default value; any other value is an error.
    """

    # Subclasses are defined after this class, so the validator is built on first use.
    model_config = ConfigDict(defer_build=True)
    discriminator: ClassVar[str]

    def __new__(cls, *_: Any, **__: Any) -> Self:
        """Create an instance of a variant. Raises TypeError for the union of variants."""
        if cls.is_union():
            raise TypeError(f"{cls.__name__} is a union of variants: use model_validate")
        return super().__new__(cls)

    @classmethod
    def is_union(cls) -> bool:
        """Return True for the union of variants, False for a variant."""
        return "discriminator" in vars(cls)

    @classmethod
    def variants(cls) -> Mapping[str, type[Self]]:
        """Return the variants by discriminator value, in order of definition."""
        return _variants(cls, len(cls.__subclasses__()))

    @classmethod
    def all_fields(cls) -> Mapping[str, FieldInfo]:
        """Every field that a request may set; for a field of several variants, that of the first."""
        if not cls.is_union():
            return cls.model_fields
        return _all_fields(cls, len(cls.__subclasses__()))

    @classmethod
    def _narrowed(cls, values: Any) -> Any:
        """Return the values with the discriminator and without defaulted fields of other variants."""
        if not isinstance(values, Mapping):
            return values
        by, variants = cls.discriminator, cls.variants()
        defaults = (each.model_fields[by] for each in variants.values())
        default = next(field.default for field in defaults if not field.is_required())
        tag = values.get(by, default)
        if not (isinstance(tag, str) and tag in variants):
            expected = {"expected": _listed(variants)}
            wrong = InitErrorDetails(type="literal_error", loc=(by,), input=tag, ctx=expected)
            raise ValidationError.from_exception_data(by, [wrong])
        dropped = cls.all_fields().keys() - variants[tag].model_fields.keys()
        for name in [each for each in values if each in dropped]:
            tags = [each for each in variants if name in variants[each].model_fields]
            value, usual = values[name], variants[tags[0]].model_fields[name].default
            if value != usual or isinstance(value, bool) != isinstance(usual, bool):
                raise _without_effect(name, value, usual, {by: tag}, {by: tags})
        return {by: tag} | {name: values[name] for name in values if name not in dropped}

    @classmethod
    def _read(cls, values: Any, read: ValidatorFunctionWrapHandler) -> Any:
        return _without_tags(cls._narrowed(values), read)

    @classmethod
    def _read_json(cls, values: Any, read: ValidatorFunctionWrapHandler) -> Any:
        return _without_tags(to_json(cls._narrowed(values), inf_nan_mode="constants"), read)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """The union of the variants; of a variant, its own schema."""
        if not cls.is_union():
            return handler(source)
        union = core_schema.tagged_union_schema(
            {tag: handler.generate_schema(variant) for tag, variant in cls.variants().items()},
            discriminator=cls.discriminator,
        )
        wrap = core_schema.no_info_wrap_validator_function
        # In strict mode pydantic accepts a list for a tuple from JSON only, so JSON input must stay JSON.
        return core_schema.json_or_python_schema(
            wrap(cls._read_json, core_schema.json_schema(union)),
            wrap(cls._read, union),
            ref=f"{cls.__module__}.{cls.__qualname__}:{id(cls)}",
        )

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        """Return the JSON schema; that of a union has a title and a description."""
        if schema["type"] != "json-or-python":
            return handler(schema)
        described = {"title": cls.__name__, "description": inspect.getdoc(cls)}
        return described | handler(schema["python_schema"])


# Every request reads the variants. `count` invalidates the cache when a subclass is added.
@cache
def _variants(union: type[V], count: int) -> Mapping[str, type[V]]:
    return {
        tag: variant
        for variant in union.__subclasses__()
        for tag in get_args(variant.model_fields[union.discriminator].annotation)
    }


@cache
def _all_fields(union: type[Variants], count: int) -> Mapping[str, FieldInfo]:
    found = dict(union.model_fields)
    for variant in _variants(union, count).values():
        for name, field in variant.model_fields.items():
            found.setdefault(name, field)
    return found


def _without_tags(values: Any, read: ValidatorFunctionWrapHandler) -> Any:
    """Validate the values of a tagged union; remove the union's tag from the location of errors."""
    try:
        return read(values)
    except ValidationError as error:
        lines = [
            InitErrorDetails(
                type=PydanticCustomError(each["type"], each["msg"], each.get("ctx")),
                loc=each["loc"][1:],
                input=each["input"],
            )
            for each in error.errors(include_url=False)
        ]
        raise ValidationError.from_exception_data(error.title, lines) from None


def problem_of(params: object) -> str | None:
    """Return the reason why a class cannot be the params of a strategy, or None."""
    if not (isinstance(params, type) and issubclass(params, Params)):
        return "params must be a subclass of Params"
    problem = None
    if issubclass(params, Variants) and params.is_union():
        problem = _problem_of_variants(params)
    problem = problem or _problem_of_defaults(params)
    if problem is not None:
        return f"params: {problem}"
    try:
        params.model_json_schema()
    except PydanticUserError as error:
        return f"params have no JSON schema: {error.message}"
    return None


def _problem_of_variants(params: type[Variants]) -> str | None:
    by, variants = params.discriminator, params.__subclasses__()
    fields = [each.model_fields[by] for each in variants if by in each.model_fields]
    tags = [get_args(field.annotation) for field in fields]
    texts = [tag for each in tags for tag in each if isinstance(tag, str)]
    if len(fields) < len(variants) or not all(tags) or len(set(texts)) < len(sum(tags, ())):
        return (
            f"{by} must be a Literal of strings in each variant, and no two variants may share one"
        )
    if sum(not field.is_required() for field in fields) != 1:
        return f"{by} must have a default in exactly one variant"
    return None


def _problem_of_defaults(params: type[Params]) -> str | None:
    fields = params.all_fields()
    by = params.discriminator if issubclass(params, Variants) else None
    for name, field in fields.items():
        if field.is_required() and name != by:
            return f"{name} must have a default, because a request may omit it"
    n = fields.get("n")
    if n is not None and not isinstance(n.get_default(call_default_factory=True), int | None):
        return "n must have an integer or None as its default"
    return None
