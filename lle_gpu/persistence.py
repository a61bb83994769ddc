"""A fitted model in a file that holds arrays and JSON, no code: ``save`` and ``load``; pickles.

The file is a zip archive whose members are stored as they are:

- ``model.json``: the format's name and version, the library's version, the class, the parameters,
  what ``fit`` made, and for each array its dtype, shape and SHA-256;
- ``arrays/*.npy``: the arrays, in NumPy's format. There are no objects among them.

Nothing in a file is executed, and nothing is unpacked to disk. No member is compressed, so that
none can claim more bytes than the file has, and no array is made before its size is known to fit.
The checksums find damage. They do not prove who wrote a file: what a stranger's model says is the
stranger's.

The same model gives the same file. A file written on a machine with a GPU can be read on one
without: arrays are brought to the host, and back to the GPU where there is one. Pickles, too.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import secrets
import stat
import sys
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import IO, Any, NoReturn

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array, csr_matrix, issparse, sparray
from sklearn.utils.validation import check_is_fitted

from lle_gpu.arrays import FLOAT_DTYPES, is_device_array, to_host
from lle_gpu.backend import cpu_backend
from lle_gpu.device import resolve
from lle_gpu.exceptions import ModelFileError, PickleVersionWarning, warn_user
from lle_gpu.functional import where_it_fits
from lle_gpu.neighbors import ALGORITHMS
from lle_gpu.sparse_structure import LARGEST_SPARSE
from lle_gpu.spectral import Spectrum

__all__ = [
    "VERSIONS",
    "check_versions",
    "load",
    "portable",
    "read",
    "restored",
    "versions",
    "write",
]

FORMAT, VERSION = "lle_gpu model", 1
DOCUMENT = "model.json"
# A document has numbers and names of features. More than this is none of ours, and much to parse.
LARGEST_DOCUMENT = 1 << 26
# Where a pickle's state has the versions that made it.
VERSIONS = "_versions"
# What pickles of protocols 2 to 5 begin with, joblib's among them, and what joblib compresses.
PICKLES = (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")
COMPRESSED = (b"x\x01", b"x\x5e", b"x\x9c", b"x\xda", b"\x1f\x8b", b"BZ", b"\xfd7", b"]\x00")
CHUNK_BYTES = 1 << 22
# What arrays may hold: booleans, integers and floats, of 1 to 8 bytes.
DTYPE = re.compile(r"[<>|][biuf][1248]")
# Version 1.0 of NumPy's format, and the text that it then has; its length comes between them.
MAGIC = b"\x93NUMPY\x01\x00"
HEADER = re.compile(
    r"\{'descr': '(?P<descr>[^']+)', 'fortran_order': (?P<fortran_order>True|False), "
    r"'shape': \((?P<shape>[0-9, ]{0,400})\), \} *\n"
)
# What belongs to the process, or to the pipeline around it, and not to the model.
NOT_KEPT = ("callbacks",)
NOT_KEPT_STATE = ("_frames_as_arrays", "_metadata_request")
DAMAGED = "the file is damaged: get it again, or save the model once more"

FilePath = str | bytes | os.PathLike[str] | os.PathLike[bytes]

# Without a GPU


@dataclass(frozen=True)
class Search:
    """What a neighbour search is made of anew, on this machine or another.

    Attributes
    ----------
    X : ndarray or csr_array
        On the host.
    n_neighbors : int
    algorithm : str
        The CPU's; "auto" if the search was the GPU's.
    metric : str or callable
    random_state : int or None
    n_jobs : int or None
    device : {"cpu", "gpu"}
        Where it was.
    """

    X: Any
    n_neighbors: int
    algorithm: str
    metric: Any
    random_state: int | None
    n_jobs: int | None
    device: str


@dataclass(frozen=True)
class FromGpu:
    """An array that was CuPy's, on the host."""

    array: NDArray[Any]


def portable(state: Mapping[str, Any]) -> dict[str, Any]:
    """An estimator's attributes with everything that is in a GPU's memory brought to the host."""
    kept = {name: _on_host(value) for name, value in state.items()}
    if is_device_array(state.get("embedding_")):
        kept["embedding_"] = FromGpu(kept["embedding_"])
    if is_device_array(getattr(state.get("nbrs_"), "X", None)):
        kept["nbrs_"] = _search_of(state["nbrs_"])
    return kept


