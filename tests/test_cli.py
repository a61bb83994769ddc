"""The command line: what it reads, writes, says and refuses."""

from __future__ import annotations

import builtins
import csv
import gzip
import io
import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scipy.sparse
from matplotlib.image import imread

import lle_gpu
from lle_gpu import LocallyLinearEmbedding, cli, files
from lle_gpu.datasets import load
from lle_gpu.progress import ProgressBar, advance, note, report_to, stage


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def run(capsys):
    """Call the command; returns (status, stdout, stderr)."""

    def call(*arguments):
        status = cli.main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return status, out, err

    return call


@pytest.fixture
def embed(run):
    """Embed successfully; returns (stdout, stderr)."""

    def call(*arguments):
        status, out, err = run("embed", *arguments)
        assert status == 0, err
        return out, err

    return call


@pytest.fixture
def refuse(run, monkeypatch):
    """Embed with something wrong, before the fit unless told; returns the error's line."""

    def call(*arguments, in_fit=False):
        if not in_fit:
            monkeypatch.setattr(LocallyLinearEmbedding, "fit", forbidden)
        status, _, err = run("embed", *arguments)
        assert status == 2
        lines = [line for line in err.splitlines() if line.startswith("lle-gpu: error: ")]
        assert len(lines) == 1, err
        return lines[0].removeprefix("lle-gpu: error: ")

    def forbidden(*_, **__):
        pytest.fail("computed before the error was seen")

    return call


def roll_points(n=250, dtype=np.float64):
    return load("swiss-roll", n).X.astype(dtype)


def expected(X, **parameters):
    options = {"n_neighbors": 12, "n_components": 2, **parameters}
    return LocallyLinearEmbedding(**options).fit(X)


def write_csv(path, X, labels=None, header=None, delimiter=","):
    with Path(path).open("w", newline="") as file:
        writer = csv.writer(file, delimiter=delimiter)
        if header:
            writer.writerow(header)
        for i, row in enumerate(X.tolist()):
            writer.writerow(row if labels is None else [*row, labels[i]])


class TestReading:
    """Every format gives the embedding that the estimator gives for the same array."""

    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    def test_npy(self, embed, dtype):
        X = roll_points(dtype=dtype)
        np.save("points.npy", X)
        out, _ = embed("points.npy")
        Y = np.load("points_lle.npy")
        assert Y.dtype == dtype
        assert np.array_equal(Y, expected(X).embedding_)
        assert f"points.npy: 250 x 3 {np.dtype(dtype).name}" in out
        assert "wrote       points_lle.npy (250 x 2" in out

    def test_npz(self, embed):
        X, labels = roll_points(), np.arange(250) % 3
        np.savez("a.npz", X=X, other=X[:, :2], y=labels)
        out, _ = embed("a.npz", "-o", "out.npz")
        result = np.load("out.npz")
        assert np.array_equal(result["embedding"], expected(X).embedding_)
        assert np.array_equal(result["labels"], labels)
        assert "array 'X', labels from 'y'" in out
        assert "3 classes of y" in out

        np.savez("b.npz", first=X, second=2 * X, third=labels)
        embed("b.npz", "--key", "second", "-o", "out.npy")
        assert np.array_equal(np.load("out.npy"), expected(2 * X).embedding_)

        np.savez("c.npz", whatever=X)
        embed("c.npz", "-o", "out.npy")
        assert np.array_equal(np.load("out.npy"), expected(X).embedding_)

    def test_npz_says_which_array_it_cannot_read(self, embed):
        np.savez("a.npz", X=roll_points(), y=np.array(["a"] * 250, dtype=object))
        out, _ = embed("a.npz")
        assert "array 'y' holds Python objects and is not read" in out

    @pytest.mark.parametrize("suffix", [".csv", ".tsv", ".txt"])
    @pytest.mark.parametrize("delimiter", [",", ";", "\t", "|", " "])
    @pytest.mark.parametrize("header", [None, ("x", "y", "z"), ("0", "1", "2")])
    def test_text(self, embed, suffix, delimiter, header):
        X = roll_points()
        write_csv(f"points{suffix}", X, header=header, delimiter=delimiter)
        out, _ = embed(f"points{suffix}", "-o", "out.npy")
        assert np.array_equal(np.load("out.npy"), expected(X).embedding_)
        assert ("a header line" in out) == (header is not None)
        assert ("no header line" in out) == (header is None)

    def test_savetxt_and_excel(self, embed):
        X = roll_points()
        np.savetxt("a.csv", X, delimiter=",", header="x,y,z", fmt="%.17g")
        embed("a.csv", "--columns", "x,y,z", "-o", "out.npy")
        assert np.array_equal(np.load("out.npy"), expected(X).embedding_)
        lines = "\n".join(",".join(map(repr, row)) for row in X.tolist())
        Path("b.csv").write_text("\n" + lines, encoding="utf-8-sig")
        embed("b.csv", "-o", "out.npy")
        assert np.array_equal(np.load("out.npy"), expected(X).embedding_)

    def test_labels_and_columns_of_a_csv(self, embed):
        X = roll_points()
        names = np.array(['a "quoted", name', "b", "ü"])[np.arange(250) % 3]
        write_csv("points.csv", X, names, header=("x", "y", "z", "kind"))
        out, _ = embed("points.csv", "--label-column", "kind", "-o", "out.npz")
        result = np.load("out.npz")
        assert np.array_equal(result["embedding"], expected(X).embedding_)
        assert np.array_equal(result["labels"], names)
        assert "3 classes of kind" in out

        embed("points.csv", "--drop", "kind", "-o", "out.npy")
        assert np.array_equal(np.load("out.npy"), expected(X).embedding_)
        embed("points.csv", "--columns", "z,0", "-o", "out.npy")
        assert np.array_equal(np.load("out.npy"), expected(X[:, [2, 0]]).embedding_)
        embed("points.csv", "--label-column", "-1", "--drop", "y", "-o", "out.npy")
        assert np.array_equal(np.load("out.npy"), expected(X[:, [0, 2]]).embedding_)

    def test_header_can_be_told(self, embed):
        X = np.round(roll_points(), 6)
        write_csv("points.csv", X)
        embed("points.csv", "--header", "-o", "out.npy")
        assert len(np.load("out.npy")) == 249
        write_csv("points.csv", X, header=("1.5", "2.5", "3.5"))
        embed("points.csv", "-o", "out.npy")
        assert len(np.load("out.npy")) == 251
        embed("points.csv", "--header", "-o", "out.npy")
        assert np.array_equal(np.load("out.npy"), expected(X).embedding_)

    def test_a_missing_first_field_is_no_header(self, refuse):
        Path("points.csv").write_text("NA,1,2\n" + "3,4,5\n" * 20)
        assert refuse("points.csv").startswith(
            "points.csv, line 1, column '0': 'NA' is not a number"
        )

    def test_pandas_files(self, embed):
        import pandas

        X = roll_points()
        frame = pandas.DataFrame(X)
        frame.to_csv("index.csv")
        out, _ = embed("index.csv", "-o", "out.npy")
        assert "the first column has no name and counts the rows: it is left out" in out
        assert np.array_equal(np.load("out.npy"), expected(X).embedding_)
        frame.to_csv("plain.csv", index=False)
        embed("plain.csv", "-o", "out.npy")
        assert np.array_equal(np.load("out.npy"), expected(X).embedding_)

        frame.columns = ["x", "y", "z"]
        frame["kind"] = pandas.Categorical(["a", "b"] * 125)
        frame.index = pandas.Index(range(3, 253))
        frame.to_parquet("points.parquet")
        embed("points.parquet", "--label-column", "kind", "-o", "out.npz")
        result = np.load("out.npz")
        assert np.array_equal(result["embedding"], expected(X).embedding_)
        assert np.array_equal(result["labels"], ["a", "b"] * 125)

        np.testing.assert_equal(frame[["x"]].astype("float32").dtypes.iloc[0], np.float32)
        frame[["x", "y", "z"]].astype("float32").reset_index(drop=True).to_parquet("f32.parquet")
        embed("f32.parquet", "-o", "out.npy")
        assert np.load("out.npy").dtype == np.float32

    def test_built_in(self, embed):
        out, _ = embed("digits", "--method", "ltsa", "-o", "out.npz")
        digits, result = load("digits"), np.load("out.npz")
        lle = expected(digits.X, n_neighbors=30, method="ltsa")
        assert np.array_equal(result["embedding"], lle.embedding_)
        assert np.array_equal(result["labels"], digits.labels)
        assert "digits: 1797 x 64 float64, 10 classes" in out

        embed("s-curve", "-n", 300, "--random-state", 5, "-d", 1, "-o", "out.npy")
        X = load("s-curve", 300, random_state=5).X
        lle = expected(X, n_components=1, random_state=5)
        assert np.array_equal(np.load("out.npy"), lle.embedding_)


