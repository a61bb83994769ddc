"""Tables in, embeddings out: NumPy, CSV and Parquet files, for the command line.

The file's extension decides. Whatever is wrong with a file is a ``ValueError`` that names the file,
the place in it, and what to do.
"""

from __future__ import annotations

import csv
import gzip
import itertools
import shlex
import tempfile
import zlib
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NoReturn
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import issparse, load_npz

from lle_gpu.kinds import LARGEST_INTEGER
from lle_gpu.sparse_structure import check_structure
from lle_gpu.spectral import Spectrum

__all__ = [
    "READERS",
    "WRITERS",
    "Selection",
    "Table",
    "check_names",
    "check_writable",
    "extension",
    "read_table",
    "stem",
    "write_embedding",
]

Array = NDArray[Any]
# Names under which an .npz file may hold the points, their classes and their names.
DATA_KEY, LABEL_KEYS, ID_KEY = "X", ("y", "labels", "label"), "ids"
# Some of those that scipy.sparse.save_npz gives to a matrix's parts.
SPARSE_KEYS = {"format", "shape", "data"}
# In the order tried: where decimals have commas, the delimiter is a semicolon.
DELIMITERS = ("\t", ";", "|", ",")
# What stands for a missing number, and is no column's name.
MISSING = ("", "na", "n/a", "null", "none", "?", "-")
BOOLEANS = {"true": 1.0, "false": 0.0}
PREVIEW_LINES = 100
# What pandas calls an index without a name in Parquet files; a number follows.
UNNAMED_INDEX = "__index_level_"


@dataclass(frozen=True)
class Table:
    """What a file holds.

    Attributes
    ----------
    X : ndarray or SciPy sparse matrix of shape (n, n_features)
        float32 if the file's numbers are, else float64 (CSV) or as stored (NumPy).
    labels : ndarray of shape (n,) or None
    label_name : str
        The labels' column; "label" if it has no name.
    remarks : tuple of str
        Choices that were made while reading, in words.
    columns : tuple of str or None
        The names of X's columns, if the file has names for them, each once.
    ids : ndarray of shape (n,) or None
        The rows' names, as they stand in the file.
    id_name : str
        Their column; "id" if it has no name, or "row" if the labels' is called that.
    """

    X: Array
    labels: Array | None = None
    label_name: str = "label"
    remarks: tuple[str, ...] = ()
    columns: tuple[str, ...] | None = None
    ids: Array | None = None
    id_name: str = "id"


@dataclass(frozen=True)
class Selection:
    """Which part of a file is meant, as given on the command line; None is the default.

    Attributes
    ----------
    key : str or None
        Array of an .npz file.
    label : str or None
        Name or number (from 0) of the column that holds classes.
    ids : str or None
        The same of the column that holds the rows' names; None takes an index that pandas or R
        wrote, if it is more than a count.
    columns, drop : sequence of str or None
        Names or numbers of the columns to use, or to leave out.
    header : bool or None
        Whether a CSV file's first line has the columns' names; None finds out.
    """

    key: str | None = None
    label: str | None = None
    ids: str | None = None
    columns: Sequence[str] | None = None
    drop: Sequence[str] | None = None
    header: bool | None = None


def extension(path: Path) -> str:
    """A file's extension in small letters, and with the one before it if it is .gz.

    Examples
    --------
    >>> from pathlib import Path
    >>> from lle_gpu.files import extension, stem
    >>> extension(Path("a/cells.CSV.gz")), stem(Path("a/cells.CSV.gz"))
    ('.csv.gz', 'cells')
    """
    last = path.suffix.lower()
    return Path(path.stem).suffix.lower() + last if last == ".gz" else last


def stem(path: Path) -> str:
    """A file's name without its :func:`extension`."""
    return path.name[: len(path.name) - len(extension(path))]