def restored(state: dict[str, Any]) -> dict[str, Any]:
    """The attributes that :func:`portable` was given; on the CPU where there is no GPU.

    Warns
    -----
    GpuFallbackWarning
        If there is a GPU, and its memory is too small.
    """
    state = dict(state)
    search, embedding = state.get("nbrs_"), state.get("embedding_")
    if isinstance(search, Search):
        state["nbrs_"], state["device_"] = _made_anew(search)
    if isinstance(embedding, FromGpu):
        state["embedding_"] = resolve("auto").asarray(embedding.array)
    return state


def versions() -> dict[str, str]:
    """The versions that a pickle is made by, and can be relied on with."""
    from sklearn import __version__ as scikit_learn_s

    from lle_gpu import __version__

    return {"lle_gpu": __version__, "scikit-learn": scikit_learn_s}


def check_versions(written: dict[str, str] | None) -> None:
    """Say so if a pickle is of other versions than these; None are unknown ones.

    Warns
    -----
    PickleVersionWarning
    """
    current = versions()
    if written == current:
        return
    by = _worded(written) if written else "an unknown version of lle_gpu"
    warning = PickleVersionWarning(
        f"this model was pickled by {by}, and is read by {_worded(current)}. Pickles are "
        "promised for the same versions only: it may fail, or give other numbers. Fit it again, "
        "or read it with those versions and save() it: lle_gpu.load() reads the files of older "
        "ones.",
        current_sklearn_version=current["scikit-learn"],
        original_sklearn_version=(written or {}).get("scikit-learn", "unknown"),
    )
    warn_user(warning, PickleVersionWarning)


def _worded(names: dict[str, str]) -> str:
    return " with ".join(f"{name} {version}" for name, version in names.items())


def _on_host(value: Any) -> Any:
    """CuPy's arrays and sparse matrices, also in tuples and lists, as NumPy's and SciPy's."""
    if type(value) in (tuple, list):
        return type(value)(map(_on_host, value))
    return to_host(value)


def _search_of(search: Any) -> Search:
    on_gpu = is_device_array(search.X)
    return Search(
        X=to_host(search.X),
        n_neighbors=int(search.n_neighbors),
        algorithm="auto" if on_gpu else search.algorithm,
        metric=search.metric,
        random_state=getattr(search, "random_state", None),
        n_jobs=search.n_jobs,
        device="gpu" if on_gpu else "cpu",
    )


def _made_anew(search: Search) -> tuple[Any, str]:
    """The search, and the device that it is on."""

    def make(backend: Any) -> Any:
        return backend.neighbor_search(
            backend.asarray(search.X),
            search.n_neighbors,
            algorithm=search.algorithm,
            metric=search.metric,
            random_state=search.random_state,
            n_jobs=search.n_jobs,
        )

    backend = resolve("auto", metric=search.metric) if search.device == "gpu" else cpu_backend()
    made, backend = where_it_fits("auto", backend, search.X, search.X, make, advice="")
    return made, backend.name


# Writing


def write(path: FilePath, model: Any) -> None:
    """Write a fitted model; what ``LocallyLinearEmbedding.save`` does.

    Parameters
    ----------
    path : str or path-like
    model : LocallyLinearEmbedding
    """
    from lle_gpu import __version__

    parameters, state = _to_keep(model)
    encoder = _Encoder()
    document = {
        "format": FORMAT,
        "version": VERSION,
        "library": __version__,
        "class": type(model).__name__,
        "parameters": {name: encoder.encode(value, name) for name, value in parameters.items()},
        "fitted": {name: encoder.encode(value, name) for name, value in state.items()},
    }
    with (
        _replacing(_path(path)) as file,
        zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive,
    ):
        document["arrays"] = {
            name: _write_array(archive, name, array) for name, array in encoder.arrays.items()
        }
        text = json.dumps(document, indent=1, allow_nan=False).encode()
        if len(text) > LARGEST_DOCUMENT:
            raise ValueError(
                f"the parameters and names of features take {len(text)} bytes as text, and "
                f"{LARGEST_DOCUMENT} is the most. Give arrays instead of lists (precomputed_knn)."
            )
        archive.writestr(zipfile.ZipInfo(DOCUMENT), text)


