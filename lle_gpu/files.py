"""Tables in, embeddings out: NumPy, CSV and Parquet files, for the command line.

The file's extension decides. Whatever is wrong with a file is a ``ValueError`` that names the file,
the place in it, and what to do.
"""

from __future__ import annotations

import csv
import itertools
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from lle_gpu.spectral import Spectrum

__all__ = [
    "READERS",
    "WRITERS",
    "Selection",
    "Table",
    "check_writable",
    "read_table",
    "write_embedding",
]

Array = NDArray[Any]
# Names under which an .npz file may hold the points and their classes.
DATA_KEY, LABEL_KEYS = "X", ("y", "labels", "label")
# In the order tried: where decimals have commas, the delimiter is a semicolon.
DELIMITERS = ("\t", ";", "|", ",")
# What stands for a missing number, and is no column's name.
MISSING = ("", "na", "n/a", "null", "none", "?", "-")
PREVIEW_LINES = 100


@dataclass(frozen=True)
class Table:
    """What a file holds.

    Attributes
    ----------
    X : ndarray of shape (n, n_features)
        float32 if the file's numbers are, else float64 (CSV) or as stored (NumPy).
    labels : ndarray of shape (n,) or None
    label_name : str
        The labels' column; "label" if it has no name.
    remarks : tuple of str
        Choices that were made while reading, in words.
    columns : tuple of str or None
        The names of X's columns, if the file has names for them, each once.
    """

    X: Array
    labels: Array | None = None
    label_name: str = "label"
    remarks: tuple[str, ...] = ()
    columns: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Selection:
    """Which part of a file is meant, as given on the command line; None is the default.

    Attributes
    ----------
    key : str or None
        Array of an .npz file.
    label : str or None
        Name or number (from 0) of the column that holds classes.
    columns, drop : sequence of str or None
        Names or numbers of the columns to use, or to leave out.
    header : bool or None
        Whether a CSV file's first line has the columns' names; None finds out.
    """

    key: str | None = None
    label: str | None = None
    columns: Sequence[str] | None = None
    drop: Sequence[str] | None = None
    header: bool | None = None


def read_table(path: Path, selection: Selection) -> Table:
    """Read points, and classes if there are any, from a file.

    Parameters
    ----------
    path : Path
        .npy, .npz, .csv, .tsv, .txt or .parquet.
    selection : Selection

    Raises
    ------
    FileNotFoundError, IsADirectoryError
    ValueError
        For an unknown extension, columns that are not numbers, or a file that is not what its
        extension says.
    ImportError
        For .parquet without pyarrow.
    """
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise ValueError(
            f"{path}: cannot read {path.suffix or 'a file without extension'}: use "
            f"{', '.join(READERS)}"
        )
    if reader is not _read_npz and selection.key is not None:
        raise ValueError(f"--key={selection.key} names an array of an .npz file, and {path} is not")
    if reader is not _read_text and selection.header is not None:
        raise ValueError(f"--header and --no-header are for CSV files, and {path} is not")
    table = reader(path, selection)
    if not np.isfinite(table.X).all():
        rows = np.flatnonzero(~np.isfinite(table.X).all(axis=1))
        shown = ", ".join(map(str, rows[:8])) + ", ..." * (len(rows) > 8)
        raise ValueError(
            f"{path}: {len(rows)} of {len(table.X)} rows hold NaN or infinity (counted from 0: "
            f"{shown}). Remove them, fill them in, or leave out their columns with --drop"
        )
    return table


def check_writable(path: Path) -> None:
    """Find out whether ``path`` can be written, before anything long is computed.

    Raises
    ------
    OSError
        With the reason; a file that is there is left as it is.
    """
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


def write_embedding(path: Path, Y: Array, spectrum: Spectrum, table: Table) -> None:
    """Write an embedding; the extension must be one of ``WRITERS``.

    .npy holds the embedding alone; .csv and .parquet have columns lle0, lle1, ... and the classes;
    .npz also has the certificate.
    """
    WRITERS[path.suffix.lower()](path, Y, spectrum, table)


# Columns, for every kind of file


def _names(width: int, names: Sequence[str] | None) -> list[str]:
    """What to call columns in messages."""
    return [str(j) for j in range(width)] if names is None else list(names)


def _find(wanted: str, names: Sequence[str], path: Path, option: str) -> int:
    """Position of a column, given by name or by number."""
    found = [j for j, name in enumerate(names) if name == wanted]
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
    names: Sequence[str], selection: Selection, path: Path, unused: Sequence[int] = ()
) -> tuple[list[int], int | None]:
    """Positions of the data's columns and of the labels' column."""
    label = None
    if selection.label is not None:
        label = _find(selection.label, names, path, "--label-column")
    if selection.columns is not None:
        chosen = [_find(c, names, path, "--columns") for c in selection.columns]
    else:
        left_out = {_find(c, names, path, "--drop") for c in selection.drop or ()} | set(unused)
        chosen = [j for j in range(len(names)) if j not in left_out and j != label]
    if not chosen:
        raise ValueError(f"{path}: no columns are left to embed, of {_listed(names)}")
    return chosen, label