def read_table(path: Path, selection: Selection) -> Table:
    """Read points, and their classes and names if there are any, from a file.

    Parameters
    ----------
    path : Path
        .npy, .npz, .csv, .tsv, .txt (these three also with .gz) or .parquet.
    selection : Selection

    Raises
    ------
    FileNotFoundError, IsADirectoryError
    ValueError
        For an unknown extension, columns that are not numbers or have integers that float64
        rounds, or a file that is not what its extension says.
    ImportError
        For .parquet without pyarrow.
    """
    reader = READERS.get(extension(path))
    if reader is None:
        raise ValueError(
            f"{path}: cannot read {extension(path) or 'a file without extension'}: use "
            f"{', '.join(READERS)}"
        )
    if reader is not _read_npz and selection.key is not None:
        raise ValueError(f"--key={selection.key} names an array of an .npz file, and {path} is not")
    if reader is not _read_text and selection.header is not None:
        raise ValueError(f"--header and --no-header are for CSV files, and {path} is not")
    table = reader(path, selection)
    X: Any = table.X
    if not np.isfinite(X.data if issparse(X) else X).all():
        if issparse(X):
            X = X.tocoo()
            rows = np.unique(X.row[~np.isfinite(X.data)])
        else:
            rows = np.flatnonzero(~np.isfinite(X).all(axis=1))
        shown = ", ".join(map(str, rows[:8])) + ", ..." * (len(rows) > 8)
        raise ValueError(
            f"{path}: {len(rows)} of {X.shape[0]} rows hold NaN or infinity (counted from 0: "
            f"{shown}). Remove them, fill them in, or leave out their columns with --drop"
        )
    return table


def check_writable(path: Path) -> None:
    """Find out whether ``path`` can be written, before anything long is computed.

    Raises
    ------
    OSError
        With the reason; a file that is there is left as it is.
    ImportError
        For .parquet without pyarrow.
    """
    if extension(path) == ".parquet":
        _pyarrow_parquet(path)
    folder = path.parent
    if not folder.exists():
        raise FileNotFoundError(f"cannot write {path}: there is no folder {folder}; make it first")
    try:
        # Permissions alone do not tell: file systems can be full, read-only or peculiar.
        if path.exists():
            path.open("r+b").close()
        else:
            tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise OSError(f"cannot write {path}: {error.strerror}") from error


def check_names(path: Path, n_components: int, table: Table) -> None:
    """Refuse, before anything long is computed, to give two columns of a file one name.

    Raises
    ------
    ValueError
        If the rows' names or the classes have the name of another column.
    """
    names = [] if extension(path) in (".npy", ".npz") else _header(n_components, table)
    if len(set(names)) < len(names):
        raise ValueError(
            f"{path} would have the columns {', '.join(names)}, of which two have one name: rename "
            "one in the input, or write to .npz, where they are arrays"
        )


def write_embedding(path: Path, Y: Array, spectrum: Spectrum, table: Table) -> None:
    """Write an embedding; the extension must be one of ``WRITERS``.

    .npy holds the embedding alone; .csv, .tsv (both also with .gz) and .parquet have columns: the
    rows' names, lle0, lle1, ... and the classes; .npz also has the certificate.
    """
    WRITERS[extension(path)](path, Y, spectrum, table)


# Columns, for every kind of file


def _names(width: int, names: Sequence[str] | None) -> list[str]:
    """What to call columns in messages."""
    return [str(j) for j in range(width)] if names is None else list(names)


def _find(wanted: Sequence[str], names: Sequence[str], path: Path, option: str) -> list[int]:
    """Positions of columns, given by name or by number."""
    places: dict[str, list[int]] = {}
    for j, name in enumerate(names):
        places.setdefault(name, []).append(j)
    return [_place(name, places, names, path, option) for name in wanted]


def _place(
    wanted: str, places: dict[str, list[int]], names: Sequence[str], path: Path, option: str
) -> int:
    found = places.get(wanted, [])
    if len(found) > 1:
        raise ValueError(
            f"{path}: {option}: {len(found)} columns are called {wanted!r}; use a "
            f"number ({', '.join(map(str, found))})"
        )
    if found:
        return found[0]
    try:
        position = int(wanted)
    except ValueError:
        position = len(names)
    if -len(names) <= position < len(names):
        return position % len(names)
    raise ValueError(
        f"{path}: {option}: no column {wanted!r}; there are {len(names)}: {_listed(names)} "
        f"(or by number, 0 to {len(names) - 1})"
    )