def test_every_option_reaches_the_estimator(embed, monkeypatch):
    seen = []
    fit_transform = LocallyLinearEmbedding.fit_transform

    def spy(self, X):
        seen.append(self.get_params())
        return fit_transform(self, X)

    monkeypatch.setattr(LocallyLinearEmbedding, "fit_transform", spy)
    embed("swiss-roll", "-n", 300)
    assert seen[0] == {**LocallyLinearEmbedding().get_params(), "n_neighbors": 12}
    options = {
        "n_neighbors": 13,
        "n_components": 1,
        "reg": 0.01,
        "eigen_solver": "dense",
        "tol": 1e-5,
        "max_iter": 7,
        "method": "modified",
        "neighbors_algorithm": "ball_tree",
        "random_state": 3,
        "n_jobs": 1,
        "device": "cpu",
        "metric": "manhattan",
    }
    arguments = [word for name, value in options.items() for word in (_option(name), value)]
    out, _ = embed("swiss-roll", "-n", 300, *arguments)
    assert seen[1] == {**LocallyLinearEmbedding().get_params(), **options}
    for name in ("reg", "eigen_solver", "tol", "max_iter", "neighbors_algorithm", "random_state"):
        assert f"{name} {options[name]}" in out


def _option(name):
    return "--" + name.replace("_", "-")


class TestWriting:
    def test_npz_has_the_certificate(self, embed):
        embed("swiss-roll", "-n", 300, "-o", "out.npz")
        lle = expected(load("swiss-roll", 300).X)
        with np.load("out.npz") as result:
            assert set(result.files) == {
                "embedding", "singular_values", "residuals", "gap", "n_null", "converged",
            }  # fmt: skip
            assert np.array_equal(result["singular_values"], lle.spectrum_.values)
            assert np.array_equal(result["residuals"], lle.spectrum_.residuals)
            assert result["gap"] == lle.spectrum_.gap
            assert result["n_null"] == 1
            assert result["converged"]

    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    def test_csv_brings_back_the_same_bits(self, embed, dtype):
        X, labels = roll_points(dtype=dtype), np.array(["a,b", 'c"d'])[np.arange(250) % 2]
        np.savez("in.npz", X=X, labels=labels)
        embed("in.npz", "-o", "out.csv")
        with Path("out.csv").open(newline="") as file:
            header, *rows = csv.reader(file)
        assert header == ["lle0", "lle1", "labels"]
        Y = np.array([[dtype(field) for field in row[:2]] for row in rows])
        assert np.array_equal(Y, expected(X).embedding_)
        assert [row[2] for row in rows] == labels.tolist()

    def test_parquet(self, embed):
        from pyarrow import parquet

        X, labels = roll_points(), np.arange(250) % 7
        np.savez("in.npz", X=X, y=labels)
        embed("in.npz", "-d", 3, "-k", 20, "-o", "out.parquet")
        table = parquet.read_table("out.parquet")
        assert table.column_names == ["lle0", "lle1", "lle2", "y"]
        Y = np.column_stack([table.column(f"lle{j}").to_numpy() for j in range(3)])
        assert np.array_equal(Y, expected(X, n_components=3, n_neighbors=20).embedding_)
        assert np.array_equal(table.column("y").to_numpy(), labels)

    def test_what_was_written_can_be_read(self, embed):
        embed("swiss-roll", "-n", 300, "-d", 3, "-k", 20, "-o", "a.csv")
        embed("a.csv", "-o", "b.npy")
        X = np.loadtxt("a.csv", delimiter=",", skiprows=1)
        assert np.array_equal(np.load("b.npy"), expected(X).embedding_)

    def test_a_picture_alone_writes_no_embedding(self, embed, tmp_path):
        embed("swiss-roll", "-n", 300, "--plot", "roll.png")
        assert [path.name for path in tmp_path.iterdir()] == ["roll.png"]

    def test_default_name(self, embed, tmp_path):
        (tmp_path / "deep").mkdir()
        np.save("deep/points.npy", roll_points())
        embed("deep/points.npy")
        embed("swiss-roll", "-n", 300)
        assert {p.name for p in tmp_path.iterdir()} == {
            "deep", "points_lle.npy", "swiss-roll_lle.npy",
        }  # fmt: skip


class TestPictures:
    @pytest.fixture
    def drawn(self, monkeypatch):
        """What plot_embedding was called with, and gave."""
        from lle_gpu import plot

        calls = []
        original = plot.plot_embedding

        def spy(Y, **options):
            ax = original(Y, **options)
            calls.append((Y, options, ax))
            return ax

        monkeypatch.setattr(plot, "plot_embedding", spy)
        return calls

    def test_classes_and_thumbnails(self, embed, drawn):
        out, _ = embed("digits", "--method", "modified", "--plot", "digits.png")
        ((Y, options, ax),) = drawn
        digits = load("digits")
        lle = expected(digits.X, n_neighbors=30, method="modified")
        assert np.array_equal(Y, lle.embedding_)
        assert np.array_equal(options["labels"], digits.labels)
        assert np.array_equal(options["images"], digits.images)
        assert ax.get_title(loc="left") == "digits: modified, 30 neighbours"
        assert ax.get_legend().get_title().get_text() == "digit"
        assert "digits.png (coloured by digit" in out
        pixels = imread("digits.png")
        assert pixels.shape == (900, 1200, 4)
        assert len(np.unique(pixels.reshape(-1, 4), axis=0)) > 500

    @pytest.mark.parametrize("suffix", [".pdf", ".svg", ".PNG"])
    def test_other_formats(self, embed, tmp_path, suffix):
        embed("swiss-roll", "-n", 200, "--plot", f"roll{suffix}")
        start = (tmp_path / f"roll{suffix}").read_bytes()[:8]
        assert start.startswith({".pdf": b"%PDF", ".svg": b"<?xml", ".PNG": b"\x89PNG"}[suffix])

    def test_position(self, embed, drawn):
        embed("swiss-roll", "-n", 300, "--plot", "roll.png")
        _, options, ax = drawn[0]
        assert np.array_equal(options["values"], load("swiss-roll", 300).position)
        assert ax.figure.axes[1].get_ylabel() == "position along the swiss-roll"

    def test_first_principal_component(self, embed, drawn):
        X = roll_points()
        np.save("points.npy", X)
        out, _ = embed("points.npy", "--plot", "points.png")
        _, options, ax = drawn[0]
        centred = X - X.mean(axis=0)
        direction = np.linalg.svd(centred, full_matrices=False)[2][0]
        assert abs(np.corrcoef(options["values"], centred @ direction)[0, 1]) > 1 - 1e-9
        assert ax.figure.axes[1].get_ylabel() == "first principal component of X"
        assert "coloured by first principal component of X" in out

    @pytest.mark.parametrize(
        ("labels", "are_values"),
        [
            (np.arange(250) % 40, False),
            (np.arange(250) % 41, True),
            (np.arange(250) % 3 + 0.5, False),
            (np.linspace(0, 1, 250), True),
            (np.array([f"n{i}" for i in range(250)]), False),
        ],
    )
    def test_labels_that_are_a_quantity(self, embed, drawn, labels, are_values):
        np.savez("in.npz", X=roll_points(), y=labels)
        out, _ = embed("in.npz", "--plot", "out.png")
        assert ("values" in drawn[0][1]) == are_values
        assert ("values of y" in out) == are_values

    def test_span(self, embed, drawn):
        embed("swiss-roll", "-n", 300, "--plot", "roll.png", "--plot-span", 0.9)
        assert "points lie outside" in drawn[0][2].texts[0].get_text()


