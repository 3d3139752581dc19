"""What is known of one setting, and the field of a Settings class that carries it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, get_args

import attrs

Kind = Literal["str", "int", "float", "bool", "list", "dict", "path", "url"]
KINDS: tuple[str, ...] = get_args(Kind)
METADATA = "openrt_core.settings"
"""Key of the metadata of an attrs field under which its Variable lies."""
APPLICATION = "application"
CORE = "openrt-core"


@attrs.frozen(kw_only=True)
class Variable:
    """One setting.

    Attributes:
        name: of the environment variable. With ``prefix``, what the names of a whole family begin
            with.
        kind: what its text is read as. list gives a tuple of str, path a pathlib.Path, url a str.
        default: typed; None for none.
        help: one sentence for a person.
        example: a value, as text.
        owner: the distribution that it belongs to, or ``application``; "" for one of a third party.
        aliases: deprecated names.
        secret: a credential: never shown, never taken from a project's file.
        private: its values are never shown.
        user_only: never taken from a project's file, for a repository that was checked out must
            not decide it.
        choices: the only values; texts in lower case.
        takes: what it takes, in words; "" for the words of the kind.
        convert: narrows or changes the typed value; raises ValueError for one that it does not
            take.
        expand: whether ``$HOME`` and ``~`` are expanded when it stands in a file.
        prefix: a family of variables, such as SANDBOX_ENV_X.
        by_runtime: the core does not honour it; a runtime that does declares it in its Settings
            class.
        only_with: what it needs to mean anything: ``ports`` or ``keep``; "" for nothing.
    """

    name: str
    kind: Kind = attrs.field(default="str", validator=attrs.validators.in_(KINDS))
    default: Any = None
    help: str = ""
    example: str = ""
    owner: str = ""
    aliases: tuple[str, ...] = ()
    secret: bool = False
    private: bool = False
    user_only: bool = False
    choices: tuple[Any, ...] = ()
    takes: str = ""
    convert: Callable[[Any], Any] | None = None
    expand: bool = True
    prefix: bool = False
    by_runtime: bool = False
    only_with: Literal["", "ports", "keep"] = ""

    @property
    def key(self) -> str:
        """Its key in openrt.toml."""
        return file_key(self.name)

    @property
    def masked(self) -> bool:
        """Whether its value is kept out of every message."""
        return self.secret or self.private


def file_key(name: str) -> str:
    """The key in openrt.toml of the variable of this name."""
    return name.removeprefix("SANDBOX_").lower()


def setting(
    variable: str,
    kind: Kind | None = None,
    default: Any = None,
    *,
    help: str = "",
    example: str = "",
    aliases: tuple[str, ...] = (),
    secret: bool = False,
    choices: tuple[Any, ...] = (),
    takes: str = "",
    convert: Callable[[Any], Any] | None = None,
) -> Any:
    """The field of a Settings class (``@attrs.frozen``) that holds one variable.

    ``setting("SANDBOX_API_KEY")``, without a kind, takes everything from the table of variables
    that ships with the core;
    that is the way to declare a variable of the table. A variable of your own needs the rest::

        @attrs.frozen
        class Settings:
            region: str | None = setting(
                "SANDBOX_ACME_REGION", "str", help="Region of new sandboxes.", example="eu-1"
            )

    Args:
        variable: name of the environment variable. Its key in openrt.toml is that name in lower
            case, without ``SANDBOX_``.
        kind: str, int, float, bool, list (a tuple of str), dict, path (a pathlib.Path, absolute)
            or url (a str).
        default: when it is not set; already of its type.
        help: one sentence for ``openrt config`` and the documentation.
        example: a value, as one would write it.
        aliases: deprecated names; using one gives a note.
        secret: a credential: masked everywhere, refused in a project's file.
        choices: the only values that it takes; texts in lower case, compared in any case.
        takes: what it takes, in words, for the error; "" for the words of the kind.
        convert: gets the typed value, returns what is stored; raises ValueError for one that it
            does not take.

    Raises:
        LookupError: no kind is given, and the table does not know the variable.
    """
    if kind is None:
        from openrt_core.settings.table import TABLE  # the table is made of this module's class

        known = TABLE[variable]
    else:
        known = Variable(
            name=variable,
            kind=kind,
            default=default,
            help=help,
            example=example,
            aliases=aliases,
            secret=secret,
            choices=choices,
            takes=takes,
            convert=convert,
        )
    return attrs.field(default=known.default, metadata={METADATA: known}, repr=not known.masked)


def declared(cls: type) -> dict[str, Variable]:
    """The variables that a Settings class declares, by the name of the field.

    Raises:
        TypeError: it is no attrs class, or a field of it was not made by ``setting``.
    """
    found: dict[str, Variable] = {}
    for field in attrs.fields(cls):
        variable = field.metadata.get(METADATA)
        if not isinstance(variable, Variable):
            raise TypeError(f"{cls.__qualname__}.{field.name} was not made by setting()")
        found[field.name] = variable
    return found