def _select(
    names: Sequence[str], selection: Selection, path: Path, index: Sequence[int] = ()
) -> tuple[list[int], int | None, int | None]:
    """Positions of the data's columns, of the labels' column and of that of the rows' names.

    ``index`` are columns that stand beside the data unless they are asked for: if it is one, it has
    the rows' names.
    """
    label = ids = None
    if selection.label is not None:
        (label,) = _find([selection.label], names, path, "--label-column")
    if selection.ids is not None:
        (ids,) = _find([selection.ids], names, path, "--id-column")
        if ids == label:
            raise ValueError(
                f"{path}: --id-column and --label-column are the same column, {names[ids]!r}, "
                "which is written once: leave one of them out"
            )
    left_out = _find(selection.drop or (), names, path, "--drop")
    if selection.columns is not None:
        chosen = _find(selection.columns, names, path, "--columns")
    else:
        beside = {*left_out, *index, label, ids}
        chosen = [j for j in range(len(names)) if j not in beside]
    if not chosen:
        raise ValueError(f"{path}: no columns are left to embed, of {_listed(names)}")
    if ids is None and len(index) == 1 and index[0] not in {*left_out, *chosen, label}:
        ids = index[0]
    return chosen, label, ids


def _index_left_out(which: str, index: Sequence[int]) -> str:
    more = f": it is {len(index)} columns, and --id-column takes one" if len(index) > 1 else ""
    return f"the index {which} is left out{more}"


def _id_name(name: str, table: Table) -> str:
    """What to call the column of the rows' names, beside that of the classes."""
    return name or ("row" if table.labels is not None and table.label_name == "id" else "id")


def _once(names: Sequence[str]) -> tuple[str, ...] | None:
    """The names, if they can tell columns apart."""
    return tuple(names) if len(set(names)) == len(names) and all(names) else None


def _refuse_text(path: Path, names: Sequence[str], bad: Sequence[int], example: str) -> None:
    """Raise for columns that are not numbers."""
    if bad:
        listed = [names[j] for j in bad]
        raise ValueError(
            f"{path}: not numbers: column{'s' * (len(bad) > 1)} {_listed(listed)} ({example}). "
            f"Leave out: {_option('--drop', names, bad[:8])}{',...' * (len(bad) > 8)}; "
            f"use as classes: {_option('--label-column', names, bad[:1])}; "
            f"or as the rows' names: {_option('--id-column', names, bad[:1])}"
        )


def _refuse_rounded(path: Path, names: Sequence[str], j: int, integers: str) -> NoReturn:
    """Raise for a column of integers that float64 would round: rows could become equal."""
    raise ValueError(
        f"{path}: column {names[j]!r} has integers {integers}: float64 rounds those beyond 2**53. "
        f"Subtract an offset, leave the column out ({_option('--drop', names, [j])}), use it as "
        f"the rows' names ({_option('--id-column', names, [j])}), or store it as floats if that "
        "rounding is meant"
    )


def _option(option: str, names: Sequence[str], columns: Sequence[int]) -> str:
    """An option that asks for columns, as a shell takes it."""
    value = ",".join(_pasteable(names, j) for j in columns)
    return f"{option}{'=' if value.startswith('-') else ' '}{shlex.quote(value)}"


def _pasteable(names: Sequence[str], j: int) -> str:
    """A column's name, or its number where the name is none that can be given, or not its alone."""
    name = names[j]
    one_line = name.isprintable() and name == " ".join(name.split())
    if name and one_line and "," not in name and names.count(name) == 1:
        return name
    return str(j if str(j) not in names else j - len(names))  # which may be another one's name


def _listed(names: Sequence[str]) -> str:
    return ", ".join(repr(name) for name in names[:8]) + ", ..." * (len(names) > 8)


def _as_labels(labels: Array) -> Array:
    """Text to integers or floats, if it is that throughout."""
    for kind in (int, float):
        try:
            return labels.astype(kind)
        except ValueError:
            continue
        except OverflowError:  # as floats, classes could become equal
            break
    return labels


# NumPy


def _load(path: Path) -> Any:
    try:
        return np.load(path, allow_pickle=False)
    except (ValueError, EOFError, BadZipFile) as error:
        if "pickle" in str(error).lower():
            # NumPy takes whatever is not its own format for a pickle, too.
            error = ValueError("not a NumPy file of numbers (text, Python objects, or damaged)")
        raise ValueError(f"{path}: {error}") from error