def _once(names: Sequence[str]) -> tuple[str, ...] | None:
    """The names, if they can tell columns apart."""
    return tuple(names) if len(set(names)) == len(names) and all(names) else None


def _refuse_text(path: Path, names: Sequence[str], bad: Sequence[int], example: str) -> None:
    """Raise for columns that are not numbers."""
    if bad:
        listed = [names[j] for j in bad]
        raise ValueError(
            f"{path}: not numbers: column{'s' * (len(bad) > 1)} {_listed(listed)} ({example}). "
            f"Leave out: --drop {','.join(listed[:8])}{',...' * (len(listed) > 8)}; "
            f"or use as classes: --label-column {listed[0]}"
        )


def _listed(names: Sequence[str]) -> str:
    return ", ".join(repr(name) for name in names[:8]) + ", ..." * (len(names) > 8)


def _as_labels(labels: Array) -> Array:
    """Text to integers or floats, if it is that throughout."""
    for kind in (int, float):
        try:
            return labels.astype(kind)
        except ValueError:
            continue
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
    if len(arrays) > 1:
        remarks.append(f"array {key!r}" + (f", labels from {label!r}" if label else ""))
    labels = None if label is None else arrays[label]
    table = Table(arrays[key], labels, label or "label", tuple(remarks))
    return _from_array(path, table, selection)


def _from_array(path: Path, table: Table, selection: Selection) -> Table:
    """The wanted columns of an array."""
    array = table.X
    if array.dtype.kind not in "fiub":
        raise ValueError(f"{path}: the array holds {array.dtype}, not real numbers")
    if array.ndim != 2:
        raise ValueError(f"{path}: the array has shape {array.shape}, but data are (n, n_features)")
    chosen, label = _select(_names(array.shape[1], None), selection, path)
    if len(chosen) < array.shape[1]:
        table = replace(table, X=array[:, chosen])
    if label is not None:
        table = replace(table, labels=array[:, label], label_name=f"column {label}")
    return table


# CSV


def _read_text(path: Path, selection: Selection) -> Table:
    with path.open(newline="", encoding="utf-8-sig") as file:
        try:
            preview = list(itertools.islice(file, PREVIEW_LINES))
        except UnicodeDecodeError as error:
            raise ValueError(f"{path}: not UTF-8 text ({error})") from error
    lines = [line for line in preview if line.strip()]
    if not lines:
        raise ValueError(f"{path}: there is nothing in the first {PREVIEW_LINES} lines")
    delimiter = _delimiter(lines)
    if delimiter is None:  # any white space
        rows = [line.split() for line in lines]
    else:
        rows = list(csv.reader(lines, delimiter=delimiter, skipinitialspace=True))
    header = _has_header(rows) if selection.header is None else selection.header
    names = _names(len(rows[0]), [name.lstrip("# ") for name in rows[0]] if header else None)
    body = rows[1:] if header else rows
    if not body:
        raise ValueError(f"{path}: the file has a header and no data")
    layout = _Layout(path, delimiter, preview.index(lines[0]) + header, names)
    if any(len(row) != len(names) for row in body):
        raise layout.fault([])
    remarks = [
        f"delimiter {'white space' if delimiter is None else repr(delimiter)}, "
        + ("a header line" if header else "no header line")
    ]
    row_numbers = _row_number_column(names, body)
    if row_numbers and selection.columns is None:
        remarks.append("the first column has no name and counts the rows: it is left out")
    chosen, label = _select(names, selection, path, row_numbers)
    text = [j for j in chosen if not any(_is_number(row[j]) for row in body)]
    if text:
        example = body[0][text[0]]
        comma = ": write decimals with a point" if _is_number(example.replace(",", ".")) else ""
        _refuse_text(path, names, text, f"for example {example!r}{comma}")

    X = layout.load(chosen, float)
    labels = None if label is None else _as_labels(layout.load([label], str)[:, 0])
    name = names[label] if label is not None and header else "label"
    columns = _once([names[j] for j in chosen]) if header else None
    return Table(X, labels, name, tuple(remarks), columns)


@dataclass(frozen=True)
class _Layout:
    """How a text file is to be read."""

    path: Path
    delimiter: str | None  # None: white space
    skip: int  # lines before the data
    names: Sequence[str]

    def load(self, columns: Sequence[int], dtype: type) -> Array:
        """Read columns."""
        try:
            return np.loadtxt(
                self.path,
                dtype=dtype,
                delimiter=self.delimiter,
                skiprows=self.skip,
                usecols=columns,
                ndmin=2,
                comments=None,
                quotechar='"',
                encoding="utf-8-sig",
            )
        except ValueError as error:
            raise self.fault(columns if dtype is float else []) from error

    def fault(self, columns: Sequence[int]) -> ValueError:
        """The first line that has not as many fields as it should, or no numbers in ``columns``."""
        with self.path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file, delimiter=self.delimiter or "\n", skipinitialspace=True)
            for row in reader:
                where = f"{self.path}, line {reader.line_num}"
                if reader.line_num <= self.skip or not "".join(row).strip():
                    continue
                fields = row if self.delimiter else row[0].split()
                if len(fields) != len(self.names):
                    return ValueError(
                        f"{where}: {len(fields)} fields instead of {len(self.names)}; mend or "
                        "remove it"
                    )
                for j in columns:
                    if not _is_number(fields[j]):
                        what = repr(fields[j]) if fields[j].strip() else "an empty field"
                        return ValueError(
                            f"{where}, column {self.names[j]!r}: {what} is not a number; fill it "
                            "in, remove the line, or leave out the column with --drop"
                        )
        return ValueError(f"{self.path}: NumPy cannot read it as a table")