class TestReport:
    def test_says_what_it_does(self, embed):
        out, err = embed(
            "swiss-roll", "-n", 500, "--method", "hessian", "--n-jobs", 1, "--tol", 1e-8
        )
        lines = out.splitlines()
        assert lines[0] == "data        swiss-roll: 500 x 3 float64 (a rolled-up rectangle)"
        assert lines[1] == (
            "parameters  method hessian, n_neighbors 12 (default for swiss-roll), n_components 2, "
            "tol 1e-08; 1 threads"
        )
        assert lines[2].startswith("certificate converged (largest residual")
        spectrum = expected(load("swiss-roll", 500).X, method="hessian").spectrum_
        assert lines[3].split() == [
            "sigma:",
            *", ".join(f"{s:.3e}" for s in spectrum.values).split(),
        ]
        assert "shift-invert" in lines[4]
        assert "total  " in lines[5]
        stages = [line.split()[0] for line in err.splitlines() if line.endswith(" s")]
        assert stages == [
            "neighbors", "graph", "constraints", "assembly", "choice", "factor", "lanczos",
            "certificate", "write",
        ]  # fmt: skip
        assert "solver: shift-invert (sparse LU with about " in err

    def test_quiet(self, embed):
        assert embed("swiss-roll", "-n", 300, "--quiet") == ("", "")

    @pytest.mark.parametrize(
        ("arguments", "says"),
        [
            (("digits", "-n", "300"), "n_neighbors 30 (default for digits)"),
            (("digits", "-n", "20"), "n_neighbors 19 (default: all others, of 20 points)"),
            (("digits", "--method", "hessian", "-d", "4", "-n", "500"), "n_neighbors 30 ("),
            (("digits", "--method", "ltsa", "-d", "15", "-n", "500"),
             "n_neighbors 34 (default: twice the least for ltsa)"),
            (("swiss-roll", "-n", "300", "-k", "9"), "n_neighbors 9, n_components"),
        ],
    )  # fmt: skip
    def test_default_neighbors(self, embed, arguments, says):
        out, _ = embed(*arguments)
        assert says in out

    def test_warnings_are_lines(self, embed):
        X = np.concatenate([roll_points(150), roll_points(150) + 1e4])
        np.save("two.npy", X)
        _, err = embed("two.npy", "-q")
        (line,) = err.splitlines()
        assert line.startswith(
            "lle-gpu: warning: The directed 12-nearest-neighbour graph has 2 closed"
        )
        _, err = embed("digits", "--method", "ltsa", "--max-iter", 1, "--tol", 1e-15, "-q")
        assert err.startswith("lle-gpu: warning: The bottom vectors have not converged")

    def test_info_and_version(self, run, capsys):
        status, out, _ = run("info")
        assert status == 0
        assert out.rstrip("\n") == lle_gpu.show_config()
        for arguments, says in (
            (["--version"], f"lle-gpu {lle_gpu.__version__}"),
            (["--help"], "lle-gpu embed digits --plot digits.png"),
            (["embed", "--help"], "--n-neighbors"),
        ):
            with pytest.raises(SystemExit) as stop:
                cli.main(arguments)
            assert stop.value.code == 0
            assert says in capsys.readouterr().out


class TestRefusing:
    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["missing.npy"], "no file 'missing.npy'.* built in are digits, swiss-roll"),
            (["swiss_roll"], "built in are digits, .*\\. Did you mean swiss-roll\\?"),
            ([""], "no file ''"),
            (["."], "\\. is a folder"),
            (["roll.npy", "-o", "out.txt"], "-o out.txt: cannot write .txt: use .npy, .npz, .csv"),
            (["roll.npy", "-o", "out"], "cannot write a file without extension"),
            (["roll.npy", "-o", "no/out.npy"], "no/out.npy: there is no folder no; make it first"),
            (
                ["roll.npy", "-o", "roll.npy/out.npy"],
                "cannot write roll.npy/out.npy: Not a directory",
            ),
            (["roll.npy", "-o", "roll.npy"], "is the input, which would be lost"),
            (
                ["roll.npy", "--plot", "out.bmp"],
                "--plot out.bmp: cannot write .bmp: use .png, .pdf",
            ),
            (["roll.npy", "--plot", "no/out.png"], "there is no folder no"),
            (["roll.npy", "--plot", "a.png", "--plot-span", "0"], "--plot-span 0 must be greater"),
            (["roll.npy", "--plot-span", "0.5"], "--plot-span is for pictures"),
            (["roll.npy", "-n", "10"], "--n-samples is for built-in data sets"),
            (["roll.npy", "--key", "X"], "--key=X names an array of an .npz file"),
            (["roll.npy", "--no-header"], "--header and --no-header are for CSV files"),
            (["roll.npy", "--columns", "0,3"], "--columns: no column '3'; there are 3"),
            (["roll.npy", "--drop", "0,1,2"], "no columns are left to embed"),
            (["roll.npy", "--columns", "0", "--drop", "1"], "--drop: not allowed with .*--columns"),
            (["roll.npy", "--unknown"], "unrecognized arguments: --unknown"),
            (["roll.npy", "-k", "many"], "-k/--n-neighbors: invalid int value: 'many'"),
            (["roll.npy", "--method", "isomap"], "--method: invalid choice: 'isomap'"),
            (["roll.npy", "--n-jobs", "0"], "n_jobs=0"),
            (["digits", "-n", "2000"], "n_samples=2000: the digits are 1797"),
            (
                ["digits", "--drop", "3"],
                "--drop and --header are for files, and digits is built in",
            ),
        ],
    )
    def test_arguments(self, refuse, arguments, message):
        np.save("roll.npy", roll_points())
        assert re.search(message, refuse(*arguments))

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["-k", "0"], "'n_neighbors' parameter .* Got 0"),
            (["-k", "250"], "n_neighbors = 250"),
            (["-k", "2", "--method", "ltsa"], "n_neighbors=2 is too small for method='ltsa'"),
            (["-d", "4"], "n_components=4"),
            (["--reg", "-1"], "'reg' parameter"),
            (["--metric", "nonsense"], "nonsense"),
            (["--device", "gpu"], "device='gpu' cannot be used here"),
        ],
    )
    def test_parameters(self, refuse, arguments, message):
        np.save("roll.npy", roll_points())
        assert re.search(message, refuse("roll.npy", *arguments, in_fit=True))
        assert not Path("roll_lle.npy").exists()

    def test_no_command(self, run):
        assert run() == (
            2,
            "",
            "lle-gpu: error: the following arguments are required: COMMAND (see lle-gpu --help)\n",
        )

    def test_the_output_is_left_alone(self, refuse, tmp_path):
        np.save("roll.npy", roll_points())
        (tmp_path / "out.npy").write_bytes(b"precious")
        refuse("roll.npy", "-o", "out.npy", "-k", 0, in_fit=True)
        assert (tmp_path / "out.npy").read_bytes() == b"precious"
        assert sorted(p.name for p in tmp_path.iterdir()) == ["out.npy", "roll.npy"]

    def test_columns_of_text(self, refuse):
        X = roll_points()
        write_csv("a.csv", X, ["red"] * 250, header=("x", "y", "z", "colour"))
        message = refuse("a.csv")
        assert message.startswith("a.csv: not numbers: column 'colour' (for example 'red')")
        assert "--drop colour" in message
        assert "--label-column colour" in message
        write_csv("b.csv", X, ["red"] * 250)
        assert "--drop 3" in refuse("b.csv")
        assert "no column 'taste'; there are 4: 'x', 'y'" in refuse("a.csv", "--drop", "taste")

    @pytest.mark.parametrize("row", [7, 180])  # before and after what is looked at first
    def test_where_a_text_file_is_wrong(self, refuse, row):
        lines = [",".join(map(repr, x)) for x in roll_points().tolist()]

        def write(text):
            Path("a.csv").write_text("\n".join(["x,y,z", *lines[:row], text, *lines[row:]]))

        write("1,2")
        assert refuse("a.csv").startswith(f"a.csv, line {row + 2}: 2 fields instead of 3")
        write("1,what,3")
        assert refuse("a.csv").startswith(
            f"a.csv, line {row + 2}, column 'y': 'what' is not a number"
        )
        write("1,,3")
        assert "column 'y': an empty field is not a number" in refuse("a.csv")
        write("1,nan,3")
        assert f"1 of 251 rows hold NaN or infinity (counted from 0: {row})" in refuse("a.csv")

    @pytest.mark.parametrize(
        ("name", "content", "message"),
        [
            ("a.csv", b"", "there is nothing in the first 100 lines"),
            ("a.csv", b"x,y\n", "a header and no data"),
            ("a.csv", "x,ü\n1,2\n".encode("latin1"), "not UTF-8"),
            ("a.csv", b"1,5;2,5\n2,5;3,5\n", "write decimals with a point"),
            ("a.npy", b"hello", "a.npy: not a NumPy file of numbers"),
            ("a.npy", b"", "a.npy: No data left"),
            ("a.npz", b"PK\x03\x04junk", "a.npz: File is not a zip file"),
            ("a.parquet", b"hello", "a.parquet: "),
            ("a.xlsx", b"", "a.xlsx: cannot read .xlsx: use .npy, .npz, .csv"),
        ],
    )
    def test_files_that_are_not_what_they_say(self, refuse, tmp_path, name, content, message):
        (tmp_path / name).write_bytes(content)
        assert message in refuse(name)

    @pytest.mark.parametrize(
        ("array", "message"),
        [
            (np.zeros(5), "the array has shape (5,), but data are (n, n_features)"),
            (np.zeros((5, 2, 2)), "the array has shape (5, 2, 2)"),
            (np.zeros((5, 2), complex), "the array holds complex128, not real numbers"),
            (np.full((5, 2), np.inf), "5 of 5 rows hold NaN or infinity"),
        ],
    )
    def test_arrays_that_are_no_data(self, refuse, array, message):
        np.save("a.npy", array)
        assert message in refuse("a.npy")

    def test_npz_that_does_not_say_which(self, refuse):
        np.savez("a.npz", a=roll_points(), b=roll_points())
        assert "which array? 'X' would be taken; it holds a (250, 3), b (250, 3)" in refuse("a.npz")
        assert "no array 'c'" in refuse("a.npz", "--key", "c")

    @pytest.mark.parametrize(
        ("missing", "arguments"),
        [
            ("matplotlib", ["swiss-roll", "--plot", "a.png"]),
            ("pyarrow.parquet", ["swiss-roll", "-o", "a.parquet"]),
            ("pyarrow.parquet", ["in.parquet"]),
        ],
    )
    def test_missing_extras(self, refuse, monkeypatch, tmp_path, missing, arguments):
        (tmp_path / "in.parquet").write_bytes(b"")
        original = builtins.__import__

        def no_extra(name, *rest, **options):
            if name == missing:
                raise ImportError(f"No module named {name!r}")
            return original(name, *rest, **options)

        monkeypatch.setattr(builtins, "__import__", no_extra)
        assert "pip install 'lle-gpu[plot]'" in refuse(*arguments)