def _read_npy(path: Path, selection: Selection) -> Table:
    array = _load(path)
    if not isinstance(array, np.ndarray):
        raise ValueError(f"{path}: this is an .npz archive; rename it")
    return _from_array(path, Table(array), selection)


def _read_npz(path: Path, selection: Selection) -> Table:
    archive = _load(path)
    if isinstance(archive, np.ndarray):
        raise ValueError(f"{path}: this is an .npy file; rename it")
    arrays: dict[str, Array] = {}
    remarks = []
    if (
        selection.key is None
        and DATA_KEY not in archive.files
        and set(archive.files) >= SPARSE_KEYS
    ):
        archive.close()
        return _read_sparse(path, selection)
    with archive:
        for name in archive.files:
            try:
                arrays[name] = archive[name]
            except ValueError:  # NumPy would have to unpickle it
                remarks.append(f"array {name!r} holds Python objects and is not read")
    shapes = ", ".join(f"{name} {array.shape}" for name, array in arrays.items()) or "no numbers"
    tables = [name for name, array in arrays.items() if array.ndim == 2]
    key = selection.key
    if key is None:
        key = DATA_KEY if DATA_KEY in arrays else tables[0] if len(tables) == 1 else None
    if key not in arrays:
        wanted = f"no array {key!r}" if key else f"which array? {DATA_KEY!r} would be taken"
        raise ValueError(
            f"{path}: {wanted}; it holds {'; '.join([shapes, *remarks])}. Choose one with --key"
        )
    n = len(arrays[key]) if arrays[key].ndim else 0
    label = next((k for k in LABEL_KEYS if k in arrays and arrays[k].shape == (n,)), None)
    ids = arrays[ID_KEY] if ID_KEY in arrays and arrays[ID_KEY].shape == (n,) else None
    if len(arrays) > 1:
        remarks.append(
            f"array {key!r}"
            + (f", labels from {label!r}" if label else "")
            + (f", the rows' names from {ID_KEY!r}" if ids is not None else "")
        )
    labels = None if label is None else arrays[label]
    table = Table(arrays[key], labels, label or "label", tuple(remarks), ids=ids)
    return _from_array(path, table, selection)


def _read_sparse(path: Path, selection: Selection) -> Table:
    try:
        X = load_npz(path)
    except (ValueError, TypeError, LookupError, AttributeError, NotImplementedError) as error:
        raise ValueError(
            f"{path}: it has the names of a sparse matrix's parts (scipy.sparse.save_npz), and is "
            f"none that can be read ({error}). Choose one of its arrays with --key"
        ) from error
    remark = f"a sparse matrix ({X.format}), {X.nnz} entries are stored"
    return _from_array(path, Table(X, remarks=(remark,)), selection)


def _from_array(path: Path, table: Table, selection: Selection) -> Table:
    """The wanted columns of an array."""
    array: Any = table.X
    if array.dtype.kind not in "fiub":
        raise ValueError(f"{path}: the array holds {array.dtype}, not real numbers")
    if array.ndim != 2:
        raise ValueError(f"{path}: the array has shape {array.shape}, but data are (n, n_features)")
    if issparse(array):
        check_structure(array, str(path))
        array = array.tocsr()
    chosen, label, ids = _select(_names(array.shape[1], None), selection, path)
    table = replace(table, X=array[:, chosen] if len(chosen) < array.shape[1] else array)
    if label is not None:
        table = replace(table, labels=_column(array, label), label_name=f"column {label}")
    return table if ids is None else replace(table, ids=_column(array, ids))


def _column(array: Any, j: int) -> Array:
    column = array[:, [j]]
    return np.asarray(column.toarray() if issparse(column) else column)[:, 0]


# CSV


def _open(path: Path, mode: str, newline: str | None = "") -> Any:
    """A text file, compressed if its name says so."""
    opener: Any = gzip.open if path.suffix.lower() == ".gz" else open
    encoding = "utf-8-sig" if mode == "r" else "utf-8"
    return opener(path, f"{mode}t", newline=newline, encoding=encoding)


def _read_text(path: Path, selection: Selection) -> Table:
    try:
        return _read_lines(path, selection)
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not UTF-8 text ({error}): save it as UTF-8") from error
    except csv.Error as error:
        raise ValueError(f"{path}: not a table in text ({error})") from error
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise ValueError(f"{path}: not compressed by gzip, or damaged ({error})") from error


