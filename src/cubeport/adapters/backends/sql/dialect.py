"""Differences between the databases: the text of a statement, and the few conditions that each database answers in its own way.

Everything else is written once, in SQLAlchemy Core. A statement that is prepared once is a value of its module; the dialect keeps
its text. A hint for one planner carries the name of its database, and the other database does not get it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Protocol, Self, cast

from sqlalchemy import BindParameter, ColumnElement, Index, TableClause, bindparam, literal
from sqlalchemy.engine import Dialect as Compiling
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.schema import CreateIndex, CreateTable
from sqlalchemy.sql import ClauseElement
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import NullType, TypeEngine

from cubeport.adapters.backends.sql.tables import META
from cubeport.catalog.backend import Finding


class Cursor(Protocol):
    """The rows of a statement."""

    @property
    def rowcount(self) -> int: ...
    def fetchone(self) -> Any: ...
    def fetchall(self) -> list[Any]: ...
    def __iter__(self) -> Iterator[Any]: ...


class Connection(Protocol):
    """A connection to either database. Compiled statements bind values by name, our own texts by ``?``."""

    dialect: Dialect

    @property
    def in_transaction(self) -> bool: ...
    def execute(self, text: str, values: Any = (), /) -> Cursor: ...
    def executemany(self, text: str, rows: Any, /) -> Any: ...
    def close(self) -> None: ...


class Translated:
    """Translates a driver's errors to ours. It is a class instead of a generator because it runs for every read."""

    def __init__(self, errors: type[Exception], translate: Callable[[Any], Exception]) -> None:
        self._errors = errors
        self._translate = translate

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, trace: object) -> None:
        if isinstance(exc, self._errors):
            raise self._translate(exc) from exc


type Sides = tuple[ColumnElement[float], ColumnElement[float], ColumnElement[float], ColumnElement[float]]
"""West, south, east and north, each a value or the name of one."""

type Values = Sequence[BindParameter[Any]]
"""The values of a statement, in the order of its parts."""

SHAPES = 1_000
"""The dialect keeps this many texts of statements that are built for one call, then begins anew."""


@dataclass(frozen=True, slots=True)
class Shape:
    """A compiled statement without its values."""

    text: str
    names: tuple[str | None, ...]
    """The name of each value in the text, ``None`` if the text contains it. Elements of a list are ``name_1``, ``name_2`` …"""
    inside: Mapping[int, Any]
    """The values that the text contains, by their position, such as a separator."""
    constants: Mapping[str, Any]
    """Values that the compiler added, such as ``OFFSET 0``."""

    @classmethod
    def of(cls, statement: ClauseElement, values: Values, compiling: Compiling) -> Self:
        """Compile the statement, which has these values."""
        compiled = cast("SQLCompiler", statement.compile(dialect=compiling, compile_kwargs={"render_postcompile": True}))
        params = dict(compiled.params)
        named = [compiled.bind_names.get(each) for each in values]
        names = tuple(name if each.expanding or name in params else None for name, each in zip(named, values, strict=True))
        inside = {i: each.value for i, (name, each) in enumerate(zip(names, values, strict=True)) if name is None}
        made = cls(str(compiled), names, inside, {})
        own = made.bound(values)
        assert own.items() <= params.items(), "a value does not have the name that it should have"
        return replace(made, constants={name: value for name, value in params.items() if name not in own})

    def fits(self, values: Values) -> bool:
        """Return whether the text contains these values."""
        return all(values[i].value == value for i, value in self.inside.items())

    def bound(self, values: Values) -> dict[str, Any]:
        """Return the values by their names in the text."""
        found = dict(self.constants)
        for name, each in zip(self.names, values, strict=True):
            if name is not None and each.expanding:
                found.update((f"{name}_{number}", value) for number, value in enumerate(each.value or (), 1))
            elif name is not None:
                found[name] = each.value
        return found