class TestInterrupt:
    def test_message_and_status(self, run, monkeypatch):
        def interrupt(*_, **__):
            raise KeyboardInterrupt

        monkeypatch.setattr(LocallyLinearEmbedding, "fit_transform", interrupt)
        status, _, err = run("embed", "swiss-roll", "-o", "out.npy")
        assert status == 130
        assert err.splitlines()[-1] == "lle-gpu: interrupted, nothing more is written"
        assert not Path("out.npy").exists()

    @pytest.mark.parametrize("n", [300, 150])  # a sparse factorisation, and the dense solver
    def test_stages_that_hold_the_interpreter_can_be_killed(self, embed, monkeypatch, n):
        """In them no KeyboardInterrupt can be raised, so the signal must act by itself."""
        before = signal.getsignal(signal.SIGINT)
        handlers = []
        set_handler = signal.signal

        def spy(number, handler):
            handlers.append(handler)
            return set_handler(number, handler)

        monkeypatch.setattr(signal, "signal", spy)
        embed("swiss-roll", "-n", n)
        assert handlers == [signal.SIG_DFL, before]

    @pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
    def test_control_c_while_reading(self, tmp_path):
        pipe = tmp_path / "points.csv"
        os.mkfifo(pipe)
        child = subprocess.Popen(
            [sys.executable, "-m", "lle_gpu", "embed", str(pipe)],
            stderr=subprocess.PIPE,
            text=True,
        )
        with pipe.open("w"):  # returns when the child has opened it, too
            child.send_signal(signal.SIGINT)
            _, err = child.communicate(timeout=60)
        assert child.returncode == 130
        assert "lle-gpu: interrupted" in err
        assert "Traceback" not in err


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self):
        return True


class TestProgress:
    def work(self, stream, delay=1000.0):
        with report_to(ProgressBar(stream, delay=delay)) as progress:
            with stage("first", 1000):
                for _ in range(10):
                    advance(100)
            with stage("second"):
                advance(1)
                note("a choice")
        return progress, stream.getvalue()

    def test_lines_in_a_file(self):
        progress, text = self.work(io.StringIO())
        first, choice, second = text.splitlines()
        assert first.split() == ["first", f"{progress.seconds['first']:.3f}", "s"]
        assert choice == "    a choice"
        assert second.startswith("  second")
        assert progress.notes == ["a choice"]

    def test_what_is_running_in_a_terminal(self):
        _, text = self.work(Terminal())
        assert text.startswith("\r  first ...\r  first   ")  # named at once, then overwritten
        assert "\r  second ...\r    a choice" in text
        assert text.rstrip(" \n").endswith(" s")

    def test_bar(self):
        _, text = self.work(Terminal(), delay=0.0)
        assert "%|" in text
        assert "/1.00k" in text
        left_standing = [line.rsplit("\r", 1)[-1].split() for line in text.split("\n")[:-1]]
        assert [words[0] for words in left_standing] == ["first", "a", "second"]