def _read_lines(path: Path, selection: Selection) -> Table:
    layout, remarks = _layout(path, selection.header)
    names, body = layout.names, layout.body
    index, fractions = _index(names, body)
    chosen, label, ids = _select(names, selection, path, index)
    if selection.columns is None:
        remarks += [
            f"column {j} has no name and fractions: it is embedded; "
            f"{_option('--drop', names, [j])} leaves it out"
            for j in fractions
            if j in chosen
        ]
    if len(index) > 1 and set(index) - {*chosen, label, ids}:
        remarks.append(_index_left_out("of columns without names", index))
    table = Table(layout.numbers(chosen))
    if layout.header:
        table = replace(table, columns=_once([names[j] for j in chosen]))
    if label is not None:
        labels = _as_labels(layout.load([label], str)[:, 0])
        table = replace(table, labels=labels, label_name=names[label] if layout.header else "label")
    if ids is not None:
        values = layout.load([ids], str)[:, 0]
        counts = np.array_equal(np.char.strip(values), np.arange(len(values)).astype(str))
        if selection.ids is None:
            what = f"column {ids} has no name" if ids else "the first column has no name"
            remarks.append(
                f"{what} and counts the rows: it is left out"
                if counts
                else f"{what}: it is taken for the rows' names"
            )
        if selection.ids is not None or not counts:
            name = _id_name(names[ids] if layout.header else "", table)
            table = replace(table, ids=values, id_name=name)
    return replace(table, remarks=tuple(remarks))


@dataclass(frozen=True)
class _Layout:
    """How a text file is to be read."""

    path: Path
    delimiter: str | None  # None: white space
    skip: int  # lines before the data
    header: bool
    names: Sequence[str]
    body: Sequence[Sequence[str]] = ()  # the fields of its first rows
    booleans: Collection[int] = ()  # columns of True and False

    def is_number(self, field: str, column: int) -> bool:
        return _is_boolean(field) if column in self.booleans else _is_number(field)

    def numbers(self, columns: Sequence[int]) -> Array:
        """Read columns of numbers, none of which float64 rounds."""
        text = [j for j in columns if not any(self.is_number(row[j], j) for row in self.body)]
        if text:
            example = self.body[0][text[0]]
            comma = ": write decimals with a point" * _is_number(example.replace(",", "."))
            _refuse_text(self.path, self.names, text, f"for example {example!r}{comma}")
        X = self.load(columns, float)
        far = np.maximum(X.max(axis=0), -X.min(axis=0)) >= LARGEST_INTEGER
        for i in np.flatnonzero(far).tolist():
            fields = self.load([columns[i]], str)[np.abs(X[:, i]) >= LARGEST_INTEGER, 0]
            rounded = next(filter(_is_rounded, fields), None)
            if rounded is not None:
                _refuse_rounded(self.path, self.names, columns[i], f"such as {rounded}")
        return X

    def load(self, columns: Sequence[int], dtype: type) -> Array:
        """Read columns."""
        boolean = self.booleans if dtype is float else ()
        try:
            with _open(self.path, "r", newline=None) as file:
                return np.loadtxt(
                    file,
                    dtype=dtype,
                    delimiter=self.delimiter,
                    skiprows=self.skip,
                    usecols=columns,
                    converters={j: _from_boolean for j in boolean if j in columns} or None,
                    ndmin=2,
                    comments=None,
                    quotechar='"',
                )
        except ValueError as error:
            raise self.fault(columns if dtype is float else [], str(error)) from error

    def fault(self, columns: Sequence[int], otherwise: str) -> ValueError:
        """The first row that has not as many fields as it should, or no numbers in ``columns``."""
        with _open(self.path, "r") as file:
            for fields, line in _rows(file, self.delimiter):
                where = f"{self.path}, line {line}"
                if line <= self.skip or not "".join(fields).strip():
                    continue
                if len(fields) != len(self.names):
                    return ValueError(
                        f"{where}: {len(fields)} fields instead of {len(self.names)}; mend or "
                        "remove it"
                    )
                for j in columns:
                    if not self.is_number(fields[j], j):
                        what = repr(fields[j]) if fields[j].strip() else "an empty field"
                        kind = "neither True nor False" if j in self.booleans else "not a number"
                        return ValueError(
                            f"{where}, column {self.names[j]!r}: {what} is {kind}; fill it in, "
                            "remove the line, or leave out the column: "
                            f"{_option('--drop', self.names, [j])}"
                        )
        return ValueError(f"{self.path}: NumPy cannot read it as a table: {otherwise}")


