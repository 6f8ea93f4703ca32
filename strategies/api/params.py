"""What a strategy's parameters are: pydantic models, in which a field without effect is an error."""

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
"""A field, and what gives it an effect: any of these other fields with any of these values."""


class Params(BaseModel):
    """The base of every strategy's parameters: frozen; an unknown field is an error, and so is one without effect.

    `uses` lists the fields that have an effect only beside others; of several entries for one field each must hold.
    None leaves a choice to the strategy, so that anything may come of it. A field at its default is never an error. Where
    one field decides which others have an effect, see `Variants`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    uses: ClassVar[tuple[Use, ...]] = ()

    @classmethod
    def all_fields(cls) -> Mapping[str, FieldInfo]:
        """Every field that a request may name, those of all variants included."""
        return cls.model_fields

    @property
    def chains(self) -> int:
        """Drafts that are begun at most: `n`, unless the strategy has a default of n that depends on others."""
        n: int = getattr(self, "n", 1)
        return n

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
    """The error of a field whose value has no effect beside what is `given`, located at the field."""
    beside = " and ".join(f"{other} {each!r}" for other, each in given.items())
    chosen = " or ".join(f"{other} {_listed(values)}" for other, values in others.items())
    message = f"{name}: has no effect with {beside}; leave it {default!r}, or choose {chosen}"
    problem = PydanticCustomError("without_effect", "{message}", {"message": message})
    details = InitErrorDetails(type=problem, loc=(name,), input=value)
    return ValidationError.from_exception_data(name, [details])


def _listed(values: Collection[object]) -> str:
    if isinstance(values, range):
        return f"{values.start} to {values.stop - 1}"
    return " or ".join(map(repr, values))


class Variants(Params):
    """Parameters of which one field, the discriminator, decides which of the others there are.

    A class that names its `discriminator` holds the fields that all variants share, and each of its direct subclasses is
    a variant: the discriminator as a `Literal` of one or several texts, which is required in all variants but the
    default one, and the fields that have an effect with it::

        class Vote(Variants):
            discriminator = "stop"
            n: int = 8

        class Adaptive(Vote):
            stop: Literal["adaptive"] = "adaptive"
            confidence: float = 0.95

        class Window(Vote):
            stop: Literal["esc"]
            window: int = 5

    `Vote` is what is registered. It has no instances: `Vote.model_validate({"stop": "esc"})` returns a `Window`, without
    `stop` an `Adaptive`, and `Vote.model_json_schema()` is a `oneOf` with a `discriminator`. A field of another variant is
    dropped at its default, and an error at any other value.
    """

    # The variants are known once their module is imported: the validator is built on first use.
    model_config = ConfigDict(defer_build=True)
    discriminator: ClassVar[str]

    def __new__(cls, *_: Any, **__: Any) -> Self:
        """Raise TypeError for a class that stands for its variants."""
        if cls.is_union():
            raise TypeError(f"{cls.__name__} stands for its variants: use model_validate")
        return super().__new__(cls)

    @classmethod
    def is_union(cls) -> bool:
        """Does the class stand for its variants?"""
        return "discriminator" in vars(cls)

    @classmethod
    def variants(cls) -> Mapping[str, type[Self]]:
        """The variants by the value of the discriminator, in the order of their definition."""
        return _variants(cls, len(cls.__subclasses__()))

    @classmethod
    def all_fields(cls) -> Mapping[str, FieldInfo]:
        """Every field that a request may name; of one that several variants have, the first."""
        if not cls.is_union():
            return cls.model_fields
        return _all_fields(cls, len(cls.__subclasses__()))

    @classmethod
    def _narrowed(cls, values: Any) -> Any:
        """The values with the discriminator, and without the defaults of other variants' fields."""
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
        # Strict validation takes a list for a tuple, say, in JSON only, and what a function passes on is Python's.
        return core_schema.json_or_python_schema(
            wrap(cls._read_json, core_schema.json_schema(union)),
            wrap(cls._read, union),
            ref=f"{cls.__module__}.{cls.__qualname__}:{id(cls)}",
        )

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        """The JSON schema; a union's has a title and a description too."""
        if schema["type"] != "json-or-python":
            return handler(schema)
        described = {"title": cls.__name__, "description": inspect.getdoc(cls)}
        return described | handler(schema["python_schema"])


# Asked for by every request; the number of subclasses tells whether a variant was added since.
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
    """What a tagged union reads; its errors are located in the values, without the union's tag."""
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
    """Why a class could not be served as a strategy's params, or None."""
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
            f"{by} must be a Literal of texts in each variant, of others than in the other variants"
        )
    if sum(not field.is_required() for field in fields) != 1:
        return f"{by} must have a default in one variant, and in no other"
    return None


def _problem_of_defaults(params: type[Params]) -> str | None:
    fields = params.all_fields()
    by = params.discriminator if issubclass(params, Variants) else None
    for name, field in fields.items():
        if field.is_required() and name != by:
            return f"{name} must have a default, since a request may name none"
    n = fields.get("n")
    if n is not None and not isinstance(n.get_default(call_default_factory=True), int | None):
        return "n must be a whole number or None"
    return None