def _delimiter(lines: Sequence[str]) -> str | None:
    """The delimiter that splits all of the first lines alike; None: white space."""
    for delimiter in DELIMITERS:
        widths = {len(row) for row in csv.reader(lines, delimiter=delimiter)}
        if len(widths) == 1 and widths.pop() > 1:
            return delimiter
    # None fits all lines: take what occurs in the first, so that the odd line can be reported.
    return next((d for d in DELIMITERS if d in lines[0]), None)


def _has_header(rows: Sequence[Sequence[str]]) -> bool:
    """Whether the first row names columns: text only, text over numbers, or 0, 1, 2, ..."""
    first = rows[0]
    second = rows[1] if len(rows) > 1 else []
    numbers = [field for field in first if _is_number(field)]
    if not numbers:
        return True
    if any(
        _is_number(below) and not _is_number(above) and above.strip().lower() not in MISSING
        for above, below in zip(first, second, strict=False)
    ):
        return True
    # What pandas writes for columns without names, after an empty field for its index.
    counts = numbers == [str(j) for j in range(len(numbers))]
    return counts and (len(numbers) > 2 or first[0] == "")


def _row_number_column(names: Sequence[str], body: Sequence[Sequence[str]]) -> list[int]:
    """Position of the unnamed column of row numbers that pandas writes, if there is one."""
    counts = all(row[0] == str(i) for i, row in enumerate(body))
    return [0] if len(names) > 1 and names[0] == "" and counts else []


def _is_number(field: str) -> bool:
    try:
        float(field)
    except ValueError:
        return False
    return True


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
        index = [j for j, name in enumerate(names) if name.startswith("__index_level_")]
        chosen, label = _select(names, selection, path, index)
        types = [schema.field(j).type for j in range(len(names))]
        numeric = (
            pyarrow.types.is_integer,
            pyarrow.types.is_floating,
            pyarrow.types.is_boolean,
        )
        bad = [j for j in chosen if not any(test(types[j]) for test in numeric)]
        example = f"{names[bad[0]]} is {types[bad[0]]}" if bad else ""
        _refuse_text(path, names, bad, example)
        wanted = [names[j] for j in (*chosen, *([] if label is None else [label]))]
        content = file.read(columns=wanted)
    columns = [content.column(names[j]).to_numpy() for j in chosen]
    float32 = all(c.dtype == np.float32 for c in columns)
    X = np.empty((len(content), len(chosen)), dtype=np.float32 if float32 else np.float64)
    for j, column in enumerate(columns):
        X[:, j] = column
    remarks = ("the index column that pandas wrote is left out",) if index else ()
    shown = _once([names[j] for j in chosen])
    if label is None:
        return Table(X, remarks=remarks, columns=shown)
    return Table(X, content.column(names[label]).to_numpy(), names[label], remarks, shown)


# Writing


def _header(Y: Array, table: Table) -> list[str]:
    names = [f"lle{j}" for j in range(Y.shape[1])]
    return names if table.labels is None else [*names, table.label_name]


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
    if table.labels is not None:
        labels = table.labels  # as text where they are objects, so that nothing is pickled
        arrays["labels"] = labels.astype(str) if labels.dtype == object else labels
    np.savez(path, **arrays)


def _write_csv(path: Path, Y: Array, spectrum: Spectrum, table: Table) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(_header(Y, table))
        for low in range(0, len(Y), 10_000):
            # Text is as short as brings back the same bits, also in float32.
            rows = Y[low : low + 10_000].astype(str)
            if table.labels is not None:
                labels = table.labels[low : low + 10_000].astype(str)
                rows = np.column_stack([rows, labels])
            writer.writerows(rows.tolist())


def _write_parquet(path: Path, Y: Array, spectrum: Spectrum, table: Table) -> None:
    parquet = _pyarrow_parquet(path)
    import pyarrow

    columns = [*np.ascontiguousarray(Y.T), *([] if table.labels is None else [table.labels])]
    parquet.write_table(pyarrow.table(columns, names=_header(Y, table)), path)


READERS: dict[str, Callable[[Path, Selection], Table]] = {
    ".npy": _read_npy,
    ".npz": _read_npz,
    ".csv": _read_text,
    ".tsv": _read_text,
    ".txt": _read_text,
    ".parquet": _read_parquet,
}
WRITERS: dict[str, Callable[[Path, Array, Spectrum, Table], None]] = {
    ".npy": _write_npy,
    ".npz": _write_npz,
    ".csv": _write_csv,
    ".parquet": _write_parquet,
}