def _layout(path: Path, header: bool | None) -> tuple[_Layout, list[str]]:
    """The layout, found out from the first lines, and remarks on what was found."""
    with _open(path, "r") as file:
        preview = list(itertools.islice(file, PREVIEW_LINES + 1))
    blank = next((i for i, line in enumerate(preview) if line.strip()), len(preview))
    is_cut = len(preview) > PREVIEW_LINES
    lines = [line for line in preview[blank:PREVIEW_LINES] if line.strip()]
    if not lines:
        raise ValueError(f"{path}: there is nothing in the first {PREVIEW_LINES} lines")
    if lines[0].startswith("#"):  # as numpy.savetxt writes a header
        lines[0] = lines[0].lstrip("# ")
    delimiter = _delimiter(lines, is_cut)
    numbered = _first_rows(lines, delimiter, is_cut)
    rows = [fields for fields, _ in numbered]
    if header is None:
        header = _has_header(rows)
    short = header and _names_no_index(rows)
    if short:
        rows[0] = ["", *rows[0]]
    body = rows[1:] if header else rows
    if not body:
        raise ValueError(f"{path}: the file has a header and no data")
    layout = _Layout(
        path,
        delimiter,
        skip=blank + (numbered[0][1] if header else 0),
        header=header,
        names=_names(len(rows[0]), rows[0] if header else None),
        body=body,
    )
    if any(len(row) != len(layout.names) for row in body):
        raise layout.fault([], "rows of several lengths")
    remark = (
        f"delimiter {'white space' if delimiter is None else repr(delimiter)}, "
        + ("a header line" if header else "no header line")
        + ", which has no name for the first column" * short
    )
    return replace(layout, booleans=_boolean_columns(body)), [remark]


def _rows(lines: Iterable[str], delimiter: str | None) -> Iterator[tuple[list[str], int]]:
    """The fields of each row, and the number, from 1, of the last of its lines."""
    if delimiter is None:  # any white space, by the same rules for quotes
        lines, delimiter = (" ".join(line.split()) for line in lines), " "
    reader = csv.reader(lines, delimiter=delimiter, skipinitialspace=True)
    for fields in reader:
        yield fields, reader.line_num


def _first_rows(
    lines: Sequence[str], delimiter: str | None, is_cut: bool
) -> list[tuple[list[str], int]]:
    """The rows of the first lines, but for the last where it may go on beyond the cut."""
    rows = list(_rows(lines, delimiter))
    return rows[:-1] if is_cut and len(rows) > 1 else rows


def _delimiter(lines: Sequence[str], is_cut: bool) -> str | None:
    """The delimiter that splits all of the first lines alike; None: white space."""
    # Others would leave long lines in one field, which csv may find too large.
    possible = [delimiter for delimiter in DELIMITERS if delimiter in lines[0]]
    for more in (0, 1):  # the rows' names, which R writes under no name
        for delimiter in possible:
            first, *others = (len(fields) for fields, _ in _first_rows(lines, delimiter, is_cut))
            if first > 1 and {*others} <= {first + more}:
                return delimiter
    # None fits all lines: take what occurs in the first, so that the odd line can be reported.
    return next(iter(possible), None)


def _names_no_index(rows: Sequence[Sequence[str]]) -> bool:
    """Whether a header is R's: one field shorter than all rows, for the rows' names have no name.

    Rows that end in an empty field are longer for another reason: a delimiter at their end.
    """
    first, *body = rows
    widths = {len(row) for row in body}
    return widths == {len(first) + 1} and any(row[-1].strip() for row in body)


