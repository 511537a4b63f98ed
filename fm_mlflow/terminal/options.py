"""The options of a command, from the settings that it takes; and `--help`, which lists them."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal, get_args, get_origin

import click
from pydantic.fields import FieldInfo

from fm_mlflow.errors import InputError
from fm_mlflow.settings.base import Settings

_KINDS = {int: "INTEGER", float: "NUMBER", str: "TEXT", bool: "[BOOLEAN]"}

OUTPUT_OPTIONS = "Output"


class SettingOption(click.Option):
    """An option that belongs to a group of options.

    Args:
        group: Heading that `--help` lists it under.
    """

    def __init__(self, *args: Any, group: str = OUTPUT_OPTIONS, **attributes: Any) -> None:
        super().__init__(*args, **attributes)
        self.group = group


class Command(click.Command):
    """A command whose `--help` lists options in groups."""

    def groups(self, ctx: click.Context) -> dict[str, list[tuple[str, str]]]:
        """Return the options with their explanations, by heading, in their order."""
        groups: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if isinstance(parameter, click.Option) and record is not None:
                groups.setdefault(getattr(parameter, "group", OUTPUT_OPTIONS), []).append(record)
        return groups

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write one list a group."""
        for title, records in self.groups(ctx).items():
            with formatter.section(title):
                formatter.write_dl(records)


class CommandGroup(click.Group):
    """A group of commands whose `--help` says the whole first sentence of each."""

    command_class = Command

    def format_commands(self, _: click.Context, formatter: click.HelpFormatter) -> None:
        """Write one line a command, or as many as its summary needs."""
        with formatter.section("Commands"):
            formatter.write_dl(
                [
                    (name, each.get_short_help_str(10_000))
                    for name, each in self.commands.items()
                    if not each.hidden
                ]
            )


def setting_options(config_class: type[Settings]) -> Iterator[click.Option]:
    """Make an option of each field of a settings class, in its order."""
    for name, field in config_class.model_fields.items():
        # `--dry-run` alone says true; `mlflow run` always gives a value.
        is_switch = field.annotation is bool
        more: dict[str, Any] = {"is_flag": False, "flag_value": "true"} if is_switch else {}
        extra = field.json_schema_extra
        if isinstance(extra, dict) and extra.get("repeated"):
            more["multiple"] = True
        yield SettingOption(
            [f"--{name.replace('_', '-')}", name],
            group=_group(config_class, name),
            metavar=kind(field),
            help=explanation(field),
            **more,
        )


def given_settings(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that were given, all texts of one that was repeated.

    The settings know the defaults of the others.
    """
    return {
        name: "; ".join(value) if isinstance(value, tuple) else value
        for name, value in options.items()
        if value is not None and value != ()
    }


def kind(field: FieldInfo) -> str:
    """Return what kind of value a setting takes, as `--help` names it."""
    annotation: Any = field.annotation
    if get_origin(annotation) is Literal:
        return "NAME"
    choices = get_args(annotation)
    words = [w for each in choices if get_origin(each) is Literal for w in get_args(each)]
    types = [each.__origin__ if get_origin(each) is Annotated else each for each in choices]
    return "/".join([_KINDS[next((each for each in types if each in _KINDS), annotation)], *words])


def explanation(field: FieldInfo) -> str:
    """Return a setting's description, its choices and its default."""
    said = [field.description or ""]
    if get_origin(field.annotation) is Literal:
        names = ", ".join(get_args(field.annotation))
        said += [] if ":" in said[0] else [f"One of {names}."]
    if field.default not in ("", None) and field.default is not False:
        said.append(f"[default: {field.default}]")
    return " ".join(said)


def _group(config_class: type[Settings], name: str) -> str:
    """Return the title of the class that brings a field: of the bases, the one that declares it."""
    return next(
        each.group
        for each in reversed(config_class.__mro__)
        if issubclass(each, Settings) and name in inspect.get_annotations(each)
    )


def usage_error(
    error: click.UsageError, arguments: Sequence[str], group: click.Group
) -> InputError:
    """Say in the form of our own errors what click refused.

    Args:
        error: What click says.
        arguments: The command line.
        group: The commands that there are.
    """
    context = error.ctx
    if isinstance(error, click.NoSuchOption):
        names = [each.opts[0] for each in (context.command.params if context else [])]
        accepted = f"one of the options {', '.join(names)}"
        if context and difflib.get_close_matches(error.option_name, names, n=1):
            # Thirty names would hide the one that was meant.
            accepted = f"what fm-mlflow {context.info_name} --help lists"
        return InputError(error.option_name, error.option_name, accepted, among=names)
    if isinstance(context and context.command, click.Group):
        given = next((word for word in arguments if not word.startswith("-")), "")
        shown = [name for name, command in group.commands.items() if not command.hidden]
        return InputError("command", given, f"one of {', '.join(shown)}", shown)
    if isinstance(error, click.MissingParameter) and error.param is not None:
        name = error.param.human_readable_name
        accepted = f"an id, as in fm-mlflow {context.info_name if context else ''} {name}"
        return InputError(name, "", accepted)
    accepted = "what --help lists"
    if error.message.startswith("Got unexpected extra argument"):
        accepted = "options, each with one value; a list has commas, as in --models mlp,cnn"
    return InputError("command line", error.format_message(), accepted)