class TestModels:
    """embed --save, and transform."""

    @pytest.fixture
    def transform(self, run):
        def call(*arguments):
            status, out, err = run("transform", *arguments)
            assert status == 0, err
            return out, err

        return call

    @pytest.fixture
    def points(self):
        """A table with numbers to leave out and classes, and a model of its first 200 lines."""
        X = roll_points(250)
        classes = np.where(X[:, 1] > 10, "high", "low")
        with Path("all.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["id", "x", "y", "z", "level"])
            writer.writerows([i, *x, c] for i, (x, c) in enumerate(zip(X, classes, strict=True)))
        lines = Path("all.csv").read_text().splitlines(keepends=True)
        Path("old.csv").write_text("".join(lines[:201]))
        Path("new.csv").write_text("".join([lines[0], *lines[201:]]))
        return X

    def save(self, embed):
        return embed(
            "old.csv", "--drop", "id", "--label-column", "level", "--save", "m.lle", "-k", "9"
        )

    def test_save_and_transform(self, embed, transform, points):
        out, err = self.save(embed)
        assert "wrote       m.lle (the model, " in out
        assert re.search(r"^  save ", err, flags=re.MULTILINE)
        assert not Path("old_lle.npy").exists()  # nothing but what was asked for
        model = lle_gpu.load("m.lle")
        assert list(model.feature_names_in_) == ["x", "y", "z"]
        np.testing.assert_array_equal(
            model.embedding_, expected(points[:200], n_neighbors=9).embedding_
        )

        out, err = transform("m.lle", "new.csv", "--label-column", "level", "-o", "placed.csv")
        lines = out.splitlines()
        assert lines[0] == (
            "model       m.lle: method standard, n_neighbors 9, n_components 2; fitted to 200 x 3 "
            "points"
        )
        assert lines[1] == "data        new.csv: 50 x 3 float64, 2 classes of level"
        assert lines[-1].startswith("wrote       placed.csv (50 x 2 float64, ")
        stages = [line.split()[0] for line in err.splitlines() if line.endswith(" s")]
        assert stages == ["load", "read", "neighbors", "weights", "means", "write"]
        rows = list(csv.reader(Path("placed.csv").read_text().splitlines()))
        assert rows[0] == ["lle0", "lle1", "level"]
        Y = expected(points[:200], n_neighbors=9).transform(points[200:])
        np.testing.assert_array_equal(np.array([row[:2] for row in rows[1:]], dtype=float), Y)

    def test_columns_are_found_by_their_names(self, embed, transform, run, points):
        self.save(embed)
        Y = expected(points[:200], n_neighbors=9).transform(points[200:])
        rows = list(csv.reader(Path("new.csv").read_text().splitlines()))
        turned = [[row[3], row[1], row[4], row[2]] for row in rows]  # z, x, level, y
        with Path("turned.csv").open("w", newline="") as file:
            csv.writer(file).writerows(turned)
        transform("m.lle", "turned.csv", "-q")
        np.testing.assert_array_equal(np.load("turned_lle.npy"), Y)
        # by number, and from files that have no names, they are taken as they stand
        transform("m.lle", "turned.csv", "--columns", "1,3,0", "-o", "a.npy")
        np.save("bare.npy", points[200:])
        transform("m.lle", "bare.npy", "-o", "b.npy")
        for name in ("a.npy", "b.npy"):
            np.testing.assert_array_equal(np.load(name), Y)
        with Path("nameless.csv").open("w", newline="") as file:
            csv.writer(file).writerows(rows[1:])
        status, _, err = run("transform", "m.lle", "nameless.csv")
        assert status == 2
        assert "no column 'x'" in err
        transform("m.lle", "nameless.csv", "--columns", "1,2,3", "-o", "c.npy")
        np.testing.assert_array_equal(np.load("c.npy"), Y)

    def test_parquet_has_names_too(self, embed, transform, points):
        pyarrow = pytest.importorskip("pyarrow")
        parquet = pytest.importorskip("pyarrow.parquet")
        self.save(embed)
        columns = {"z": points[200:, 2], "x": points[200:, 0], "y": points[200:, 1]}
        parquet.write_table(pyarrow.table(columns), "new.parquet")
        transform("m.lle", "new.parquet", "-o", "placed.npy")
        Y = expected(points[:200], n_neighbors=9).transform(points[200:])
        np.testing.assert_array_equal(np.load("placed.npy"), Y)

    def test_quiet(self, embed, transform, points):
        assert self.save(embed)
        np.save("bare.npy", points)
        assert transform("m.lle", "bare.npy", "-q") == ("", "")

    def test_models_made_in_python(self, transform, points):
        index = LocallyLinearEmbedding(n_neighbors=9).fit(points).nbrs_.kneighbors()[1]
        model = LocallyLinearEmbedding(
            n_neighbors=9, precomputed_knn=index, reg=0.01, random_state=np.random.RandomState(0)
        ).fit(points)
        model.save("python.lle")
        np.save("bare.npy", points)
        out, _ = transform("python.lle", "bare.npy")
        assert "n_components 2, reg 0.01; fitted to 250 x 3 points" in out
        np.testing.assert_array_equal(np.load("bare_lle.npy"), model.embedding_)

    @pytest.mark.parametrize(
        ("arguments", "says"),
        [
            (("no.lle", "new.csv"), "no file 'no.lle'"),
            (("m.lle", "no.csv"), "no file 'no.csv'"),
            ((".", "new.csv"), ". is a folder"),
            (("m.lle", "."), ". is a folder"),
            (("new.csv", "new.csv"), "new.csv: this is no model that can be read"),
            (("m.lle", "new.csv", "--columns", "x,y"), "2 columns are left, and the model was"),
            (("m.lle", "new.csv", "--columns", "x,y,w"), "no column 'w'"),
            (("m.lle", "new.csv", "-o", "out.png"), "cannot write .png"),
            (("m.lle", "new.csv", "-o", "no/out.csv"), "there is no folder no"),
            (("m.lle", "new.csv", "-o", "new.csv"), "new.csv is the input"),
            (("m.lle", "copy.npy", "-o", "m.npy"), "m.npy is the input"),
            (("m.lle",), "required: INPUT"),
        ],
    )
    def test_refusing(self, embed, run, points, arguments, says):
        self.save(embed)
        np.save("copy.npy", points)
        Path("m.npy").symlink_to("m.lle")
        before = {path: path.read_bytes() for path in Path().iterdir()}
        status, out, err = run("transform", *arguments)
        assert status == 2
        assert says in err
        assert "wrote" not in out
        assert {path: path.read_bytes() for path in Path().iterdir()} == before

    @pytest.mark.parametrize(
        ("arguments", "says"),
        [
            (("--save", "no/m.lle"), "there is no folder no"),
            (("--save", "old.csv"), "--save old.csv is the input"),
            (("--save", "same.npy", "-o", "same.npy"), "written to by another option"),
            (("--metric", "precomputed", "--save", "m.lle"), "precomputed"),
        ],
    )
    def test_refusing_to_save(self, refuse, points, arguments, says):
        line = refuse("old.csv", "--drop", "id,level", *arguments, in_fit="--metric" in arguments)
        assert says in line
        assert not Path("m.lle").exists()

    def test_interrupted_while_saving(self, run, points, monkeypatch):
        def interrupt(*_, **__):
            raise KeyboardInterrupt

        monkeypatch.setattr(np.lib.format, "write_array", interrupt)
        status, _, _ = run("embed", "old.csv", "--drop", "id,level", "--save", "m.lle")
        assert status == 130
        assert not [path for path in Path().iterdir() if ".lle" in path.name]


def test_as_a_process(tmp_path):
    """``python -m lle_gpu``, whose output is cut off as by ``head``."""
    result = subprocess.run(
        [sys.executable, "-m", "lle_gpu", "embed", "swiss-roll", "-n", "300", "-o", "out.npy"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert result.stdout.startswith("data        swiss-roll: 300 x 3 float64")
    Y = np.load("out.npy")
    assert np.array_equal(Y, expected(load("swiss-roll", 300).X).embedding_)

    read, write = os.pipe()
    os.close(read)
    subprocess.run(
        [sys.executable, "-m", "lle_gpu", "embed", "swiss-roll", "-n", "300", "-o", "cut.npy"],
        stdout=write,
        stderr=subprocess.DEVNULL,
        check=True,
    )
    os.close(write)
    assert np.array_equal(np.load("cut.npy"), Y)

    failed = subprocess.run(
        [sys.executable, "-m", "lle_gpu", "embed", "nothing.npy"], capture_output=True, text=True
    )
    assert failed.returncode == 2
    assert failed.stderr.startswith("lle-gpu: error: no file 'nothing.npy'")


def test_names_that_standard_output_has_no_letters_for():
    """On Windows it often has few: the report escapes the others, and the run goes on."""
    roll = pd.DataFrame(roll_points(100), columns=["x", "y", "z"])
    roll.assign(名前="a").to_csv("größe.csv", index=False)
    arguments = ["größe.csv", "--label-column", "名前", "-o", "é.csv"]
    done = subprocess.run(
        [sys.executable, "-m", "lle_gpu", "embed", *arguments],
        capture_output=True,
        encoding="cp1252",
        env=os.environ | {"PYTHONIOENCODING": "cp1252"},
    )
    assert done.returncode == 0, done.stderr
    assert "größe.csv: 100 x 3 float64, 1 classes of \\u540d\\u524d" in done.stdout
    assert "wrote       é.csv" in done.stdout
    assert list(pd.read_csv("é.csv").columns) == ["lle0", "lle1", "名前"]


# What the estimator cannot see any more: tables that are read


def frame_of(X, names="xyz"):
    return pd.DataFrame(X, columns=list(names))


def save_frame(frame, path, **options):
    """Write a frame; to text with ``sep``, so that the extension alone tells how."""
    if path.endswith(".parquet"):
        frame.to_parquet(path, index=options.get("index"))
    else:
        frame.to_csv(path, sep="\t" if ".tsv" in path else ",", **options)


def rows_of(path):
    """A written text file: its header, and its other rows."""
    opener = gzip.open if path.endswith(".gz") else open
    with opener(path, "rt", newline="", encoding="utf-8") as file:
        header, *rows = csv.reader(file, delimiter="\t" if ".tsv" in path else ",")
    return header, rows


class TestLongIntegers:
    """float64 holds integers to 2**53, and beyond it some."""

    @pytest.mark.parametrize("suffix", [".csv", ".tsv", ".csv.gz", ".parquet"])
    @pytest.mark.parametrize("first", [2**60, 2**53 + 1, -(2**62) - 2])
    def test_what_would_be_rounded_is_refused(self, refuse, suffix, first):
        frame = frame_of(roll_points(60)).assign(**{"a number": [first + 2 * i for i in range(60)]})
        save_frame(frame, f"big{suffix}", index=False)
        message = refuse(f"big{suffix}")
        assert message.startswith(f"big{suffix}: column 'a number' has integers ")
        assert "float64 rounds those beyond 2**53" in message
        (named, *_) = map(int, re.findall(r"-?\d{16,}", message))
        assert named in frame["a number"].tolist()
        assert suffix == ".parquet" or int(float(named)) != named
        assert "--drop 'a number'" in message
        assert "--id-column 'a number'" in message

    def test_beyond_what_is_looked_at_first(self, refuse):
        frame = frame_of(roll_points(150)).assign(big=[0] * 149 + [2**53 + 1])
        save_frame(frame, "big.csv", index=False)
        assert "column 'big' has integers such as 9007199254740993:" in refuse("big.csv")

    def test_unsigned_ones(self, refuse):
        big = np.arange(60, dtype=np.uint64) + np.uint64(2**63)
        save_frame(frame_of(roll_points(60)).assign(big=big), "big.parquet")
        assert f"from {2**63} to {2**63 + 59}" in refuse("big.parquet")

    @pytest.mark.parametrize(
        "write",
        [
            repr,  # 1e+20, and 9007199254740994.0
            "{:.0f}".format,  # digits of numbers that float64 holds
            lambda value: f"{value:.0f}.5",  # more digits than it holds, of a fraction
            lambda value: f"{value / 1000:.3f}",
        ],
    )
    def test_large_floats_are_what_they_are(self, embed, write):
        X = np.round(roll_points(60) * 1e16)
        X[0, 0] = 1e20
        lines = [",".join(map(write, row)) for row in X.tolist()]
        Path("large.csv").write_text("\n".join(["x,y,z", *lines]))
        embed("large.csv", "-o", "out.npy")
        X = np.array([[float(field) for field in line.split(",")] for line in lines])
        assert np.array_equal(np.load("out.npy"), expected(X).embedding_)

    @pytest.mark.parametrize("suffix", [".csv", ".parquet"])
    def test_those_that_fit(self, embed, suffix):
        frame = frame_of(roll_points(60)).assign(big=[2**53 - i for i in range(60)])
        save_frame(frame, f"fits{suffix}", index=False)
        embed(f"fits{suffix}", "-o", "out.npy")
        assert np.array_equal(np.load("out.npy"), expected(frame.to_numpy(float)).embedding_)

    @pytest.mark.parametrize("suffix", [".csv", ".parquet"])
    def test_as_names_and_classes(self, embed, suffix):
        X = roll_points(60)
        ids, classes = [2**60 + i for i in range(60)], [10**20 + i % 2 for i in range(60)]
        frame = frame_of(X).assign(id=ids, kind=list(map(str, classes)))
        save_frame(frame, f"in{suffix}", index=False)
        embed(f"in{suffix}", "--id-column", "id", "--label-column", "kind", "-o", "out.csv")
        header, rows = rows_of("out.csv")
        assert header == ["id", "lle0", "lle1", "kind"]
        assert [int(row[0]) for row in rows] == ids
        assert [int(row[3]) for row in rows] == classes


class TestIds:
    """The rows' names, which go from the input to the output."""

    barcodes = tuple(f'AA, {i} "C"-1' for i in range(250))

    def written(self, path):
        """Names, embedding and classes of an output, and what the columns are called."""
        if path.endswith(".npz"):
            with np.load(path) as result:
                return [result["ids"], result["embedding"], result["labels"]]
        if path.endswith(".parquet"):
            table = pd.read_parquet(path)
        else:
            table = pd.read_csv(path, sep="\t" if ".tsv" in path else ",")
        assert list(table.columns) == [table.columns[0], "lle0", "lle1", "kind"]
        return [table.iloc[:, 0].to_numpy(), table[["lle0", "lle1"]].to_numpy(), table["kind"]]

    @pytest.mark.parametrize("source", ["in.csv", "in.tsv.gz", "in.parquet"])
    @pytest.mark.parametrize(
        "output", ["o.csv", "o.tsv", "o.csv.gz", "o.tsv.gz", "o.parquet", "o.npz"]
    )
    @pytest.mark.parametrize("name", [None, "barcode"])
    def test_an_index_goes_through(self, embed, source, output, name):
        X, kinds = roll_points(), ["a", "b"] * 125
        frame = frame_of(X).assign(kind=kinds)
        frame.index = pd.Index(self.barcodes, name=name)
        save_frame(frame, source)
        told = ["--id-column", name] if name and source != "in.parquet" else []
        out, _ = embed(source, "--label-column", "kind", *told, "-o", output)
        assert told or "taken for the rows' names" in out
        ids, Y, labels = self.written(output)
        assert list(ids) == list(self.barcodes)
        np.testing.assert_allclose(Y, expected(X).embedding_, rtol=1e-15)
        assert list(labels) == kinds
        if not output.endswith(".npz"):
            text = output.endswith(("v", "gz"))
            first = rows_of(output)[0][0] if text else pd.read_parquet(output).columns[0]
            assert first == (name or "id")

    @pytest.mark.parametrize("suffix", [".csv", ".parquet"])
    def test_an_index_of_numbers_that_is_no_count(self, embed, suffix):
        X = roll_points()
        keep = np.flatnonzero(X[:, 1] > 5)
        save_frame(frame_of(X).iloc[keep], f"in{suffix}")
        embed(f"in{suffix}", "-o", "out.csv")
        header, rows = rows_of("out.csv")
        assert header[0] == "id"
        assert [int(row[0]) for row in rows] == keep.tolist()
        Y = np.array([row[1:] for row in rows], dtype=float)
        assert np.array_equal(Y, expected(X[keep]).embedding_)

    @pytest.mark.parametrize("suffix", [".csv", ".parquet"])
    def test_a_count_is_none(self, embed, suffix):
        X = roll_points(60)
        save_frame(frame_of(X), f"in{suffix}", index=True)
        out, _ = embed(f"in{suffix}", "-o", "out.csv")
        assert "is left out" in out
        header, rows = rows_of("out.csv")
        assert header == ["lle0", "lle1"]
        assert np.array_equal(np.array(rows, dtype=float), expected(X).embedding_)

    def test_a_first_column_of_fractions_is_data(self, embed):
        X = roll_points(60)
        write_csv("in.csv", X, header=("", "y", "z"))
        out, _ = embed("in.csv", "-o", "out.csv")
        told = "column 0 has no name and fractions: it is embedded; --drop 0 leaves it out"
        assert told in out
        header, rows = rows_of("out.csv")
        assert header == ["lle0", "lle1"]
        assert np.array_equal(np.array(rows, dtype=float), expected(X).embedding_)
        for arguments in (["--drop", "0"], ["--columns", "0,y"]):
            assert told not in embed("in.csv", *arguments, "-o", "out.csv")[0]

    @pytest.mark.parametrize("suffix", [".csv", ".parquet"])
    def test_a_count_that_stops_far_below(self, embed, suffix):
        X = roll_points()
        frame = frame_of(X).drop(index=range(150, 161))
        save_frame(frame, f"in{suffix}")
        out, _ = embed(f"in{suffix}", "-o", "out.csv")
        assert "is taken for the rows' names" in out
        assert "left out" not in out
        assert [int(row[0]) for row in rows_of("out.csv")[1]] == frame.index.tolist()

    @pytest.mark.parametrize("suffix", [".csv", ".parquet"])
    def test_a_count_that_is_asked_for(self, embed, suffix):
        frame = frame_of(roll_points(60)).assign(n=range(60))
        save_frame(frame, f"in{suffix}", index=False)
        embed(f"in{suffix}", "--id-column", "n", "-o", "out.csv")
        header, rows = rows_of("out.csv")
        assert header == ["n", "lle0", "lle1"]
        assert [int(row[0]) for row in rows] == list(range(60))

    @pytest.mark.parametrize("suffix", [".csv", ".parquet"])
    def test_an_index_that_is_embedded(self, embed, suffix):
        frame = frame_of(roll_points(60)).set_index(pd.Index([3 * i % 60 for i in range(60)]))
        save_frame(frame, f"in{suffix}", index=True)
        embed(f"in{suffix}", "--columns", "0,x,y" if suffix == ".csv" else "3,x,y", "-o", "o.csv")
        header, rows = rows_of("o.csv")
        assert header == ["lle0", "lle1"]
        X = np.column_stack([frame.index, frame[["x", "y"]]])
        assert np.array_equal(np.array(rows, dtype=float), expected(X).embedding_)

    def test_names_that_are_taken(self, embed, refuse):
        X = roll_points(60)
        frame = frame_of(X).assign(id=["a", "b"] * 30, lle0=range(60))
        frame.index = pd.Index(self.barcodes[:60])
        for source in ("in.csv", "in.parquet"):
            save_frame(frame, source)
            embed(source, "--label-column", "id", "--drop", "lle0", "-o", "out.csv")
            assert rows_of("out.csv")[0] == ["row", "lle0", "lle1", "id"]
        embed("in.csv", "--id-column", "lle0", "--drop", ",id", "-o", "out.npz")
        for option, other in (("--id-column", "id"), ("--label-column", "id")):
            message = refuse("in.csv", option, "lle0", "--drop", other, "-o", "out.csv")
            assert message.startswith("out.csv would have the columns ")
            assert "rename one in the input" in message

    @pytest.mark.parametrize("levels", [(["a", "b"], range(30)), (range(2), range(30))])
    def test_an_index_of_two_columns_without_names(self, embed, levels):
        X = roll_points(60)
        frame = frame_of(X)
        frame.index = pd.MultiIndex.from_product(levels)
        for source in ("in.csv", "in.parquet"):
            save_frame(frame, source)
            out, _ = embed(source, "-o", "out.csv")
            assert "it is 2 columns, and --id-column takes one" in out
            header, rows = rows_of("out.csv")
            assert header == ["lle0", "lle1"]
            assert np.array_equal(np.array(rows, dtype=float), expected(X).embedding_)
        embed("in.csv", "--id-column", "1", "-o", "out.csv")
        assert [row[0] for row in rows_of("out.csv")[1]] == [str(i) for i in range(30)] * 2

    @pytest.mark.parametrize("separator", ["\t", ",", ";", " "])
    @pytest.mark.parametrize("names", ["xyz", ["0", "1", "2"]])
    def test_a_header_of_r(self, embed, separator, names):
        """write.table's, which has no field for the rows' names."""
        X = roll_points(60)
        lines = [separator.join([f"r{i}", *map(repr, row)]) for i, row in enumerate(X.tolist())]
        Path("in.txt").write_text("\n".join([separator.join(names), *lines]))
        out, _ = embed("in.txt", "-o", "out.csv")
        assert "a header line, which has no name for the first column" in out
        header, rows = rows_of("out.csv")
        assert header == ["id", "lle0", "lle1"]
        assert [row[0] for row in rows] == [f"r{i}" for i in range(60)]
        Y = np.array([row[1:] for row in rows], dtype=float)
        assert np.array_equal(Y, expected(X).embedding_)
        embed("in.txt", "--columns", f"{names[2]},{names[0]}", "-o", "out.npy")
        assert np.array_equal(np.load("out.npy"), expected(X[:, [2, 0]]).embedding_)

    @pytest.mark.parametrize(
        ("first", "row"),
        [
            ("x,y,z", "1.5,2.5,3.5,"),  # a delimiter at the end
            ("1.5,2.5,3.5", "1.5,2.5,3.5,4.5"),  # no header
        ],
    )
    def test_rows_that_are_longer_for_another_reason(self, refuse, first, row):
        Path("in.csv").write_text("\n".join([first, *[row] * 60]))
        assert "4 fields instead of 3" in refuse("in.csv")

    @pytest.mark.parametrize("arguments", [["--drop", "0"], ["--label-column", "0"]])
    def test_an_index_can_be_something_else(self, embed, arguments):
        frame = frame_of(roll_points(60)).set_index(pd.Index(["a", "b"] * 30))
        save_frame(frame, "in.csv")
        embed("in.csv", *arguments, "-o", "out.npz")
        with np.load("out.npz") as result:
            assert "ids" not in result.files
            assert ("labels" in result.files) == ("--drop" not in arguments)

    def test_an_index_of_two_columns(self, embed):
        frame = frame_of(roll_points(60))
        frame.index = pd.MultiIndex.from_product([["a", "b"], range(30)], names=["one", "two"])
        save_frame(frame, "in.parquet")
        out, _ = embed("in.parquet", "-o", "out.csv")
        assert "it is 2 columns, and --id-column takes one" in out
        assert rows_of("out.csv")[0] == ["lle0", "lle1"]
        embed("in.parquet", "--id-column", "two", "-o", "out.csv")
        header, rows = rows_of("out.csv")
        assert header == ["two", "lle0", "lle1"]
        assert [row[0] for row in rows] == [str(i) for i in range(30)] * 2

    def test_of_arrays(self, embed):
        X, ids = roll_points(60), np.arange(60) + 7
        np.savez("in.npz", X=X, ids=ids)
        embed("in.npz", "-o", "out.csv")
        assert [int(row[0]) for row in rows_of("out.csv")[1]] == ids.tolist()
        np.save("in.npy", np.column_stack([X, ids]))
        embed("in.npy", "--id-column", -1, "-o", "out.npz")
        with np.load("out.npz") as result:
            assert np.array_equal(result["ids"], ids)
            assert np.array_equal(result["embedding"], expected(X).embedding_)

    def test_where_they_have_no_place(self, embed, refuse):
        frame = frame_of(roll_points(60)).set_index(pd.Index(self.barcodes[:60], name="code"))
        save_frame(frame, "in.parquet")
        out, _ = embed("in.parquet")
        assert "in_lle.npy has no place for the rows' names, only for numbers: use -o with" in out
        out, _ = embed("in.parquet", "-o", "out.csv")
        assert "no place" not in out
        for output in ([], ["-o", "out.npy"]):  # what was asked for
            message = refuse("in.parquet", "--id-column", "code", *output)
            assert message.startswith("--id-column code: ")
            assert "no place for the rows' names" in message
        message = refuse(
            "in.parquet", "--id-column", "code", "--label-column", "code", "-o", "o.csv"
        )
        assert "--id-column and --label-column are the same column, 'code'" in message

    def test_of_new_points(self, embed, run):
        X = roll_points()
        frame = frame_of(X).set_index(pd.Index(self.barcodes))
        save_frame(frame[:200], "old.csv")
        save_frame(frame[200:], "new.csv")
        embed("old.csv", "--save", "m.lle")
        for arguments in ([], ["--id-column", "0"]):
            status, out, err = run("transform", "m.lle", "new.csv", *arguments, "-o", "placed.tsv")
            assert status == 0, err
            assert ("taken for the rows' names" in out) == (not arguments)
            header, rows = rows_of("placed.tsv")
            assert header == ["id", "lle0", "lle1"]
            assert [row[0] for row in rows] == list(self.barcodes[200:])
            Y = expected(X[:200]).transform(X[200:])
            assert np.array_equal(np.array([row[1:] for row in rows], dtype=float), Y)
        status, out, _ = run("transform", "m.lle", "new.csv")
        assert "new_lle.npy has no place for the rows' names" in out
        status, _, err = run("transform", "m.lle", "new.csv", "--id-column", "0")
        assert status == 2
        assert "no place for the rows' names" in err


class TestText:
    """What other programs write, read as they mean it."""

    def read(self, text, **selection):
        Path("in.txt").write_text(text)
        return files.read_table(Path("in.txt"), files.Selection(**selection))

    def test_names_of_several_lines_go_on_beyond_the_preview(self):
        rows = "".join(f'"cell\nno. {i}",{i},{i + 0.5}\n' for i in range(120))
        table = self.read("id,x,y\n" + rows, ids="id")
        assert table.columns == ("x", "y")
        assert table.ids[-1] == "cell\nno. 119"
        np.testing.assert_array_equal(table.X, [[i, i + 0.5] for i in range(120)])

    def test_a_column_s_name_of_several_lines(self):
        table = self.read('x,"length\n(cm)"\n1,2\n3,4.5\n')
        assert table.columns == ("x", "length\n(cm)")
        np.testing.assert_array_equal(table.X, [[1, 2], [3, 4.5]])

    def test_numpy_s_header(self):
        X = roll_points(20)
        np.savetxt("in.txt", X, header="x y z")
        table = files.read_table(Path("in.txt"), files.Selection())
        assert table.columns == ("x", "y", "z")
        np.testing.assert_allclose(table.X, X, rtol=1e-15)

    def test_r_s_quotes_and_spaces(self):
        table = self.read('"x" "y"\n"cell 1" 1 2\n"cell 2" 3 4.5\n')
        assert table.columns == ("x", "y")
        assert list(table.ids) == ["cell 1", "cell 2"]
        np.testing.assert_array_equal(table.X, [[1, 2], [3, 4.5]])

    def test_a_quote_that_is_left_open(self):
        rows = "".join(f"{i},{i + 0.5}\n" for i in range(120))
        with pytest.raises(ValueError, match=r"in\.txt: the file has a header and no data"):
            self.read('"x,y\n' + rows)

    def test_digits_in_groups_are_named(self):
        with pytest.raises(ValueError, match=r"line 2, column 'x': '1_000' is not a number"):
            self.read("x,y\n1_000,2\n3,4\n")


class TestWide:
    """Tables of genes have tens of thousands of columns."""

    names = tuple(f"gene{j}" for j in range(20_000))

    def test_names_are_looked_up_once(self):
        """All of the names, as of a model: no name is compared with all others."""
        compared = 0

        class Name(str):
            def __eq__(self, other):
                nonlocal compared
                compared += 1
                return str.__eq__(self, other)

            __hash__ = str.__hash__

        names = [Name(name) for name in self.names]
        wanted = [Name(name) for name in reversed(self.names)]
        chosen, *_ = files._select(names, files.Selection(columns=wanted), Path("wide.csv"))
        assert chosen == list(range(len(names)))[::-1]
        assert compared < 10 * len(names)

    @pytest.mark.parametrize("delimiter", [",", "\t"])
    def test_long_lines(self, delimiter):
        """Those of more characters than Python's csv takes for one field."""
        row = delimiter.join(["0.12345678"] * len(self.names))
        assert len(row) > csv.field_size_limit()
        Path("in.csv").write_text("\n".join([delimiter.join(self.names), row, row]))
        table = files.read_table(Path("in.csv"), files.Selection())
        assert table.columns == self.names
        assert np.array_equal(table.X, np.full((2, len(self.names)), 0.12345678))

    def test_one_long_field(self, refuse):
        long = "x" * (csv.field_size_limit() + 1)
        Path("in.csv").write_text(f"a,b\n{long},1\n")
        assert refuse("in.csv").startswith("in.csv: not a table in text (field larger than")


class TestSuggestions:
    """What an error tells to paste does what it says."""

    @pytest.mark.parametrize(
        ("names", "given"),
        [
            (["kind"], "kind"),
            (["cell type"], "'cell type'"),
            (["it's; $HOME"], "'it'\"'\"'s; $HOME'"),
            ([""], "3"),
            (["a,b"], "3"),
            (["two  spaces"], "3"),
            (["kind", "kind"], "3,4"),
            (["-kind"], "-kind"),
            (["", "3"], "-2,3"),  # a column that is called 3 is another one
        ],
    )
    def test_drop(self, run, names, given):
        X = roll_points(60)
        text = [["red"] * len(names) for _ in X]
        with Path("in.csv").open("w", newline="") as file:
            csv.writer(file).writerows(
                [["x", "y", "z", *names], *(x + t for x, t in zip(X.tolist(), text, strict=True))]
            )
        line = run("embed", "in.csv")[2]
        told = re.search("Leave out: (--drop.*); use as classes: (.*); or as .*: (.*)\\n", line)
        drop, label, ids = told.groups()
        assert drop in (f"--drop {given}", f"--drop={given}")
        if len(names) == 1:
            assert label.removeprefix("--label-column") == drop.removeprefix("--drop")
            assert ids.removeprefix("--id-column") == drop.removeprefix("--drop")
        assert run("embed", "in.csv", "-q", "-o", "out.npy", *shlex.split(drop)) == (0, "", "")
        assert np.array_equal(np.load("out.npy"), expected(X).embedding_)

    def test_of_a_place(self, refuse):
        Path("in.csv").write_text("x,\n" + "1.5,2.5\n" * 20 + "1.5,what\n")
        assert refuse("in.csv").endswith("or leave out the column: --drop 1")


class TestBooleans:
    @pytest.mark.parametrize("words", [("True", "False"), ("TRUE", "FALSE"), ("true", "false")])
    def test_alike_in_text_and_parquet(self, embed, words):
        X = roll_points(60)
        flags = X[:, 1] > 10
        save_frame(frame_of(X).assign(flag=flags), "in.parquet")
        frame = frame_of(X).assign(flag=np.where(flags, *words))
        save_frame(frame, "in.csv", index=False)
        save_frame(frame[["flag", "z", "y", "x"]], "in.tsv", index=False, header=False)
        Y = expected(np.column_stack([X, flags])).embedding_
        for name in ("in.parquet", "in.csv"):
            out, _ = embed(name, "-o", "out.npy")
            assert "60 x 4 float64" in out
            assert np.array_equal(np.load("out.npy"), Y)
        out, _ = embed("in.tsv", "--columns", "3,2,1,0", "-o", "out.npy")
        assert "no header line" in out
        assert np.array_equal(np.load("out.npy"), Y)

    def test_names_that_are_such_words(self, embed):
        X = roll_points(60)
        write_csv("in.csv", X[:, :2], header=("True", "False"))
        embed("in.csv", "-d", 1, "-o", "out.npy")
        assert np.array_equal(np.load("out.npy"), expected(X[:, :2], n_components=1).embedding_)

    @pytest.mark.parametrize(("wrong", "says"), [("maybe", "'maybe' is"), ("", "an empty field")])
    @pytest.mark.parametrize("row", [7, 180])
    def test_where_one_is_wrong(self, refuse, wrong, says, row):
        X = roll_points()
        write_csv("in.csv", X, ["False" if i != row else wrong for i in range(250)], "xyzf")
        line = refuse("in.csv")
        if wrong and row == 7:  # a column of text, as far as can be seen
            assert "not numbers: column 'f' (for example 'False')" in line
        else:
            assert line.startswith(f"in.csv, line {row + 2}, column 'f': {says}")
            assert "neither True nor False" in line

    def test_missing_ones_in_parquet(self, refuse):
        flags = pd.array([True, None, False] * 20, dtype="boolean")
        save_frame(frame_of(roll_points(60)).assign(flag=flags), "in.parquet")
        assert "20 of 60 rows hold NaN or infinity (counted from 0: 1, 4, " in refuse("in.parquet")


class TestCompressed:
    @pytest.mark.parametrize("suffix", [".csv.gz", ".TSV.GZ", ".txt.gz"])
    def test_text(self, embed, suffix):
        X = roll_points()
        write_csv("plain", X, header="xyz", delimiter="\t")
        Path(f"in{suffix}").write_bytes(gzip.compress(Path("plain").read_bytes()))
        embed(f"in{suffix}")
        assert np.array_equal(np.load("in_lle.npy"), expected(X).embedding_)
        embed(f"in{suffix}", "-o", "out.csv.gz")
        embed(f"in{suffix}", "-o", "out.tsv")
        assert rows_of("out.csv.gz") == rows_of("out.tsv")
        Y = np.array(rows_of("out.tsv")[1], dtype=float)
        assert np.array_equal(Y, expected(X).embedding_)

    @pytest.mark.parametrize("end", [None, 300, -4])
    def test_damaged(self, refuse, end):
        write_csv("plain", roll_points(), header="xyz")
        content = Path("plain").read_bytes()
        Path("in.csv.gz").write_bytes(gzip.compress(content)[:end] if end else content)
        assert refuse("in.csv.gz").startswith("in.csv.gz: not compressed by gzip, or damaged (")

    def test_text_that_is_none_far_below(self, refuse):
        lines = b"1.5,2.5\n" * 3000
        Path("in.csv").write_bytes(b"x,y\n" + lines + b"\xff,1\n")
        assert refuse("in.csv").startswith("in.csv: not UTF-8 text (")


class TestSparse:
    """Matrices of scipy.sparse.save_npz."""

    @pytest.fixture
    def points(self):
        rng = np.random.default_rng(0)
        return scipy.sparse.csr_array(rng.normal(size=(200, 20)) * (rng.random((200, 20)) < 0.3))

    @pytest.mark.parametrize("form", ["csr", "csc", "coo", "bsr"])
    def test_embedded_as_in_python(self, embed, points, form):
        scipy.sparse.save_npz("in.npz", points.asformat(form))
        out, _ = embed("in.npz", "-o", "out.npy")
        assert "in.npz: 200 x 20 float64" in out
        assert f"a sparse matrix ({form})" in out
        assert np.array_equal(np.load("out.npy"), expected(points).embedding_)

    def test_matrices_and_columns(self, embed, points):
        scipy.sparse.save_npz("in.npz", scipy.sparse.csr_matrix(points))
        embed("in.npz", "--drop", "0,3", "--label-column", 1, "--id-column", -1, "-o", "out.npz")
        dense = points.toarray()
        with np.load("out.npz") as result:
            assert np.array_equal(result["labels"], dense[:, 1])
            assert np.array_equal(result["ids"], dense[:, 19])
            kept = points[:, [2, *range(4, 19)]]
            assert np.array_equal(result["embedding"], expected(kept).embedding_)

    def test_new_points_and_a_picture(self, embed, run, points):
        scipy.sparse.save_npz("in.npz", points)
        embed("in.npz", "--save", "m.lle", "--plot", "in.png")
        status, _, err = run("transform", "m.lle", "in.npz", "-o", "out.npy")
        assert status == 0, err
        assert np.array_equal(np.load("out.npy"), expected(points).embedding_)

    def test_a_part_can_be_asked_for(self, refuse, points):
        scipy.sparse.save_npz("in.npz", points)
        assert f"the array has shape ({points.nnz},)" in refuse("in.npz", "--key", "data")

    def test_an_array_x_goes_first(self, embed, points):
        X = roll_points(60)
        np.savez("in.npz", X=X, y=np.arange(60) % 2, format="tidy", shape=X.shape, data="roll")
        out, _ = embed("in.npz", "-o", "out.npy")
        assert "labels from 'y'" in out
        assert np.array_equal(np.load("out.npy"), expected(X).embedding_)

    def test_refusing(self, refuse, points):
        broken = points.copy()
        broken.data[broken.indptr[7]] = np.nan
        scipy.sparse.save_npz("nan.npz", broken)
        assert "1 of 200 rows hold NaN or infinity (counted from 0: 7)" in refuse("nan.npz")
        scipy.sparse.save_npz("complex.npz", points * 1j)
        assert "the array holds complex128, not real numbers" in refuse("complex.npz")
        scipy.sparse.save_npz("long.npz", points)
        parts = dict(np.load("long.npz"))
        np.savez("parts.npz", **{**parts, "format": np.array("strange")})
        assert re.search("parts.npz: .*none that can be read.*--key", refuse("parts.npz"))
        for form in (3, "dok"):  # no name, and that of a kind that has no file
            np.savez("parts.npz", **{**parts, "format": np.array(form)})
            assert re.search("parts.npz: .*none that can be read.*--key", refuse("parts.npz"))
        outside = parts["indices"].copy()
        outside[0] = 99
        np.savez("outside.npz", **{**parts, "indices": outside})
        assert "outside.npz" in refuse("outside.npz")