def _to_keep(model: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """The parameters and attributes of a fitted model that a file can hold; or an error."""
    from lle_gpu.estimator import LocallyLinearEmbedding

    if type(model) is not LocallyLinearEmbedding:
        raise TypeError(
            f"save() writes LocallyLinearEmbedding, and this is its subclass "
            f"{type(model).__qualname__}, which a file without code cannot hold. Use pickle."
        )
    check_is_fitted(model)
    model._validate_params()
    state = {name: v for name, v in portable(vars(model)).items() if name not in NOT_KEPT_STATE}
    parameters = {name: state.pop(name) for name in model.get_params(deep=False)}
    for name in NOT_KEPT:
        del parameters[name]
    unknown = sorted(state.keys() - HOLDS.keys())
    if unknown:
        raise ValueError(
            f"save() keeps the parameters and what fit() made. {', '.join(map(repr, unknown))} is "
            "neither: delete that attribute first, or use pickle."
        )
    state["nbrs_"] = _as_search(state["nbrs_"])
    if problem := _disagreement(model, state):
        raise ValueError(f"save() cannot keep this model: {problem}. Mend that, or use pickle.")
    if not all(map(_is_label, state.get("_labels_in", []))):
        warn_user(
            "save() keeps columns' names that are text or numbers, and these are not: "
            f"{_listed(state.pop('_labels_in'))}. The model in the file will not compare them.",
            UserWarning,
        )
    return parameters, state


def _as_search(search: Any) -> Search:
    return search if isinstance(search, Search) else _search_of(search)


def _path(path: FilePath) -> Path:
    if not (name := os.fsdecode(path)):  # which Path would take for the folder that we are in
        raise FileNotFoundError("path='' names no file: give the name of one, such as 'model.lle'")
    if name.endswith(("/", os.sep)):  # which Path would leave out
        raise IsADirectoryError(f"path={name!r} names a folder: give the name of a file in it")
    return Path(name)


@contextlib.contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Errors of the system name the path that was asked for, not the file beside it."""
    try:
        yield
    except OSError as error:
        raise OSError(
            error.errno,
            f"cannot save to {path}: {error.strerror}. Choose a place where files can be made",
        ) from error


@contextlib.contextmanager
def _replacing(path: Path) -> Iterator[IO[bytes]]:
    """A file to write to, which takes the place of ``path`` when all is written, or goes away."""
    target = Path(os.path.realpath(path))  # a link stays one
    if target.exists() and not target.is_file():
        raise IsADirectoryError(f"cannot save to {path}: that is not a file")
    if not target.parent.is_dir():
        raise FileNotFoundError(
            f"cannot save to {path}: there is no folder {target.parent}; make it first"
        )
    # Whoever could not read the old file must not be able to read the new one, not for a moment.
    kept = stat.S_IMODE(target.stat().st_mode) if target.exists() else None
    opener = partial(os.open, mode=0o666 if kept is None else 0o600)
    # Not with the target's name in it, which may be as long as a name can be.
    temporary = target.with_name(f".{secrets.token_hex(8)}.part")
    try:
        with _naming(path):
            file = open(temporary, "xb", opener=opener)  # noqa: SIM115
        with file:
            if kept is not None:
                temporary.chmod(kept)
            yield file
            file.flush()
            os.fsync(file.fileno())
        with _naming(path):
            temporary.replace(target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


class _Hashing:
    """Passes bytes on to a file and takes their checksum."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self.checksum = file, hashlib.sha256()

    def write(self, data: bytes) -> int:
        self.checksum.update(data)
        return self._file.write(data)


def _write_array(archive: zipfile.ZipFile, name: str, array: NDArray[Any]) -> dict[str, Any]:
    """Write a member; returns what the document says of it."""
    info = zipfile.ZipInfo(name)
    info.file_size = array.nbytes + 1024  # so that zipfile knows whether to write a large one
    with archive.open(info, "w") as member:
        file: Any = _Hashing(member)
        np.lib.format.write_array(file, array, version=(1, 0), allow_pickle=False)
    return {
        "dtype": array.dtype.str,
        "shape": list(array.shape),
        "sha256": file.checksum.hexdigest(),
    }


class _Encoder:
    """Values as JSON; arrays are put aside, by the name of their member.

    JSON's own values stand for themselves, everything else for an object with one key, its kind.
    """

    def __init__(self) -> None:
        self.arrays: dict[str, NDArray[Any]] = {}

    def encode(self, value: Any, name: str) -> Any:
        """``name`` is the parameter's or attribute's, for its arrays and for errors."""
        if value is None or isinstance(value, bool | str):
            return value
        if isinstance(value, np.generic) and value.dtype.kind in "biuf":
            return self.encode(value.item(), name)
        if type(value) is int:
            return value
        if type(value) is float:
            return value if np.isfinite(value) else {"float": repr(value)}
        if type(value) in (list, tuple):
            items = [self.encode(item, f"{name}.{i}") for i, item in enumerate(value)]
            return items if type(value) is list else {"tuple": items}
        if type(value) is dict and all(type(key) is str for key in value):
            return {"dict": {key: self.encode(item, name) for key, item in value.items()}}
        if isinstance(value, np.ndarray):
            if value.dtype == object and all(type(item) is str for item in value):
                return {"names": value.tolist()}
            return {"array": self._array(value, name)}
        if issparse(value):
            return {"csr": self._csr(value, name)}
        if isinstance(value, FromGpu):
            return {"gpu_array": self._array(value.array, name)}
        if type(value) in RECORDS.values():
            return {
                type(value).__name__: {
                    field.name: self.encode(getattr(value, field.name), f"{name}.{field.name}")
                    for field in fields(value)
                }
            }
        if isinstance(value, np.random.RandomState):
            return {"RandomState": self._random_state(value, name)}
        raise self._refusal(value, name)

    def _array(self, array: NDArray[Any], name: str) -> str:
        if not DTYPE.fullmatch(array.dtype.str):
            raise self._refusal(array, name)
        in_fortran_order = array.flags.f_contiguous and not array.flags.c_contiguous
        member = f"arrays/{name}.npy"
        self.arrays[member] = np.asarray(array, order="F" if in_fortran_order else "C")
        return member

    def _csr(self, matrix: Any, name: str) -> dict[str, Any]:
        csr = matrix.tocsr()
        return {
            "shape": [int(size) for size in csr.shape],
            "is_array": isinstance(matrix, sparray),
            **{
                part: self._array(getattr(csr, part), f"{name}.{part}")
                for part in ("data", "indices", "indptr")
            },
        }

    def _random_state(self, value: np.random.RandomState, name: str) -> dict[str, Any]:
        state: Any = value.get_state(legacy=False)
        if state["bit_generator"] != "MT19937":
            raise self._refusal(value, name)
        return {
            "key": self._array(state["state"]["key"], f"{name}.key"),
            "pos": int(state["state"]["pos"]),
            "has_gauss": int(state["has_gauss"]),
            "gauss": float(state["gauss"]),
        }

    def _refusal(self, value: Any, name: str) -> ValueError:
        what = f"an array of {value.dtype}" if isinstance(value, np.ndarray) else repr(value)
        hint = (
            "a function is code, and the file holds none. Use a metric by its name"
            if callable(value)
            else "it is neither a number, a text, an array of numbers, a sparse matrix nor a "
            "RandomState of MT19937"
        )
        return ValueError(
            f"save() cannot keep {name.partition('.')[0]}={what}: {hint}, set_params() to what can "
            "be kept, or use pickle."
        )


RECORDS: dict[str, Any] = {"Spectrum": Spectrum, "Search": Search}


# Reading


def load(path: FilePath) -> Any:
    """Read a model that :meth:`lle_gpu.LocallyLinearEmbedding.save` wrote.

    Nothing in the file is executed. A model that was fitted on a GPU is brought to one if there is
    one here, else to the CPU: ``device_`` tells, and :meth:`transform` gives the same up to
    rounding. The parameters, ``device`` among them, stay what they were, but for ``callbacks``,
    which are not in the file.

    Parameters
    ----------
    path : str or path-like

    Returns
    -------
    LocallyLinearEmbedding

    Raises
    ------
    ModelFileError
        A ValueError. If the file is damaged, is none that ``save`` writes, or was written by a
        newer version; the message says which.
    OSError
        If it cannot be opened.
    ImportError
        If the model's ``neighbors_algorithm`` is one that has to be installed, and is not.

    Warns
    -----
    GpuFallbackWarning
        If the model was fitted on a GPU, and the memory of the one here is too small.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> import lle_gpu
    >>> from sklearn.datasets import make_swiss_roll
    >>> X, _ = make_swiss_roll(500, random_state=0)
    >>> lle = lle_gpu.LocallyLinearEmbedding(n_neighbors=12).fit(X)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder) / "roll.lle"
    ...     lle.save(path)
    ...     again = lle_gpu.load(path)
    >>> bool((again.transform(X[:5]) == lle.transform(X[:5])).all())
    True
    """
    from lle_gpu.estimator import LocallyLinearEmbedding

    return read(path, LocallyLinearEmbedding)


def read(path: FilePath, cls: Any) -> Any:
    """Read a model of the class; what :func:`load` does."""
    path = _path(path)
    with path.open("rb") as file:
        try:
            model = _model(cls, *_contents(file, cls.__name__))
        except ModelFileError as error:
            raise ModelFileError(f"{path}: {error}") from error.__cause__
        except (
            # What zipfile, json, NumPy, SciPy and scikit-learn raise for what they cannot read.
            zipfile.BadZipFile, NotImplementedError, ArithmeticError, AttributeError, EOFError,
            LookupError, OSError, RecursionError, TypeError, ValueError,
        ) as error:  # fmt: skip
            raise _unreadable(path, error) from error
    try:
        model.__dict__.update(restored(model.__dict__))
    except ValueError as error:  # of a metric that there is not
        raise _unreadable(path, error) from error
    return model


def _unreadable(path: Path, error: Exception) -> ModelFileError:
    with path.open("rb") as file:
        begin = file.read(2)
    if begin in PICKLES or begin in COMPRESSED:
        what = "a pickle" if begin in PICKLES else "compressed, as joblib.dump(compress=...) does"
        return ModelFileError(
            f"{path}: this is {what}, and load() reads what save() writes. Pickles run code when "
            "they are read: if you trust who made it, use joblib.load(), or pickle.load() for what "
            "pickle.dump() wrote."
        )
    why = " ".join(str(error).split())
    return ModelFileError(
        f"{path}: this is no model that can be read ({why}). It is another kind of "
        f"file, or {DAMAGED}."
    )


def _contents(file: IO[bytes], cls: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Parameters and attributes, each of a kind that the document can tell."""
    size = os.fstat(file.fileno()).st_size
    with zipfile.ZipFile(file) as archive:
        infos = archive.infolist()
        members = {info.filename: info for info in infos}
        if DOCUMENT not in members:
            raise ModelFileError(f"this zip archive is no model: it has no member {DOCUMENT!r}.")
        if members[DOCUMENT].file_size > min(size, LARGEST_DOCUMENT):
            raise ModelFileError(
                f"{DOCUMENT!r} claims {members[DOCUMENT].file_size} bytes; it is not read."
            )
        document = _document(archive.read(_plain(members[DOCUMENT])))
        if document.get("class") != cls:
            raise ModelFileError(f"it holds a {document.get('class')!r:.40}, and no {cls}.")
        arrays = _part(document, "arrays")
        odd = members.keys() ^ {DOCUMENT, *arrays}
        if odd or len(infos) > len(members):
            _fail(f"the members are not those that {DOCUMENT!r} lists: {_listed(odd or members)}")
        if sum(info.file_size for info in infos) > size:
            _fail("the members claim more bytes than the file has")
        decoder = _Decoder(
            {
                name: _read_array(archive, _plain(members[name]), description)
                for name, description in arrays.items()
            }
        )
    contents = {
        part: {name: decoder.decode(value) for name, value in _part(document, part).items()}
        for part in ("parameters", "fitted")
    }
    if decoder.arrays:
        _fail(f"nothing uses the arrays {_listed(decoder.arrays)}")
    return contents["parameters"], contents["fitted"]


def _plain(info: zipfile.ZipInfo) -> zipfile.ZipInfo:
    """A member that is stored as it is, so that it has as many bytes as it claims."""
    stored = info.compress_type == zipfile.ZIP_STORED and info.file_size == info.compress_size
    if not stored or info.flag_bits & 1:
        _fail(f"{info.filename!r} is compressed or encrypted, which save() does not do")
    return info


def _document(text: bytes) -> dict[str, Any]:
    """The document, if it is one that this version can read."""
    from lle_gpu import __version__

    document = json.loads(text, parse_constant=_refuse_constant, object_pairs_hook=_once)
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise ModelFileError(f"{DOCUMENT!r} is not of the format {FORMAT!r}: this is no model.")
    version, library = document.get("version"), str(document.get("library"))[:40]
    if type(version) is not int or version < 1:
        _fail(f"the format's version is {version!r:.40}")
    if version > VERSION:
        raise ModelFileError(
            f"lle_gpu {library} wrote this file in version {version} of the format, and this is "
            f"lle_gpu {__version__}, which reads version {VERSION} at most. Update lle_gpu: pip "
            "install --upgrade lle-gpu."
        )
    return document


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} in {DOCUMENT!r}")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object each of whose keys is there once; of several, readers choose as they like."""
    found = dict(pairs)
    if len(found) < len(pairs):
        name = Counter(name for name, _ in pairs).most_common(1)[0][0]
        _fail(f"{DOCUMENT!r} has the key {name!r:.60} twice")
    return found


def _part(document: dict[str, Any], name: str) -> dict[str, Any]:
    part = document.get(name)
    if not isinstance(part, dict):
        _fail(f"{DOCUMENT!r} has no {name!r}")
    return part


def _read_array(archive: zipfile.ZipFile, info: zipfile.ZipInfo, told: Any) -> NDArray[Any]:
    """An array, which must be as the document says."""
    name = info.filename
    shape, text = tuple(told["shape"]), told["dtype"]
    if not all(type(size) is int and size >= 0 for size in shape):
        _fail(f"the shape of {name!r} is {shape!r:.80}")
    if not (isinstance(text, str) and DTYPE.fullmatch(text)):
        _fail(f"{name!r} is said to hold {text!r:.40}, and arrays of numbers alone are read")
    dtype = np.dtype(text)
    with archive.open(info) as member:
        file: Any = _HashingReader(member)
        header = HEADER.fullmatch(_header(file))
        if header is None:
            _fail(f"{name!r} does not begin as NumPy's files of numbers do")
        found = header["descr"], tuple(int(size) for size in re.findall(r"\d+", header["shape"]))
        if found != (text, shape):
            _fail(f"{name!r} is {found[0]} of {found[1]}, and said to be {text} of {shape}")
        n_bytes = dtype.itemsize
        for size in shape:
            n_bytes *= size
        if file.n_bytes + n_bytes != info.file_size:
            _fail(f"{name!r}, {dtype} of shape {shape}, does not take {info.file_size} bytes")
        array = np.empty(shape, dtype, order="F" if header["fortran_order"] == "True" else "C")
        memory = array.reshape(-1, order="A").view(np.uint8)  # in the order of the file
        for low in range(0, n_bytes, CHUNK_BYTES):
            part = memory[low : low + CHUNK_BYTES]
            part[:] = np.frombuffer(file.read(len(part)), np.uint8)
        file.read(1)  # at the end zipfile compares its own checksum
    if file.checksum.hexdigest() != told["sha256"]:
        _fail(f"the checksum of {name!r} is not the one it was saved with")
    return array.astype(dtype.newbyteorder("="), copy=False)


def _header(file: Any) -> str:
    """The text before an array's numbers; NumPy's own function evaluates it."""
    magic, n_bytes = file.read(8), file.read(2)
    return file.read(int.from_bytes(n_bytes, "little")).decode("latin-1") if magic == MAGIC else ""


class _HashingReader:
    """Passes bytes on from a file, counts them and takes their checksum."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self.checksum, self.n_bytes = file, hashlib.sha256(), 0

    def read(self, count: int) -> bytes:
        data = self._file.read(count)
        self.checksum.update(data)
        self.n_bytes += len(data)
        return data


class _Decoder:
    """The values that :class:`_Encoder` made JSON of; takes each array once."""

    def __init__(self, arrays: dict[str, NDArray[Any]]) -> None:
        self.arrays = arrays

    def decode(self, value: Any) -> Any:
        if isinstance(value, list):
            return [self.decode(item) for item in value]
        if not isinstance(value, dict):
            return value
        ((kind, content),) = value.items()
        if kind == "float" and content in ("nan", "inf", "-inf"):
            return float(content)
        if kind == "tuple":
            return tuple(self.decode(list(content)))
        if kind == "dict":
            return {key: self.decode(item) for key, item in content.items()}
        if kind == "names" and all(type(name) is str for name in content):
            return np.array(content, dtype=object)
        if kind == "array":
            return self.arrays.pop(content)
        if kind == "gpu_array":
            return FromGpu(self.arrays.pop(content))
        if kind == "csr":
            return self._csr(content)
        if kind == "RandomState":
            return self._random_state(content)
        if kind in RECORDS:
            return RECORDS[kind](**{name: self.decode(item) for name, item in content.items()})
        raise ModelFileError(f"{DOCUMENT!r} has a value of unknown kind {kind!r:.40}: {DAMAGED}.")

    def _csr(self, content: dict[str, Any]) -> Any:
        rows, columns = content["shape"]
        # Whatever its columns: nothing takes memory for those without entries.
        if not all(type(size) is int and size > 0 for size in (rows, columns)):
            _fail(f"the shape of a sparse matrix is {content['shape']!r:.80}")
        if rows * columns > LARGEST_SPARSE:
            _fail(f"a sparse matrix of shape {(rows, columns)} has places that int64 cannot number")
        parts = [self.arrays.pop(content[part]) for part in ("data", "indices", "indptr")]
        if not all(part.dtype in (np.int32, np.int64) for part in parts[1:]):
            _fail("a sparse matrix has indices that are no integers")
        make = csr_array if content["is_array"] else csr_matrix
        matrix = make(tuple(parts), shape=(rows, columns))
        matrix.check_format(full_check=True)
        return matrix

    def _random_state(self, content: dict[str, Any]) -> Any:
        key, pos = self.arrays.pop(content["key"]), content["pos"]
        # NumPy itself would read beyond the key's end.
        is_within = type(pos) is int and 0 <= pos <= 624
        if key.shape != (624,) or key.dtype != np.uint32 or not is_within:
            _fail("a RandomState is none of MT19937")
        state = np.random.RandomState()
        state.set_state(("MT19937", key, pos, content["has_gauss"], content["gauss"]))
        return state


def _model(cls: Any, parameters: dict[str, Any], state: dict[str, Any]) -> Any:
    """The model, if all that it is made of fits together."""
    known = cls().get_params(deep=False).keys() - set(NOT_KEPT)
    if parameters.keys() - known:
        raise ModelFileError(
            f"it has the parameters {_listed(parameters.keys() - known)}, which this version of "
            "lle_gpu does not know: a newer one wrote it. Update lle_gpu: pip install --upgrade "
            "lle-gpu."
        )
    model = cls(**parameters)  # what an older version did not have has its default
    model._validate_params()
    for name in sorted(REQUIRED - state.keys() | state.keys() - HOLDS.keys()):
        _fail(f"{name} is {'missing' if name in REQUIRED else 'nothing that a fit makes'}")
    search, embedding = state["nbrs_"], state["embedding_"]
    coordinates = embedding.array if isinstance(embedding, FromGpu) else embedding
    if not (isinstance(search, Search) and _are_floats(search.X) and _are_floats(coordinates)):
        _fail("nbrs_ or embedding_ does not hold points")
    (n, d), q = search.X.shape, coordinates.shape[1]
    for name, value in state.items():
        if not HOLDS[name](value, n, d, q):
            _fail(f"{name} does not fit the rest, or is not of its kind")
    if state["device_"] != search.device:
        _fail("device_ does not fit nbrs_")
    if problem := _disagreement(model, state):
        _fail(problem)
    model.__dict__.update(state)
    return model


def _disagreement(model: Any, state: dict[str, Any]) -> str | None:
    """What is wrong with parameters and attributes each of which is sound by itself."""
    for name, value in model.get_params(deep=False).items():
        if type(value) is int and abs(value) > sys.float_info.max:
            return f"{name} is an integer beyond float64's largest number"
    if model.n_jobs == 0:
        return f"n_jobs={model.n_jobs} must be a positive number, -1 or None (all cores)"
    fitted = state["nbrs_"].n_neighbors
    if model.n_neighbors != fitted:
        return f"n_neighbors={model.n_neighbors}, and the neighbours of the fit are {fitted}"
    names = Counter(state.get("feature_names_in_", ())).most_common(1)
    if names and names[0][1] > 1:
        return f"feature_names_in_ has {names[0][0]!r:.60} {names[0][1]} times"
    return None


def _are_floats(array: Any) -> bool:
    """Whether it is an array of finite points, of more than one column or row."""
    if issparse(array):
        sound = isinstance(array, csr_array) and array.has_canonical_format
        return sound and array.dtype in FLOAT_DTYPES and bool(np.isfinite(array.data).all())
    return (
        isinstance(array, np.ndarray)
        and array.ndim == 2
        and array.dtype in FLOAT_DTYPES
        and bool(np.isfinite(array).all())
    )


def _are_rows(value: Any, n: int, d: int, q: int) -> bool:
    """Whether they are row numbers, ascending."""
    if not (isinstance(value, np.ndarray) and value.ndim == 1 and value.dtype == np.int64):
        return False
    ascending = bool((np.diff(value) > 0).all())
    return ascending and (len(value) == 0 or bool(value[0] >= 0 and value[-1] < n))


def _is_spectrum(value: Any, n: int, d: int, q: int) -> bool:
    kinds = {"gap": float, "n_null": int, "converged": bool, "solver": str, "n_iter": int}
    return (
        isinstance(value, Spectrum)
        and all(type(getattr(value, name)) is kind for name, kind in kinds.items())
        and all(
            isinstance(part, np.ndarray) and part.shape == (q,) and part.dtype == np.float64
            for part in (value.values, value.residuals)
        )
        and bool(np.isfinite(value.values).all() and (value.values >= 0).all())
    )


def _is_search(value: Any, n: int, d: int, q: int) -> bool:
    return (
        type(value.n_neighbors) is int
        and 1 <= value.n_neighbors < n
        and value.algorithm in ALGORITHMS
        and isinstance(value.metric, str)
        and all(part is None or type(part) is int for part in (value.random_state, value.n_jobs))
        and value.n_jobs != 0
    )


def _is_label(value: Any) -> bool:
    """Whether a column's name is one that JSON can hold."""
    if type(value) is tuple:
        return all(map(_is_label, value))
    return type(value) in (bool, int, str) or (type(value) is float and bool(np.isfinite(value)))


# What a fit makes: attribute -> whether a value is of its kind, with n points, d features and q
# coordinates.
HOLDS: dict[str, Callable[[Any, int, int, int], bool]] = {
    "embedding_": lambda value, n, d, q: getattr(value, "array", value).shape == (n, q),
    "reconstruction_error_": lambda value, n, d, q: type(value) is float and 0 <= value < np.inf,
    "spectrum_": _is_spectrum,
    "nbrs_": _is_search,
    "embedded_rows_": lambda value, n, d, q: _are_rows(value, n, d, q) and len(value) > q,
    "bridged_rows_": _are_rows,
    "device_": lambda value, n, d, q: value in ("cpu", "gpu"),
    "n_features_in_": lambda value, n, d, q: type(value) is int and value == d,
    "feature_names_in_": lambda value, n, d, q: (
        isinstance(value, np.ndarray) and value.dtype == object and value.shape == (d,)
    ),
    "_labels_in": lambda value, n, d, q: (
        isinstance(value, list) and len(value) == d and all(map(_is_label, value))
    ),
    "_sklearn_output_config": lambda value, n, d, q: (
        value in [{"transform": container} for container in ("default", "pandas", "polars")]
    ),
}
OPTIONAL = {"feature_names_in_", "_labels_in", "_sklearn_output_config"}
REQUIRED = HOLDS.keys() - OPTIONAL


def _listed(names: Any) -> str:
    names = sorted(map(str, names))
    return ", ".join(f"{name!r:.60}" for name in names[:5]) + ", ..." * (len(names) > 5)


def _fail(what: str) -> NoReturn:
    raise ModelFileError(f"{what}: {DAMAGED}.")