class Dialect(ABC):
    """The statements that the backend needs, for one database."""

    name: ClassVar[str]
    begin: ClassVar[str]
    """The statement that begins a transaction that writes."""
    state: ClassVar[str]
    """The statement that reads generation, retirement and schema in that transaction. One transaction at a time continues."""
    rows_state: ClassVar[str]
    """The same for a transaction that changes rows next to the records only: many of them can run at once."""
    alone_state: ClassVar[str]
    """The same for a transaction during which nothing else may write, not even such rows."""
    snapshot: ClassVar[str]
    """The statement that begins a transaction whose reads all see one state."""
    errors: ClassVar[type[Exception]]
    """The class of the driver's errors."""
    orders_whole: ClassVar[bool]
    """Whether an index on (``x IS NULL``, ``x``) is found only if the order has both, also where the first is always the same."""
    derived: ClassVar[Sequence[tuple[str, str]]]
    """Tables that SQLAlchemy does not describe, by name, with the statements that make them."""

    def __init__(self, compiling: Compiling) -> None:
        self._compiling = compiling
        self._texts: dict[ClauseElement, str] = {}
        self._shapes: dict[Hashable, Shape] = {}
        self.translated = Translated(self.errors, self.translate)

    def prepared(self, statement: ClauseElement) -> str:
        """Return the text of a statement, with all values as named binds. It is compiled once."""
        try:
            return self._texts[statement]
        except KeyError:
            compiled = statement.compile(dialect=self._compiling)
            unnamed = [name for name, value in (compiled.params or {}).items() if value is not None]
            assert not unnamed, f"values inside a prepared statement: {unnamed}"
            return self._texts.setdefault(statement, str(compiled))

    def made(self, statement: ClauseElement) -> tuple[str, Mapping[str, Any]]:
        """Return the text of a statement that the caller keeps, and the values in it: ``None`` for :func:`given` ones."""
        compiled = cast("SQLCompiler", statement.compile(dialect=self._compiling, compile_kwargs={"render_postcompile": True}))
        return str(compiled), dict(compiled.params)

    def compiled(self, statement: ClauseElement) -> tuple[str, dict[str, Any]]:
        """Return the text of a statement that is built for one call, and its bound values.

        Statements that differ only in their values have the same text, which is compiled once. This costs a fifth of compiling.
        """
        # SQLAlchemy finds the statements that it executes itself by the same key, which has no public name.
        key = statement._generate_cache_key()  # noqa: SLF001
        assert key is not None, "each part of a statement must say what it consists of (inherit_cache)"
        values = key.bindparams
        shape = (key.key, *(len(each.value or ()) for each in values if each.expanding))
        known = self._shapes.get(shape)
        if known is None or not known.fits(values):
            if len(self._shapes) >= SHAPES:
                self._shapes.clear()
            known = self._shapes[shape] = Shape.of(statement, values, self._compiling)
        return known.text, known.bound(values)

    def ddl(self, *names: str) -> list[str]:
        """Return the statements that create the named tables with their indexes, or all of them."""
        statements: list[str] = []
        for each in META.sorted_tables:
            if not names or each.name in names:
                statements.append(self.text(CreateTable(each)))
                statements += [self.text(CreateIndex(index)) for index in sorted(each.indexes, key=lambda index: str(index.name))]
        return statements + [text for name, text in self.derived if not names or name in names]

    def text(self, statement: ClauseElement) -> str:
        """Return the text of a statement without values."""
        return str(statement.compile(dialect=self._compiling))

    @abstractmethod
    def parts(self, connection: Any) -> set[str]:
        """Return the names of the tables of the database, and of the indexes that it can use."""

    @abstractmethod
    def make(self, connection: Any, index: Index) -> None:
        """Make an index in a catalog that others use meanwhile. *connection* is in no transaction."""

    @abstractmethod
    def with_words(self, texts: Sequence[Sequence[str]]) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
        """Return two conditions on ``record_text``, each true if all words of any text begin a word of the record.

        The first finds records by the index, the second tests one record.
        """

    @abstractmethod
    def meets(self, tree: TableClause, box: Sides) -> tuple[ColumnElement[bool], ...]:
        """Return the conditions that are true if a row of ``record_box`` or ``place_box`` intersects the box, edges included,
        exactly.
        """

    @abstractmethod
    def next_numbers(self, connection: Any, count: int, given: int) -> Sequence[int]:
        """Return the numbers of the next *count* records, ascending, above the last that this transaction was *given*."""

    def fill(self, connection: Any, table: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """Insert rows into a table."""
        if rows:
            marks = ", ".join("?" * len(columns))
            connection.executemany(f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({marks})", rows)  # noqa: S608  # our names

    @abstractmethod
    def enlarge(self, connection: Any) -> None:
        """Give a transaction of many records more memory."""

    @abstractmethod
    def shrink(self, connection: Any) -> None:
        """Take it back."""

    @abstractmethod
    def damage(self, connection: Any, deep: bool) -> Iterator[Finding]:
        """Yield what the database's own checks find."""

    @abstractmethod
    def translate(self, exc: Exception) -> Exception:
        """Return our error for one of the driver's, or the same error if it can only be a bug in cubeport."""


def given(name: str, type: TypeEngine[Any] | None = None) -> BindParameter[Any]:
    """Return a value that the caller of a kept statement gives by its name."""
    return bindparam(name, None, type_=type)


def listed(texts: ColumnElement[Any]) -> Any:
    """Return the texts of one JSON array as a table of one column ``value``, so that a list of any length is one statement."""
    return _Listed(texts).table_valued("value")


class _Listed(FunctionElement[Any]):
    inherit_cache = True
    name = "listed"


@compiles(_Listed, "sqlite")
def _by_json_each(element: _Listed, compiler: Any, **options: Any) -> str:
    return f"json_each({compiler.process(element.clauses, **options)})"


@compiles(_Listed, "postgresql")
def _by_json_array(element: _Listed, compiler: Any, **options: Any) -> str:
    return f"json_array_elements_text(CAST({compiler.process(element.clauses, **options)} AS JSON))"


def among(number: ColumnElement[int], numbers: Iterable[str] | BindParameter[str]) -> ColumnElement[bool]:
    """Return whether the number is one of the numbers. The text of the condition does not depend on how many they are."""
    return _Among(number, numbers if isinstance(numbers, BindParameter) else literal(",".join(numbers)))


class _Among(FunctionElement[Any]):
    inherit_cache = True
    name = "among"
    type = NullType()  # for a boolean function SQLAlchemy would ask SQLite whether it is 1, which no index answers


@compiles(_Among, "sqlite")
def _in_json(element: _Among, compiler: Any, **options: Any) -> str:
    number, numbers = (compiler.process(each, **options) for each in element.clauses)
    return f"{number} IN (SELECT value FROM json_each('[' || {numbers} || ']'))"  # noqa: S608  # compiled by SQLAlchemy


@compiles(_Among, "postgresql")
def _in_array(element: _Among, compiler: Any, **options: Any) -> str:
    number, numbers = (compiler.process(each, **options) for each in element.clauses)
    return f"{number} = ANY(CAST(string_to_array({numbers}, ',') AS bigint[]))"
