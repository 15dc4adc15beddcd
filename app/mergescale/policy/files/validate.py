"""JSON Schema (draft 2020-12) errors as diagnostics at the key or value that caused them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from mergescale.policy.diagnostics import Diagnostic, Report, Span, nearest, quoted
from mergescale.policy.files import forms
from mergescale.policy.hujson import Kind, Value

Schema = Mapping[str, Any]

_CODE = "schema"
_KINDS = {"integer": "a whole number", "object": "an object", "array": "a list"}
#: Keyword of the schema -> what is wrong.
_MESSAGES = {
    "uniqueItems": "an element of the list is there twice",
    "minItems": "the list must not be empty",
    "minLength": "the text must not be empty",
    "maxLength": "the text is longer than {wanted} characters",
    "minimum": "{shown} is less than {wanted}",
    "maximum": "{shown} is more than {wanted}",
}


def validate(value: Value, schema: Schema) -> tuple[Diagnostic, ...]:
    """Return everything in which the document differs from its schema."""
    # Takes a tenth of a second to import, and the command line starts without it.
    from jsonschema import Draft202012Validator
    from jsonschema.validators import extend
    from referencing import Registry

    report = Report()
    # An empty registry retrieves nothing: a schema that points outside itself is a bug here.
    strict = extend(Draft202012Validator, {"pattern": _pattern})  # type: ignore[no-untyped-call]
    validator = strict(schema, registry=Registry())
    for error in validator.iter_errors(value.plain()):
        _tell(report, value, error)
    return report.diagnostics()


def _pattern(_: Any, wanted: str, instance: Any, __: Any) -> Iterator[Any]:
    """Check ``pattern`` as ECMA does: ``$`` is the very end, not before a last line feed."""
    from jsonschema import ValidationError

    if isinstance(instance, str) and not forms.fits(wanted, instance):
        yield ValidationError("does not match")


def _tell(report: Report, document: Value, error: Any) -> None:
    """Report one jsonschema.ValidationError."""
    at, place = _find(document, error.absolute_path)
    wanted = error.validator_value
    match error.validator:
        case "additionalProperties":
            _unknown_keys(report, at, error.schema)
        case "required":
            for name in wanted:
                if at.get(name) is None:
                    report.error(_CODE, _opening(at), f"{quoted(name)} is missing here")
        case "enum":
            _not_listed(report, at, wanted)
        case "type":
            report.error(_CODE, place, f"expected {_listed(_types(wanted))}, found {_shown(at)}")
        case other:
            expected = error.schema.get("patternErrorMessage", "what belongs here")
            message = _MESSAGES.get(other, "{shown} is not {expected}")
            text = message.format(shown=_shown(at), wanted=wanted, expected=expected)
            report.error(_CODE, place, text)


def _find(document: Value, path: Iterable[str | int]) -> tuple[Value, Span]:
    """Return the value at a jsonschema path, and its span."""
    at = document
    for step in path:
        match step:
            case str():
                at = at.get(step) or at
            case int():
                at = at.items[step]
    return at, at.span if at.kind not in {Kind.OBJECT, Kind.ARRAY} else _opening(at)


def _opening(value: Value) -> Span:
    """Return the span of the bracket only: a whole object underlined says nothing."""
    span = value.span
    return Span(
        span.file,
        span.start_line,
        span.start_column,
        span.start_line,
        span.start_column + 1,
        span.offset_start,
        span.offset_start + 1,
    )


def _unknown_keys(report: Report, at: Value, schema: Schema) -> None:
    known = schema.get("properties", {})
    patterns = schema.get("patternProperties", {})
    for member in at.members:
        if member.key in known or _matches(member.key, patterns):
            continue
        if patterns and not known:
            expected = schema.get("patternErrorMessage", "a name that belongs here")
            message = f"{quoted(member.key)} is not {expected}"
            report.error("schema.key", member.key_span, message)
        else:
            report.unknown("schema.key", member.key_span, "key", member.key, known)


def _matches(key: str, patterns: Iterable[str]) -> bool:
    return any(forms.fits(pattern, key) for pattern in patterns)


def _not_listed(report: Report, at: Value, listed: list[Any]) -> None:
    words = [str(one) for one in listed]
    close = nearest(str(at.scalar), words) if at.kind is Kind.STRING else None
    help_ = f"did you mean {quoted(close)}?" if close else ""
    report.error(_CODE, at.span, f"{_shown(at)} is not one of {_listed(words, 'and')}", help_)


def _types(wanted: str | list[str]) -> list[str]:
    names = [wanted] if isinstance(wanted, str) else wanted
    return [_KINDS.get(name, name if name == "null" else f"a {name}") for name in names]


def _listed(words: list[str], last: str = "or") -> str:
    *most, end = words
    return f"{', '.join(most)} {last} {end}" if most else end


def _shown(at: Value) -> str:
    match at.kind:
        case Kind.STRING:
            return quoted(str(at.scalar))
        case Kind.NUMBER:
            return str(at.scalar)
        case Kind.BOOLEAN:
            return "true" if at.scalar else "false"
        case Kind.OBJECT:
            return "an object"
        case Kind.ARRAY:
            return "a list"
        case Kind.NULL:
            return "null"