def _has_header(rows: Sequence[Sequence[str]]) -> bool:
    """Whether the first row names columns: text only, text over numbers, or 0, 1, 2, ..."""
    first = rows[0]
    second = rows[1] if len(rows) > 1 else []
    pairs = list(itertools.zip_longest(first, second, fillvalue=""))
    numbers = [above for above, below in pairs if _is_value(above, below)]
    if not numbers:
        return True
    if any(
        (_is_number(below) or _is_boolean(below))
        and not _is_value(above, below)
        and above.strip().lower() not in MISSING
        for above, below in pairs
    ):
        return True
    # What pandas writes for columns without names, after an empty field for its index.
    counts = numbers == [str(j) for j in range(len(numbers))]
    return counts and (len(numbers) > 2 or first[0] == "")


def _is_value(above: str, below: str) -> bool:
    """Whether a field is no name; True is one, of a category, unless a boolean stands below."""
    return _is_number(above) or (_is_boolean(above) and _is_boolean(below))


def _boolean_columns(body: Sequence[Sequence[str]]) -> set[int]:
    """Positions of the columns of True and False, and perhaps of what is missing."""
    seen = [{field.strip().lower() for field in column} for column in zip(*body, strict=True)]
    return {
        j for j, words in enumerate(seen) if words & {*BOOLEANS} and words <= {*BOOLEANS, *MISSING}
    }


def _index(names: Sequence[str], body: Sequence[Sequence[str]]) -> tuple[list[int], list[int]]:
    """The first columns, if they have no names: those of pandas' or R's index, and of fractions.

    Where no column has a name, none stands out.
    """
    nameless = range(next((j for j, name in enumerate(names) if name), 0))
    fractions = [
        j for j in nameless if any(_is_number(row[j]) and not _is_integer(row[j]) for row in body)
    ]
    return [j for j in nameless if j not in fractions], fractions


def _is_number(field: str) -> bool:
    try:
        float(field)
    except ValueError:
        return False
    return "_" not in field  # which Python allows between digits, and NumPy does not


def _is_integer(field: str) -> bool:
    try:
        int(field)
    except ValueError:
        return False
    return True


def _is_rounded(field: str) -> bool:
    """Whether it is written as an integer, and float64 holds another one."""
    return _is_integer(field) and int(field) != float(field)


def _is_boolean(field: str) -> bool:
    return field.strip().lower() in BOOLEANS


def _from_boolean(field: str) -> float:
    if not _is_boolean(field):
        raise ValueError  # and the layout finds the place
    return BOOLEANS[field.strip().lower()]


# Parquet


def _pyarrow_parquet(path: Path) -> Any:
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise ImportError(
            f"{path}: Parquet files need pyarrow ({error}): pip install 'lle-gpu[plot]'"
        ) from error
    return pyarrow.parquet


def _read_parquet(path: Path, selection: Selection) -> Table:
    parquet = _pyarrow_parquet(path)
    import pyarrow

    try:
        file = parquet.ParquetFile(path)
    except pyarrow.ArrowInvalid as error:
        raise ValueError(f"{path}: {error}") from error
    with file:
        schema = file.schema_arrow
        names = schema.names
        # Names of columns; of an index that is a range, a description of it.
        stored = (schema.pandas_metadata or {}).get("index_columns", [])
        index = [
            j for j, name in enumerate(names) if name in stored or name.startswith(UNNAMED_INDEX)
        ]
        chosen, label, ids = _select(names, selection, path, index)
        types = [schema.field(j).type for j in range(len(names))]
        numeric = pyarrow.types.is_integer, pyarrow.types.is_floating, pyarrow.types.is_boolean
        bad = [j for j in chosen if not any(test(types[j]) for test in numeric)]
        example = f"{names[bad[0]]} is {types[bad[0]]}" if bad else ""
        _refuse_text(path, names, bad, example)
        content = file.read(columns=[names[j] for j in (*chosen, label, ids) if j is not None])

    def column(j: int) -> Array:
        return np.asarray(content.column(names[j]).to_numpy())

    X = _parquet_numbers(path, content, names, chosen)
    table = Table(X, columns=_once([names[j] for j in chosen]))
    if label is not None:
        table = replace(table, labels=column(label), label_name=names[label])
    if ids is not None:
        values = column(ids)
        if selection.ids is None and _counts(values):
            ids = None
        else:
            name = _id_name("" if names[ids].startswith(UNNAMED_INDEX) else names[ids], table)
            table = replace(table, ids=values, id_name=name)
    if ids is not None and ids in index:
        return replace(table, remarks=("the index that pandas wrote is taken for the rows' names",))
    if set(index) - {*chosen, label}:
        return replace(table, remarks=(_index_left_out("that pandas wrote", index),))
    return table


