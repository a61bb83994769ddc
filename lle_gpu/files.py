"""Tables in, embeddings out: NumPy, CSV and Parquet files, for the command line.

The file's extension decides. Whatever is wrong with a file is a ``ValueError`` that names the file,
the place in it, and what to do.
"""

from __future__ import annotations

import csv
import itertools
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from lle_gpu.spectral import Spectrum

__all__ = ["READERS", "WRITERS", "Table", "check_writable", "read_table", "write_embedding"]

Array = NDArray[Any]
# Names under which an .npz file may hold the points and their classes.
DATA_KEY, LABEL_KEYS = "X", ("y", "labels", "label")
DELIMITERS = (",", ";", "\t", "|")
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
    """

    X: Array
    labels: Array | None = None
    label_name: str = "label"
    remarks: tuple[str, ...] = ()


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
        raise ValueError(f"{path}: cannot read {path.suffix or 'a file without extension'}: use "
                         f"{', '.join(READERS)}")  # fmt: skip
    if reader is not _read_npz and selection.key is not None:
        raise ValueError(f"--key={selection.key} names an array of an .npz file, and {path} is not")
    if reader is not _read_text and selection.header is not None:
        raise ValueError(f"--header and --no-header are for CSV files, and {path} is not")
    return reader(path, selection)


def check_writable(path: Path) -> None:
    """Find out whether ``path`` can be written, before anything long is computed.

    Raises
    ------
    FileNotFoundError, NotADirectoryError, IsADirectoryError, PermissionError
    """
    folder = path.parent
    if not folder.exists():
        raise FileNotFoundError(f"cannot write {path}: there is no folder {folder}; make it first")
    if not folder.is_dir():
        raise NotADirectoryError(f"cannot write {path}: {folder} is not a folder")
    if path.is_dir():
        raise IsADirectoryError(f"cannot write {path}: it is a folder")
    target = path if path.exists() else folder
    if not os.access(target, os.W_OK):
        raise PermissionError(f"cannot write {path}: no permission to write to {target}")


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
        raise ValueError(f"{path}: {option}: {len(found)} columns are called {wanted!r}; use a "
                         f"number ({', '.join(map(str, found))})")  # fmt: skip
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
    return _from_array(path, array, selection, None)


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
    if selection.key is None:
        remarks.append(f"array {key!r} of {shapes}")
    n = len(arrays[key]) if arrays[key].ndim else 0
    labels = next((arrays[k] for k in LABEL_KEYS if k in arrays and arrays[k].shape == (n,)), None)
    return _from_array(path, arrays[key], selection, labels, tuple(remarks))


def _from_array(
    path: Path,
    array: Array,
    selection: Selection,
    labels: Array | None,
    remarks: tuple[str, ...] = (),
) -> Table:
    if array.ndim != 2:
        raise ValueError(f"{path}: the array has shape {array.shape}, but data are (n, n_features)")
    if array.dtype.kind not in "fiub":
        raise ValueError(f"{path}: the array holds {array.dtype}, not real numbers")
    if selection.label is selection.columns is selection.drop is None:
        return Table(array, labels, remarks=remarks)
    chosen, label = _select(_names(array.shape[1], None), selection, path)
    if label is not None:
        labels = array[:, label]
    return Table(array[:, chosen], labels, remarks=remarks)


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
    width = len(rows[0])
    names = _names(width, rows[0] if header else None)
    body = rows[1:] if header else rows
    if not body:
        raise ValueError(f"{path}: the file has a header and no data")
    for number, row in enumerate(body):
        if len(row) != width:
            raise ValueError(
                f"{path}: row {number} of the data (from 0) has {len(row)} fields, but the first "
                f"line has {width}"
            )
    remarks = [
        f"delimiter {'white space' if delimiter is None else repr(delimiter)}, "
        + ("a header line" if header else "no header line")
    ]
    row_numbers = _row_number_column(names, body)
    if row_numbers and selection.columns is None:
        remarks.append("the first column has no name and counts the rows: it is left out")
    chosen, label = _select(names, selection, path, row_numbers)
    bad = [j for j in chosen if not all(_is_number(row[j]) for row in body)]
    example = next((row[j] for j in bad for row in body if not _is_number(row[j])), "")
    _refuse_text(path, names, bad, f"for example {example!r}" if example else "a field is empty")

    skip = preview.index(lines[0]) + header  # blank lines before the first, too
    X = _load_text(path, delimiter, skip, chosen, float)
    labels = None
    if label is not None:
        labels = _as_labels(_load_text(path, delimiter, skip, [label], str)[:, 0])
    name = names[label] if label is not None and header else "label"
    return Table(X, labels, name, tuple(remarks))


def _load_text(
    path: Path, delimiter: str | None, skip: int, columns: list[int], dtype: type
) -> Array:
    try:
        return np.loadtxt(
            path, dtype=dtype, delimiter=delimiter, skiprows=skip, usecols=columns,
            ndmin=2, comments=None, quotechar='"', encoding="utf-8-sig",
        )  # fmt: skip
    except ValueError as error:
        raise ValueError(
            f"{path}: {error} (rows of data counted from 0). Mend or remove that row"
        ) from error


def _delimiter(lines: Sequence[str]) -> str | None:
    """The delimiter that splits the first lines into the most fields, equally many; None: blanks."""
    counts = {
        d: {len(row) for row in csv.reader(lines, delimiter=d, skipinitialspace=True)}
        for d in DELIMITERS
    }
    even = {d: count.pop() for d, count in counts.items() if len(count) == 1}
    best = max(even, key=lambda d: even[d], default=None)
    if best is not None and even[best] > 1:
        return best
    # None fits all lines: take what occurs in the first, so that the odd line can be reported.
    return next((d for d in DELIMITERS if d in lines[0]), None)


def _has_header(rows: Sequence[Sequence[str]]) -> bool:
    """Whether the first row names columns: text over numbers, text only, or 0, 1, 2, ..."""
    first = rows[0]
    if not any(_is_number(field) for field in first):
        return True
    second = rows[1] if len(rows) > 1 else []
    if any(_is_number(b) and not _is_number(a) for a, b in zip(first, second, strict=False)):
        return True
    numbers = [field for field in first if _is_number(field)]
    return len(numbers) > 2 and numbers == [str(j) for j in range(len(numbers))]


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
            pyarrow.types.is_integer, pyarrow.types.is_floating, pyarrow.types.is_boolean,
        )  # fmt: skip
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
    if label is None:
        return Table(X, remarks=remarks)
    return Table(X, content.column(names[label]).to_numpy(), names[label], remarks)


# Writing


def _header(Y: Array, table: Table) -> list[str]:
    return [f"lle{j}" for j in range(Y.shape[1])] + ([] if table.labels is None else [table.label_name])


def _write_npy(path: Path, Y: Array, spectrum: Spectrum, table: Table) -> None:
    np.save(path, Y)


def _write_npz(path: Path, Y: Array, spectrum: Spectrum, table: Table) -> None:
    arrays = {
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
    np.savez(path, allow_pickle=False, **arrays)


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
