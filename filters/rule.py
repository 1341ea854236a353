"""What all rules share: limits on a measured column, and the verdicts that follow from them."""

import inspect
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import pyarrow as pa
import pyarrow.compute as pc

_HOLDS = {
    ">": pc.greater,
    ">=": pc.greater_equal,
    "<": pc.less,
    "<=": pc.less_equal,
    "is null": lambda column, _: pc.is_null(column),
}


class RecipeError(ValueError):
    """A recipe, or what was asked of it, cannot work; raised before any row is read."""


@dataclass(frozen=True, slots=True)
class Limit:
    """What a row's value must satisfy, and the reason given when it does not."""

    op: str
    bound: float | None
    reason: str

    def broken(self, values: pa.Array) -> pa.BooleanArray:
        """Say which values break the limit; a null value is unknown and breaks nothing."""
        return pc.fill_null(pc.invert(_HOLDS[self.op](values, self.bound)), False)

    def __str__(self) -> str:
        return self.op if self.bound is None else f"{self.op} {self.bound:,}"


class Rule(ABC):
    """Judge one measured column; calling the rule gives one nullable reason per row.

    A verdict depends on its own row only: batches may be cut and joined anywhere.
    """

    column: ClassVar[str]
    """The measured column that the rule judges, and the first of those that it reads."""

    judged: ClassVar[str] = ""
    """What the limits are on, in words, where that is not the column itself."""

    also_reads: ClassVar[tuple[str, ...]] = ()
    """Further measured columns that the rule reads."""

    knows_null: ClassVar[bool] = False
    """Whether null is an answer, not what is unknown."""

    of_caption: ClassVar[bool] = False
    """Whether the rule is on the caption alone, so that a better one would mend what it drops."""

    @property
    def name(self) -> str:
        """The module's name, which is the rule's name in a recipe."""
        return type(self).__module__.rpartition(".")[2]

    @property
    def columns(self) -> tuple[str, ...]:
        """All measured columns that the rule reads."""
        return (self.column, *self.also_reads)

    @property
    def what(self) -> str:
        """The rule's first docstring line, for reports and explanations."""
        return inspect.getdoc(type(self)).splitlines()[0]  # type: ignore[union-attr]  # D101 holds

    @abstractmethod
    def limits(self) -> tuple[Limit, ...]:
        """Return what a value must satisfy; the first broken limit gives the reason."""

    @property
    def threshold(self) -> str:
        """The limits as a person reads them, such as `token_count >= 3 and <= 20`."""
        return f"{self.subject} " + " and ".join(dict.fromkeys(map(str, self.limits())))

    @property
    def subject(self) -> str:
        """What the limits are on."""
        return self.judged or self.column

    def values(self, batch: pa.RecordBatch) -> pa.Array:
        """Return the values that the limits judge, one per row."""
        return batch[self.column]

    def shown(self, batch: pa.RecordBatch) -> pa.StringArray:
        """Return the values as a person reads them, one per row."""
        return pc.cast(self.values(batch), pa.string())

    def __call__(self, batch: pa.RecordBatch) -> pa.StringArray:
        """Judge every row of `batch`; null means keep."""
        limits = self.limits()
        values = self.values(batch)
        if not limits:
            return pa.nulls(len(batch), pa.string())
        broken = pa.StructArray.from_arrays(
            [limit.broken(values) for limit in limits], [str(i) for i in range(len(limits))]
        )
        return pc.case_when(broken, *(pa.scalar(limit.reason) for limit in limits))


@dataclass(frozen=True, slots=True, kw_only=True)
class Range(Rule):
    """Keep rows whose value lies within the bounds that are set."""

    too_low: ClassVar[str]
    too_high: ClassVar[str]

    min_inclusive: float | None = None
    min_exclusive: float | None = None
    max_inclusive: float | None = None
    max_exclusive: float | None = None

    def __post_init__(self) -> None:
        for end in ("min", "max"):
            inclusive, exclusive = f"{end}_inclusive", f"{end}_exclusive"
            if getattr(self, inclusive) is not None and getattr(self, exclusive) is not None:
                raise RecipeError(
                    f"rules.{self.name} must set one of {inclusive} and {exclusive}, got both; "
                    "remove one"
                )

    def limits(self) -> tuple[Limit, ...]:
        """Return the bounds that are set, the lower one first."""
        bounds = (
            (">=", self.min_inclusive, self.too_low),
            (">", self.min_exclusive, self.too_low),
            ("<=", self.max_inclusive, self.too_high),
            ("<", self.max_exclusive, self.too_high),
        )
        return tuple(Limit(op, bound, why) for op, bound, why in bounds if bound is not None)