def _parquet_numbers(
    path: Path, content: Any, names: Sequence[str], chosen: Sequence[int]
) -> Array:
    """The chosen columns of a pyarrow table (n, d), none of whose integers float64 rounds."""
    import pyarrow

    columns = []
    for j in chosen:
        values = content.column(names[j])
        if pyarrow.types.is_boolean(values.type):
            values = values.cast(pyarrow.float64())  # which has NaN for what is missing
        columns.append(np.asarray(values.to_numpy()))
    float32 = all(values.dtype == np.float32 for values in columns)
    X = np.empty((len(content), len(chosen)), dtype=np.float32 if float32 else np.float64)
    for i, (j, values) in enumerate(zip(chosen, columns, strict=True)):
        if values.dtype.kind in "iu" and len(values):
            low, high = int(values.min()), int(values.max())
            if max(-low, high) > LARGEST_INTEGER:
                _refuse_rounded(path, names, j, f"from {low} to {high}")
        X[:, i] = values
    return X


def _counts(values: Array) -> bool:
    """Whether they are 0, 1, 2, ..."""
    return values.dtype.kind in "iu" and np.array_equal(values, np.arange(len(values)))


# Writing


def _header(n_components: int, table: Table) -> list[str]:
    names = [f"lle{j}" for j in range(n_components)]
    first = [] if table.ids is None else [table.id_name]
    return [*first, *names, *([] if table.labels is None else [table.label_name])]


def _write_npy(path: Path, Y: Array, spectrum: Spectrum, table: Table) -> None:
    np.save(path, Y)


def _write_npz(path: Path, Y: Array, spectrum: Spectrum, table: Table) -> None:
    arrays: dict[str, Any] = {
        "embedding": Y,
        "singular_values": spectrum.values,
        "residuals": spectrum.residuals,
        "gap": np.array(spectrum.gap),
        "n_null": np.array(spectrum.n_null),
        "converged": np.array(spectrum.converged),
    }
    for name, values in (("labels", table.labels), (ID_KEY, table.ids)):
        if values is not None:  # as text where they are objects, so that nothing is pickled
            arrays[name] = values.astype(str) if values.dtype == object else values
    np.savez(path, **arrays)


def _write_csv(path: Path, Y: Array, spectrum: Spectrum, table: Table) -> None:
    delimiter = "\t" if extension(path).startswith(".tsv") else ","
    with _open(path, "w") as file:
        writer = csv.writer(file, delimiter=delimiter, lineterminator="\n")
        writer.writerow(_header(Y.shape[1], table))
        for low in range(0, len(Y), 10_000):
            # Text is as short as brings back the same bits, also in float32.
            columns = [values for values in (table.ids, Y, table.labels) if values is not None]
            rows = np.column_stack([values[low : low + 10_000].astype(str) for values in columns])
            writer.writerows(rows.tolist())


def _write_parquet(path: Path, Y: Array, spectrum: Spectrum, table: Table) -> None:
    parquet = _pyarrow_parquet(path)
    import pyarrow

    columns = [
        *([] if table.ids is None else [table.ids]),
        *np.ascontiguousarray(Y.T),
        *([] if table.labels is None else [table.labels]),
    ]
    parquet.write_table(pyarrow.table(columns, names=_header(Y.shape[1], table)), path)


READERS: dict[str, Callable[[Path, Selection], Table]] = {
    ".npy": _read_npy,
    ".npz": _read_npz,
    ".csv": _read_text,
    ".tsv": _read_text,
    ".txt": _read_text,
    ".csv.gz": _read_text,
    ".tsv.gz": _read_text,
    ".txt.gz": _read_text,
    ".parquet": _read_parquet,
}
WRITERS: dict[str, Callable[[Path, Array, Spectrum, Table], None]] = {
    ".npy": _write_npy,
    ".npz": _write_npz,
    ".csv": _write_csv,
    ".tsv": _write_csv,
    ".csv.gz": _write_csv,
    ".tsv.gz": _write_csv,
    ".parquet": _write_parquet,
}
